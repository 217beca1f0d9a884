"""`quantum calibrate`: what does a model's stated probability mean, by its own resolved outcomes?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.table import Table

    from quantum_trader.core.calibration import Curve
    from quantum_trader.gates.calibration_fit import Evaluation, Method, RecalibrationPolicy, Resolved
    from quantum_trader.gates.quality import Quality
    from quantum_trader.models.calibration import FitWindow, Judgement, Rules, Scores

_MEANINGS = {
    "ece": "expected calibration error",
    "brier": "Brier score",
    "reliability": "reliability (less is better)",
    "resolution": "resolution (more is better)",
    "uncertainty": "uncertainty (the outcome's)",
    "within": "within bins",
}


def calibrate(
    model: Annotated[str, typer.Argument(help="xgb, lgbm, nhits or patchtst.")],
    decisions: Annotated[Path, typer.Option(help="Folder of Parquet decisions.")],
    bars: Annotated[Path, typer.Option(help="Bars that give the outcomes.")],
    method: Annotated[str, typer.Option(help="platt or isotonic.")] = "platt",
    artefact: Annotated[str, typer.Option(help="Beginning of the artefact's digest, where several answered.")] = "",
    out: Annotated[str, typer.Option(help="File to write; MODEL.calibration.json if not given.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Write it although it does not help.")] = False,
) -> None:
    """Fit a calibration on resolved outcomes, show what it does out of sample, and write it if it helps.

    It is scored walking forward: every part of the decisions under the map of what was resolved before that part began.

    The file counts for nothing until the engine's settings name it: XGB_CALIBRATION=FILE@DIGEST.
    """
    from rich.console import Console

    from quantum_trader.core.errors import CalibrationError
    from quantum_trader.gates.calibration_fit import STANDARD, fit, spread_conflict, walk_forward
    from quantum_trader.models.calibration import SUFFIX, CalibrationFile, map_of, write_calibration

    how = _method(method)
    target = Path(out or f"{model}{SUFFIX}")
    digest, events, window = _resolved(model, artefact, decisions, bars)
    judged = walk_forward(events, how, STANDARD)
    curve = fit(events, how, STANDARD)
    console = Console(highlight=False)
    console.print(f"{model}, artefact {digest[:16]}: {_said(curve)}")
    console.print(_table(judged))
    console.print(_gain(judged, STANDARD), soft_wrap=True)
    conflict = spread_conflict(events, curve)
    if conflict:
        console.print(conflict, soft_wrap=True)
    if not judged.helps and not force:
        raise CalibrationError(f"calibration of {model}: it does not help out of sample; nothing is written (--force)")
    content = CalibrationFile(
        format=1,
        model=model,
        artefact=digest,
        map=map_of(curve),
        window=window,
        judgement=_judgement(judged),
        rules=_rules(STANDARD),
        forced=not judged.helps,
    )
    written = write_calibration(target, content)
    console.print(f"{target}  {written[:16]}", soft_wrap=True)
    console.print(f"to use it: {model.upper()}_CALIBRATION={target}@{written}", soft_wrap=True)


def _method(name: str) -> "Method":
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.gates.calibration_fit import Method

    try:
        return Method(name)
    except ValueError as error:
        raise ConfigError(f"--method {name!r}: expected {' or '.join(Method)}") from error


def _resolved(model: str, artefact: str, decisions: Path, bars: Path) -> "tuple[str, Resolved, FitWindow]":
    """Digest of the one artefact that answered, its resolved events, and where they lie."""
    from quantum_trader.archive.join import column, samples
    from quantum_trader.archive.store import read_decisions
    from quantum_trader.core.bars import timeframe_name
    from quantum_trader.core.errors import CalibrationError
    from quantum_trader.gates.calibration_fit import Resolved
    from quantum_trader.gates.panel import SPAN
    from quantum_trader.market.files import read_bars
    from quantum_trader.models.calibration import FitWindow

    digest, table = _answers(read_decisions(decisions), model, artefact)
    symbols = sorted(set(table["symbol"].to_pylist()))
    series = read_bars(bars, symbols)
    events = Resolved.of(samples(table, series)[model])
    if not len(events):
        raise CalibrationError(f"calibration of {model}: none of {len(table)} decisions has an outcome in {bars}")
    interval = next(iter(series.values())).interval
    start = int(column(table, "ts_open").min())
    first, last = start + int(events.bar[0]) * interval, start + int(events.bar[-1]) * interval
    window = FitWindow(
        timeframe=timeframe_name(interval),
        symbols=tuple(symbols),
        first_ms=first,
        last_ms=last,
        resolved_ms=last + (SPAN + 1) * interval,
        events=len(events),
        cycles=events.cycles,
    )
    return digest, events, window


def _answers(table: "pa.Table", model: str, artefact: str) -> "tuple[str, pa.Table]":
    """The decisions on which one artefact of a model answered, and its digest."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from quantum_trader.archive.join import roles
    from quantum_trader.core.errors import ConfigError

    there = roles(table)
    if model not in there:
        raise ConfigError(f"model {model!r}: it took part in no decision here; those that did: {', '.join(there)}")
    named = table[f"{model}.artefact"].cast(pa.string())
    found = sorted(
        digest for digest in set(pc.unique(named).to_pylist()) - {None, ""} if digest.startswith(artefact.lower())
    )
    if len(found) != 1:
        listed = ", ".join(digest[:16] for digest in found) or "none"
        raise ConfigError(f"artefacts of {model} in these decisions: {listed}; name one with --artefact")
    return found[0], table.filter(pc.equal(named, found[0]))


def _said(curve: "Curve") -> str:
    from quantum_trader.core.calibration import PlattCurve

    if isinstance(curve, PlattCurve):
        return f"sigmoid({curve.intercept:+.4f} {curve.slope:+.4f} logit p)"
    return f"{len(curve.p)} knots from {curve.p[0]:.4f} to {curve.p[-1]:.4f}"


def _table(judged: "Evaluation") -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table("out of sample", "as stated", "calibrated", box=SIMPLE, padding=(0, 1, 0, 0))
    after = dict(judged.after.named())
    for name, before in judged.before.named():
        pair = (f"{figure.value:.5f} ± {figure.se:.5f}" for figure in (before, after[name]))
        table.add_row(_MEANINGS[name], *pair)
    return table


def _gain(judged: "Evaluation", policy: "RecalibrationPolicy") -> str:
    verdict = "it helps" if judged.helps else f"it does not help: {policy.gain_z:g} is needed"
    return (
        f"Brier gain {judged.gain.value:+.6f} ± {judged.gain.se:.6f} (z {judged.gain.z:.2f}) over {judged.events:,} "
        f"events in {judged.cycles} cycles: {verdict}."
    )


def _judgement(judged: "Evaluation") -> "Judgement":
    from quantum_trader.models.calibration import Judgement, Number

    gain = Number(judged.gain.value, judged.gain.se)
    before, after = _scores(judged.before), _scores(judged.after)
    return Judgement(judged.events, judged.cycles, gain, before, after, judged.helps)


def _scores(found: "Quality") -> "Scores":
    from quantum_trader.models.calibration import Number, Scores

    return Scores(**{name: Number(figure.value, figure.se) for name, figure in found.named()})


def _rules(policy: "RecalibrationPolicy") -> "Rules":
    from dataclasses import asdict

    from quantum_trader.models.calibration import Rules

    return Rules(**asdict(policy))

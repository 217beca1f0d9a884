"""The run behind `quantum certify`: bars, models, replay, the control, every fault, the document."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
from rich.console import Console

from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.cli.certify_checks import WORDS, answer_words, checks
from quantum_trader.cli.certify_engines import Stage, compare_engines, env_files, opened_bars
from quantum_trader.cli.certify_facts import file_digest, machine, newest_stretch, program
from quantum_trader.cli.demo_models import TRAIN_BARS, progress_bar, train_models
from quantum_trader.core.bars import WINDOW, BarSeries, timeframe_name
from quantum_trader.core.decision import Decision
from quantum_trader.core.errors import ArtefactError, ConfigError
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import MODELS, Role
from quantum_trader.engine.faults import Fault
from quantum_trader.engine.pairing import Goals, compare
from quantum_trader.engine.replay import ReplayModel, replay
from quantum_trader.market.files import read_bars
from quantum_trader.models.artefact import Artefact, load_artefact
from quantum_trader.models.store import newest, present
from quantum_trader.report import certificate as document

DEFAULT_MODELS = Path("models")
_SEED = 20260101


@dataclass(frozen=True)
class Order:
    """What is to be certified.

    Attributes:
        bars: File.
        symbols: Which of it; none for all.
        groups: Bars of each symbol to decide under each fault, the newest.
        models: Folder of artefacts; None for `models`, or newly trained ones.
        shadow: The model that is the shadow; all others vote.
        faults: Of the shadow.
        goals: Of the times.
    """

    bars: Path
    symbols: Sequence[str]
    groups: int
    models: Path | None
    shadow: str
    faults: Sequence[Fault]
    goals: Goals


def certify_order(console: Console, order: Order, folder: Path, now: datetime) -> document.Certificate:
    """Run everything and say what was found.

    Args:
        console: Told how far it is.
        order: What to do.
        folder: For server data, logs and models; empty.
        now: For names and the document.

    Raises:
        QuantumError: if the order cannot be carried out, or an engine does not work at all.
    """
    started, about, code = time.monotonic(), machine(), program()
    whole = read_bars(order.bars, order.symbols or None)
    series = newest_stretch(whole, WINDOW - 1 + order.groups)
    first = next(iter(series.values()))
    cast = _cast(console, order, whole, int(first.ts_open[0]), folder / "models", now)
    console.print(
        f"bars      {order.groups:,} of each of {', '.join(series)}, the newest of {order.bars.name}\n"
        f"models    {', '.join(name for name in cast if name != order.shadow)} vote, {order.shadow} is the shadow; "
        f"grace {order.goals.grace_ms:g} ms"
    )
    replayed = _replayed(console, series, {name: a for name, a in cast.items() if name != order.shadow})
    control, faults = _run(console, order, series, cast, replayed, folder)
    decided = first.ts_open[WINDOW - 1 :]
    return document.Certificate(
        format=document.FORMAT,
        created=now.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 1),
        program=code,
        machine=about,
        bars=document.BarsUsed(
            *(order.bars.name, file_digest(order.bars), timeframe_name(first.interval), list(series)),
            *(order.groups, int(decided[0]), int(decided[-1])),
        ),
        models={
            name: document.Member("shadow" if name == order.shadow else "voter", artefact.folder.name, artefact.digest)
            for name, artefact in cast.items()
        },
        shadow=order.shadow,
        goals=msgspec.convert(order.goals, document.Goals, from_attributes=True),
        control=control,
        general=[untouched(cast)],
        faults=faults,
    )


def _cast(
    console: Console, order: Order, whole: Mapping[str, BarSeries], first: int, trained: Path, now: datetime
) -> dict[str, Artefact]:
    """The newest artefact of each model, in breakdown order; trained where none was named and none is there."""
    if order.shadow not in MODELS:
        raise ConfigError(f"shadow {order.shadow!r}: unknown model, expected one of {', '.join(MODELS)}")
    models = order.models
    if models is None and DEFAULT_MODELS.is_dir() and present(DEFAULT_MODELS):
        models = DEFAULT_MODELS
    if models is None:
        before = {symbol: own.slice(0, int((own.ts_open < first).sum())) for symbol, own in whole.items()}
        if min(len(own) for own in before.values()) < TRAIN_BARS:
            raise ConfigError(f"bars: {TRAIN_BARS:,} before the certified ones are needed to train, or give --models")
        console.print(f"models    none in {DEFAULT_MODELS}: training on the first {TRAIN_BARS:,} bars of each symbol")
        models = trained
        train_models(console, {symbol: own.slice(0, TRAIN_BARS) for symbol, own in before.items()}, models, _SEED, now)
    there = present(models)
    if order.shadow not in there or len(there) < 2:
        raise ConfigError(
            f"models folder {models}: holds {', '.join(there) or 'none'}; {order.shadow} and a voter are needed"
        )
    return {name: newest(models, name) for name in there}


def _replayed(console: Console, series: Mapping[str, BarSeries], voters: Mapping[str, Artefact]) -> dict[str, Decision]:
    """The decisions of the same bars without a server, by id."""
    timeframe = timeframe_name(next(iter(series.values())).interval)
    models = [ReplayModel(name, artefact.folder, Role.VOTER) for name, artefact in voters.items()]
    total = sum(len(bars.window_ends()) for bars in series.values())
    found: dict[str, Decision] = {}
    with progress_bar(console, "replay without a server") as report:
        for records in replay(series, timeframe, models, VotePolicy(), workers=2):
            found |= {record.decision.decision_id: record.decision for record in records}
            report(len(found), total)
    return found


def _run(
    console: Console,
    order: Order,
    series: Mapping[str, BarSeries],
    cast: Mapping[str, Artefact],
    replayed: Mapping[str, Decision],
    folder: Path,
) -> tuple[document.Timing, list[document.FaultResult]]:
    files = env_files({name: artefact.folder for name, artefact in cast.items()}, order.shadow, folder)
    results = []
    with EmbeddedServer(folder / "valkey") as server:
        stage = Stage(server.url, series, files, order.goals.grace_ms, folder)
        control = _control(console, stage, order.goals)
        _say(console, "(control)", "no shadow on either side", control)
        for number, fault in enumerate(order.faults, 1):
            with progress_bar(console, f"{number}/{len(order.faults)} {fault.value}") as report:
                both = compare_engines(stage, fault.value, fault, report)
            opened = opened_bars(both.on.records, order.shadow)
            timing = compare(both.off_ms, both.on_ms, opened, order.goals)
            off_ms, on_ms = ([round(ms, 4) for ms in side] for side in (both.off_ms, both.on_ms))
            result = document.FaultResult(
                fault=fault.value,
                what=WORDS[fault],
                decisions=len(both.on.records),
                intents=len(both.on.intents),
                checks=checks(both, replayed, order.shadow, fault),
                answers=answer_words(both.on.records, order.shadow),
                timing=msgspec.convert(timing, document.Timing, from_attributes=True),
                times=document.Times(off_ms, on_ms, opened.tolist()),
            )
            _say(console, fault.value, "same bytes, accounts exact" if result.passed else "FAIL", result.timing)
            results.append(result)
    return control, results


def _control(console: Console, stage: Stage, goals: Goals) -> document.Timing:
    with progress_bar(console, "control, no shadow") as report:
        both = compare_engines(stage, "control", None, report)
    timing = compare(both.off_ms, both.on_ms, [False] * len(both.on_ms), goals)
    return msgspec.convert(timing, document.Timing, from_attributes=True)


def _say(console: Console, name: str, what: str, timing: document.Timing) -> None:
    missed = f"  missed: {', '.join(timing.missed)}" if timing.missed and name != "(control)" else ""
    console.print(
        f"{name:15} {what:27} p50 {timing.off.p50:5.1f} / {timing.on.p50:5.1f} ms  ratio {timing.ratio.median:.3f}"
        f"{missed}"
    )


def untouched(cast: Mapping[str, Artefact]) -> document.Check:
    """Whether every artefact still has the bytes that it began with."""
    for name, artefact in cast.items():
        try:
            digest = load_artefact(artefact.folder).digest
        except ArtefactError as error:
            return document.Check("artefacts", passed=False, detail=str(error))
        if digest != artefact.digest:
            return document.Check("artefacts", passed=False, detail=f"{name}: digest {digest}, was {artefact.digest}")
    return document.Check("artefacts", passed=True, detail=f"all {len(cast)} have the bytes that they began with")

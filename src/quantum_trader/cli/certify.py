"""`quantum certify`: the proof that a shadow changes, delays and loses nothing, whatever is wrong with it."""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantum_trader.cli.finish import Finish

if TYPE_CHECKING:
    from rich.console import Console

    from quantum_trader.cli.certify_engines import Stage
    from quantum_trader.core.bars import BarSeries
    from quantum_trader.core.decision import Decision
    from quantum_trader.engine.faults import Fault
    from quantum_trader.engine.pairing import Goals
    from quantum_trader.models.artefact import Artefact
    from quantum_trader.report.certificate import Certificate, Check, FaultResult

GROUPS = 400
DEFAULT_MODELS = Path("models")


def certify(
    bars: Annotated[Path, typer.Option(help="Parquet, feather or CSV file of bars.")],
    groups: Annotated[int, typer.Option(min=20, help="Bars of each symbol to decide under each fault.")] = GROUPS,
    fault: Annotated[
        list[str] | None, typer.Option(help="Only this fault; may be repeated. All thirteen if not given.")
    ] = None,
    symbols: Annotated[str, typer.Option(help="Only these, such as BTC/USDT,ETH/USDT.")] = "",
    shadow: Annotated[str, typer.Option(help="The model that is the shadow; all others vote.")] = "patchtst",
    models: Annotated[
        Path | None,
        typer.Option(help="Folder of artefacts; the newest of each is taken. Default: models, or trained ones."),
    ] = None,
    grace_ms: Annotated[float, typer.Option(min=0, help="Longest wait for the shadow, SHADOW_GRACE_MS.")] = 20.0,
    out: Annotated[Path, typer.Option(help="Folder for certificate.json and certificate.html.")] = Path("certify-out"),
    keep: Annotated[bool, typer.Option("--keep", help="Keep logs, server data and trained models too.")] = False,
) -> None:
    """Replay the same bars through two real engines, without the shadow and under each fault of it, and compare.

    Every decision must be the same bytes with the shadow, without it and in a replay without a server; every answer
    must be counted; every intent must carry the shadow's marked entry. The time from bar to intent is measured in
    pairs. Needs neither a running server nor a configured engine, and touches none.

    Exit codes: 0 PASS, 2 FAIL (a byte differs, or something is not accounted for), 3 SLOW (only a time missed its
    goal), 1 any error.
    """
    from rich.console import Console

    from quantum_trader.clock import now_utc
    from quantum_trader.report.certificate import EXIT_CODES, encode
    from quantum_trader.report.certificate_page import screen, write_page
    from quantum_trader.report.html import write_whole

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 132)
    faults = _faults(fault)
    with _workplace(out, keep=keep) as folder:
        certificate = _certificate(
            console, (bars, symbols, groups), (models, shadow), faults, grace_ms, folder, now_utc()
        )
    write_whole(out / "certificate.json", encode(certificate).decode())
    write_page(certificate, out / "certificate.html")
    console.print()
    console.print(screen(certificate))
    console.print(f"\n{out / 'certificate.html'}, {out / 'certificate.json'}; took {certificate.seconds:.0f} s")
    code = EXIT_CODES[certificate.verdict]
    if code:
        raise Finish(code)


def _faults(names: "Sequence[str] | None") -> "list[Fault]":
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.engine.faults import CERTIFIED

    known = {fault.value: fault for fault in CERTIFIED}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"fault {name!r}: unknown, expected one of {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names or known)]


@contextmanager
def _workplace(out: Path, *, keep: bool) -> Iterator[Path]:
    """A folder for everything that is not the certificate; it stays if asked for, and where something went wrong."""
    from quantum_trader.core.errors import QuantumError

    out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="work-", dir=out))
    try:
        yield folder
    except QuantumError:
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _certificate(
    console: "Console",
    source: tuple[Path, str, int],
    wanted: "tuple[Path | None, str]",
    faults: "Sequence[Fault]",
    grace_ms: float,
    folder: Path,
    now: datetime,
) -> "Certificate":
    from quantum_trader.cli.certify_facts import file_digest, machine, newest_stretch, program
    from quantum_trader.core.bars import WINDOW, timeframe_name
    from quantum_trader.engine.pairing import Goals
    from quantum_trader.market.files import read_bars
    from quantum_trader.report import certificate as document

    started, (path, symbols, groups) = time.monotonic(), source
    about, code = machine(), program()
    whole = read_bars(path, [symbol for symbol in symbols.split(",") if symbol] or None)
    series = newest_stretch(whole, WINDOW - 1 + groups)
    cast = _cast(console, wanted, whole, series, folder, now)
    shadow, timeframe = wanted[1], timeframe_name(next(iter(series.values())).interval)
    decided = next(iter(series.values())).ts_open[WINDOW - 1 :]
    voters = ", ".join(name for name in cast if name != shadow)
    console.print(f"bars      {groups:,} of each of {', '.join(series)}, the newest of {path.name}, under each fault")
    console.print(f"models    {voters} vote, {shadow} is the shadow; grace {grace_ms:g} ms")
    replayed = _replayed(console, series, timeframe, {n: a.folder for n, a in cast.items() if n != shadow})
    goals = Goals(grace_ms=grace_ms)
    results = _run(console, series, cast, shadow, faults, goals, replayed, folder)
    return document.Certificate(
        format=document.FORMAT,
        created=now.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 1),
        program=code,
        machine=about,
        bars=document.BarsUsed(
            path.name, file_digest(path), timeframe, list(series), groups, int(decided[0]), int(decided[-1])
        ),
        models={
            name: document.Member("shadow" if name == shadow else "voter", artefact.folder.name, artefact.digest)
            for name, artefact in cast.items()
        },
        shadow=shadow,
        goals=document.Goals(goals.ratio, goals.ratio_open, goals.grace_ms),
        general=[_untouched(cast)],
        faults=results,
    )


def _cast(
    console: "Console",
    wanted: "tuple[Path | None, str]",
    whole: "Mapping[str, BarSeries]",
    series: "Mapping[str, BarSeries]",
    folder: Path,
    now: datetime,
) -> "dict[str, Artefact]":
    """The newest artefact of each model, in breakdown order; trained where none was named and none is there."""
    from quantum_trader.cli.demo_models import TRAIN_BARS, train_models
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.core.predictions import MODELS
    from quantum_trader.models.store import newest, present

    models, shadow = wanted
    if shadow not in MODELS:
        raise ConfigError(f"shadow {shadow!r}: unknown model, expected one of {', '.join(MODELS)}")
    if models is None and DEFAULT_MODELS.is_dir() and present(DEFAULT_MODELS):
        models = DEFAULT_MODELS
    if models is None:
        first = int(next(iter(series.values())).ts_open[0])
        before = {symbol: own.slice(0, int((own.ts_open < first).sum())) for symbol, own in whole.items()}
        if min(len(own) for own in before.values()) < TRAIN_BARS:
            raise ConfigError(f"bars: {TRAIN_BARS:,} before the certified ones are needed to train, or give --models")
        console.print(
            f"models    none in {DEFAULT_MODELS}: training four on the first {TRAIN_BARS:,} bars of each symbol"
        )
        models = folder / "models"
        train_models(console, {symbol: own.slice(0, TRAIN_BARS) for symbol, own in before.items()}, models, 1, now)
    there = present(models)
    if shadow not in there or len(there) < 2:
        raise ConfigError(
            f"models folder {models}: holds {', '.join(there) or 'none'}; {shadow} and a voter are needed"
        )
    return {name: newest(models, name) for name in there}


def _replayed(
    console: "Console", series: "Mapping[str, BarSeries]", timeframe: str, voters: "Mapping[str, Path]"
) -> "dict[str, Decision]":
    """The decisions of the same bars without a server, by id."""
    from quantum_trader.cli.demo_models import progress_bar
    from quantum_trader.core.policy import VotePolicy
    from quantum_trader.core.predictions import Role
    from quantum_trader.engine.replay import ReplayModel, replay

    models = [ReplayModel(name, path, Role.VOTER) for name, path in voters.items()]
    found: dict[str, Decision] = {}
    with progress_bar(console, "replay without a server") as report:
        for records in replay(series, timeframe, models, VotePolicy(), workers=2):
            found |= {record.decision.decision_id: record.decision for record in records}
            report(len(found), sum(len(bars.window_ends()) for bars in series.values()))
    return found


def _run(
    console: "Console",
    series: "Mapping[str, BarSeries]",
    cast: "Mapping[str, Artefact]",
    shadow: str,
    faults: "Sequence[Fault]",
    goals: "Goals",
    replayed: "Mapping[str, Decision]",
    folder: Path,
) -> "list[FaultResult]":
    from quantum_trader.bus.embedded import EmbeddedServer
    from quantum_trader.cli.certify_engines import Stage, env_files

    files = env_files({name: artefact.folder for name, artefact in cast.items()}, shadow, folder)
    results = []
    with EmbeddedServer(folder / "valkey") as server:
        stage = Stage(server.url, series, files, goals.grace_ms, folder)
        for number, fault in enumerate(faults, 1):
            started = time.monotonic()
            result = _one(console, stage, shadow, fault, goals, replayed, f"{number}/{len(faults)} {fault.value}")
            results.append(result)
            missed = f"missed: {', '.join(result.timing.missed)}" if result.timing.missed else "times PASS"
            console.print(
                f"{fault.value:15} {'same bytes, accounts exact' if result.passed else 'FAIL':27} "
                f"p50 {result.timing.off.p50:5.1f} / {result.timing.on.p50:5.1f} ms  "
                f"ratio {result.timing.ratio.median:.3f}  {missed}  ({time.monotonic() - started:.0f} s)"
            )
    return results


def _one(
    console: "Console",
    stage: "Stage",
    shadow: str,
    fault: "Fault",
    goals: "Goals",
    replayed: "Mapping[str, Decision]",
    label: str,
) -> "FaultResult":
    import msgspec

    from quantum_trader.cli.certify_checks import WORDS, answer_words, checks
    from quantum_trader.cli.certify_engines import compare_engines, opened_bars
    from quantum_trader.cli.demo_models import progress_bar
    from quantum_trader.engine.pairing import compare
    from quantum_trader.report import certificate as document

    with progress_bar(console, label) as report:
        both = compare_engines(stage, fault.value, fault, report)
    opened = opened_bars(both.on.records, shadow)
    timing = compare(both.off_ms, both.on_ms, opened, goals)
    off_ms, on_ms = ([round(ms, 4) for ms in side] for side in (both.off_ms, both.on_ms))
    return document.FaultResult(
        fault=fault.value,
        what=WORDS[fault],
        decisions=len(both.on.records),
        intents=len(both.on.intents),
        checks=checks(both, replayed, shadow, fault),
        answers=answer_words(both.on.records, shadow),
        timing=msgspec.convert(timing, document.Timing, from_attributes=True),
        times=document.Times(off_ms, on_ms, opened.tolist()),
    )


def _untouched(cast: "Mapping[str, Artefact]") -> "Check":
    """Whether every artefact still has the bytes that it began with."""
    from quantum_trader.core.errors import ArtefactError
    from quantum_trader.models.artefact import load_artefact
    from quantum_trader.report.certificate import Check

    for name, artefact in cast.items():
        try:
            digest = load_artefact(artefact.folder).digest
        except ArtefactError as error:
            return Check("artefacts", passed=False, detail=str(error))
        if digest != artefact.digest:
            return Check("artefacts", passed=False, detail=f"{name}: digest {digest}, was {artefact.digest}")
    return Check("artefacts", passed=True, detail=f"all {len(cast)} have the bytes that they began with")

"""`quantum demo`: the whole story on one screen, from bars to a verdict, through the real service."""

import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantum_trader.cli.demo_models import TRAIN_BARS, progress_bar, train_models
from quantum_trader.cli.finish import Finish

if TYPE_CHECKING:
    from rich.console import Console

    from quantum_trader.cli.demo_service import ServiceRun
    from quantum_trader.core.bars import BarSeries
    from quantum_trader.engine.faults import Fault
    from quantum_trader.release.init import Release

SERVICE_BARS = 2_016
"""Seven days of 5-minute bars: the observation that the operator's runbook asks for."""

ROGUE_BARS = 288
"""One day: a rogue is caught within hours."""

DEMO_EDGE = 0.12
"""Planted momentum of the simulated market, about what trees find with an AUC of 0.57; real 5-minute bars give less."""


def demo(
    bars: Annotated[
        Path | None, typer.Option(help="Real bars, Parquet or feather; simulated ones if not given.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("demo-out"),
    seed: Annotated[int, typer.Option(help="Of the simulator and the training.")] = 20260101,
    train_bars: Annotated[int, typer.Option(help="Bars of each symbol to train on.")] = TRAIN_BARS,
    service_bars: Annotated[
        int | None, typer.Option(help="Bars of each symbol that the service decides; a week, with a rogue a day.")
    ] = None,
    rogue: Annotated[
        str | None,
        typer.Option(help="Plant a fault in the shadow's process and see it caught: constant-input, nan, sleeping ..."),
    ] = None,
) -> None:
    """Train four models on the first part of the bars, let the real service decide the rest, judge, report.

    XGBoost, LightGBM and N-HiTS vote, PatchTST watches from the shadow. Everything runs on this machine: a Valkey
    server of its own, the engine as a process, bars and intents through its streams. Nothing is sent anywhere.

    --rogue constant-input feeds the shadow one constant sequence, as a production system did for 19 hours.
    """
    from rich.console import Console

    from quantum_trader.cli.demo_gallery import show_gallery
    from quantum_trader.clock import now_utc

    fault = None if rogue is None else _fault(rogue)

    # In a pipe rich assumes 80 columns, too few for the tables.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    started = time.monotonic()
    now = now_utc()
    folder = out / f"run_{now:%Y%m%d_%H%M%S}"
    folder.mkdir(parents=True)
    train, service = _bars(console, bars, seed, train_bars, service_bars or (ROGUE_BARS if fault else SERVICE_BARS))
    train_models(console, train, folder / "models", seed, now)
    release = _initialise(console, folder, now)
    run = _serve(console, service, release, folder, fault)
    note = _replay_equals(console, service, release, run)
    if fault is not None:
        from quantum_trader.cli.demo_rogue import caught

        if not caught(console, run, fault, "patchtst"):
            raise Finish(1)
        console.print(f"\ndone in {time.monotonic() - started:.0f} s; the engine's log is {folder / 'engine.log'}")
        return
    _judge(console, service, run, folder, simulated=bars is None, note=note)
    show_gallery(console, seed)
    console.print(f"\ndone in {time.monotonic() - started:.0f} s")


def _bars(
    console: "Console", path: Path | None, seed: int, train_bars: int, service_bars: int
) -> "tuple[dict[str, BarSeries], dict[str, BarSeries]]":
    """Bars to train on, and bars for the service with the window and the embargo before them."""
    from quantum_trader.core.bars import WINDOW
    from quantum_trader.core.errors import ConfigError, format_ms
    from quantum_trader.market.files import read_bars
    from quantum_trader.market.simulator import simulate

    needed = train_bars + service_bars
    if path is None:
        console.print(
            "[bold yellow]SIMULATED DATA[/]: a seeded market model, not a market. Real bars: make demo BARS=file"
        )
        console.print("          A planted momentum gives the models something to learn; no result here is a result.")
        series = simulate(needed, seed, edge=DEMO_EDGE)
    else:
        series = read_bars(path)
    have = min(len(own) for own in series.values())
    if have < needed:
        raise ConfigError(f"demo: {have} bars of each symbol, {needed} are needed ({train_bars} + {service_bars})")
    cut = {symbol: own.slice(len(own) - needed, len(own)) for symbol, own in series.items()}
    first = next(iter(cut.values()))
    source = "simulator" if path is None else str(path)
    console.print(
        f"bars      {source}: the last {needed:,} of {have:,} of {', '.join(cut)}, "
        f"{format_ms(int(first.ts_open[0]))} to {format_ms(int(first.ts_open[-1]))}"
    )
    console.print(f"          train on the first {train_bars:,} of each, the service decides the last {service_bars:,}")
    train = {symbol: own.slice(0, train_bars) for symbol, own in cut.items()}
    service = {symbol: own.slice(train_bars - WINDOW + 1, needed) for symbol, own in cut.items()}
    return train, service


def _initialise(console: "Console", folder: Path, now: datetime) -> "Release":
    from quantum_trader.core.predictions import DISPLAY_NAMES, MODELS
    from quantum_trader.models.store import newest
    from quantum_trader.release.init import initialise

    models = {model: newest(folder / "models", model).folder for model in MODELS}
    release = initialise(
        models,
        {"patchtst"},
        folder / "ledger.jsonl",
        folder / "ai-engine.env",
        by="quantum demo",
        at=now.isoformat(timespec="seconds"),
    )
    voters = ", ".join(DISPLAY_NAMES[model] for model in MODELS if model not in release.shadows)
    console.print(f"roles     {voters} hold a grant and vote; PatchTST watches from the shadow")
    return release


def _fault(name: str) -> "Fault":
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.engine.faults import Fault

    known = [fault.value for fault in Fault if fault not in (Fault.HEALTHY, Fault.ESCAPING, Fault.EXIT_IN_IMPORT)]
    if name not in known:
        raise ConfigError(f"rogue {name}: unknown, expected one of {', '.join(known)}")
    return Fault(name)


def _serve(
    console: "Console", bars: "Mapping[str, BarSeries]", release: "Release", folder: Path, fault: "Fault | None"
) -> "ServiceRun":
    from quantum_trader.cli.demo_service import expected_decisions, run_service

    expected = expected_decisions(bars)
    with progress_bar(console, "service deciding") as report:
        run = run_service(bars, release.env_file, folder, lambda done: report(done, expected), fault)
    console.print(
        f"service   {len(run.records):,} of {expected:,} decisions and {len(run.intents):,} intents in "
        f"{run.deciding_s:.1f} s through the stream (start to ready {run.start_to_ready_s:.1f} s)"
    )
    return run


def _replay_equals(console: "Console", bars: "Mapping[str, BarSeries]", release: "Release", run: "ServiceRun") -> str:
    """Decide the same bars without the server and compare the decisions' bytes."""
    from quantum_trader.core.bars import timeframe_name
    from quantum_trader.core.decision import canonical
    from quantum_trader.core.errors import QuantumError
    from quantum_trader.core.policy import VotePolicy
    from quantum_trader.core.predictions import MODELS, Role
    from quantum_trader.engine.replay import ReplayModel, replay

    roles = {model: Role.SHADOW if model in release.shadows else Role.VOTER for model in MODELS}
    cast = [ReplayModel(model, release.artefacts[model][0], role) for model, role in roles.items()]
    timeframe = timeframe_name(next(iter(bars.values())).interval)
    expected: dict[str, bytes] = {}
    with progress_bar(console, "replay without a server") as report:
        for records in replay(bars, timeframe, cast, VotePolicy(), workers=2):
            expected |= {record.decision.decision_id: canonical(record.decision) for record in records}
            report(len(expected), len(run.records))
    served = {record.decision.decision_id: canonical(record.decision) for record in run.records}
    if served != expected:
        differing = sum(served.get(name) != content for name, content in expected.items())
        raise QuantumError(f"replay and service differ in {differing} of {len(expected)} decisions")
    note = f"A replay without the server gave the same {len(served):,} decisions, byte for byte."
    console.print(f"replay    {note}")
    return note


def _judge(
    console: "Console",
    bars: "Mapping[str, BarSeries]",
    run: "ServiceRun",
    folder: Path,
    *,
    simulated: bool,
    note: str,
) -> None:
    import json

    from quantum_trader.archive.columns import to_table
    from quantum_trader.archive.store import DecisionFile
    from quantum_trader.market.files import SIMULATED, write_bars
    from quantum_trader.report.html import write_html
    from quantum_trader.report.model import build_report
    from quantum_trader.report.terminal import summary

    table = to_table(run.records)
    with DecisionFile(folder / "decisions" / "decisions.parquet") as file:
        file.write(table)
    source = SIMULATED if simulated else "demo"
    write_bars(folder / "bars.parquet", bars, source=source)
    (folder / "intents.jsonl").write_text(
        "".join(f"{json.dumps(intent)}\n" for intent in run.intents), encoding="utf-8"
    )
    title = "PatchTST in shadow, simulated market" if simulated else "PatchTST in shadow"
    data = build_report(table, dict(bars), "patchtst", simulated=simulated, title=title, notes=[note])
    write_html(data, folder / "report.html")
    console.print(summary(data))
    rows = {
        "report": folder / "report.html",
        "decisions": folder / "decisions",
        "intents": folder / "intents.jsonl",
        "bars": folder / "bars.parquet",
        "models": folder / "models",
        "engine log": folder / "engine.log",
    }
    console.print("\n[bold]Where the files are[/]")
    for name, path in rows.items():
        console.print(f"  {name:11} {path}")
    console.print(
        f"  judge again with: quantum gates --decisions {folder / 'decisions'} --bars {folder / 'bars.parquet'}"
    )

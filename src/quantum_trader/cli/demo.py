"""`quantum demo`: the whole story on one screen, from bars to a verdict, through the real service."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from quantum_trader.cli.demo_service import ServiceRun
    from quantum_trader.core.bars import BarSeries
    from quantum_trader.release.init import Release

TRAIN_BARS = 9_000
SERVICE_BARS = 2_016
"""Seven days of 5-minute bars: the observation that the operator's runbook asks for."""


def demo(
    bars: Annotated[Path | None, typer.Option(help="Real bars, Parquet or feather; simulated ones if not given.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("demo-out"),
    seed: Annotated[int, typer.Option(help="Of the simulator and the training.")] = 20260101,
    train_bars: Annotated[int, typer.Option(help="Bars of each symbol to train on.")] = TRAIN_BARS,
    service_bars: Annotated[int, typer.Option(help="Bars of each symbol that the service decides.")] = SERVICE_BARS,
) -> None:
    """Train four models on the first part of the bars, let the real service decide the rest, judge, report.

    XGBoost, LightGBM and N-HiTS vote, PatchTST watches from the shadow. Everything runs on this machine: a Valkey
    server of its own, the engine as a process, bars and intents through its streams. Nothing is sent anywhere.
    """
    from rich.console import Console

    from quantum_trader.clock import now_utc

    console = Console(highlight=False)
    started = time.monotonic()
    now = now_utc()
    folder = out / f"run_{now:%Y%m%d_%H%M%S}"
    folder.mkdir(parents=True)
    train, service = _bars(console, bars, seed, train_bars, service_bars)
    _train(console, train, folder / "models", seed, now)
    release = _initialise(console, folder, now)
    run = _serve(console, service, release, folder)
    equal = _replay_equals(console, service, release, run)
    _judge(console, service, run, folder, simulated=bars is None, equal=equal)
    console.print(f"\ndone in {time.monotonic() - started:.0f} s; everything is in {folder}")


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
        console.print("[bold yellow]SIMULATED DATA[/]: a seeded market model, not a market. Real bars: make demo BARS=file")
        series = simulate(needed, seed)
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


def _train(console: "Console", bars: "Mapping[str, BarSeries]", models: Path, seed: int, now: datetime) -> None:
    from quantum_trader.core.predictions import DISPLAY_NAMES, MODELS
    from quantum_trader.learn.dataset import build_dataset
    from quantum_trader.learn.options import TrainOptions
    from quantum_trader.learn.train import train_model
    from quantum_trader.models.artefact import load_artefact

    with _bar(console, "features") as report:
        dataset = build_dataset(bars, progress=lambda _, done, total: report(done, total))
    for model in MODELS:
        begun = time.monotonic()
        with _bar(console, f"training {DISPLAY_NAMES[model]}") as report:
            path = train_model(
                model, dataset, TrainOptions.demo(seed), models, now, progress=lambda _, done, total: report(done, total)
            )
        manifest = load_artefact(path).manifest
        test = manifest.metrics.test
        console.print(
            f"trained   {DISPLAY_NAMES[model]:9} {time.monotonic() - begun:5.1f} s  "
            f"test log-loss {test.log_loss:.4f} (prior {test.prior_log_loss:.4f})  AUC {test.auc:.3f}  "
            f"ONNX parity {manifest.parity.max_abs_dp:.0e} over {manifest.parity.rows:,} rows"
        )


@contextmanager
def _bar(console: "Console", label: str) -> "Iterator[object]":
    """A progress bar that is gone when the work is done."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn(f"{label:24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


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


def _serve(console: "Console", bars: "Mapping[str, BarSeries]", release: "Release", folder: Path) -> "ServiceRun":
    from quantum_trader.cli.demo_service import expected_decisions, run_service

    expected = expected_decisions(bars)
    with _bar(console, "service deciding") as report:
        run = run_service(bars, release.env_file, folder, lambda done: report(done, expected))
    console.print(
        f"service   {len(run.records):,} of {expected:,} decisions and {len(run.intents):,} intents in "
        f"{run.deciding_s:.1f} s through the stream; ready {run.start_to_ready_s:.1f} s after its start"
    )
    return run

"""`quantum train`: models from bars, with progress bars and a closing table."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from quantum_trader.learn.dataset import Dataset
    from quantum_trader.learn.options import TrainOptions
    from quantum_trader.learn.progress import Progress
    from quantum_trader.models.artefact import Artefact

_PADDING = (0, 1, 0, 0)


def train(
    bars: Annotated[Path, typer.Option(help="Parquet, feather or CSV file of bars.")],
    model: Annotated[
        list[str] | None, typer.Option(help="xgb, lgbm, nhits or patchtst; may be repeated. All four if not given.")
    ] = None,
    timerange: Annotated[
        str, typer.Option(help="Which bars: 20260101-20260201 (days in UTC, end exclusive). All if not given.")
    ] = "",
    pairs: Annotated[str, typer.Option(help="Pairs with commas between. All of the file if not given.")] = "",
    out: Annotated[Path, typer.Option(help="Folder of artefacts.")] = Path("models"),
    balanced: Annotated[
        bool | None,
        typer.Option("--balanced/--no-balanced", help="50/50 classes per batch. By default PatchTST only."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything drawn; the same seed gives the same weights.")] = 20260101,
    stride: Annotated[int, typer.Option(help="Take every STRIDE-th bar as a row.")] = 1,
    max_rows: Annotated[int | None, typer.Option(help="Widen the stride until about this many rows remain.")] = None,
    epochs: Annotated[int, typer.Option(help="Epochs of a network at most; it stops early.")] = 30,
    samples_per_epoch: Annotated[int, typer.Option(help="Rows drawn in one epoch of a network at most.")] = 65_536,
    rounds: Annotated[int, typer.Option(help="Trees at most; they stop early.")] = 600,
    threads: Annotated[
        int, typer.Option(help="Of the training libraries; weights are reproducible for equal threads only.")
    ] = 1,
    workers: Annotated[int, typer.Option(help="Processes that compute features.")] = 2,
    lineage: Annotated[str | None, typer.Option(help="Line of retrainings that the artefacts continue.")] = None,
) -> None:
    """Train models and write their artefacts.

    Rows are split by time into training, validation and test, purged and embargoed by horizon and delay. A model whose
    output has collapsed, or whose ONNX file does not answer as the trained model does, is refused and not written.
    """
    from rich.console import Console

    from quantum_trader.core.errors import TrainingError
    from quantum_trader.core.predictions import MODELS
    from quantum_trader.learn.dataset import DatasetOptions, build_dataset
    from quantum_trader.learn.options import TrainOptions
    from quantum_trader.market.files import read_bars
    from quantum_trader.market.timerange import TimeRange, parse_timerange

    names = _checked_names(model or list(MODELS))
    options = TrainOptions(
        seed=seed,
        balanced=balanced,
        max_epochs=epochs,
        samples_per_epoch=samples_per_epoch,
        max_rounds=rounds,
        threads=threads,
        lineage=lineage,
    )
    which = DatasetOptions(stride=stride, max_rows=max_rows, workers=workers)
    ranged = parse_timerange(timerange) if timerange else TimeRange()
    symbols = [pair.strip() for pair in pairs.split(",") if pair.strip()] or None
    console = Console(highlight=False)
    series = read_bars(bars, symbols, ranged)
    with progress_bars(console) as progress:
        dataset = build_dataset(series, which, progress)
    _describe(console, dataset)
    trained, refused = _train_all(console, names, dataset, options, out)
    _print_table(console, trained)
    if refused:
        raise TrainingError("; ".join(refused))


def _checked_names(names: list[str]) -> list[str]:
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.core.predictions import MODELS

    for name in names:
        if name not in MODELS:
            raise ConfigError(f"model {name!r}: expected one of {', '.join(MODELS)}")
    return list(dict.fromkeys(names))


def _describe(console: "Console", dataset: "Dataset") -> None:
    from quantum_trader.core.errors import format_ms

    first, last = (format_ms(int(dataset.ts[at])) for at in (0, -1))
    console.print(
        f"{len(dataset):,} rows of {', '.join(dataset.symbols)} ({dataset.timeframe}), {first} to {last}, "
        f"{dataset.y.mean():.1%} rises; {dataset.refused} windows refused",
        soft_wrap=True,
    )


def _train_all(
    console: "Console", names: list[str], dataset: "Dataset", options: "TrainOptions", out: Path
) -> "tuple[list[Artefact], list[str]]":
    """Artefacts, and why the others were refused: one refusal does not cost the night's other models."""
    from quantum_trader.clock import now_utc
    from quantum_trader.core.errors import TrainingError
    from quantum_trader.learn.train import train_model
    from quantum_trader.models.artefact import load_artefact

    trained, refused = [], []
    for name in names:
        with progress_bars(console) as progress:
            try:
                trained.append(load_artefact(train_model(name, dataset, options, out, now_utc(), progress)))
            except TrainingError as error:
                refused.append(str(error))
    return trained, refused


@contextmanager
def progress_bars(console: "Console") -> "Iterator[Progress]":
    """One bar per stage, drawn while the block runs."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description:18}"), BarColumn(), MofNCompleteColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as drawn:

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = drawn.add_task(stage)
            drawn.update(tasks[stage], completed=done, total=total)

        yield show


def _print_table(console: "Console", trained: "list[Artefact]") -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    if not trained:
        return
    table = Table("model", "part", "log-loss", "prior's", "Brier", "AUC", "accuracy", box=SIMPLE, padding=_PADDING)
    for artefact in trained:
        metrics = artefact.manifest.metrics
        for part in ("validation", "test") if metrics else ():
            own = getattr(metrics, part)
            values = (own.log_loss, own.prior_log_loss, own.brier, own.auc, own.accuracy)
            table.add_row(artefact.manifest.model, part, *(f"{value:.4f}" for value in values))
    console.print(table)
    for artefact in trained:
        bounds, parity = artefact.manifest.thresholds, artefact.manifest.parity
        console.print(
            f"{artefact.manifest.model:9} {artefact.digest[:16]}  BUY >= {bounds.buy_above:.4f}, "
            f"SELL <= {bounds.sell_below:.4f}; ONNX within {parity.max_abs_dp:.0e} over {parity.rows:,} rows; "
            f"{artefact.folder}",
            soft_wrap=True,
        )

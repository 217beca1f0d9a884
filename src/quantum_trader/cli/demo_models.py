"""Four small models for verbs that need some and were given none, and the progress bar of such verbs."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from quantum_trader.core.bars import BarSeries

TRAIN_BARS = 9_000
"""Bars of each symbol that the demo's training takes."""


def train_models(console: "Console", bars: "Mapping[str, BarSeries]", models: Path, seed: int, now: datetime) -> None:
    """Train all four with the demo's bounds into a folder, and say how each went.

    Raises:
        TrainingError: if a model's output has collapsed or its export is not what was trained.
    """
    from quantum_trader.core.predictions import DISPLAY_NAMES, MODELS
    from quantum_trader.learn.dataset import build_dataset
    from quantum_trader.learn.options import TrainOptions
    from quantum_trader.learn.train import train_model
    from quantum_trader.models.artefact import load_artefact

    with progress_bar(console, "features") as report:
        dataset = build_dataset(bars, progress=lambda stage, done, total: report(done, total))
    for model in MODELS:
        begun = time.monotonic()
        with progress_bar(console, f"training {DISPLAY_NAMES[model]}") as report:
            path = train_model(
                model,
                dataset,
                TrainOptions.demo(seed),
                models,
                now,
                progress=lambda stage, done, total: report(done, total),
            )
        manifest = load_artefact(path).manifest
        took = f"trained   {DISPLAY_NAMES[model]:9} {time.monotonic() - begun:5.1f} s"
        if manifest.metrics is not None:
            test, parity = manifest.metrics.test, manifest.parity
            console.print(
                f"{took}  test log-loss {test.log_loss:.4f} (knowing nothing {test.prior_log_loss:.4f})  "
                f"AUC {test.auc:.3f}  ONNX within {parity.max_abs_dp:.0e}"
            )


@contextmanager
def progress_bar(console: "Console", label: str) -> "Iterator[Callable[[int, int], None]]":
    """A progress bar that is gone when the work is done; nothing where the output is no terminal."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn(f"{label:24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield report

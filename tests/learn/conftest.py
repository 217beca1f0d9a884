"""A small market with a weak regularity, and the four models trained on it once for the whole test run."""

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from quantum_trader.core.bars import BarSeries
from quantum_trader.core.predictions import MODELS
from quantum_trader.learn.dataset import Dataset, DatasetOptions, build_dataset
from quantum_trader.learn.options import TrainOptions
from quantum_trader.learn.train import train_model
from quantum_trader.models.artefact import Artefact, load_artefact

INTERVAL = 300_000
START = 1_735_689_600_000
SMALL = TrainOptions(max_epochs=3, samples_per_epoch=1_024, batch_size=64, max_rounds=60, parity_rows=10_000)
SMALL_ROWS = DatasetOptions(max_rows=2_600, workers=1)
NOW = datetime(2026, 1, 10, 2, 36, 33, tzinfo=UTC)


def market(symbol: str, n: int, seed: int) -> BarSeries:
    """Bars of a random walk whose moves follow each other a little."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(n) * 0.002 * np.exp(0.3 * np.sin(np.arange(n) / 50))
    moves = np.empty(n)
    last = 0.0
    for i in range(n):
        last = moves[i] = 0.25 * last + noise[i]
    close = 100 * np.exp(np.cumsum(moves))
    open_ = np.concatenate([[100.0], close[:-1]])
    spread = 1 + np.abs(rng.standard_normal((2, n))) * 0.0005
    high, low = np.maximum(open_, close) * spread[0], np.minimum(open_, close) / spread[1]
    volume = rng.gamma(2.0, 10.0, n)
    ts_open = START + INTERVAL * np.arange(n)
    return BarSeries(symbol, INTERVAL, ts_open, open_, high, low, close, volume)


@pytest.fixture(scope="session")
def bars() -> dict[str, BarSeries]:
    return {symbol: market(symbol, 1_800, seed) for seed, symbol in enumerate(["BTCUSDT", "ETHUSDT"])}


@pytest.fixture(scope="session")
def dataset(bars: dict[str, BarSeries]) -> Dataset:
    return build_dataset(bars, SMALL_ROWS)


@pytest.fixture(scope="session")
def trained(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    """The four artefacts; the first worker that needs them trains them, the others wait."""
    base = tmp_path_factory.getbasetemp()
    folder: Path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    folder.mkdir(exist_ok=True)
    with (folder.parent / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for model in MODELS:
            if not (folder / f"{model}_v{NOW:%Y%m%d_%H%M%S}").exists():
                train_model(model, dataset, SMALL, folder, NOW)
    return {model: load_artefact(folder / f"{model}_v{NOW:%Y%m%d_%H%M%S}") for model in MODELS}

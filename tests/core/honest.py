"""Features of honest markets and their training statistics, for the tests of drift and honesty."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from quantum_trader.core.bars import WINDOW, BarSeries
from quantum_trader.core.drift import Reference
from quantum_trader.core.features import SCHEMA, Float32Array, compute_batch
from quantum_trader.market.simulator import simulate

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT")
TRAINING = 3_000
"""Rows of each symbol that count as the training part."""

SERVED = 2_000


@dataclass(frozen=True)
class Stats:
    """What a manifest holds of one feature."""

    std: float
    deciles: tuple[float, ...]


def statistics_of(rows: Float32Array) -> dict[str, Stats]:
    """Statistics of rows of shape (n, F), as the trainer takes them."""
    values = rows.astype(np.float64)
    deciles = np.quantile(values, np.arange(1, 10) / 10, axis=0).T
    stds = values.std(axis=0).tolist()
    return {n: Stats(std, tuple(d)) for n, std, d in zip(SCHEMA.names, stds, deciles.tolist(), strict=True)}


def rows_of(series: BarSeries, first: int, count: int, step: int = 1) -> Float32Array:
    """Rows at `count` bars of a series from bar `first` on, every `step`-th."""
    matrix = series.matrix()
    windows = [np.ascontiguousarray(matrix[:, end - WINDOW : end]) for end in range(first, first + count, step)]
    arrays = compute_batch(windows)
    assert not arrays.problems
    return arrays.rows


@cache
def simulated_rows(seed: int = 0) -> Mapping[str, Float32Array]:
    """Rows by symbol of a simulated market, (TRAINING + SERVED, F) each."""
    market = simulate(WINDOW + TRAINING + SERVED, seed, pairs=SYMBOLS)
    return {symbol: rows_of(series, WINDOW, TRAINING + SERVED) for symbol, series in market.items()}


@cache
def served(seed: int = 0) -> Float32Array:
    """The part after training, shape (SERVED, 5, F)."""
    return np.stack([simulated_rows(seed)[symbol][TRAINING:] for symbol in SYMBOLS], axis=1)


@cache
def reference(seed: int = 0) -> Reference:
    """Of the training part of all symbols together."""
    return Reference.of(statistics_of(np.concatenate([rows[:TRAINING] for rows in simulated_rows(seed).values()])))

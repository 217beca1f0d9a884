"""Decisions joined with the bars that came later: every model's sample. What one verdict reads is in `case`."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quantum_trader.archive.codes import codes, column
from quantum_trader.core.bars import BarSeries
from quantum_trader.core.errors import ConfigError
from quantum_trader.core.labels import forward_returns
from quantum_trader.core.predictions import MODELS
from quantum_trader.gates.sample import Sample


def samples(table: pa.Table, bars: dict[str, BarSeries]) -> dict[str, Sample]:
    """For every model that took part, its events with their outcomes.

    Args:
        table: Decisions in the archive's schema, in any order.
        bars: Bars by symbol; those after the decisions give the outcomes, where they have come.

    Raises:
        ConfigError: if there is no decision, or bars and decisions do not match.
    """
    interval = bar_length(table, bars)
    ts_open, (_, index) = column(table, "ts_open"), codes(table, "symbol")
    first, forward = int(ts_open.min()), outcomes(table, bars)
    last = max(int(series.ts_open[-1]) for series in bars.values())
    return {
        model: Sample.of(
            bar=(ts_open - first) // interval,
            symbol=index,
            p_up=column(table, f"{model}.p_up"),
            action=column(table, f"{model}.action"),
            ensemble=column(table, "action"),
            confidence=column(table, f"{model}.confidence"),
            forward=forward,
            bars=max(last, int(ts_open.max())) // interval - first // interval + 1,
        )
        for model in MODELS
        if table[f"{model}.role"].null_count < len(table)
    }


def roles(table: pa.Table) -> dict[str, set[str]]:
    """For every model that took part, the roles that it had."""
    values = {model: set(pc.unique(table[f"{model}.role"]).to_pylist()) - {None} for model in MODELS}
    return {model: names for model, names in values.items() if names}


def bar_length(table: pa.Table, bars: dict[str, BarSeries]) -> int:
    """Bar length in milliseconds, the same in decisions and bars.

    Raises:
        ConfigError: if there is no decision, one is on a symbol without bars, or the lengths differ.
    """
    if not len(table):
        raise ConfigError("no decisions in the window: there is nothing to judge")
    unknown = sorted(set(codes(table, "symbol")[0]) - set(bars))
    if unknown:
        raise ConfigError(f"decisions on {unknown[0]}, but the bars hold only {', '.join(sorted(bars)) or 'nothing'}")
    lengths = set(np.unique(column(table, "ts_close") - column(table, "ts_open")).tolist())
    lengths |= {series.interval for series in bars.values()}
    if len(lengths) != 1:
        raise ConfigError(f"decisions and bars have different bar lengths: {sorted(lengths)} ms")
    return int(lengths.pop())


def outcomes(table: pa.Table, bars: dict[str, BarSeries]) -> NDArray[np.float64]:
    """Delayed forward log return of every decision, shape (n,); NaN where its bars have not come or have a hole."""
    out = np.full(len(table), np.nan)
    ts_open, (names, index) = column(table, "ts_open"), codes(table, "symbol")
    for number, symbol in enumerate(names):
        if symbol not in bars:
            continue
        series, rows = bars[symbol], np.flatnonzero(index == number)
        at = np.searchsorted(series.ts_open, ts_open[rows])
        found = at < len(series)
        found[found] &= series.ts_open[at[found]] == ts_open[rows][found]
        out[rows[found]] = forward_returns(series)[at[found]]
    return out

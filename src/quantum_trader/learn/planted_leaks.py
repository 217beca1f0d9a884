"""Five features with the classic faults, written as people write them: the look-ahead analysis has to find them all."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import talib
from numpy.typing import NDArray

from quantum_trader.core.bars import BarSeries, FloatArray

Columns = Mapping[str, NDArray[Any]]
FeatureFunction = Callable[[BarSeries], Columns]
"""From all bars of a symbol to columns by name, each of shape (n,) or (n, ...): row t is the feature at bar t."""


def whole_frame_zscore(series: BarSeries) -> Columns:
    """Close in standard deviations from its mean, both over the whole frame: the future scales the past."""
    return {"zscore": (series.close - series.close.mean()) / series.close.std()}


def shifted_return(series: BarSeries) -> Columns:
    """What pandas gives for ``close.shift(-3) / close - 1``: the return of the next three bars."""
    later = np.full(len(series), np.nan)
    later[:-3] = series.close[3:]
    return {"shift": later / series.close - 1.0}


def centred_window(series: BarSeries) -> Columns:
    """Close against its mean over 21 bars centred on it, as ``rolling(21, center=True)``: ten bars of future."""
    means = np.full(len(series), np.nan)
    if len(series) >= 21:
        means[10:-10] = np.lib.stride_tricks.sliding_window_view(series.close, 21).mean(axis=1)
    return {"centred": series.close / means - 1.0}


def cumulative_volume(series: BarSeries) -> Columns:
    """On-balance volume: a sum since the first bar of the frame, whichever that is."""
    moves: FloatArray = np.sign(np.diff(series.close, prepend=series.close[:1]))
    return {"cumsum": np.cumsum(moves * series.volume)}


def slow_average(series: BarSeries) -> Columns:
    """Close against an EMA of 400 bars: after a window of 512 it still remembers where it was started."""
    return {"ema400": series.close / talib.EMA(series.close, 400) - 1.0}


PLANTED: dict[str, FeatureFunction] = {
    "zscore": whole_frame_zscore,
    "shift": shifted_return,
    "centred": centred_window,
    "cumsum": cumulative_volume,
    "ema400": slow_average,
}
"""By the name of the one feature that each gives."""

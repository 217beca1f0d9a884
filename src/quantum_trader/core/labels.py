"""The label: does the price rise over the horizon, counted from one bar after the decision."""

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.bars import BarSeries

HORIZON = 12
"""H, bars over which the outcome is measured."""

DELAY = 1
"""D, bars between the decision and the entry."""

UNKNOWN = -1
"""Label of a bar whose outcome has not happened yet or lies across a gap."""


def forward_returns(series: BarSeries, horizon: int = HORIZON, delay: int = DELAY) -> NDArray[np.float64]:
    """The log return from t+delay to t+delay+horizon on closes, for every bar t, shape (n,); NaN where not known.

    NaN too where a gap lies between t and t+delay+horizon: those closes are not `horizon` bars apart.
    """
    n, span = len(series), horizon + delay
    out = np.full(n, np.nan)
    if n <= span:
        return out
    whole = series.ts_open[span:] - series.ts_open[:-span] == span * series.interval
    log_close = np.log(series.close)
    moves = log_close[span:] - log_close[delay : n - horizon]
    out[: n - span] = np.where(whole, moves, np.nan)
    return out


def labels(series: BarSeries, horizon: int = HORIZON, delay: int = DELAY) -> NDArray[np.int8]:
    """The label y: 1 where the forward return is > 0, 0 where it is not, UNKNOWN where there is none; shape (n,)."""
    returns = forward_returns(series, horizon, delay)
    return np.where(np.isnan(returns), UNKNOWN, returns > 0).astype(np.int8)

"""What the charts draw, as plain arrays: reliability, confidence, agreement, action shares over time, prices."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from quantum_trader.core.bars import BarSeries
from quantum_trader.core.predictions import Action
from quantum_trader.gates import clustered
from quantum_trader.gates.calibration import quantile_bins, reliability
from quantum_trader.gates.scores import brier
from quantum_trader.report.frame import Frame

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

CONFIDENCE_EDGES = np.linspace(0.5, 1.0, 26)
"""Of the confidence histograms: max(p, 1 - p) lies between 0.5 and 1."""

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class ReliabilityPoint:
    """One bin: events, mean p_up, share of rises and the 95 % interval of that share."""

    n: int
    mean_p: float
    frequency: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class ReliabilityView:
    """Outcomes against stated probabilities.

    Attributes:
        n: Events with an output and an outcome.
        points: Bins of about equal size, empty ones left out.
        edges: Shape (k + 1,), of the histogram of p_up.
        counts: Shape (k,).
        ece: Expected calibration error over the bins; NaN for no events.
        brier: Brier score; NaN for no events.
        base: Share of rises; NaN for no events.
    """

    n: int
    points: tuple[ReliabilityPoint, ...]
    edges: FloatArray
    counts: IntArray
    ece: float
    brier: float
    base: float


def wilson(share: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a share (Wilson 1927) of n events; n may be an effective size, so any positive number.

    >>> wilson(0.5, 100.0)
    (0.4038315303659956, 0.5961684696340044)
    """
    if not n > 0:
        return 0.0, 1.0
    z = float(ndtri(0.5 + level / 2))
    scale = 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def reliability_view(frame: Frame, model: str, bins: int = 10) -> ReliabilityView:
    """The reliability curve of one model over bins between the quantiles of its own p_up.

    The interval is Wilson's with the effective size that the standard error clustered by cycle leaves (never more than
    the events there are): events of one cycle share their market.
    """
    known = frame.models[model].valid & ~np.isnan(frame.forward)
    return reliability_of(frame.models[model].p_up[known], frame.forward[known] > 0, frame.cycle[known], bins)


def reliability_of(p: FloatArray, rise: NDArray[np.bool_], cycle: IntArray, bins: int = 10) -> ReliabilityView:
    """The reliability curve of probabilities p, their outcomes and cycles, all of shape (n,)."""
    bin_of = quantile_bins(p, bins)
    curve = reliability(p, rise.astype(float), bin_of, bins)
    points = []
    for k in np.flatnonzero(curve.n).tolist():
        inside = bin_of == k
        estimate = clustered.share(rise[inside], cycle[inside])
        low, high = wilson(estimate.value, min(estimate.n_effective, estimate.n))
        points.append(ReliabilityPoint(estimate.n, float(curve.mean_p[k]), estimate.value, low, high))
    low, high = (float(p.min()), float(p.max())) if len(p) else (0.0, 1.0)
    # A constant output still gets a bar of some width.
    counts, edges = np.histogram(p, bins=30, range=(low, high) if high - low > 1e-6 else (low - 0.01, high + 0.01))
    base = float(rise.mean()) if len(p) else math.nan
    return ReliabilityView(len(p), tuple(points), edges, counts, curve.ece, brier(p, rise.astype(float)), base)


def confidence_counts(frame: Frame, model: str) -> IntArray:
    """Valid outputs per bin of CONFIDENCE_EDGES."""
    columns = frame.models[model]
    return np.histogram(columns.confidence[columns.valid], bins=CONFIDENCE_EDGES)[0].astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class AgreementView:
    """How often each two take the same action, over the decisions on which both answered.

    Attributes:
        names: m models in the order of every breakdown, then "ensemble".
        share: Shape (m + 1, m + 1); NaN where the two never answered together.
        n: Shape (m + 1, m + 1).
    """

    names: tuple[str, ...]
    share: FloatArray
    n: IntArray


def agreement_view(frame: Frame) -> AgreementView:
    """Agreement of every two models, and of each with the ensemble."""
    everybody = np.ones(len(frame), np.bool_)
    who = [(c.action, c.valid) for c in frame.models.values()] + [(frame.action, everybody)]
    share, n = np.full((len(who), len(who)), np.nan), np.zeros((len(who), len(who)), np.int64)
    for i, (action, valid) in enumerate(who):
        for j, (other, other_valid) in enumerate(who):
            both = valid & other_valid
            n[i, j] = int(both.sum())
            if n[i, j]:
                share[i, j] = int((action[both] == other[both]).sum()) / int(n[i, j])
    return AgreementView((*frame.models, "ensemble"), share, n)


@dataclass(frozen=True, slots=True, eq=False)
class SharesView:
    """Shares of SELL, HOLD and BUY over time.

    Attributes:
        edges: Shape (k + 1,), milliseconds since the epoch.
        shares: For every model and "ensemble", shape (k, 3); NaN where there was no answer.
        bars: Bars that one period spans.
    """

    edges: IntArray
    shares: dict[str, FloatArray]
    bars: int


def shares_view(frame: Frame, periods: int = 60) -> SharesView:
    """Action shares in at most `periods` periods of equally many bars."""
    bar = (frame.ts_open - frame.ts_open[0]) // frame.interval
    total = int(bar[-1]) + 1
    size = -(-total // periods)
    k = -(-total // size)
    # The last period ends with the last bar, it is not drawn into the future.
    edges = frame.ts_open[0] + np.minimum(np.arange(k + 1) * size, total) * frame.interval
    everybody = np.ones(len(frame), np.bool_)
    who = {name: (c.action, c.valid) for name, c in frame.models.items()} | {"ensemble": (frame.action, everybody)}
    shares = {name: _shares(action[valid], (bar // size)[valid], k) for name, (action, valid) in who.items()}
    return SharesView(edges, shares, size)


def _shares(action: NDArray[np.int8], period: IntArray, k: int) -> FloatArray:
    counts = np.stack([np.bincount(period[action == a], minlength=k) for a in Action], axis=1).astype(float)
    total = counts.sum(axis=1, keepdims=True)
    shares: FloatArray = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    return shares


@dataclass(frozen=True, slots=True, eq=False)
class PriceView:
    """Prices of one symbol with its intents, thinned; every array has shape (k,).

    Attributes:
        symbol: Venue symbol.
        ts: Close time of the point's last bar, milliseconds since the epoch.
        low: Lowest low of the point's bars; NaN breaks the line where bars are missing.
        high: Highest high.
        close: Last close.
        buys: BUY intents of the point.
        sells: SELL intents.
        per_point: Bars that one point stands for.
    """

    symbol: str
    ts: IntArray
    low: FloatArray
    high: FloatArray
    close: FloatArray
    buys: IntArray
    sells: IntArray
    per_point: int


def price_view(frame: Frame, series: BarSeries, days: float, points: int = 160) -> PriceView | None:
    """The last `days` days up to the last decision, in at most `points` points; None where there is no bar."""
    interval = frame.interval
    stop = int(frame.ts_open[-1]) + interval
    start = max(int(frame.ts_open[0]), stop - int(days * DAY_MS))
    shown = series.between(start, stop)
    if not len(shown):
        return None
    first = int(shown.ts_open[0])
    total = (int(shown.ts_open[-1]) - first) // interval + 1
    size = -(-total // points)
    k = -(-total // size)
    point = (shown.ts_open - first) // interval // size
    low, high, close = np.full(k, np.inf), np.full(k, -np.inf), np.full(k, np.nan)
    np.minimum.at(low, point, shown.low)
    np.maximum.at(high, point, shown.high)
    close[point] = shown.close
    seen = np.isfinite(close)
    mine = (frame.symbol == frame.names.index(series.symbol)) & (frame.ts_open >= first)
    at, action = (frame.ts_open[mine] - first) // interval // size, frame.action[mine]
    at, action = at[at < k], action[at < k]
    return PriceView(
        symbol=series.symbol,
        ts=first + np.minimum((np.arange(k) + 1) * size, total) * interval,
        low=np.where(seen, low, np.nan),
        high=np.where(seen, high, np.nan),
        close=close,
        buys=np.bincount(at[action == 1], minlength=k),
        sells=np.bincount(at[action == -1], minlength=k),
        per_point=size,
    )

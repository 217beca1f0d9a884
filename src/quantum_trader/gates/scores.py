"""Scores of probabilities against outcomes: Brier, logarithmic, area under the curve, hit rate with its interval.

All take p, shape (n,), within [0, 1], and y, shape (n,), 0 or 1; all give NaN for no events.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, xlogy
from scipy.stats import rankdata

FloatArray = NDArray[np.float64]

_EPSILON = float(np.finfo(np.float64).eps)


def brier(p: FloatArray, y: FloatArray) -> float:
    """Mean squared error of the probabilities (Brier 1950)."""
    return float(np.square(p - y).mean()) if len(p) else math.nan


def log_loss(p: FloatArray, y: FloatArray) -> float:
    """Mean negative log-likelihood in nats; p is kept a float64 epsilon away from 0 and 1."""
    if not len(p):
        return math.nan
    q = np.clip(p, _EPSILON, 1.0 - _EPSILON)
    return float(-(xlogy(y, q) + xlogy(1.0 - y, 1.0 - q)).mean())


def auc(p: FloatArray, y: FloatArray) -> float:
    """Chance that a rise was given a higher p than a fall, ties counting half (Mann and Whitney 1947).

    NaN where only one class occurred.
    """
    rises = int(np.count_nonzero(y == 1))
    falls = len(y) - rises
    if not rises or not falls:
        return math.nan
    ranks = float(rankdata(p)[y == 1].sum())
    return (ranks - rises * (rises + 1) / 2) / (rises * falls)


def hit_rate(p: FloatArray, y: FloatArray) -> float:
    """Share of events on whose likelier side (up at p >= 0.5) the outcome fell."""
    return float(((p >= 0.5) == (y == 1)).mean()) if len(p) else math.nan


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a share of independent events (Wilson 1927); (0, 1) for no events."""
    if n == 0:
        return 0.0, 1.0
    z = float(ndtri(0.5 + level / 2))
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)

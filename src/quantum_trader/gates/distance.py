"""How far apart are two samples: Kolmogorov-Smirnov with its p, population stability index (golden g10).

Non-finite values are left out; a sample without any gives NaN, which no comparison takes for "alike".
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kstwo

FloatArray = NDArray[np.float64]

_EMPTY = 1e-6
"""Share that an empty bin counts as, so that its logarithm exists."""


def ks_distance(a: FloatArray, b: FloatArray) -> float:
    """Largest difference of the two empirical distribution functions."""
    one, other = _sorted(a), _sorted(b)
    if not len(one) or not len(other):
        return math.nan
    at = np.concatenate([one, other])
    below = np.searchsorted(one, at, side="right") / len(one) - np.searchsorted(other, at, side="right") / len(other)
    return float(np.abs(below).max())


def ks_p(a: FloatArray, b: FloatArray) -> float:
    """Chance of a distance at least as large between samples of one distribution: asymptotic, two-sided.

    Independent values are assumed; of overlapping horizons it is too small.
    """
    distance = ks_distance(a, b)
    if math.isnan(distance):
        return math.nan
    n, m = len(_sorted(a)), len(_sorted(b))
    return float(np.clip(kstwo.sf(distance, max(1, round(n * m / (n + m)))), 0.0, 1.0))


def stability_index(reference: FloatArray, sample: FloatArray, bins: int = 10) -> float:
    """Population stability index over bins of equal mass in the reference: sum of (r - s) ln(r / s)."""
    base, other = _sorted(reference), _sorted(sample)
    if not len(base) or not len(other):
        return math.nan
    edges = np.quantile(base, np.arange(1, bins) / bins)
    counted = [np.bincount(np.searchsorted(edges, x, side="right"), minlength=bins) for x in (base, other)]
    return index_of(*(counts.astype(np.float64) for counts in counted))


def index_of(before: FloatArray, after: FloatArray) -> float:
    """The same from counts per bin, both of shape (bins,)."""
    if not before.sum() or not after.sum():
        return math.nan
    r = np.maximum(before / before.sum(), _EMPTY)
    s = np.maximum(after / after.sum(), _EMPTY)
    return float(((r - s) * np.log(r / s)).sum())


def _sorted(values: FloatArray) -> FloatArray:
    return np.sort(values[np.isfinite(values)])

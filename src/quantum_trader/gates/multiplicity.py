"""Several hypotheses at once: which hold up when all were looked at (golden g09).

p-values by Holm (1979) and Benjamini and Hochberg (1995), adjusted; e-values by Bonferroni and Wang and Ramdas (2022).
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def holm(p: FloatArray) -> FloatArray:
    """Adjusted p-values, shape (k,): at most alpha of any false rejection, whatever the dependence."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    return _placed(np.maximum.accumulate(scaled), order)


def benjamini_hochberg(p: FloatArray) -> FloatArray:
    """Adjusted p-values, shape (k,): an expected share of at most alpha of rejections is false, if independent."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    return _placed(np.minimum.accumulate(scaled[::-1])[::-1], order)


def e_bonferroni(e: FloatArray, alpha: float) -> BoolArray:
    """Which e-values reject at alpha, shared out evenly, shape (k,)."""
    return np.asarray(e >= len(e) / alpha)


def e_benjamini_hochberg(e: FloatArray, alpha: float) -> BoolArray:
    """Which e-values reject: the k* largest, k* the largest k with the k-th at least K / (k alpha); any dependence."""
    order = np.argsort(-e, kind="stable")
    passing = np.flatnonzero(e[order] >= len(e) / (alpha * np.arange(1, len(e) + 1)))
    rejected = np.zeros(len(e), np.bool_)
    if len(passing):
        rejected[order[: passing[-1] + 1]] = True
    return rejected


def _placed(adjusted: FloatArray, order: NDArray[np.intp]) -> FloatArray:
    out = np.empty(len(order))
    out[order] = np.minimum(adjusted, 1.0)
    return out

"""Isotonic regression: the best non-decreasing fit (pool adjacent violators; Ayer et al. 1955)."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

FloatArray = NDArray[np.float64]


def pool_adjacent_violators(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted least-squares non-decreasing fit of values in their given order, shape (k,)."""
    if len(values) == 0:
        return np.empty(0)
    return np.asarray(isotonic_regression(values, weights=weights).x, dtype=np.float64)


def isotonic_fit(x: FloatArray, y: FloatArray) -> FloatArray:
    """Non-decreasing fit of y on x at every x, in the input's order, shape (n,); equal x share one value."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, y, minlength=len(counts)) / np.maximum(counts, 1)
    return pool_adjacent_violators(means, counts.astype(np.float64))[inverse]

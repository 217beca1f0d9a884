"""How good are probabilities: ECE, the Brier score and its decomposition, each with a standard error by cycle.

Bins hold equally many events. Standard errors are those of the jackknife that leaves out one cycle at a time:
se^2 = (k - 1) / k sum (theta_i - mean theta)^2 (Efron 1982; of groups: Kott 2001). ECE is never negative, so that of a
perfectly calibrated model is above 0 by about its standard error.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from quantum_trader.gates import clustered
from quantum_trader.gates.calibration import quantile_bins

FloatArray = NDArray[np.float64]

BINS = 10


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and its standard error; both NaN where there is none."""

    value: float
    se: float


@dataclass(frozen=True, slots=True)
class Quality:
    """Brier = reliability - resolution + uncertainty + within (Murphy 1973).

    Attributes:
        ece: Expected calibration error (Naeini et al. 2015).
        brier: Mean squared error.
        reliability: How far outcomes in a bin lie from what is stated there; 0 is best.
        resolution: How far outcomes in bins lie from those of all; more is better.
        uncertainty: Variance of the outcome; nobody's merit.
        within: What probabilities vary and covary with outcomes inside bins (Stephenson, Coelho and Jolliffe 2008).
    """

    ece: Figure
    brier: Figure
    reliability: Figure
    resolution: Figure
    uncertainty: Figure
    within: Figure

    def named(self) -> Iterator[tuple[str, Figure]]:
        """Every figure with its name."""
        return ((item.name, getattr(self, item.name)) for item in fields(self))


def quality(p: FloatArray, y: FloatArray, cycle: NDArray[np.integer], bins: int = BINS) -> Quality:
    """The figures of n events.

    Args:
        p: Shape (n,), probabilities of a rise.
        y: Shape (n,), 0 or 1.
        cycle: Shape (n,), the cycle of each event.
        bins: Number of bins.

    All NaN for no events; standard errors are NaN for a single cycle.
    """
    code, k = clustered.codes(cycle)
    if not k:
        return Quality(*[Figure(math.nan, math.nan)] * len(fields(Quality)))
    cell = code * bins + quantile_bins(p, bins)
    powers = (np.ones_like(p), p, y, np.square(p), p * y)
    sums = np.stack([np.bincount(cell, power, k * bins).reshape(k, bins) for power in powers], axis=-1)
    total = sums.sum(axis=0)
    value = _figures(total)
    if k == 1:
        return Quality(*(Figure(number, math.nan) for number in value.tolist()))
    without = _figures(total - sums)
    se = np.sqrt((k - 1) / k * np.square(without - without.mean(axis=0)).sum(axis=0))
    return Quality(*(Figure(*pair) for pair in zip(value.tolist(), se.tolist(), strict=True)))


def _figures(sums: FloatArray) -> FloatArray:
    """Of sums by bin, shape (..., bins, 5), the six figures in their order, shape (..., 6)."""
    n, p, y, square, product = (sums[..., i] for i in range(5))
    events = n.sum(axis=-1)
    divisor = np.where(n > 0, n, 1.0)
    mean_p, frequency = p / divisor, y / divisor
    base = y.sum(axis=-1) / events
    gap = mean_p - frequency

    def weighed(x: FloatArray) -> FloatArray:
        total: FloatArray = (n * x).sum(axis=-1) / events
        return total

    brier = (square - 2 * product + y).sum(axis=-1) / events
    reliability, uncertainty = weighed(np.square(gap)), base * (1 - base)
    resolution = weighed(np.square(frequency - base[..., None]))
    within = brier - reliability + resolution - uncertainty
    return np.stack([weighed(np.abs(gap)), brier, reliability, resolution, uncertainty, within], axis=-1)

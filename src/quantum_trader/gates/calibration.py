"""Do probabilities mean what they say: reliability curves, ECE, decompositions of the Brier score, L2 error, Platt.

All take p, shape (n,), probabilities of a rise, and y, shape (n,), 0 or 1.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from quantum_trader.gates.isotonic import isotonic_fit
from quantum_trader.gates.scores import brier

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """A reliability curve.

    Attributes:
        n: Shape (k,), events per bin.
        mean_p: Shape (k,), mean probability; NaN in an empty bin.
        frequency: Shape (k,), share of rises; NaN in an empty bin.
    """

    n: IntArray
    mean_p: FloatArray
    frequency: FloatArray

    @property
    def ece(self) -> float:
        """Expected calibration error: mean |mean_p - frequency| weighted by events (Naeini et al. 2015)."""
        used = self.n > 0
        if not used.any():
            return math.nan
        return float((self.n[used] * self._gaps()).sum()) / int(self.n.sum())

    @property
    def mce(self) -> float:
        """Maximum calibration error: the largest |mean_p - frequency| of a bin."""
        gaps = self._gaps()
        return float(gaps.max()) if len(gaps) else math.nan

    def _gaps(self) -> FloatArray:
        used = self.n > 0
        return np.abs(self.mean_p[used] - self.frequency[used])


def uniform_bins(p: FloatArray, bins: int = 10) -> IntArray:
    """Index of the bin [k / bins, (k + 1) / bins) of each p, the last one closed; shape (n,)."""
    inner = np.arange(1, bins) / bins
    return np.searchsorted(inner, p, side="right").astype(np.int64)


def quantile_bins(p: FloatArray, bins: int = 5) -> IntArray:
    """Index of each p's bin between its own quantiles, upper edges closed as in scikit-learn; shape (n,)."""
    if not len(p):
        return np.empty(0, dtype=np.int64)
    inner = np.quantile(p, np.arange(1, bins) / bins)
    return np.searchsorted(inner, p).astype(np.int64)


def reliability(p: FloatArray, y: FloatArray, bin_of: IntArray, bins: int) -> Reliability:
    """The curve over given bins 0 to bins - 1."""
    n = np.bincount(bin_of, minlength=bins)
    divisor = np.where(n > 0, n, np.nan)
    return Reliability(n, np.bincount(bin_of, p, bins) / divisor, np.bincount(bin_of, y, bins) / divisor)


@dataclass(frozen=True, slots=True)
class Murphy:
    """Brier score = reliability - resolution + uncertainty + within_variance - 2 within_covariance.

    Murphy 1973; the two within-bin terms make it exact (Stephenson, Coelho and Jolliffe 2008).
    """

    reliability: float
    resolution: float
    uncertainty: float
    within_variance: float
    within_covariance: float


def murphy(p: FloatArray, y: FloatArray, bins: int = 10) -> Murphy:
    """The decomposition over uniform bins; all NaN for no events."""
    n = len(p)
    if not n:
        return Murphy(*[math.nan] * 5)
    bin_of = uniform_bins(p, bins)
    curve = reliability(p, y, bin_of, bins)
    used, base = curve.n > 0, float(y.mean())
    mean_p, frequency, weight = curve.mean_p[used], curve.frequency[used], curve.n[used] / n
    off_p, off_y = p - curve.mean_p[bin_of], y - curve.frequency[bin_of]
    return Murphy(
        reliability=float((weight * np.square(mean_p - frequency)).sum()),
        resolution=float((weight * np.square(frequency - base)).sum()),
        uncertainty=base * (1 - base),
        within_variance=float(np.square(off_p).mean()),
        within_covariance=float((off_p * off_y).mean()),
    )


@dataclass(frozen=True, slots=True)
class Corp:
    """Brier score = miscalibration - discrimination + uncertainty (Dimitriadis, Gneiting and Jordan 2021)."""

    miscalibration: float
    discrimination: float
    uncertainty: float


def corp(p: FloatArray, y: FloatArray) -> Corp:
    """The decomposition without bins, by isotonic recalibration; all NaN for no events."""
    if not len(p):
        return Corp(*[math.nan] * 3)
    recalibrated = brier(isotonic_fit(p, y), y)
    base = float(y.mean())
    return Corp(brier(p, y) - recalibrated, base * (1 - base) - recalibrated, base * (1 - base))


@dataclass(frozen=True, slots=True)
class L2Error:
    """Root mean squared calibration error: as computed (`plugin`, biased upwards) and debiased."""

    plugin: float
    debiased: float


def l2_error(p: FloatArray, y: FloatArray, bins: int = 15) -> L2Error:
    """The error over bins of equal mass, debiased as by Kumar, Liang and Ma 2019; NaN for no events.

    Bins part halfway between the neighbouring values, their upper edges closed; a bin of one event has no estimable
    variance and adds nothing to the debiased error, which is cut off at 0.
    """
    total = len(p)
    if not total:
        return L2Error(math.nan, math.nan)
    parts = [part for part in np.array_split(np.sort(p), bins) if len(part)]
    inner = np.unique([(left[-1] + right[0]) / 2 for left, right in pairwise(parts)])
    curve = reliability(p, y, np.searchsorted(inner, p).astype(np.int64), len(inner) + 1)
    many = curve.n > 0
    n, rate = curve.n[many], curve.frequency[many]
    squares = np.square(curve.mean_p[many] - rate)
    bias = rate * (1 - rate) / np.maximum(n - 1, 1)
    debiased = float((np.where(n > 1, squares - bias, 0.0) * n).sum()) / total
    return L2Error(math.sqrt(float((squares * n).sum()) / total), math.sqrt(max(0.0, debiased)))


@dataclass(frozen=True, slots=True)
class Platt:
    """Logistic regression of y on logit p; calibrated probabilities have intercept 0 and slope 1 (Cox 1958).

    All NaN where the likelihood has no finite maximum: one class only, constant p, or classes that p separates.
    """

    intercept: float
    slope: float
    intercept_se: float
    slope_se: float


def platt(p: FloatArray, y: FloatArray, iterations: int = 60) -> Platt:
    """Maximum likelihood by Newton's method, no penalty; standard errors from the information matrix."""
    failed = Platt(*[math.nan] * 4)
    x = logit(np.clip(p, 1e-12, 1 - 1e-12))
    if len(np.unique(y)) < 2 or float(np.ptp(x)) == 0.0:
        return failed
    design = np.stack([np.ones_like(x), x], axis=1)
    weights = np.zeros(2)
    for _ in range(iterations):
        fitted = expit(design @ weights)
        information = (design * (fitted * (1 - fitted))[:, None]).T @ design
        if not np.linalg.cond(information) < 1e12:
            return failed
        step = np.linalg.solve(information, design.T @ (y - fitted))
        weights = weights + step
        if float(np.abs(step).max()) < 1e-10:
            errors = np.sqrt(np.diag(np.linalg.inv(information)))
            return Platt(float(weights[0]), float(weights[1]), float(errors[0]), float(errors[1]))
    return failed

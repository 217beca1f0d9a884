"""Where may the mean of a bounded series lie, however often one looks: an empirical Bernstein confidence sequence.

Howard, Ramdas, McAuliffe and Sekhon (2021): the variance is that of each value around the mean of those before it, the
boundary a gamma-exponential mixture. For reports; no check is decided by it (golden g05).
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammainc, gammaln

from quantum_trader.gates.evidence import rho_of

FloatArray = NDArray[np.float64]

_LEAST_VARIANCE = 1.0


def mean_interval(
    x: FloatArray, low: float, high: float, alpha: float = 0.05, optimal: float = 10.0
) -> tuple[float, float]:
    """Lower and upper bound of the mean of x, shape (n,); covers it at all n at once with chance 1 - alpha.

    Args:
        x: In time order, within [low, high].
        low: Bound of a single value.
        high: The other.
        alpha: Of both sides together.
        optimal: Summed variance at which the interval is narrowest.

    Raises:
        ValueError: for no value, or one outside its bounds.
    """
    if not len(x) or not low <= float(x.min()) <= float(x.max()) <= high or low >= high:
        raise ValueError(f"mean_interval: needs values within [{low}, {high}]")
    means = np.cumsum(x) / np.arange(1, len(x) + 1)
    before = np.concatenate([[0.0], means[:-1]])
    variance = max(float(np.square(x - before).sum()), _LEAST_VARIANCE)
    half = _boundary(variance, rho_of(optimal, alpha / 2), high - low, alpha / 2) / len(x)
    return float(means[-1]) - half, float(means[-1]) + half


def _boundary(variance: float, rho: float, scale: float, alpha: float) -> float:
    """The sum at which the mixture reaches 1 / alpha."""
    level = math.log(1.0 / alpha)

    def excess(total: float) -> float:
        return _log_mixture(total, variance, rho, scale) - level

    upper = math.sqrt(variance + rho)
    while excess(upper) < 0:
        upper *= 2.0
    return float(brentq(excess, 0.0, upper, xtol=1e-12))


def _log_mixture(total: float, variance: float, rho: float, scale: float) -> float:
    r, w = rho / scale**2, (variance + rho) / scale**2
    u = w + total / scale
    prior = r * math.log(r) - gammaln(r) - math.log(gammainc(r, r))
    posterior = gammaln(w) + math.log(gammainc(w, u)) - w * math.log(u)
    return float(prior + posterior + u - r)

"""Standard errors where events of one cluster (a cycle) are not independent of each other.

All are sandwich estimators without small-sample correction, se = sqrt(sum_k u_k^2) / denominator, u_k being the sum of
the estimating function over cluster k (Liang and Zeger 1986; GATES.md, section A and "Exact forms").

The effective size is the number of independent events with the same standard error: n (se_iid / se)^2, which for a
share is p (1 - p) / se^2.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its clustered standard error; NaN where there is nothing to estimate from.

    Attributes:
        value: The estimate.
        se: Its standard error, clustered; 0 where no cluster differs from the whole.
        n: Events.
        n_effective: Independent events with the same standard error; the number of clusters where that is 0.
        clusters: Clusters with at least one event.
    """

    value: float
    se: float
    n: int
    n_effective: float
    clusters: int

    @property
    def z(self) -> float:
        """Value over standard error; 0 where there is no value, infinite where a value has no error."""
        # Rounding leaves about 1e-16 of a slope that is exactly zero; it must not be divided by another 1e-16.
        if math.isnan(self.value) or abs(self.value) < 1e-12:
            return 0.0
        return self.value / self.se if self.se > 1e-12 * abs(self.value) else math.copysign(math.inf, self.value)


def nothing(n: int = 0, clusters: int = 0) -> Estimate:
    """The estimate that cannot be made."""
    return Estimate(math.nan, math.nan, n, 0.0, clusters)


def codes(cluster: NDArray[np.integer]) -> tuple[IntArray, int]:
    """Clusters renumbered 0 to k - 1 (shape (n,)), and k."""
    labels, inverse = np.unique(cluster, return_inverse=True)
    return inverse.astype(np.int64), len(labels)


def ratio_of_sums(successes: NDArray[np.integer], sizes: NDArray[np.integer]) -> Estimate:
    """A share from clusters of s_k successes in m_k events: se = sqrt(sum_k (s_k - p m_k)^2) / sum_k m_k.

    Args:
        successes: Shape (k,).
        sizes: Shape (k,); clusters of size 0 count for nothing.
    """
    n = int(sizes.sum())
    used = int(np.count_nonzero(sizes))
    if n == 0:
        return nothing()
    p = int(successes.sum()) / n
    se = math.sqrt(float(np.square(successes - p * sizes).sum())) / n
    # An exact 0 or 1 has no scatter; what rounding left of it must not look like one.
    se = 0.0 if p in (0.0, 1.0) else se
    return Estimate(p, se, n, p * (1.0 - p) / se**2 if se > 0 else float(used), used)


def share(success: NDArray[np.bool_], cluster: NDArray[np.integer]) -> Estimate:
    """The share of true values, with its standard error clustered; both arguments of shape (n,)."""
    code, k = codes(cluster)
    sizes = np.bincount(code, minlength=k)
    return ratio_of_sums(np.bincount(code[success], minlength=k), sizes)


def mean(x: FloatArray, cluster: NDArray[np.integer]) -> Estimate:
    """The mean of x, shape (n,): u_k = sum over the cluster of x - mean."""
    if len(x) == 0:
        return nothing()
    code, k = codes(cluster)
    centre = _mean(x)
    return _estimate(centre, x - centre, float(len(x)), code, k)


def standard_deviation(x: FloatArray, cluster: NDArray[np.integer]) -> Estimate:
    """The population standard deviation of x, shape (n,), by the delta method.

    se = sqrt(sum_k (sum over the cluster of (x - mean)^2 - sd^2)^2) / (2 n sd); 0 where sd = 0 (GATES.md, G2).
    """
    n = len(x)
    if n == 0:
        return nothing()
    code, k = codes(cluster)
    squares = np.square(x - _mean(x))
    variance = float(squares.sum()) / n
    if float(x.max()) == float(x.min()):
        return Estimate(0.0, 0.0, n, float(k), k)
    sd = math.sqrt(variance)
    return _estimate(sd, squares - variance, 2.0 * n * sd, code, k)


def ols_slope(x: FloatArray, y: FloatArray, cluster: NDArray[np.integer]) -> Estimate:
    """Least-squares slope of y on x with intercept, all of shape (n,): u_k = sum of (x - mean x) residual.

    The same as statsmodels' OLS with cov_type "cluster" and use_correction False. NaN where x is constant.
    """
    n = len(x)
    code, k = codes(cluster)
    if n == 0 or float(x.max()) == float(x.min()):
        return nothing(n, k)
    centred = x - _mean(x)
    spread = float(np.square(centred).sum())
    slope = float((centred * y).sum()) / spread
    residual = y - _mean(y) - slope * centred
    return _estimate(slope, centred * residual, spread, code, k)


def _mean(x: FloatArray) -> float:
    return float(x.sum()) / len(x)


def _estimate(value: float, influence: FloatArray, denominator: float, code: IntArray, k: int) -> Estimate:
    """An estimate from its estimating function per event, shape (n,)."""
    n = len(influence)
    se = math.sqrt(float(np.square(np.bincount(code, influence, minlength=k)).sum())) / denominator
    independent = math.sqrt(float(np.square(influence).sum())) / denominator
    return Estimate(value, se, n, n * (independent / se) ** 2 if se > 0 else float(k), k)

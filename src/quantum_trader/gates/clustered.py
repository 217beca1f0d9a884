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


_DENSE = 100_000
"""Numbers of clusters up to this many above the number of events are counted, not sorted."""


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
    if len(cluster) and int(cluster.min()) >= 0 and int(cluster.max()) <= len(cluster) + _DENSE:
        # Counting instead of sorting: the same numbers, ten times as fast.
        used = np.bincount(cluster) > 0
        return (np.cumsum(used) - 1)[cluster].astype(np.int64), int(used.sum())
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


def spread_of_sums(powers: FloatArray, *, constant: bool) -> Estimate:
    """`standard_deviation` from clusters' sums of x^0 to x^4, shape (k, 5); x may be taken from any centre.

    Args:
        powers: A row per cluster; a row of zeros counts for nothing.
        constant: Whether all x are equal, which rounded sums cannot tell.
    """
    n, total, square, cube, fourth = _totals(powers)
    used = int(np.count_nonzero(powers[:, 0]))
    if n == 0 or constant:
        return Estimate(0.0, 0.0, int(n), float(used), used) if n else nothing()
    mu = total / n
    variance = max(square / n - mu**2, 0.0)
    if variance == 0.0:
        return Estimate(0.0, 0.0, int(n), float(used), used)
    sd = math.sqrt(variance)
    scatter = powers[:, 2] - 2 * mu * powers[:, 1] + (mu**2 - variance) * powers[:, 0]
    # Sum over events of ((x - mu)^2 - variance)^2.
    alone = fourth - 4 * mu * cube + 6 * mu**2 * square - 4 * mu**3 * total + n * mu**4 - n * variance**2
    return _from_scatter(sd, scatter, alone, 2.0 * n * sd, int(n), used)


def slope_of_sums(powers: FloatArray, products: FloatArray, *, constant: bool) -> Estimate:
    """`ols_slope` from clusters' sums of x^0 to x^4, shape (k, 5), and of y to x^3 y, shape (k, 4), y being 0 or 1.

    Args:
        powers: A row per cluster; a row of zeros counts for nothing.
        products: A row per cluster.
        constant: Whether all x are equal, which rounded sums cannot tell.
    """
    n, total, square, cube, fourth = _totals(powers)
    hits, first, second, third = _totals(products)
    used = int(np.count_nonzero(powers[:, 0]))
    if n == 0 or constant:
        return nothing(int(n), used)
    mx, my = total / n, hits / n
    spread = square - total * mx
    slope = (first - mx * hits) / spread
    m, sx, sxx, sy, sxy = powers[:, 0], powers[:, 1], powers[:, 2], products[:, 0], products[:, 1]
    scatter = sxy - mx * sy - my * sx + mx * my * m - slope * (sxx - 2 * mx * sx + mx**2 * m)
    # Sums over events of (x - mx)^2 times residual squared; y squared is y.
    c2, c3 = spread, cube - 3 * mx * square + 3 * mx**2 * total - n * mx**3
    c4 = fourth - 4 * mx * cube + 6 * mx**2 * square - 4 * mx**3 * total + n * mx**4
    y2 = second - 2 * mx * first + mx**2 * hits
    y3 = third - 3 * mx * second + 3 * mx**2 * first - mx**3 * hits
    alone = (1 - 2 * my) * y2 + my**2 * c2 + slope**2 * c4 - 2 * slope * (y3 - my * c3)
    return _from_scatter(slope, scatter, alone, spread, int(n), used)


def _totals(rows: FloatArray) -> list[float]:
    """Sums over clusters, one after the other: clusters of nothing then leave every bit as it was."""
    return [float(value) for value in np.cumsum(rows, axis=0)[-1]] if len(rows) else [0.0] * rows.shape[1]


def _from_scatter(value: float, scatter: FloatArray, alone: float, denominator: float, n: int, used: int) -> Estimate:
    """An estimate from its estimating function per cluster, and the sum of its squares over events."""
    se = math.sqrt(float(np.cumsum(np.square(scatter))[-1])) / denominator
    independent = math.sqrt(max(alone, 0.0)) / denominator
    return Estimate(value, se, n, n * (independent / se) ** 2 if se > 0 else float(used), used)

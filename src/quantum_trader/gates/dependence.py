"""Means of dependent series: HAC standard error, effective size, Diebold-Mariano test, block bootstrap."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SeriesMean:
    """Mean of a serially dependent series.

    Attributes:
        value: The mean.
        se: HAC standard error, sqrt(lrv / n).
        se_independent: What it would be without dependence, sqrt(gamma0 / n).
        gamma0: Variance of the series (divisor n).
        lrv: Long-run variance, Bartlett kernel.
        n: Length.
        n_effective: n gamma0 / lrv; 1 for a constant series, which says the same thing n times.
    """

    value: float
    se: float
    se_independent: float
    gamma0: float
    lrv: float
    n: int
    n_effective: float


def autocovariances(d: FloatArray, lags: int) -> FloatArray:
    """gamma_0 to gamma_lags with divisor n, shape (lags + 1,); 0 at lags the series does not reach."""
    n = len(d)
    centred = d - d.mean()
    out = np.zeros(lags + 1)
    for lag in range(min(lags, n - 1) + 1):
        out[lag] = float(centred[lag:] @ centred[: n - lag]) / n
    return out


def series_mean(d: FloatArray, lags: int) -> SeriesMean:
    """Mean of d, shape (n,), with Newey and West's (1987) standard error: weights 1 - j / (lags + 1).

    Raises:
        ValueError: for an empty series or negative lags.
    """
    if len(d) == 0 or lags < 0:
        raise ValueError(f"series_mean: needs values and lags >= 0, got {len(d)} values and lags {lags}")
    n = len(d)
    gamma = autocovariances(d, lags)
    weights = 1.0 - np.arange(1, lags + 1) / (lags + 1)
    gamma0 = float(gamma[0]) if float(np.ptp(d)) > 0 else 0.0
    lrv = max(0.0, gamma0 + 2.0 * float((weights * gamma[1:]).sum())) if gamma0 > 0 else 0.0
    n_effective = n * gamma0 / lrv if lrv > 0 else 1.0
    return SeriesMean(float(d.mean()), math.sqrt(lrv / n), math.sqrt(gamma0 / n), gamma0, lrv, n, n_effective)


@dataclass(frozen=True, slots=True)
class DieboldMariano:
    """Test of equal forecasts (Diebold and Mariano 1995) with the small-sample factor of Harvey et al. (1997).

    Attributes:
        statistic: Mean over its standard error, rectangular kernel of horizon - 1 lags.
        factor: sqrt((n + 1 - 2h + h(h - 1) / n) / n).
        corrected: statistic times factor.
        p_two_sided: Of `corrected` under Student's t with n - 1 degrees of freedom.
    """

    statistic: float
    factor: float
    corrected: float
    p_two_sided: float


def diebold_mariano(d: FloatArray, horizon: int) -> DieboldMariano:
    """Test whether the mean of loss differences d, shape (n,), of forecasts `horizon` steps ahead, is zero.

    All but the factor are NaN where the rectangular long-run variance is not positive: then there is no test.

    Raises:
        ValueError: if there are not more than `horizon` values.
    """
    n = len(d)
    if horizon < 1 or n <= horizon:
        raise ValueError(f"diebold_mariano: needs more values than the horizon, got {n} and {horizon}")
    factor = math.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    gamma = autocovariances(d, horizon - 1)
    lrv = float(gamma[0] + 2.0 * gamma[1:].sum())
    if lrv <= 0 or float(np.ptp(d)) == 0.0:
        return DieboldMariano(math.nan, factor, math.nan, math.nan)
    statistic = float(d.mean()) / math.sqrt(lrv / n)
    p = 2.0 * float(stdtr(n - 1, -abs(statistic * factor)))
    return DieboldMariano(statistic, factor, statistic * factor, p)


def block_bootstrap(d: FloatArray, block: int, draws: int, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the mean from circular blocks (Politis and Romano 1992); d of shape (n,).

    Args:
        d: The series, in time order.
        block: Length of a block; at least the span of the dependence.
        draws: Resampled series.
        seed: Of the generator: the same seed gives the same interval.
        level: Of the interval.

    Raises:
        ValueError: for an empty series or a block that is not within 1 to n.
    """
    n = len(d)
    if not 1 <= block <= n:
        raise ValueError(f"block_bootstrap: block must lie within 1 to {n}, got {block}")
    whole, rest = divmod(n, block)
    # Sums of blocks from running totals of the series laid twice: draws x n / block numbers, not draws x n.
    totals = np.concatenate([[0.0], np.cumsum(np.concatenate([d, d]))])
    starts = np.random.default_rng(seed).integers(0, n, size=(draws, whole + (rest > 0)))
    sums = (totals[starts[:, :whole] + block] - totals[starts[:, :whole]]).sum(axis=1)
    if rest:
        sums += totals[starts[:, whole] + rest] - totals[starts[:, whole]]
    tail = (1.0 - level) / 2
    low, high = np.quantile(sums / n, [tail, 1.0 - tail])
    return float(low), float(high)

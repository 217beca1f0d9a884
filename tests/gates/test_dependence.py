import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from quantum_trader.gates.clustered import ratio_of_sums
from quantum_trader.gates.dependence import autocovariances, block_bootstrap, diebold_mariano, series_mean


def test_golden_dependence(golden: Callable[[str], Any]) -> None:
    vector = golden("g04_dependence")
    d = np.array(vector["d"])
    mean, test = series_mean(d, 11), diebold_mariano(d, 12)
    ratio = ratio_of_sums(np.array(vector["cluster_successes"]), np.array(vector["cluster_sizes"]))
    found = {
        "mean": mean.value,
        "hac_se_bartlett_lag11": mean.se,
        "gamma0": mean.gamma0,
        "lrv": mean.lrv,
        "n_eff": mean.n_effective,
        "iid_se": mean.se_independent,
        "dm_rect_lag11": test.statistic,
        "hln_factor_h12": test.factor,
        "dm_hln": test.corrected,
        "ratio": ratio.value,
        "ratio_cluster_se": ratio.se,
        "iid_ratio_se": math.sqrt(ratio.value * (1 - ratio.value) / ratio.n),
        "n_eff_ratio": ratio.n_effective,
    }
    expected = dict(vector["expected"])
    interval, tolerance = expected.pop("block24_bootstrap95"), expected.pop("bootstrap_tolerance")
    # Printed with 12 significant digits, the input with 8 decimals.
    assert found == pytest.approx(expected, rel=5e-12)
    # The bootstrap is random: the golden file states its own tolerance.
    assert block_bootstrap(d, 24, 10_000, seed=3) == pytest.approx(interval, abs=tolerance)


def test_the_same_seed_gives_the_same_interval() -> None:
    d = np.sin(np.arange(100.0))
    assert block_bootstrap(d, 7, 500, seed=1) == block_bootstrap(d, 7, 500, seed=1)
    assert block_bootstrap(d, 7, 500, seed=1) != block_bootstrap(d, 7, 500, seed=2)


def test_a_block_as_long_as_the_series_only_rotates_it() -> None:
    d = np.arange(10.0)
    assert block_bootstrap(d, 10, 50, seed=0) == pytest.approx((4.5, 4.5), abs=1e-12)


def test_dependence_costs_effective_events() -> None:
    rng = np.random.default_rng(5)
    independent = rng.normal(size=5000)
    overlapping = np.convolve(independent, np.ones(12), "valid")
    assert 0.8 < series_mean(independent, 11).n_effective / 5000 < 1.25
    # Sums of 12 neighbours have a long-run variance of 12 times their variance, of which the kernel sees 8 times.
    assert 1 / 12 * 0.8 < series_mean(overlapping, 11).n_effective / 4989 < 1 / 6


def test_a_constant_series_is_one_event() -> None:
    mean = series_mean(np.full(50, 0.1), 11)
    assert (mean.se, mean.n_effective) == (0.0, 1.0)
    assert math.isnan(diebold_mariano(np.full(50, 0.1), 12).statistic)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40), st.integers(0, 60))
def test_the_bartlett_variance_is_never_negative(values: list[float], lags: int) -> None:
    d = np.array(values)
    mean = series_mean(d, lags)
    assert mean.lrv >= 0
    assert mean.n_effective >= 0
    assert autocovariances(d, lags)[0] == pytest.approx(d.var(), rel=1e-9, abs=1e-12)


def test_too_short_series_are_refused() -> None:
    with pytest.raises(ValueError, match="needs values"):
        series_mean(np.empty(0), 3)
    with pytest.raises(ValueError, match="more values than the horizon"):
        diebold_mariano(np.zeros(12), 12)
    with pytest.raises(ValueError, match="block"):
        block_bootstrap(np.zeros(5), 6, 10, seed=0)


def test_the_p_value_is_students_on_both_sides() -> None:
    d = 0.1 + np.random.default_rng(3).normal(size=50)
    found = diebold_mariano(d, 2)
    assert found.corrected == pytest.approx(found.statistic * found.factor)
    assert found.p_two_sided == pytest.approx(2 * stats.t.sf(abs(found.corrected), 49))
    assert diebold_mariano(-d, 2).p_two_sided == found.p_two_sided

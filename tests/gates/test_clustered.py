import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.gates import clustered

Arrays = Any


def test_a_share_over_clusters_of_one_event_has_the_binomial_error() -> None:
    success = np.arange(100) % 4 == 0
    share = clustered.share(success, np.arange(100))
    assert share.se == pytest.approx(math.sqrt(0.25 * 0.75 / 100))
    assert share.n_effective == pytest.approx(100)
    assert share.clusters == 100


def test_events_that_repeat_within_a_cluster_count_once() -> None:
    success = np.repeat(np.arange(100) % 4 == 0, 10)
    share = clustered.share(success, np.repeat(np.arange(100), 10))
    assert (share.n, share.n_effective) == (1000, pytest.approx(100))


@pytest.mark.parametrize("clusters", [1, 7])
def test_an_exact_share_is_worth_its_clusters(clusters: int) -> None:
    share = clustered.share(np.ones(30, bool), np.arange(30) % clusters)
    assert (share.value, share.se, share.n_effective) == (1.0, 0.0, clusters)


def test_the_standard_deviations_error_is_the_delta_methods() -> None:
    rng = np.random.default_rng(2)
    draws = np.array([np.std(rng.normal(size=400)) for _ in range(2000)])
    estimate = clustered.standard_deviation(rng.normal(size=400), np.arange(400))
    assert estimate.se == pytest.approx(draws.std(), rel=0.15)


def test_the_clustered_slope_covers_the_truth() -> None:
    rng = np.random.default_rng(3)
    cluster = np.repeat(np.arange(60), 10)
    inside = 0
    for _ in range(300):
        # Both x and the error have a part that a whole cluster shares: independent errors would cover far too seldom.
        x = rng.normal(size=60)[cluster] + 0.5 * rng.normal(size=600)
        y = 0.3 * x + rng.normal(size=60)[cluster] + 0.5 * rng.normal(size=600)
        slope = clustered.ols_slope(x, y, cluster)
        inside += abs(slope.value - 0.3) < 1.96 * slope.se
    assert 0.88 <= inside / 300 <= 0.98


@pytest.mark.parametrize("estimate", [clustered.mean, clustered.standard_deviation])
def test_a_constant_has_no_error(estimate: Callable[[Arrays, Arrays], clustered.Estimate]) -> None:
    found = estimate(np.full(40, 0.61502802372), np.arange(40) % 4)
    assert found.se < 1e-15
    assert found.n == 40


def test_a_slope_on_a_constant_is_none() -> None:
    slope = clustered.ols_slope(np.full(9, 0.6), np.arange(9.0), np.arange(9))
    assert math.isnan(slope.value)
    assert slope.z == 0.0


def test_an_exact_slope_has_an_infinite_z_and_a_flat_one_none() -> None:
    x = np.repeat([0.5, 0.9], 10)
    cluster = np.arange(20)
    assert clustered.ols_slope(x, (x > 0.7).astype(float), cluster).z == math.inf
    assert clustered.ols_slope(x, (x < 0.7).astype(float), cluster).z == -math.inf
    assert clustered.ols_slope(x, np.ones(20), cluster).z == 0.0


def test_nothing_gives_nothing() -> None:
    empty, none = np.empty(0), np.empty(0, dtype=int)
    found = [
        clustered.share(none == 1, none),
        clustered.mean(empty, none),
        clustered.standard_deviation(empty, none),
        clustered.ols_slope(empty, empty, none),
    ]
    assert all(math.isnan(e.value) and math.isnan(e.se) and e.n == 0 and e.z == 0 for e in found)


@given(st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=1, max_size=60), st.integers(-100, 100))
def test_names_of_clusters_do_not_matter(events: list[tuple[bool, int]], shift: int) -> None:
    success, cluster = np.array([e[0] for e in events]), np.array([e[1] for e in events])
    share = clustered.share(success, cluster)
    assert share == clustered.share(success, shift + 3 * cluster)
    assert 0 <= share.se <= 1
    assert share.clusters == len(set(cluster.tolist()))


def test_the_standard_deviation_is_taken_from_the_mean() -> None:
    x = np.random.default_rng(4).normal(5.0, 2.0, 300)
    assert clustered.standard_deviation(x, np.arange(300)).value == pytest.approx(float(x.std()), rel=1e-12)


@pytest.mark.parametrize("estimate", [clustered.mean, clustered.standard_deviation])
def test_effective_events_are_those_of_the_same_error(
    estimate: Callable[[Arrays, Arrays], clustered.Estimate],
) -> None:
    # Every event four times: a quarter as many are independent, though clusters hold eight.
    x = np.random.default_rng(5).normal(1.0, 1.0, 400)
    alone = estimate(x, np.arange(400))
    fourfold = estimate(np.repeat(x, 4), np.repeat(np.arange(400), 4))
    assert alone.n_effective == pytest.approx(400)
    assert fourfold.n_effective == pytest.approx(400)
    assert fourfold.se == pytest.approx(alone.se, rel=1e-12)


def test_effective_events_of_a_share_are_not_its_clusters() -> None:
    # 50 clusters of two events that always differ, and 50 of one event: no scatter in the former.
    success = np.concatenate([np.tile([True, False], 50), np.tile([True, False], 25)])
    found = clustered.share(success, np.concatenate([np.repeat(np.arange(50), 2), 50 + np.arange(50)]))
    assert found.se == pytest.approx(math.sqrt(50 * 0.25) / 150)
    assert found.n_effective == pytest.approx(0.25 / (50 * 0.25) * 150**2)
    assert found.clusters == 100


def test_sums_that_underflow_have_no_spread() -> None:
    found = clustered.spread_of_sums(np.array([[2.0, 1e-200, 0.0, 0.0, 0.0]]), constant=False)
    assert (found.value, found.se, found.n, found.n_effective) == (0.0, 0.0, 2, 1.0)


def test_effective_events_of_a_slope_from_sums() -> None:
    # The events alone differ from their clusters: pairs of one cluster pull the same way.
    rng = np.random.default_rng(6)
    x = np.repeat(rng.normal(0.5, 1.0, 200), 2)
    hit = np.repeat(rng.random(200) < 1 / (1 + np.exp(-x[::2])), 2).astype(float)
    cluster = np.repeat(np.arange(200), 2)
    powers = np.stack([np.bincount(cluster, x**k) for k in range(5)], axis=1)
    products = np.stack([np.bincount(cluster, hit * x**k) for k in range(4)], axis=1)
    found, plain = clustered.slope_of_sums(powers, products, constant=False), clustered.ols_slope(x, hit, cluster)
    assert found.n_effective == pytest.approx(plain.n_effective, rel=1e-9)
    assert found.n_effective == pytest.approx(200, rel=1e-9)

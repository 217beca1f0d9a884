import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from quantum_trader.gates.clustered import ols_slope
from quantum_trader.gates.isotonic import pool_adjacent_violators
from quantum_trader.gates.trend import bucket_of, bucket_table, cochran_armitage, step_z

EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def test_golden_trend(golden: Callable[[str], Any]) -> None:
    vector = golden("g03_trend")
    confidence, hit = np.array(vector["conf"]), np.array(vector["hit"]) == 1
    slope = ols_slope(confidence, hit.astype(float), np.array(vector["cluster"]))
    table = bucket_table(confidence, hit, EDGES, 1)
    n, hits = np.array([b.n for b in table]), np.array([b.hits for b in table])
    z, p = cochran_armitage(hits, n)
    found = {
        "ols_slope": slope.value,
        "cluster_se_no_correction": slope.se,
        "z": slope.z,
        "bucket_n": n.tolist(),
        "bucket_hits": hits.tolist(),
        "bucket_acc": [b.accuracy for b in table],
        "adjacent_z": [b.z for b in table[1:]],
        "pava_acc": pool_adjacent_violators(hits / n, n.astype(float)).tolist(),
        "cochran_armitage_z": z,
        "cochran_armitage_p_two_sided": p,
    }
    expected = vector["expected"]
    assert set(found) == set(expected)
    for name, value in expected.items():
        # Printed with 12 significant digits.
        assert found[name] == pytest.approx(value, rel=5e-12, abs=1e-12), name


def test_pooling_repairs_a_drop_by_weight() -> None:
    fit = pool_adjacent_violators(np.array([0.5, 0.8, 0.2, 0.9]), np.array([1.0, 1.0, 2.0, 1.0]))
    # 0.8 and twice 0.2 make 0.4, which is under 0.5: all four pool.
    assert fit.tolist() == pytest.approx([0.425, 0.425, 0.425, 0.9])


def test_a_bucket_holds_its_lower_edge_and_one_belongs_to_the_last() -> None:
    values = np.array([0.499, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, np.nan])
    assert bucket_of(values, EDGES).tolist() == [-1, 0, 1, 2, 3, 4, 4, -1]
    assert bucket_of(values, EDGES[:-1]).tolist() == [-1, 0, 1, 2, 3, -1, -1, -1]


def test_steps_skip_buckets_with_too_few_events() -> None:
    confidence = np.repeat([0.55, 0.65, 0.75], [60, 10, 60])
    hit = np.arange(130) % 2 == 0
    table = bucket_table(confidence, hit, EDGES, 50)
    assert [b.counted for b in table] == [True, False, True, False, False]
    assert [math.isnan(b.z) for b in table] == [True, True, False, True, True]
    assert table[2].z == step_z(table[0].hits, 60, table[2].hits, 60)
    assert math.isnan(table[4].accuracy)


def test_steps_without_variance() -> None:
    assert step_z(5, 5, 7, 7) == 0.0
    assert step_z(5, 5, 0, 7) == -math.inf
    assert step_z(0, 5, 7, 7) == math.inf


@pytest.mark.parametrize("hits", [[0, 0, 0], [5, 5, 5]])
def test_no_trend_where_nothing_varies(hits: list[int]) -> None:
    assert cochran_armitage(np.array(hits), np.array([5, 5, 5])) == (0.0, 1.0)


def test_pooling_of_nothing_is_nothing() -> None:
    assert pool_adjacent_violators(np.empty(0), np.empty(0)).shape == (0,)


def test_the_trend_of_two_events() -> None:
    # By hand: a difference of 1/2, a permutation variance of 1/4 (of two events there are two orders).
    assert cochran_armitage(np.array([0, 1]), np.array([1, 1]))[0] == pytest.approx(1.0)
    assert cochran_armitage(np.array([1, 0]), np.array([1, 1]))[0] == pytest.approx(-1.0)

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from quantum_trader.gates.degenerate import RECENT, measure_outputs

CASES = ["frozen", "healthy", "per_symbol_constant", "quantised4", "missing20", "froze_midway"]


@pytest.mark.parametrize("name", CASES)
def test_golden_case(golden: Callable[[str], Any], name: str) -> None:
    vector = golden("g08_degenerate")
    assert sorted(vector["cases"]) == sorted(CASES)
    case = vector["cases"][name]
    p = np.array([np.nan if value is None else value for value in case["p"]], dtype=float)
    found, expected = measure_outputs(p, np.array(vector["symbol"])), case["expected"]
    assert set(expected) == {
        "coverage", "distinct_1e4", "top_share", "max_streak_per_symbol", "within_symbol_variance_share"
    }  # fmt: skip
    assert found.coverage == expected["coverage"]
    assert found.top_share == pytest.approx(expected["top_share"], rel=5e-12)
    # One at rounding edges: GATES.md, "Exact forms".
    assert abs(found.distinct - expected["distinct_1e4"]) <= 1
    assert abs(found.longest_streak - expected["max_streak_per_symbol"]) <= 1
    if expected["within_symbol_variance_share"] is None:
        assert math.isnan(found.within_symbol_share)
    else:
        assert found.within_symbol_share == pytest.approx(expected["within_symbol_variance_share"], rel=5e-12)


def test_streaks_are_counted_per_symbol_and_over_missing_outputs() -> None:
    p = np.array([0.6, 0.7, 0.6, 0.7, np.nan, 0.7, 0.6, 0.61])
    symbol = np.array([0, 1, 0, 1, 0, 1, 0, 0])
    assert measure_outputs(p, symbol).longest_streak == 3


def test_only_the_last_valid_events_are_looked_back_on() -> None:
    p = np.concatenate([np.full(1000, 0.5), np.linspace(0.1, 0.9, RECENT)])
    measures = measure_outputs(p, np.zeros(len(p), dtype=int))
    assert (measures.distinct, measures.longest_streak) == (RECENT, 1)


def test_one_symbol_keeps_all_variance_within() -> None:
    assert measure_outputs(np.linspace(0.2, 0.8, 50), np.zeros(50, dtype=int)).within_symbol_share == pytest.approx(1)


@pytest.mark.parametrize("n", [0, 3])
def test_no_output_at_all(n: int) -> None:
    measures = measure_outputs(np.full(n, np.nan), np.zeros(n, dtype=int))
    assert (measures.n, measures.distinct, measures.longest_streak) == (n, 0, 0)
    assert math.isnan(measures.top_share)
    assert measures.coverage == 0 if n else math.isnan(measures.coverage)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shapes"):
        measure_outputs(np.zeros(2), np.zeros(3, dtype=int))

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from quantum_trader.gates.legacy import legacy_gates

NUMBERS = {"SELL": -1, "HOLD": 0, "BUY": 1, None: 0}

CASES = [
    "seed_constant_5_BUY",
    "seed_constant_ens_mixed",
    "share_exactly_70pct",
    "agreement_exactly_55pct",
    "std_nominally_0.05",
    "std_exact_binary_0.0625",
    "nonmonotone",
    "conf_ge_0.9_ignored",
    "conf_below_0.5_ignored",
    "missing_shadow_rows_dropped",
    "no_shadow_at_all",
    "random60",
]


def test_every_golden_case_is_tested(golden: Callable[[str], Any]) -> None:
    assert sorted(golden("g01_seed_gates")["cases"]) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_golden_case(golden: Callable[[str], Any], name: str) -> None:
    case = golden("g01_seed_gates")["cases"][name]
    actions, confidences, ensemble = zip(*case["events"], strict=True)
    outcome = legacy_gates(
        np.array([NUMBERS[action] for action in actions]),
        np.array([np.nan if value is None else value for value in confidences]),
        np.array([NUMBERS[action] for action in ensemble]),
    )
    expected = case["expected"]
    if expected.get("no_predictions"):
        assert (outcome.n, outcome.passed, outcome.ready) == (0, 0, False)
        return
    gates = {
        "Action Diversity": outcome.diverse,
        "Confidence Spread": outcome.spread_out,
        "Shadow Correlation": outcome.correlated,
        "Calibration": outcome.calibrated,
    }
    assert gates == expected["gates"]
    assert (outcome.passed, outcome.ready) == (expected["passed"], expected["ready"])
    values = {
        "n": outcome.n,
        "max_share": outcome.max_share,
        "conf_std_population": outcome.spread,
        "agreement": outcome.agreement,
    }
    # Values are printed with 12 decimals; the float edge is in the gate above.
    assert values == pytest.approx(expected["values"], abs=6e-13, rel=0)


def test_the_float_edge_is_just_under_its_nominal_value() -> None:
    outcome = legacy_gates(np.tile([1, -1], 4), np.tile([0.6, 0.7], 4), np.tile([1, -1], 4))
    assert 0.05 - 1e-15 < outcome.spread < 0.05
    assert not outcome.spread_out


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shapes"):
        legacy_gates(np.zeros(2, int), np.zeros(3), np.zeros(2, int))


def test_agreement_may_start_as_low_as_it_likes() -> None:
    agrees = np.array([0, 0, 1, 0, 1, 1])
    outcome = legacy_gates(np.ones(6, int), np.repeat([0.55, 0.65, 0.75], 2), agrees)
    assert [bucket.hits for bucket in outcome.buckets] == [0, 1, 2, 0]
    assert outcome.calibrated

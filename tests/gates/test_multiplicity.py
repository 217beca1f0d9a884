from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.gates.confidence import mean_interval
from quantum_trader.gates.multiplicity import benjamini_hochberg, e_benjamini_hochberg, e_bonferroni, holm
from quantum_trader.gates.vetoes import homogeneity

shares = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def test_golden_multiplicity(golden: Callable[[str], Any]) -> None:
    vector = golden("g09_multiplicity")
    p, e, expected = np.array(vector["p"]), np.array(vector["e"]), vector["expected"]
    assert holm(p) == pytest.approx(np.array(expected["holm"]), rel=1e-11)
    assert benjamini_hochberg(p) == pytest.approx(np.array(expected["bh"]), rel=1e-11)
    assert e_bonferroni(e, 0.05).tolist() == expected["e_bonferroni_reject_at_05"]
    assert e_benjamini_hochberg(e, 0.05).tolist() == expected["e_bh_reject_at_05"]


def test_golden_homogeneity(golden: Callable[[str], Any]) -> None:
    vector = golden("g09_multiplicity")["homogeneity"]
    z = homogeneity(np.array(vector["r"]), np.array(vector["n_cycles"]))
    assert z == pytest.approx(np.array(vector["expected"]["z"]), rel=1e-10, abs=1e-12)
    assert (np.abs(z) > 4).tolist() == vector["expected"]["flag"]


def test_homogeneity_of_degenerate_symbols() -> None:
    z = homogeneity(np.array([1.0, -1.0, 0.0, 0.3]), np.array([40.0, 40.0, 40.0, 2.0]), enough=10)
    assert np.isnan(z).tolist() == [False, False, False, True]
    assert np.isfinite(z[:3]).all()
    assert np.isnan(homogeneity(np.array([0.5]), np.array([3.0]))).all()
    assert homogeneity(np.array([0.5]), np.array([30.0])).tolist() == [0.0]


@given(shares)
def test_adjusting_never_helps(values: list[float]) -> None:
    p = np.array(values)
    for adjusted in (holm(p), benjamini_hochberg(p)):
        assert (adjusted >= p - 1e-15).all()
        assert (adjusted <= 1).all()
        assert (np.argsort(adjusted[np.argsort(p)], kind="stable") == np.arange(len(p))).all()
    assert (benjamini_hochberg(p) <= holm(p) + 1e-15).all()


def test_none_at_all() -> None:
    empty = np.empty(0)
    assert len(holm(empty)) == len(benjamini_hochberg(empty)) == len(e_benjamini_hochberg(empty, 0.05)) == 0


def test_golden_confidence_sequence(golden: Callable[[str], Any]) -> None:
    vector = golden("g05_eprocess")["eb_cs"]
    x = np.array(vector["delta"])
    for index, low, high in zip(vector["index"], vector["lcb_at"], vector["ucb_at"], strict=True):
        found = mean_interval(x[: index + 1], vector["lo"], vector["hi"], vector["alpha"], vector["v_opt"])
        assert found == pytest.approx((low, high), rel=1e-9)


def test_a_confidence_sequence_refuses_what_it_cannot_bound() -> None:
    for values in ([], [2.0], [float("nan")]):
        with pytest.raises(ValueError, match="within"):
            mean_interval(np.array(values), 0.0, 1.0)


def test_an_e_value_of_exactly_its_threshold_rejects() -> None:
    e = np.array([40.0, 39.999, 1.0, 0.0])
    assert e_bonferroni(e, 0.1).tolist() == [True, False, False, False]
    assert e_benjamini_hochberg(np.array([40.0, 20.0, 13.3, 1.0]), 0.1).tolist() == [True, True, False, False]


def test_an_interval_refuses_what_it_cannot_hold_for() -> None:
    inside = np.array([0.0, 0.5, 1.0])
    low, high = mean_interval(inside, 0.0, 1.0)
    assert low < 0.5 < high
    for x, lower, upper in ((np.empty(0), 0.0, 1.0), (inside, 0.1, 1.0), (inside, 0.0, 0.9), (np.ones(3), 1.0, 1.0)):
        with pytest.raises(ValueError, match="needs values within"):
            mean_interval(x, lower, upper)

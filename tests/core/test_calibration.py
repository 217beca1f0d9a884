import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.strategies import curves, isotonic_curves, platt_curves, probabilities

from quantum_trader.core.calibration import Curve, IsotonicCurve, PlattCurve, conviction
from quantum_trader.core.errors import CalibrationError

many = st.lists(probabilities, min_size=1, max_size=20)


@given(curve=curves, p=many)
def test_a_map_stays_within_0_and_1_and_never_falls(curve: Curve, p: list[float]) -> None:
    mapped = curve(np.sort(np.array(p)))
    assert ((mapped >= 0.0) & (mapped <= 1.0)).all()
    # The C library's log and exp are right to the last bit or the one before.
    assert (np.diff(mapped) >= (0.0 if isinstance(curve, IsotonicCurve) else -4e-16)).all()


@given(curve=curves, p=many, holes=st.sets(st.integers(0, 19)))
def test_a_row_does_not_depend_on_its_neighbours_and_nan_stays_nan(
    curve: Curve, p: list[float], holes: set[int]
) -> None:
    values = np.array([math.nan if i in holes else value for i, value in enumerate(p)])
    together = curve(values)
    alone = np.concatenate([curve(values[i : i + 1]) for i in range(len(values))])
    assert together.tobytes() == alone.tobytes()
    np.testing.assert_array_equal(np.isnan(together), np.isnan(values))


@given(curve=isotonic_curves())
def test_an_isotonic_map_goes_through_its_knots(curve: IsotonicCurve) -> None:
    assert curve(np.array(curve.p)) == pytest.approx(np.array(curve.calibrated), abs=1e-12)
    ends = np.array([curve.calibrated[0], curve.calibrated[-1]])
    assert curve(np.array([0.0, 1.0])) == pytest.approx(ends, abs=1e-12)


@given(curve=platt_curves, p=st.floats(1e-6, 1 - 1e-6))
def test_platts_map_is_the_logistic_one(curve: PlattCurve, p: float) -> None:
    expected = 1 / (1 + math.exp(-curve.intercept) * ((1 - p) / p) ** curve.slope)
    assert curve(np.array([p]))[0] == pytest.approx(expected, rel=1e-12)


def test_platts_map_is_finite_at_both_ends() -> None:
    for curve in (PlattCurve(1e3, 1e3), PlattCurve(-1e3, 1e3), PlattCurve(0.0, 1.0)):
        assert np.isfinite(curve(np.array([0.0, 1e-300, 0.5, 1.0]))).all()
    assert PlattCurve(0.0, 1.0)(np.array([0.0, 1.0])) == pytest.approx([1e-6, 1 - 1e-6], rel=1e-9)


@pytest.mark.parametrize(
    ("intercept", "slope"), [(0.0, 0.0), (0.0, -1.0), (math.nan, 1.0), (0.0, math.inf), (2e3, 1.0), (0.0, math.nan)]
)
def test_a_logistic_map_that_falls_or_is_not_finite_is_none(intercept: float, slope: float) -> None:
    with pytest.raises(CalibrationError, match="positive slope"):
        PlattCurve(intercept, slope)


@pytest.mark.parametrize(
    ("p", "calibrated", "rule"),
    [
        ((), (), "at least two"),
        ((0.5,), (0.5,), "at least two"),
        ((0.1, 0.2), (0.5,), "as many"),
        ((0.1, 1.2), (0.1, 0.2), "within"),
        ((0.1, 0.2), (-0.1, 0.2), "within"),
        ((0.1, math.nan), (0.1, 0.2), "within"),
        ((0.1, 0.2), (0.1, math.nan), "within"),
        ((0.2, 0.1), (0.1, 0.2), "do not rise"),
        ((0.1, 0.1), (0.1, 0.2), "do not rise"),
        ((0.1, 0.1 + 1e-12), (0.1, 0.2), "do not rise"),
        ((0.1, 0.2), (0.2, 0.1), "fall"),
    ],
)
def test_knots_that_are_no_monotone_map_are_refused(
    p: tuple[float, ...], calibrated: tuple[float, ...], rule: str
) -> None:
    with pytest.raises(CalibrationError, match=rule):
        IsotonicCurve(p, calibrated)


@given(p=probabilities)
def test_conviction_is_the_chance_of_the_action_itself(p: float) -> None:
    found = conviction(np.array([p, p, p]), np.array([1, -1, 0], np.int8))
    assert found.tolist() == [p, 1.0 - p, max(p, 1.0 - p)]

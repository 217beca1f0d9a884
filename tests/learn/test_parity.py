"""The parity proof: its rows, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.core.errors import TrainingError
from quantum_trader.core.predictions import Thresholds
from quantum_trader.learn.parity import SplitPoints, floor32, prove, sequence_rows, tree_rows

HALF = Thresholds(0.6, 0.4)


def _answers(n: int = 10_000) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.0, 0.35, n)


def test_equal_answers_are_proven() -> None:
    parity = prove(_answers(), _answers() + 5e-6, HALF, "xgb")
    assert (parity.rows, parity.flips) == (10_000, 0)
    assert parity.max_abs_dp == pytest.approx(5e-6)


def test_one_row_that_differs_is_refused() -> None:
    exported = _answers()
    exported[4_711] += 2e-5
    with pytest.raises(TrainingError, match="differs from the trained model by up to 2e-05"):
        prove(_answers(), exported, HALF, "xgb")


def test_a_flip_is_refused_however_small_the_difference() -> None:
    original = _answers()
    original[0] = 0.6
    exported = original.copy()
    exported[0] = np.nextafter(0.6, 0)
    with pytest.raises(TrainingError, match="1 action flips"):
        prove(original, exported, HALF, "xgb")


def test_a_number_that_turns_into_nan_is_refused() -> None:
    exported = _answers()
    exported[0] = np.nan
    with pytest.raises(TrainingError, match="gives no number"):
        prove(_answers(), exported, HALF, "xgb")


def test_nan_of_the_trained_model_is_not_compared_but_not_counted_either() -> None:
    original = np.r_[_answers(), np.nan]
    assert prove(original, np.r_[_answers(), 0.5], HALF, "nhits").rows == 10_000
    original[0] = np.nan
    with pytest.raises(TrainingError, match="at least 10000"):
        prove(original, np.r_[_answers(), 0.5], HALF, "nhits")


def test_rows_for_trees_lie_on_thresholds_and_beside_them_and_hold_nan() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((500, 6)).astype(np.float32)
    points = SplitPoints(np.array([2, 4]), np.array([0.1, -0.7]))
    made = tree_rows(rows, points, 10_000, 3)
    assert made.shape == (10_000, 6)
    at, above = floor32(np.array([0.1]))[0], np.nextafter(floor32(np.array([0.1]))[0], np.float32(1))
    assert (made[5_000:9_000, 2] == at).sum() > 500
    assert (made[5_000:9_000, 2] == above).sum() > 500
    assert np.isfinite(made[:9_000]).all()
    assert np.isnan(made[9_000:]).any(axis=1).mean() > 0.3
    assert tree_rows(rows, points, 10_000, 3).tobytes() == made.tobytes()


def test_sequences_for_networks_are_large_flat_and_nan_too() -> None:
    sequences = np.random.default_rng(0).standard_normal((50, 128, 8)).astype(np.float32)
    made = sequence_rows(sequences, 10_000, 3)
    assert np.isfinite(made[:10_000]).all()
    assert np.isnan(made[10_000:]).any(axis=(1, 2)).all()
    assert len(made) == 10_100
    assert (made[1_000:1_100] == 0).all()
    assert made[:1_000].std() > 5


@given(value=st.floats(-1e30, 1e30), x=st.floats(-(2.0**99), 2.0**99, width=32))
def test_rounding_down_never_changes_a_comparison(value: float, x: float) -> None:
    floored = floor32(np.array([value]))[0]
    assert floored.dtype == np.float32
    assert (np.float32(x) <= floored) == (x <= value)
    assert float(floored) <= value

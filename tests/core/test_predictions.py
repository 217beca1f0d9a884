import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.core.predictions import (
    DEFAULT_WEIGHTS,
    DISPLAY_NAMES,
    FULL_NAMES,
    MODELS,
    ModelOutput,
    Status,
    Thresholds,
    confidence,
    valid,
)


def test_every_model_has_a_weight_and_its_names() -> None:
    assert list(DEFAULT_WEIGHTS) == list(FULL_NAMES) == list(DISPLAY_NAMES) == list(MODELS)
    assert DEFAULT_WEIGHTS == {"xgb": 0.25, "lgbm": 0.25, "nhits": 0.30, "patchtst": 0.20}
    assert sum(DEFAULT_WEIGHTS.values()) == pytest.approx(1.0)


@given(p=st.floats(0, 1), bounds=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_an_action_is_what_its_thresholds_say(p: float, bounds: list[float]) -> None:
    sell, buy = bounds
    (action,) = Thresholds(buy, sell).actions(np.array([p])).tolist()
    # Where both thresholds are the same number, a value on it is on both sides: it is HOLD.
    assert action == (p >= buy) - (p <= sell)


def test_thresholds_belong_to_the_actions() -> None:
    actions = Thresholds(0.6, 0.4).actions(np.array([0.6, 0.4, np.nextafter(0.6, 0), np.nextafter(0.4, 1), np.nan]))
    assert actions.tolist() == [1, -1, 0, 0, 0]


@given(p=st.floats(0, 1))
def test_confidence_is_that_of_the_likelier_side(p: float) -> None:
    (sure,) = confidence(np.array([p])).tolist()
    assert 0.5 <= sure <= 1.0
    assert sure == max(p, 1.0 - p)


@given(values=st.lists(st.floats(), max_size=8))
def test_only_a_finite_number_from_0_to_1_is_a_probability(values: list[float]) -> None:
    p_up = np.array(values, dtype=np.float64)
    assert valid(p_up).tolist() == [0.0 <= value <= 1.0 for value in values]
    output = ModelOutput.of(p_up, Thresholds(0.6, 0.4), "a" * 64)
    for value, kept, action, status in zip(values, output.p_up, output.actions, output.statuses, strict=True):
        if 0.0 <= value <= 1.0:
            assert (kept, status) == (value, Status.OK)
        else:
            assert np.isnan(kept)
            assert (action, status) == (0, Status.REFUSED)
    assert [bool(reason) for reason in output.reasons] == [status is Status.REFUSED for status in output.statuses]


@given(n=st.integers(0, 5), status=st.sampled_from([status for status in Status if status is not Status.OK]))
def test_no_answer_is_no_number_and_no_action(n: int, status: Status) -> None:
    output = ModelOutput.none(n, status, "", "why")
    assert np.isnan(output.p_up).all()
    assert len(output.p_up) == len(output.actions) == len(output.statuses) == n
    assert not output.actions.any()
    assert set(output.statuses) <= {status}

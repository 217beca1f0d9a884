"""Thresholds, metrics and the refusal of collapsed models."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantum_trader.core.errors import TrainingError
from quantum_trader.core.predictions import Thresholds
from quantum_trader.learn.evaluate import CLEARANCE, part_metrics, refuse_collapsed, tercile_thresholds

PROBABILITIES = arrays(np.float64, st.integers(20, 200), elements=st.floats(0.0, 1.0, width=32))


def test_thresholds_are_terciles_never_across_a_half() -> None:
    p = np.linspace(0.3, 0.9, 3_001)
    bounds = tercile_thresholds(p, p)
    assert bounds.buy_above == pytest.approx(0.7, abs=1e-3)
    assert bounds.sell_below == pytest.approx(0.5, abs=1e-3)
    low = tercile_thresholds(1 - p, 1 - p)
    assert low.buy_above == pytest.approx(0.5, abs=1e-3)
    assert low.sell_below == pytest.approx(0.3, abs=1e-3)


@settings(max_examples=200)
@given(p=PROBABILITIES, known=PROBABILITIES)
def test_no_known_answer_is_within_rounding_of_a_threshold(p: np.ndarray, known: np.ndarray) -> None:
    bounds = tercile_thresholds(p, known)
    assert 0 <= bounds.sell_below <= 0.5 <= bounds.buy_above <= 1
    every = np.concatenate([p, known])
    for bound in (bounds.buy_above, bounds.sell_below):
        if 0 < bound < 1:
            assert np.abs(every - bound).min() >= CLEARANCE * 0.999
    # They give way outwards only, and no further than the answers in their way.
    lower, upper = np.quantile(p, [1 / 3, 2 / 3])
    assert bounds.buy_above >= max(0.5, upper)
    assert bounds.sell_below <= min(0.5, lower)
    assert bounds.buy_above <= max(0.5, upper) + 3 * CLEARANCE * (len(every) + 1)


def test_metrics_are_the_textbook_s() -> None:
    y = np.array([1, 0, 1, 0], np.int8)
    p = np.array([0.9, 0.2, 0.4, 0.6])
    metrics = part_metrics(y, p, 0.25)
    assert metrics.log_loss == pytest.approx(-np.mean(np.log([0.9, 0.8, 0.4, 0.4])))
    assert metrics.brier == pytest.approx(np.mean([0.01, 0.04, 0.36, 0.36]))
    assert metrics.auc == pytest.approx(0.75)
    assert metrics.accuracy == 0.5
    assert metrics.prior_log_loss == pytest.approx(-np.mean(np.log([0.25, 0.75, 0.25, 0.75])))


def _spread(n: int = 1_000) -> np.ndarray:
    return np.linspace(0.3, 0.7, n)


def test_a_model_that_chooses_passes() -> None:
    refuse_collapsed(_spread(), tercile_thresholds(_spread(), _spread()), "xgb")


@pytest.mark.parametrize(
    "p",
    [
        np.full(1_000, 0.5),
        np.full(1_000, 0.7),
        0.5 + np.linspace(-1e-5, 1e-5, 1_000),
        np.where(np.arange(1_000) % 2, 0.3, 0.7),
    ],
    ids=["half", "constant", "nearly constant", "two answers"],
)
def test_a_constant_output_is_refused(p: np.ndarray) -> None:
    with pytest.raises(TrainingError, match=r"collapsed .*different answers"):
        refuse_collapsed(p, tercile_thresholds(p, p), "patchtst")


@pytest.mark.parametrize("above", [0, 4, 96, 100])
def test_more_than_95_percent_on_one_side_is_refused(above: int) -> None:
    p = np.where(np.arange(1_000) % 100 < above, 0.5 + 0.1 * _spread(), 0.5 - 0.1 * _spread())
    with pytest.raises(TrainingError, match=r"collapsed \(.*at most 95% are allowed\); nothing was written"):
        refuse_collapsed(p, tercile_thresholds(p, p), "patchtst")


@pytest.mark.parametrize("above", [10, 50, 90])
def test_up_to_95_percent_on_one_side_passes(above: int) -> None:
    p = np.where(np.arange(1_000) % 100 < above, 0.5 + 0.1 * _spread(), 0.5 - 0.1 * _spread())
    refuse_collapsed(p, tercile_thresholds(p, p), "patchtst")


def test_one_action_alone_is_refused_whatever_the_probabilities() -> None:
    with pytest.raises(TrainingError, match="HOLD"):
        refuse_collapsed(_spread(), Thresholds(0.99, 0.01), "patchtst")
    with pytest.raises(TrainingError, match="BUY among BUY and SELL"):
        refuse_collapsed(_spread(), Thresholds(0.6, 0.0), "patchtst")

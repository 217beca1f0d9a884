"""Splits: ordered by time, nothing of one part's outcome inside another."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_trader.core.errors import TrainingError
from quantum_trader.learn.splits import MIN_ROWS, time_split

BAR = 300_000
SPAN = 13 * BAR


@settings(max_examples=60, deadline=None)
@given(bars=st.integers(800, 3_000), symbols=st.integers(1, 4), stride=st.integers(1, 3), train=st.floats(0.4, 0.75))
def test_no_outcome_reaches_into_another_part(bars: int, symbols: int, stride: int, train: float) -> None:
    ts = np.repeat(np.arange(0, bars, stride) * BAR, symbols)
    y = (np.arange(len(ts)) % 2).astype(np.int8)
    try:
        split = time_split(ts, y, SPAN, (train, 0.15))
    except TrainingError as error:
        assert "rows" in str(error)  # noqa: PT017 - short series have parts too small; the others must hold
        return
    parts = (split.train, split.validation, split.test)
    for earlier, later in pairwise(parts):
        # Purge: the last outcome is known before the next part begins; embargo: as long again.
        assert ts[earlier[-1]] + 2 * SPAN < ts[later[0]] + BAR * stride
        assert ts[earlier[-1]] + SPAN < ts[later[0]]
    for part in parts:
        assert len(part) >= MIN_ROWS
        assert (np.diff(part) > 0).all()
    assert len(split.train) / len(ts) <= train


def test_all_symbols_of_an_instant_fall_into_one_part() -> None:
    ts = np.repeat(np.arange(1_000) * BAR, 5)
    y = (np.arange(len(ts)) % 2).astype(np.int8)
    split = time_split(ts, y, SPAN)
    for part in (split.train, split.validation, split.test):
        assert len(part) == 5 * len(np.unique(ts[part]))


def test_a_part_that_is_too_small_or_has_one_class_is_refused() -> None:
    ts = np.arange(2_000) * BAR
    y = (np.arange(2_000) % 2).astype(np.int8)
    with pytest.raises(TrainingError, match="train part has"):
        time_split(ts[:100], y[:100], SPAN)
    y[1_700:] = 1
    with pytest.raises(TrainingError, match="test part has only one class"):
        time_split(ts, y, SPAN)


@pytest.mark.parametrize("fractions", [(0.9, 0.1), (0.0, 0.5), (0.5, 0.0), (0.7, 0.4)])
def test_shares_that_leave_a_part_empty_are_refused(fractions: tuple[float, float]) -> None:
    with pytest.raises(TrainingError, match="shares"):
        time_split(np.arange(1_000) * BAR, np.zeros(1_000, np.int8), SPAN, fractions)

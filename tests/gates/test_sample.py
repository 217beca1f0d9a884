from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from quantum_trader.core.labels import DELAY, HORIZON
from quantum_trader.gates.sample import CYCLE, Sample, SampleError


def small(**changes: Any) -> Sample:
    columns: dict[str, Any] = {
        "bar": [3, 0, 0, 60],
        "symbol": [0, 1, 0, 0],
        "p_up": [0.7, np.nan, 0.2, 0.5],
        "action": [1, np.nan, -1, 0],
        "ensemble": [1, 1, 0, 0],
        "forward": [0.01, -0.02, -0.01, np.nan],
    }
    return Sample.of(**(columns | changes))


def test_a_cycle_has_49_bars() -> None:
    assert CYCLE == 49
    assert small().cycle.tolist() == [0, 0, 0, 1]


def test_events_are_sorted_and_what_is_not_given_is_derived() -> None:
    sample = small()
    assert list(zip(sample.bar.tolist(), sample.symbol.tolist(), strict=True)) == [(0, 0), (0, 1), (3, 0), (60, 0)]
    assert sample.action.tolist() == [-1, 0, 1, 0]
    assert sample.outcome.tolist() == [0, 0, 1, -1]
    assert sample.confidence.tolist() == pytest.approx([0.8, np.nan, 0.7, 0.5], nan_ok=True)
    assert sample.valid.tolist() == [True, False, True, True]
    assert sample.settled.tolist() == [True, False, True, False]
    assert sample.hit[sample.settled].tolist() == [True, True]
    assert (len(sample), sample.bars, sample.complete_cycles) == (4, 61, 1)
    assert sample.faults() == ()


def test_an_empty_sample_is_sound() -> None:
    empty = Sample.of([], [], [], [], [])
    assert (len(empty), empty.bars, empty.faults()) == (0, 0, ())
    assert len(empty.to_cycle_end()) == 0


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"bar": [3, 0, 0, -1]}, "outside the observed bars"),
        ({"bars": 60}, "outside the observed bars"),
        ({"symbol": [0, 1, 1, 0]}, "twice"),
        ({"p_up": [1.2, np.nan, 0.2, 0.5]}, "no probability"),
        ({"p_up": [np.inf, np.nan, 0.2, 0.5]}, "no probability"),
        ({"confidence": [0.7, np.nan, np.nan, 0.5]}, "confidences"),
        ({"action": [2, 0, -1, 0]}, "1 actions"),
        ({"action": [300, 0, -1, 0]}, "1 actions"),
        ({"ensemble": [1, 1, 0, -7]}, "ensemble"),
        ({"outcome": [5, 0, 0, -1]}, "1 outcomes are not 0, 1 or unknown"),
        ({"outcome": [0, 0, 0, -1]}, "contradict"),
    ],
)
def test_a_broken_rule_is_a_fault(changes: dict[str, Any], fault: str) -> None:
    assert fault in " ".join(small(**changes).faults())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bar": [1, 2, 3]}, "lengths differ"),
        ({"action": [1]}, "lengths differ"),
        ({"bar": [0.5, 1, 2, 3]}, "bar must be whole"),
        ({"bar": [np.nan, 1, 2, 3]}, "bar must be whole"),
        ({"action": [0.5, 0, 0, 0]}, "action must be whole"),
        ({"ensemble": ["BUY", 1, 0, 0]}, "ensemble must be numbers"),
        ({"p_up": [[0.5] * 4]}, "one dimension"),
    ],
)
def test_what_is_no_sample_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SampleError, match=message):
        small(**changes)


def test_a_missing_outputs_other_columns_are_not_read() -> None:
    sample = small(action=[1, 77, -1, 0], confidence=[0.7, 9.0, 0.8, 0.5])
    assert sample.faults() == ()
    assert np.isnan(sample.confidence[1])


def test_at_a_cycles_end_nothing_later_is_known(model: Callable[..., Sample]) -> None:
    full = model(bars=CYCLE * 3 + 20)
    seen = full.to_cycle_end()
    end = CYCLE * 3
    assert (seen.bars, seen.complete_cycles, int(seen.bar.max())) == (end, 3, end - 1)
    last_known = int(seen.bar[seen.outcome >= 0].max())
    assert last_known == end - 1 - HORIZON - DELAY
    assert np.isnan(seen.forward[seen.bar > last_known]).all()
    # What happens after the end changes nothing of it.
    later = full.bar + HORIZON + DELAY >= end
    other = replace(full, forward=np.where(later, -full.forward, full.forward))
    other = replace(other, outcome=np.where(later & (full.outcome >= 0), 1 - full.outcome, full.outcome))
    for column in ("bar", "outcome", "forward", "p_up"):
        np.testing.assert_array_equal(getattr(other.to_cycle_end(), column), getattr(seen, column))


def test_a_price_that_stood_still_did_not_rise() -> None:
    sample = Sample.of([0, 1, 2], [0, 0, 0], [0.6] * 3, [1] * 3, [1] * 3, forward=[0.0, 1e-9, -1e-9])
    assert sample.outcome.tolist() == [0, 1, 0]
    assert sample.faults() == ()


def test_a_bar_too_large_to_be_counted_is_refused() -> None:
    for bar in (2.0**53, -(2.0**53)):
        with pytest.raises(SampleError, match="bar must be whole numbers"):
            Sample.of([bar], [0], [0.6], [1], [1])
    assert Sample.of([2.0**53 - 1], [0], [0.6], [1], [1]).bar.tolist() == [2**53 - 1]

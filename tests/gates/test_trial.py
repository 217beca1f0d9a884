from collections.abc import Callable
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_trader.gates.panel import Electorate
from quantum_trader.gates.sample import CYCLE, SampleError
from quantum_trader.gates.trial import Trial
from quantum_trader.gates.whole_policy import WHOLE

Make = Callable[..., Any]


def run(w: Any, cuts: list[int]) -> Trial:
    trial = Trial(w.log_price.shape[1])
    edges = [0, *cuts, w.bars]
    for first, end in pairwise(edges):
        trial.extend(w.sample(first, end), w.panel(first, end))
    return trial


def bits(trial: Trial) -> list[bytes]:
    """Every sum of a trial."""
    groups = [getattr(trial.sums, item.name) for item in fields(trial.sums)]
    arrays = [getattr(group, item.name) for group in groups for item in fields(group)]
    return [array.tobytes() for array in (*arrays, trial.blocks.x, trial.blocks.sums)]


@pytest.fixture(scope="module")
def gappy(world: Make) -> Any:
    """A world with missing outputs, absent voters, absent events and missing bars."""
    w = world(bars=49 * 26 + 11, symbols=3)
    rng = np.random.default_rng(8)
    w = w.with_model(np.where(rng.random(len(w.bar)) < 0.05, np.nan, w.p_up))
    voter_p = np.where(rng.random(w.voter_p.shape) < 0.05, np.nan, w.voter_p)
    actions = np.where(np.isnan(voter_p), 0, w.voter_action).astype(np.int8)
    ensemble = Electorate().decide(actions, ~np.isnan(voter_p)).actions
    w.log_price[100:104, 1] = np.nan
    changed = type(w)(w.bar, w.symbol, w.p_up, w.action, ensemble, voter_p, actions, w.log_price, w.bars)
    return changed.take(np.flatnonzero(rng.random(len(w.bar)) < 0.6))


@given(st.lists(st.integers(1, 49 * 26 + 10), unique=True, max_size=12).map(sorted))
@settings(max_examples=25, deadline=None)
def test_sums_do_not_depend_on_how_the_data_came(gappy: Any, cuts: list[int]) -> None:
    assert bits(run(gappy, cuts)) == bits(run(gappy, []))


def test_one_bar_at_a_time_is_the_same_too(gappy: Any) -> None:
    assert bits(run(gappy, list(range(1, gappy.bars)))) == bits(run(gappy, []))


def test_the_future_changes_nothing(gappy: Any) -> None:
    # Sums of the cycles so far are the first rows of the sums later.
    early, late = run(gappy, []), Trial(3)
    late.extend(gappy.sample(0, 10 * CYCLE), gappy.panel(0, 10 * CYCLE))
    for item in fields(early.sums):
        whole, part = getattr(early.sums, item.name), getattr(late.sums, item.name)
        for column in fields(whole):
            one, other = getattr(part, column.name), getattr(whole, column.name)
            assert one.tobytes() == other[: len(one)].tobytes()
    assert late.blocks.x.tobytes() == early.blocks.x[: len(late.blocks.x)].tobytes()


def test_nothing_is_summed_before_a_cycle_is_complete(world: Make) -> None:
    w = world(bars=CYCLE - 1, symbols=2)
    trial = run(w, [])
    assert (trial.cycles, trial.bars, len(trial.waiting)) == (0, CYCLE - 1, 2 * (CYCLE - 1))
    with pytest.raises(SampleError, match="no cycle is complete"):
        _ = trial.sums


def test_only_what_is_still_needed_is_kept(world: Make) -> None:
    w = world(bars=CYCLE * 5 + 3, symbols=2)
    trial = run(w, [])
    # The last H + D bars of the last cycle, and the bars after it.
    assert len(trial.waiting) == (13 + 3) * 2
    assert trial.sums.cycles == 5


def test_portions_must_follow_each_other(world: Make) -> None:
    w = world(bars=CYCLE * 2, symbols=2)
    trial = Trial(2)
    trial.extend(w.sample(0, 60), w.panel(0, 60))
    for first, end in ((0, 60), (61, 90), (50, 70)):
        with pytest.raises(SampleError, match="60 bars were received"):
            trial.extend(w.sample(first, end), w.panel(first, end))
    with pytest.raises(SampleError, match="other symbols"):
        Trial(3).extend(w.sample(), w.panel())
    with pytest.raises(SampleError, match="other symbols"):
        Trial(2, Electorate(shadow_weight=0.1), WHOLE).extend(w.sample(), w.panel())


def test_a_faulty_portion_stays_a_fault(world: Make) -> None:
    w = world(bars=CYCLE * 3, symbols=2)
    wrong = w.panel(60, 100)
    wrong.voter_p[5, 0] = 2.0
    trial = Trial(2)
    trial.extend(w.sample(0, 60), w.panel(0, 60))
    trial.extend(w.sample(60, 100), wrong)
    trial.extend(w.sample(100), w.panel(100))
    assert (trial.bars, trial.cycles, len(trial.faults)) == (CYCLE * 3, 1, 1)
    assert "no probability, the first at bar 62" in trial.faults[0]

"""The counterfactual vote against a vote counted by hand, row by row."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.archive.columns import to_records
from quantum_trader.archive.store import in_order
from quantum_trader.report.flips import COST, POINTS, counterfactual, thinned
from quantum_trader.report.frame import Frame

ACTIONS = {"SELL": -1, "HOLD": 0, "BUY": 1}


def by_hand(record: Any, shadow: str, weight: float) -> tuple[str, int]:
    """One decision counted again with plain dictionaries: the action and the voters behind it."""
    votes = {m: (v.action, record.decision.weights[m]) for m, v in record.decision.votes.items() if v.status == "ok"}
    if record.shadows[shadow].status == "ok":
        votes[shadow] = (record.shadows[shadow].action, weight)
    score = {action: round(sum(w for a, w in votes.values() if a == action), 9) for action in ACTIONS}
    best = [action for action in ACTIONS if score[action] == max(score.values())]
    winner = best[0] if len(best) == 1 else "HOLD"
    agree = sum(a == winner for a, _ in votes.values())
    if winner != "HOLD" and agree < record.decision.min_consensus:
        winner = "HOLD"
    return winner, agree


@pytest.mark.parametrize(("quorum", "weight"), [(1, 0.2), (2, 0.2), (3, 0.35)])
def test_flips_are_those_of_a_vote_by_hand(worlds: Callable[..., Any], quorum: int, weight: float) -> None:
    world = worlds({"BTCUSDT": 100.0, "ETHUSDT": 50.0}, decisions=200, missing=0.1, min_consensus=quorum)
    table = in_order(world.table)
    frame = Frame.of(table, world.bars)
    flips = counterfactual(frame, "patchtst", weight)
    assert flips is not None
    expected: dict[tuple[str, str], int] = {}
    consensus: dict[int, list[int]] = {}
    money, settled = 0.0, 0
    for i, record in enumerate(to_records(table)):
        before = record.decision.action
        after, agree = by_hand(record, "patchtst", weight)
        if before != "HOLD":
            consensus.setdefault(record.decision.consensus_count, [0, 0])[0] += 1
        if after != "HOLD":
            consensus.setdefault(agree, [0, 0])[1] += 1
        if after == before:
            continue
        expected[before, after] = expected.get((before, after), 0) + 1
        if not np.isnan(frame.forward[i]):
            a, b = ACTIONS[after], ACTIONS[before]
            settled += 1
            money += (a - b) * float(frame.forward[i]) - COST * (abs(a) - abs(b))
    assert {(d.before, d.after): d.count for d in flips.directions} == expected
    assert flips.flipped == sum(expected.values()) > 0
    assert flips.settled == settled
    assert flips.total == pytest.approx(money)
    assert sum(d.pnl for d in flips.directions) == pytest.approx(money)
    assert flips.per_flip.value == pytest.approx(money / settled)
    assert flips.curve.value[-1] == pytest.approx(money)
    assert flips.consensus == tuple((k, *consensus[k]) for k in sorted(consensus))


def test_a_silent_shadow_flips_nothing(worlds: Callable[..., Any]) -> None:
    world = worlds({"BTCUSDT": 100.0}, decisions=100, missing=1.0)
    flips = counterfactual(Frame.of(in_order(world.table), world.bars), "patchtst", 0.2)
    assert flips is not None
    assert (flips.flipped, flips.settled, flips.total, len(flips.curve.ts)) == (0, 0, 0.0, 0)


def test_a_voter_has_no_counterfactual(world: Any) -> None:
    assert counterfactual(Frame.of(in_order(world.table), world.bars), "xgb", 0.25) is None


@given(st.lists(st.floats(-1, 1), max_size=2000))
def test_a_thinned_curve_keeps_its_end_and_extremes(steps: list[float]) -> None:
    value = np.cumsum(np.array(steps, dtype=float))
    curve = thinned(np.arange(len(steps), dtype=np.int64), value)
    assert len(curve.ts) <= POINTS
    assert curve.per_point == max(1, -(-len(steps) // POINTS))
    if steps:
        assert curve.ts[-1] == len(steps) - 1
        assert curve.value[-1] == value[-1]
        assert curve.low.min() == value.min()
        assert curve.high.max() == value.max()
        assert ((curve.low <= curve.value) & (curve.value <= curve.high)).all()

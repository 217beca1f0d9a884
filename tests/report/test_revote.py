"""Voting again: the recorded rules give every record, other rules give what a vote by hand gives."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report.conftest import World, make_world

from quantum_trader.archive.columns import to_records, to_table
from quantum_trader.archive.store import in_order
from quantum_trader.core.calibration import Calibration, PlattCurve
from quantum_trader.core.decision import DecisionRecord, Occasion, decide
from quantum_trader.core.errors import ConfigError
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import MODELS, ModelOutput, Thresholds
from quantum_trader.report.flips import compare
from quantum_trader.report.frame import Frame
from quantum_trader.report.revote import RECORDED, Ballot, differing, vote_again

ACTIONS = {"SELL": -1, "HOLD": 0, "BUY": 1}


@pytest.fixture(scope="module")
def made() -> tuple[World, Any, Frame]:
    world = make_world({"BTCUSDT": 100.0, "ETHUSDT": 50.0}, decisions=120, missing=0.1)
    table = in_order(world.table)
    return world, table, Frame.of(table, world.bars)


def by_hand(record: Any, ballot: Ballot) -> str:
    """One decision with plain dictionaries."""
    quorum = ballot.min_consensus or record.decision.min_consensus
    votes: dict[str, tuple[int, float]] = {}
    for name in MODELS:
        said = record.decision.votes.get(name) or record.shadows.get(name)
        weight = ballot.weights.get(name, record.decision.weights.get(name, 0.0))
        if said.status != "ok" or weight == 0:
            continue
        action = ACTIONS[said.action]
        if name in ballot.buy_above and name in ballot.sell_below:
            bounds = Thresholds(ballot.buy_above[name], ballot.sell_below[name])
            action = int(bounds.actions(np.array([said.p_up]))[0])
        votes[name] = (action, weight)
    score = {a: round(sum(w for b, w in votes.values() if b == a), 9) for a in ACTIONS.values()}
    best = [a for a in score if score[a] == max(score.values())]
    winner = best[0] if len(best) == 1 else 0
    agree = sum(a == winner for a, _ in votes.values())
    return {v: k for k, v in ACTIONS.items()}[winner if agree >= quorum else 0]


def test_the_recorded_rules_give_every_record(made: tuple[World, Any, Frame]) -> None:
    _, table, frame = made
    assert differing(table, frame) is None
    assert (vote_again(frame, RECORDED).actions == frame.action).all()
    assert compare(frame, RECORDED).flipped == 0


def test_a_decision_that_is_no_vote_is_named(made: tuple[World, Any, Frame]) -> None:
    _, table, frame = made
    action = frame.action.copy()
    row = int(np.flatnonzero(action == 1)[3])
    action[row] = -1
    problem = differing(table, replace(frame, action=action))
    assert problem is not None
    assert problem.startswith(frame.names[frame.symbol[row]])
    assert "recorded is SELL" in problem
    assert "gives BUY" in problem


@given(
    weights=st.dictionaries(st.sampled_from(MODELS), st.sampled_from([0.0, 0.1, 0.25, 0.4, 1.0])),
    quorum=st.sampled_from([None, 1, 2, 3, 4]),
    bounds=st.dictionaries(st.sampled_from(MODELS), st.tuples(st.floats(0.3, 0.5), st.floats(0.5, 0.7))),
)
@settings(max_examples=25)
def test_another_ballot_is_a_vote_by_hand(
    made: tuple[World, Any, Frame], weights: dict[str, float], quorum: int | None, bounds: Any
) -> None:
    _, table, frame = made
    ballot = Ballot(weights, quorum, {m: b[1] for m, b in bounds.items()}, {m: b[0] for m, b in bounds.items()})
    found = [{v: k for k, v in ACTIONS.items()}[a] for a in vote_again(frame, ballot).actions.tolist()]
    assert found == [by_hand(record, ballot) for record in to_records(table)]


def test_a_calibrated_vote_counts_again_as_it_counted() -> None:
    from tests.core.strategies import INTERVAL, START, random_series

    rng, n = np.random.default_rng(4), 300
    outputs = {
        name: ModelOutput.of(rng.uniform(0.3, 0.7, n), Thresholds(0.53, 0.47), name[0] * 64)
        for name in ("xgb", "lgbm", "nhits")
    }
    curve = Calibration("d" * 64, "lgbm", "l" * 64, PlattCurve(-0.1, 0.4))
    series = random_series(n)
    occasion = Occasion(
        timeframe="5m",
        symbols=["BTCUSDT"] * n,
        ts_open=[START + bar * INTERVAL for bar in range(n)],
        ts_close=[START + (bar + 1) * INTERVAL for bar in range(n)],
        prices=series.close.tolist(),
        atr_fractions=[0.004] * n,
        input_hashes=["0" * 16] * n,
    )
    taken = decide(occasion, outputs, VotePolicy(calibrations={"lgbm": curve}))
    records = [DecisionRecord(decision=d, shadows={}, reasons={}, ts_decision=d.ts_close) for d in taken]
    table = to_table(records)
    frame = Frame.of(table, {"BTCUSDT": series})
    assert not np.isnan(frame.models["lgbm"].p_calibrated).all()
    assert differing(table, frame) is None


def test_rules_that_changed_within_the_window_count_as_they_were(worlds: Callable[..., Any]) -> None:
    one = worlds({"BTCUSDT": 100.0}, decisions=60, min_consensus=2)
    other = worlds({"ETHUSDT": 100.0}, decisions=60, min_consensus=3)
    import pyarrow as pa

    table = in_order(pa.concat_tables([one.table, other.table]).unify_dictionaries())
    frame = Frame.of(table, {**one.bars, **other.bars})
    assert differing(table, frame) is None


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"weights": {"oracle": 1.0}}, "unknown"),
        ({"weights": {"xgb": -1.0}}, "not 0 or a positive number"),
        ({"weights": {"xgb": float("nan")}}, "not 0 or a positive number"),
        ({"min_consensus": 0}, "not at least 1"),
        ({"buy_above": {"xgb": 1.5}}, "no probability"),
        ({"buy_above": {"xgb": 0.4}, "sell_below": {"xgb": 0.6}}, "lies above BUY"),
    ],
)
def test_a_ballot_that_is_none_is_refused(options: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        Ballot(**options)


def test_a_model_that_took_no_part_cannot_vote(worlds: Callable[..., Any]) -> None:
    world = worlds({"BTCUSDT": 100.0}, decisions=20, shadow=None)
    keep = world.table.filter([True] * len(world.table))
    frame = Frame.of(in_order(keep), world.bars)
    without = replace(frame, models={name: held for name, held in frame.models.items() if name != "patchtst"})
    with pytest.raises(ConfigError, match="took part in no decision"):
        vote_again(without, Ballot({"patchtst": 0.2}))


def test_a_ballot_says_what_it_changes() -> None:
    ballot = Ballot({"patchtst": 0.2}, 3, {"xgb": 0.6}, {"xgb": 0.4})
    assert str(ballot) == "weight of patchtst 0.2, at least 3 agreeing, xgb BUY from 0.6 on, xgb SELL up to 0.4"
    assert str(RECORDED) == "the recorded rules"

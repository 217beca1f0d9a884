"""What the watch reads of decisions: blocks as the verdict has them, and the same things counted before and after."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from tests.gates.conftest import World, _world

from quantum_trader.archive.aftermath import Aftermath, aftermath
from quantum_trader.archive.columns import to_table
from quantum_trader.core.bars import BarSeries
from quantum_trader.core.decision import DecisionRecord, Occasion, decide, shadow_votes
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import Cause, ModelOutput, Status, Thresholds, because
from quantum_trader.gates.events import portions
from quantum_trader.gates.trial import Trial
from quantum_trader.gates.whole_policy import WHOLE

STEP = 300_000
FIRST = 1_767_225_600_000
VOTERS = ("xgb", "lgbm", "nhits")
SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT")
THRESHOLDS = Thresholds(math.nextafter(0.55, 1), math.nextafter(0.45, 0))
BARS, PROMOTED = 49 * 16, 49 * 10
POLICY = VotePolicy({"xgb": 0.25, "lgbm": 0.25, "nhits": 0.3, "patchtst": 0.2}, 1)


@cache
def world() -> World:
    return _world(bars=BARS, symbols=len(SYMBOLS))


def records(fails_from: int = BARS, late_from: int = BARS) -> list[DecisionRecord]:
    """The world as an engine records it; the model votes from bar PROMOTED on, and may fail or be slow later."""
    w, out = world(), []
    for t in range(BARS):
        rows = np.flatnonzero(w.bar == t)
        outputs = {m: ModelOutput.of(w.voter_p[rows, i], THRESHOLDS, "a" * 64) for i, m in enumerate(VOTERS)}
        mine = ModelOutput.of(w.p_up[rows], THRESHOLDS, "b" * 64)
        if t >= fails_from:
            mine = ModelOutput.none(len(rows), Status.FAILED, "b" * 64, because(Cause.ERROR, "x"))
        names = [SYMBOLS[i] for i in w.symbol[rows]]
        opens = [FIRST + t * STEP] * len(rows)
        closes = [ts + STEP for ts in opens]
        occasion = Occasion("5m", names, opens, closes, np.exp(w.log_price[t]).tolist(), [0.0] * 3, ["0" * 16] * 3)
        votes = t >= PROMOTED
        decided = decide(occasion, outputs | {"patchtst": mine} if votes else outputs, POLICY)
        beside = [{}] * len(rows) if votes else [{"patchtst": vote} for vote in shadow_votes(mine)]
        waited = 900 if t >= late_from else 100
        out += [
            DecisionRecord(decision=d, shadows=s, reasons={}, ts_decision=d.ts_close + waited)
            for d, s in zip(decided, beside, strict=True)
        ]
    return out


def bars() -> dict[str, BarSeries]:
    close = np.exp(world().log_price)
    opens = FIRST + STEP * np.arange(BARS)
    return {
        name: BarSeries(name, STEP, opens, *[close[:, i].copy() for _ in range(4)], np.ones(BARS))
        for i, name in enumerate(SYMBOLS)
    }


def look(table: pa.Table, weight: float = 0.2, since_ms: int = 0) -> Aftermath:
    return aftermath(table, bars(), ("patchtst", "b" * 64, weight), since_ms, WHOLE)


@pytest.fixture(scope="module")
def quiet() -> Aftermath:
    return look(to_table(records()))


def test_the_blocks_are_those_of_a_trial_that_never_heard_of_a_promotion(quiet: Aftermath) -> None:
    trial = Trial(len(SYMBOLS), replace(world().panel().electorate, min_consensus=1), WHOLE)
    for portion in portions(world().sample(), world().panel(), 1000):
        trial.extend(*portion)
    assert quiet.faults == ()
    expected = trial.blocks.x[-(-PROMOTED // 12) :]
    assert len(quiet.x) == len(expected) > 20
    # Before is the bar before the first: this world's prices begin at another one than the bars' file.
    assert np.allclose(quiet.x, expected, atol=0.05)
    assert np.corrcoef(quiet.x, expected)[0, 1] > 0.999


def test_both_sides_count_the_same_things(quiet: Aftermath) -> None:
    assert quiet.bars == BARS - PROMOTED
    assert quiet.before.decisions == quiet.after.decisions == 3 * quiet.bars
    assert (quiet.before.failed, quiet.after.failed) == (0, 0)
    assert sum(quiet.after.consensus) == quiet.after.decisions
    assert len(quiet.after.consensus) == len(VOTERS) + 1
    for side in (quiet.before, quiet.after):
        assert 0 < side.contended < side.decisions
        assert side.latency_p99_ms == 100
    # The model's own vote raises its agreement; nothing else may move by much.
    assert abs(quiet.after.contended - quiet.before.contended) < 0.1 * quiet.after.decisions


def test_failures_and_slowness_since_are_seen() -> None:
    seen = look(to_table(records(fails_from=BARS - 49, late_from=BARS - 49)))
    assert (seen.before.failed, seen.after.failed) == (0, 3 * 49)
    assert (seen.before.latency_p99_ms, seen.after.latency_p99_ms) == (100, 900)


def test_another_weight_another_time_or_no_vote_is_no_promotion() -> None:
    table = to_table(records())
    assert look(table, weight=0.1).bars == 0
    assert look(table, since_ms=FIRST + (BARS + 10) * STEP).bars == 0
    half = look(table, since_ms=FIRST + (PROMOTED + 98) * STEP)
    assert half.bars == BARS - PROMOTED - 98 + 1

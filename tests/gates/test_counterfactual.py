from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from quantum_trader.gates.counterfactual import Counterfactual, FlipSummary, brier_gain, kind_of, pnl_difference
from quantum_trader.gates.panel import Electorate
from quantum_trader.gates.sample import CYCLE
from quantum_trader.gates.trial import Trial
from quantum_trader.gates.whole_policy import DeploymentPolicy

Make = Callable[..., Any]


def test_golden_paired_differences(golden: Callable[[str], Any]) -> None:
    case = golden("g07_votes")["paired"]
    p0, p1, y = (np.array(case[name], dtype=float) for name in ("p0", "p1", "y"))
    a0, a1, moves = (np.array(case[name], dtype=float) for name in ("a0", "a1", "R"))
    expected = case["expected"]
    assert brier_gain(p0, p1, y) == pytest.approx(np.array(expected["brier_gain"]), rel=1e-9)
    assert pnl_difference(a0, a1, moves, case["cost"]) == pytest.approx(np.array(expected["pnl_diff"]), abs=1e-15)


def recalibrated(u: Any, y: Any, ends: Any, start: int) -> tuple[float, float]:
    """GATES.md, "Exact forms", word for word."""
    use = ends <= start
    n, u, y = int(use.sum()), u[use], y[use]
    if n < 50:
        return 0.0, 0.5
    variance = float(np.mean((u - u.mean()) ** 2))
    slope = max(0.0, float(np.sum((u - u.mean()) * (y - 0.5))) / ((n + 200) * variance))
    return slope, 0.5 + float(np.sum(y - 0.5)) / (n + 200) - slope * float(u.mean())


def test_gains_are_those_of_the_plain_formulas(world: Make) -> None:
    w = world(bars=49 * 8, symbols=2)
    missing = np.random.default_rng(1).random(len(w.bar)) < 0.1
    w = w.with_model(np.where(missing, np.nan, w.p_up))
    trial = Trial(2)
    trial.extend(w.sample(), w.panel())
    gains = trial.sums.gains
    logit = np.log(w.voter_p / (1 - w.voter_p))
    base = logit @ np.array([0.25, 0.25, 0.30]) / 0.8
    own = np.log(w.p_up / (1 - w.p_up))
    pool = np.where(missing, base, 0.8 * base + 0.2 * own)
    known = w.bar + 13 < w.bars
    move = np.zeros(len(w.bar))
    move[known] = (w.log_price[w.bar[known] + 13] - w.log_price[w.bar[known] + 1])[
        np.arange(known.sum()), w.symbol[known]
    ]
    y = (move > 0).astype(float)
    shadow, answered = w.action, ~missing
    votes = Electorate().decide_with(w.voter_action, np.ones(w.voter_p.shape, bool), shadow, answered)
    for cycle in range(8):
        start = cycle * CYCLE
        at = (w.bar >= start) & (w.bar < start + 36)
        sides = []
        for u in (base, pool):
            slope, intercept = recalibrated(u[known], y[known], w.bar[known] + 13, start)
            sides.append(np.clip(intercept + slope * u[at], 0.05, 0.95))
        gain = (sides[0] - y[at]) ** 2 - (sides[1] - y[at]) ** 2
        for symbol in range(2):
            assert gains.gain[cycle, symbol] == pytest.approx(gain[w.symbol[at] == symbol].sum(), abs=1e-12)
        before, after = w.ensemble[at].astype(float), votes.actions[at].astype(float)
        pnl = (after - before) * move[at] - 0.0002 * (np.abs(after) - np.abs(before))
        assert gains.pnl[cycle] == pytest.approx(pnl.sum(), abs=1e-12)
        assert gains.flip_pnl[cycle].sum() == pytest.approx(gains.pnl[cycle], abs=1e-12)
    counted = answered & known & (w.bar % CYCLE < 36)
    assert gains.n.sum() == counted.sum() < 8 * 36 * 2
    assert gains.n[:, 1].tolist() == [np.sum(counted & (w.symbol == 1) & (w.bar // CYCLE == k)) for k in range(8)]


def test_a_copy_gains_nothing_at_all(world: Make) -> None:
    # Two predictions that are equal but for rounding must not add up to "a vote would have helped".
    w = world(bars=49 * 25, symbols=3)
    constant = w.with_model(np.full(len(w.bar), 0.615))
    trial = Trial(3)
    trial.extend(constant.sample(), constant.panel())
    assert (trial.sums.gains.gain == 0).all()


def test_flips_are_counted_by_direction(world: Make) -> None:
    w = world(bars=49 * 10, symbols=3)
    trial = Trial(3)
    trial.extend(w.sample(), w.panel())
    flips = FlipSummary.of(trial.sums.flips, trial.sums.gains)
    after = Electorate().decide_with(
        w.voter_action, np.ones(w.voter_p.shape, bool), w.action, np.ones(len(w.bar), bool)
    )
    assert flips.events == len(w.bar)
    assert flips.flipped == int((after.actions != w.ensemble).sum()) == sum(flips.directions.values())
    assert flips.directions["HOLD->BUY"] == int(((w.ensemble == 0) & (after.actions == 1)).sum())
    assert sum(flips.consensus_before) == sum(flips.consensus_after) == flips.events
    assert flips.consensus_after[4] == int((after.consensus == 4).sum())
    assert flips.total == pytest.approx(sum(flips.pnl.values()))


def test_kinds_tell_before_from_after() -> None:
    before, after = np.array([-1, -1, 0, 1], np.int8), np.array([-1, 1, 1, 0], np.int8)
    assert kind_of(before, after).tolist() == [0, 2, 5, 7]


def test_regimes_rank_among_earlier_volatilities_only() -> None:
    counter = Counterfactual(1, DeploymentPolicy(regime_cycles=3))
    sigma = np.array([[np.nan], [1.0], [2.0], [3.0], [0.5], [9.0], [2.5]])
    whole = counter._regimes(sigma)[:, 0].tolist()
    # Nothing is ranked before three earlier ones are known; 0.5 is under all of 1, 2, 3; 9 above; 2.5 in the middle.
    assert whole == [-1, -1, -1, -1, 0, 2, 1]
    five = Counterfactual(1, DeploymentPolicy(regime_cycles=5))._regimes(np.array([[1.0], [2], [3], [4], [5], [4.5]]))
    # Above four of five: the upper third.
    assert five[-1, 0] == 2
    parts = Counterfactual(1, DeploymentPolicy(regime_cycles=3))
    assert [int(parts._regimes(row[None, :])[0, 0]) for row in sigma] == whole

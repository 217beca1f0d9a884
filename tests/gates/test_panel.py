import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from quantum_trader.core.bars import BarSeries
from quantum_trader.core.labels import forward_returns
from quantum_trader.gates.logits import scores_of
from quantum_trader.gates.panel import Electorate, Panel, forward, returns_of
from quantum_trader.gates.sample import Sample, SampleError

Make = Callable[..., Any]


@pytest.fixture
def small(world: Make) -> Any:
    return world(bars=49 * 4, symbols=3)


def test_a_sound_pair_has_no_faults(small: Any) -> None:
    assert small.panel().faults(small.sample()) == ()


def test_rows_follow_the_sample_in_any_order(small: Any) -> None:
    shuffled = small.take(np.random.default_rng(1).permutation(len(small.bar)))
    one, other = small.panel(), shuffled.panel()
    assert one.voter_p.tobytes() == other.voter_p.tobytes()
    assert other.faults(shuffled.sample()) == ()


def test_each_fault_is_named_with_its_place(small: Any) -> None:
    sample, panel = small.sample(), small.panel()
    at = int(np.flatnonzero(sample.bar == 100)[0])

    def voters(name: str, value: float) -> Panel:
        changed = getattr(panel, name).copy()
        changed[at, 1] = value
        return replace(panel, **{name: changed})

    prices = panel.log_price.copy()
    prices[150, 2] = math.inf
    ensemble = sample.ensemble.copy()
    ensemble[at] = 1 if ensemble[at] != 1 else -1
    stated = np.where(sample.bar == 100, 1, -1).astype(np.int8)
    move = forward(panel.log_price, 1)[100]
    cases = [
        (sample, voters("voter_p", 1.5), "1 voters' probabilities are no probability, the first at bar 100"),
        (sample, voters("voter_action", 2), "1 voters' actions are not -1, 0 or 1, the first at bar 100"),
        (sample, replace(panel, log_price=prices), "1 bars have infinite prices, the first at bar 150"),
        (replace(sample, ensemble=ensemble), panel, "1 recorded decisions are not the vote"),
        (replace(sample, outcome=stated), panel, f"{(move <= 0).sum()} outcomes are not those of the prices"),
        (sample, replace(panel, voter_p=panel.voter_p[1:]), "voters have 587 rows, the sample has 588"),
        (sample, replace(panel, log_price=prices[:90]), "prices end with bar 90, the sample was observed for 196"),
        (sample, replace(panel, log_price=panel.log_price[:, :2]), "events lie on symbols without prices"),
    ]
    for judged, beside, words in cases:
        faults = beside.faults(judged)
        assert len(faults) == 1, faults
        assert words in faults[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"voter_p": np.zeros((3, 2))},
        {"voter_action": np.zeros((2, 3))},
        {"log_price": np.zeros(5)},
        {"before": np.zeros(3)},
    ],
)
def test_shapes_must_agree(changes: dict[str, Any]) -> None:
    columns = {"voter_p": np.zeros((3, 3)), "voter_action": np.zeros((3, 3)), "log_price": np.zeros((5, 2))}
    with pytest.raises(SampleError, match="panel"):
        Panel.of([0, 1, 2], [0, 0, 0], **(columns | changes))


@pytest.mark.parametrize("weights", [(), (0.5, 0.0, 0.5), (math.nan, 1.0, 1.0), (-1.0, 1.0, 1.0)])
def test_weights_must_be_positive(weights: tuple[float, ...]) -> None:
    with pytest.raises(SampleError, match="positive"):
        Electorate(weights)


def test_a_quorum_is_applied_on_top() -> None:
    actions = np.array([[1, 0, -1], [1, 1, 0]], dtype=np.int8)
    present = np.ones((2, 3), bool)
    assert Electorate(min_consensus=1).decide(actions, present).actions.tolist() == [-1, 1]
    assert Electorate(min_consensus=2).decide(actions, present).actions.tolist() == [0, 1]


def test_all_votes_with_and_without_the_model(golden: Callable[[str], Any]) -> None:
    vector = golden("g07_votes")
    rows = np.array(vector["rows"], dtype=np.int8)
    assert len(rows) == 81
    who = Electorate(tuple(vector["weights_voters"]), vector["weight_shadow"])
    present = np.ones((81, 3), bool)
    assert who.decide(rows[:, :3], present).actions.tolist() == rows[:, 4].tolist()
    after = who.decide_with(rows[:, :3], present, rows[:, 3], np.ones(81, bool))
    assert after.actions.tolist() == rows[:, 5].tolist()
    silent = who.decide_with(rows[:, :3], present, rows[:, 3], np.zeros(81, bool))
    assert silent.actions.tolist() == rows[:, 4].tolist()


def test_outcomes_are_the_labels_and_holes_make_them_unknown() -> None:
    rng = np.random.default_rng(3)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, 120)))
    there = np.ones(120, bool)
    there[[40, 41, 77]] = False
    ts = np.arange(120, dtype=np.int64) * 300_000
    columns = {name: close[there] for name in ("open", "high", "low", "close", "volume")}
    series = BarSeries(symbol="BTCUSDT", interval=300_000, ts_open=ts[there], **columns)
    prices = np.where(there, np.log(close), np.nan)[:, None]
    assert np.array_equal(forward(prices, 1)[there, 0], forward_returns(series), equal_nan=True)
    at_once = forward(prices, 0)
    assert np.array_equal(np.isnan(at_once), np.isnan(forward(prices, 1)))
    assert at_once[3, 0] == prices[15, 0] - prices[3, 0]
    assert np.isnan(forward(prices[:13], 1)).all()
    moved = returns_of(prices, np.array([prices[0, 0] - 0.5]))
    assert moved[0, 0] == pytest.approx(0.5)
    assert np.flatnonzero(np.isnan(moved[:, 0])).tolist() == [40, 41, 42, 77, 78]


def test_scores_of_extremes_are_finite() -> None:
    p = np.array([0.0, 1.0, np.nan, 0.5])
    voter_p = np.array([[0.0, 1.0, 0.5], [np.nan] * 3, [0.7, np.nan, np.nan], [0.5, 0.5, 0.5]])
    scores = scores_of(p, voter_p, (0.25, 0.25, 0.30), 0.2)
    assert scores.own[[0, 1]].tolist() == [-4.0, 4.0]
    assert np.isnan(scores.own[2])
    assert np.isfinite(scores.voters).all()
    assert scores.voters[1].tolist() == [0.0, 0.0, 0.0]
    assert scores.ensemble[1] == 0.0
    # One voter present: the score is its own, whatever its weight.
    assert scores.ensemble[2] == pytest.approx(np.log(0.7 / 0.3))
    assert scores.pooled[2] == scores.ensemble[2]
    assert scores.pooled[1] == pytest.approx(0.2 * np.log((1 - 1e-6) / 1e-6))


def test_a_sample_may_end_before_its_prices(small: Any) -> None:
    early = small.sample(end=100)
    assert small.panel().faults(Sample.of([], [], [], [], [], bars=0)) == (
        f"voters have {len(small.bar)} rows, the sample has 0",
    )
    rows = small.bar < 100
    cut = replace(small.panel(), voter_p=small.voter_p[rows], voter_action=small.voter_action[rows])
    assert cut.faults(early) == ()


def test_stated_outcomes_are_compared_only_where_this_panel_has_prices(world: Make) -> None:
    w = world(bars=200, symbols=2)
    prices = np.vstack([w.log_price, np.full((13, 2), np.nan)])
    moves = prices[w.bar + 13, w.symbol] - prices[w.bar + 1, w.symbol]
    sample = Sample.of(w.bar, w.symbol, w.p_up, w.action, w.ensemble, forward=moves, bars=200)
    late = Panel.of(w.bar, w.symbol, w.voter_p, w.voter_action, w.log_price[100:], first=100)
    assert late.faults(sample) == ()


def test_a_price_that_stood_still_is_a_fall_and_no_contradiction(world: Make) -> None:
    w = world(bars=60, symbols=1)
    still = Panel.of(w.bar, w.symbol, w.voter_p, w.voter_action, np.zeros((60, 1)))
    known = w.bar + 13 < 60
    sample = Sample.of(w.bar, w.symbol, w.p_up, w.action, w.ensemble, outcome=np.where(known, 0, np.nan), bars=60)
    assert still.faults(sample) == ()
    risen = Sample.of(w.bar, w.symbol, w.p_up, w.action, w.ensemble, outcome=np.where(known, 1, np.nan), bars=60)
    assert still.faults(risen) == ("47 outcomes are not those of the prices, the first at bar 0",)


def test_fourteen_bars_are_enough_for_one_outcome() -> None:
    found = forward(np.arange(14.0)[:, None], 1)
    assert found[0, 0] == 12.0
    assert np.isnan(found[1:]).all()
    assert np.isnan(forward(np.arange(13.0)[:, None], 1)).all()

import numpy as np
import pytest
from scipy.special import logit

from quantum_trader.gates.panel import Electorate
from quantum_trader.gates.rogues.measure import scene_of
from quantum_trader.gates.rogues.scene import EVENTS, Scene, acted, bars_for


def test_decisions_are_about_one_in_twelve_bars_in_order_and_none_twice(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert len(scene) == EVENTS
        assert scene.panel.bars == scene.bar[-1] + 1
        assert scene.panel.bars == pytest.approx(EVENTS * 12 / 10, rel=0.05)
        key = scene.bar * 10 + scene.symbol
        assert (np.diff(key) > 0).all()
        assert np.bincount(scene.symbol) == pytest.approx(EVENTS / 10, rel=0.2)


def test_bars_for_holds_the_decisions() -> None:
    assert bars_for(10) == 6_600
    assert bars_for(5) == 13_200


def test_voters_are_weakly_skilful_and_alike(scenes: list[Scene]) -> None:
    logits = np.concatenate([logit(scene.voter_p) for scene in scenes])
    assert logits.std(axis=0) == pytest.approx(0.79, abs=0.03)
    assert np.corrcoef(logits.T)[np.triu_indices(3, 1)] == pytest.approx(0.45, abs=0.05)
    ahead = np.concatenate([scene.at(scene.market.coming(12, after=1)) for scene in scenes])
    skill = [np.corrcoef(logits[:, voter], ahead)[0, 1] for voter in range(3)]
    assert all(-0.01 < value < 0.08 for value in skill)


def test_the_ensemble_is_the_tested_vote_and_the_gates_find_no_fault(scenes: list[Scene]) -> None:
    scene = scenes[0]
    actions = acted(scene.voter_p)
    assert np.array_equal(scene.ensemble, Electorate().decide(actions, np.ones(actions.shape, bool)).actions)
    p_up = scene.voter_p[:, 0]
    sample = scene.sample(p_up, acted(p_up))
    assert sample.faults() == ()
    assert scene.panel.faults(sample) == ()


def test_the_same_numbers_give_the_same_scene() -> None:
    one, same, other = (scene_of("bull", repetition, 9, events=300) for repetition in (3, 3, 4))
    assert np.array_equal(one.voter_p, same.voter_p)
    assert np.array_equal(one.bar, same.bar)
    assert not np.array_equal(one.voter_p, other.voter_p)
    assert not np.array_equal(one.voter_p, scene_of("crash", 3, 9, events=300).voter_p)
    assert not np.array_equal(one.voter_p, scene_of("bull", 3, 10, events=300).voter_p)


def test_an_unknown_market_and_missing_prices_are_refused() -> None:
    with pytest.raises(ValueError, match="market 'sideways' is none of"):
        scene_of("sideways", 0, 1)
    with pytest.raises(ValueError, match="needs prices"):
        scene_of("real", 0, 1)


def test_real_prices_make_a_scene_of_their_symbols() -> None:
    prices = scene_of("neutral", 0, 1).market.log_price[:, :4]
    scene = scene_of("real", 0, 1, prices, events=500)
    assert len(scene) == 500
    assert scene.market.bars == bars_for(4, 500)
    assert set(scene.symbol.tolist()) == {0, 1, 2, 3}

"""Every model of the gallery is what its name says."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit

from quantum_trader.gates.panel import forward
from quantum_trader.gates.rogues.gallery import BY_NAME, DAY, GALLERY, Kind
from quantum_trader.gates.rogues.measure import outputs
from quantum_trader.gates.rogues.scene import Scene, acted

Said = Callable[[str], list[NDArray[np.float64]]]
SEED = 5


@pytest.fixture(scope="module")
def said(scenes: list[Scene]) -> Said:
    """Outputs of a model on every scene."""
    held: dict[str, list[NDArray[np.float64]]] = {}

    def of(name: str) -> list[NDArray[np.float64]]:
        if name not in held:
            held[name] = [outputs(scene, BY_NAME[name], "neutral", r, SEED)[0] for r, scene in enumerate(scenes)]
        return held[name]

    return of


def hit_rate(scenes: list[Scene], p: list[NDArray[np.float64]], delay: int = 1, part: slice = slice(None)) -> float:
    right = total = 0
    for scene, own in zip(scenes, p, strict=True):
        moves = forward(scene.panel.log_price, delay)[scene.bar, scene.symbol][part]
        action = acted(own)[part]
        settled = (action != 0) & ~np.isnan(moves)
        right += int(((action > 0) == (moves > 0))[settled].sum())
        total += int(settled.sum())
    return right / total


def correlation(
    scenes: list[Scene], p: list[NDArray[np.float64]], grid: Callable[[Scene], NDArray[np.float64]]
) -> float:
    own = np.concatenate([logit(x) for x in p])
    return float(np.corrcoef(own, np.concatenate([scene.at(grid(scene)) for scene in scenes]))[0, 1])


def with_voters(scenes: list[Scene], p: list[NDArray[np.float64]]) -> float:
    weights = np.array([0.25, 0.25, 0.30]) / 0.8
    score = np.concatenate([logit(scene.voter_p) @ weights for scene in scenes])
    return float(np.corrcoef(np.concatenate([logit(x) for x in p]), score)[0, 1])


@pytest.mark.parametrize("model", GALLERY, ids=lambda model: model.name)
def test_outputs_are_probabilities_of_their_own_generator(scenes: list[Scene], said: Said, model: "type") -> None:
    name = model.name
    for p in said(name):
        known = p[~np.isnan(p)]
        assert p.shape == (5_000,)
        assert ((known > 0) & (known < 1)).all()
    again, action = outputs(scenes[3], BY_NAME[name], "neutral", 3, SEED)
    assert np.array_equal(again, said(name)[3], equal_nan=True)
    assert np.array_equal(action, acted(again, BY_NAME[name].margin))


def test_names_are_unique_and_kinds_are_those_of_the_specification() -> None:
    assert len(BY_NAME) == len(GALLERY) == 28
    assert {m.name for m in GALLERY if m.kind is Kind.LIMIT} == {"weak-leak", "decaying", "novel-flipped"}
    assert {m.name for m in GALLERY if m.kind is Kind.GOOD} == {"good", "weak", "calibrated"}


def test_the_constant_ones(scenes: list[Scene], said: Said) -> None:
    assert set(said("frozen")[0].tolist()) == {0.6150280237197876}
    assert said("always-buy")[0].min() > 0.55
    assert said("always-sell")[0].max() < 0.45
    assert len(np.unique(said("four-values")[0])) == 4
    p = said("per-symbol")[0]
    within = np.mean([p[scenes[0].symbol == i].var() for i in range(10)])
    assert within < 0.05 * p.var()
    dying = said("freezing")[0]
    assert np.ptp(dying[800:]) < 1e-12
    assert dying[:200].std() > 0.1


def test_coin_and_smoothed_know_nothing(scenes: list[Scene], said: Said) -> None:
    assert np.concatenate(said("coin")).mean() == pytest.approx(0.5, abs=0.01)
    assert hit_rate(scenes, said("coin")) == pytest.approx(0.5, abs=0.012)
    assert hit_rate(scenes, said("smoothed")) == pytest.approx(0.5, abs=0.025)
    scene, p = scenes[0], said("smoothed")[0]
    own = p[scene.symbol == 0]
    assert np.corrcoef(own[1:], own[:-1])[0, 1] > 0.7


def test_copies_and_followers(scenes: list[Scene], said: Said) -> None:
    assert with_voters(scenes, said("copy-ensemble")) > 0.97
    third = np.concatenate([logit(scene.voter_p[:, 2]) for scene in scenes])
    assert np.corrcoef(third, np.concatenate([logit(x) for x in said("copy-voter")]))[0, 1] > 0.97
    assert 0.55 < with_voters(scenes, said("follower")) < 0.9


def test_the_overconfident_ones_have_no_skill(scenes: list[Scene], said: Said) -> None:
    sure = [np.maximum(p, 1 - p) for p in said("overconfident")]
    assert np.mean([(c > 0.9).mean() for c in sure]) > 0.2
    for name in ("overconfident", "loud-in-turmoil"):
        assert hit_rate(scenes, said(name)) == pytest.approx(0.5, abs=0.015)
    spread = np.sort(np.abs(np.concatenate([logit(p) for p in said("loud-in-turmoil")])))
    assert np.abs(spread).max() > 6


def test_leaks(scenes: list[Scene], said: Said) -> None:
    assert hit_rate(scenes, said("full-leak")) > 0.75
    assert hit_rate(scenes, said("weak-leak")) == pytest.approx(0.58, abs=0.015)
    assert hit_rate(scenes, said("next-bar-leak"), delay=0) > 0.55
    assert hit_rate(scenes, said("next-bar-leak")) == pytest.approx(0.5, abs=0.012)


def test_silence(scenes: list[Scene], said: Said) -> None:
    assert np.mean([np.isnan(p).mean() for p in said("missing")]) == pytest.approx(0.2, abs=0.01)
    for scene, p in zip(scenes, said("silent-in-turmoil"), strict=True):
        silent, moved = np.isnan(p), scene.at(np.abs(scene.market.z))
        assert silent.mean() == pytest.approx(0.1, abs=0.02)
        assert moved[silent].min() >= moved[~silent].max()


def test_flips(scenes: list[Scene], said: Said) -> None:
    def on(name: str, first: bool) -> float:
        mine = [scene.symbol == 0 if first else scene.symbol != 0 for scene in scenes]
        own = np.concatenate([logit(p)[rows] for p, rows in zip(said(name), mine, strict=True)])
        known = np.concatenate([scene.at(scene.insight)[rows] for scene, rows in zip(scenes, mine, strict=True)])
        return float(np.corrcoef(own, known)[0, 1])

    for name in ("flipped", "novel-flipped"):
        assert on(name, first=True) < -0.08
        assert on(name, first=False) > 0.08
    assert hit_rate(scenes, said("anti")) < 0.475
    assert with_voters(scenes, said("anti")) < -0.4
    assert abs(with_voters(scenes, said("novel-flipped"))) < 0.05


def test_stale_knows_one_bar_and_one_bar_late(scenes: list[Scene], said: Said) -> None:
    assert correlation(scenes, said("stale"), lambda s: s.market.coming(1)) == pytest.approx(0.5, abs=0.03)
    assert abs(correlation(scenes, said("stale"), lambda s: s.market.coming(1, after=1))) < 0.02
    assert hit_rate(scenes, said("stale")) == pytest.approx(0.5, abs=0.015)


def test_swapped_knows_its_neighbour(scenes: list[Scene], said: Said) -> None:
    neighbour = correlation(scenes, said("swapped"), lambda s: np.roll(s.market.insight(own=True), 1, axis=1))
    assert neighbour == pytest.approx(0.3, abs=0.03)
    assert correlation(scenes, said("swapped"), lambda s: s.market.insight(own=True)) < 0.02


def test_label_shifted_knows_yesterday(scenes: list[Scene], said: Said) -> None:
    def yesterday(scene: Scene) -> NDArray[np.float64]:
        return np.roll(scene.market.coming(12, after=1), DAY, axis=0)

    assert correlation(scenes, said("label-shifted"), yesterday) == pytest.approx(0.6, abs=0.03)
    assert hit_rate(scenes, said("label-shifted")) == pytest.approx(0.5, abs=0.015)


def test_skill_is_what_is_stated(scenes: list[Scene], said: Said) -> None:
    assert hit_rate(scenes, said("good")) == pytest.approx(0.541, abs=0.012)
    assert hit_rate(scenes, said("weak")) == pytest.approx(0.525, abs=0.012)
    assert hit_rate(scenes, said("decaying"), part=slice(0, 2_500)) == pytest.approx(0.541, abs=0.016)
    assert hit_rate(scenes, said("decaying"), part=slice(2_500, 5_000)) == pytest.approx(0.5, abs=0.016)
    assert 0.4 < with_voters(scenes, said("good")) < 0.7


def test_calibrated_means_what_it_says_and_acts_as_the_good_one(scenes: list[Scene], said: Said) -> None:
    model = BY_NAME["calibrated"]
    for p in said("calibrated"):
        loud = expit(logit(p) / 0.267)
        assert np.array_equal(acted(p, model.margin), acted(loud))
        assert np.maximum(p, 1 - p).std() < 0.05
    high = np.concatenate([p > 0.55 for p in said("calibrated")])
    rise = np.concatenate([forward(s.panel.log_price, 1)[s.bar, s.symbol] for s in scenes])
    known = high & ~np.isnan(rise)
    assert (rise[known] > 0).mean() == pytest.approx(np.concatenate(said("calibrated"))[known].mean(), abs=0.03)

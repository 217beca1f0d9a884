"""The models of the gallery: what each is, and how its outputs come about on a scene.

Three kinds: a *rogue* must not be promoted; a *limit* is one that live statistics cannot tell from a good model, said
in GATES.md and measured as it is; a *good* one should be promoted.

Log-odds of a skilful model are .79 (skill x insight + .77 x what the voters share + own noise), variance of the
bracket 1. All others are made of the same parts, so that they look alike: what differs is what they know.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from scipy.special import logit

from quantum_trader.core.labels import HORIZON
from quantum_trader.gates.rogues.market import FloatArray
from quantum_trader.gates.rogues.scene import MARGIN, SPREAD, Scene, probability

Make = Callable[[Scene, np.random.Generator], FloatArray]

VERSION: Final = 1
"""Raised whenever a market, a voter or a model changes, so that results of two galleries are never mixed."""

SKILL: Final = 0.151
"""Share of insight of the good model: it is right in 54.1 % of its decisions."""

WEAK_SKILL: Final = 0.092
"""52.5 %."""

LEAK_SKILL: Final = 0.291
"""58 %."""

HERD: Final = 0.77
"""How much of a model's view is what the voters share: its log-odds correlate with theirs by about .5."""

DAY: Final = 288
"""Bars of 5 minutes."""

_CALIBRATED: Final = 0.267
"""Factor on the good model's log-odds that makes its probabilities mean what they say."""

_CALIBRATED_MARGIN: Final = float(probability(np.array(_CALIBRATED * logit(0.5 + MARGIN)))) - 0.5
"""With it the calibrated model acts as the good one does."""


class Kind(StrEnum):
    """What a promotion of it would be."""

    ROGUE = "rogue"
    LIMIT = "known limit"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Model:
    """One of the gallery.

    Attributes:
        name: Of commands and tables.
        what: It is, in a few words.
        kind: What a promotion of it would be.
        make: Its outputs p_up on a scene, shape (n,), from a generator; NaN where it gives none.
        margin: It says BUY above and SELL below one half by this, as its artefact's thresholds would.
    """

    name: str
    what: str
    kind: Kind
    make: Make
    margin: float = MARGIN


def skilful(scene: Scene, rng: np.random.Generator, skill: float, herd: float = HERD) -> FloatArray:
    """Log-odds with so much insight, shape (bars, symbols)."""
    return _opinion(scene, rng, skill, scene.insight, herd)


def _opinion(scene: Scene, rng: np.random.Generator, skill: float, known: FloatArray, herd: float) -> FloatArray:
    own = np.sqrt(1 - skill**2 - herd**2) * scene.noise(rng)
    grid: FloatArray = SPREAD * (skill * known + herd * scene.shared + own) + scene.market.tilt
    return grid


def _frozen(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return np.full(len(scene), 0.6150280237197876)


def _always_buy(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return rng.uniform(0.56, 0.95, len(scene))


def _always_sell(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return 1.0 - rng.uniform(0.56, 0.95, len(scene))


def _coin(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return rng.uniform(0.1, 0.9, len(scene))


def _copy_ensemble(scene: Scene, rng: np.random.Generator) -> FloatArray:
    weights = np.array(scene.panel.electorate.weights)
    score = logit(scene.voter_p) @ weights / weights.sum()
    return probability(1.23 * score + 0.1 * rng.standard_normal(len(scene)))


def _copy_voter(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return probability(logit(scene.voter_p[:, 2]) + 0.05 * rng.standard_normal(len(scene)))


def _overconfident(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return probability(scene.at(2.5 * _opinion(scene, rng, 0.0, scene.insight, 0.4)))


def _follower(scene: Scene, rng: np.random.Generator) -> FloatArray:
    own = 0.6 * scene.at(scene.noise(rng))
    return probability(logit(scene.voter_p) @ np.array([0.25, 0.25, 0.30]) + own)


def _full_leak(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return probability(scene.at(1.2 * (0.8 * scene.market.coming() + 0.6 * scene.noise(rng))))


def _next_bar_leak(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return probability(scene.at(1.2 * (0.8 * scene.market.coming(1) + 0.6 * scene.noise(rng))))


def _missing(scene: Scene, rng: np.random.Generator) -> FloatArray:
    p_up = probability(scene.at(skilful(scene, rng, SKILL)))
    return np.where(rng.random(len(scene)) < 0.2, np.nan, p_up)


def _silent_in_turmoil(scene: Scene, rng: np.random.Generator) -> FloatArray:
    p_up = probability(scene.at(skilful(scene, rng, SKILL)))
    moved = scene.at(np.abs(scene.market.z))
    return np.where(moved > np.quantile(moved, 0.9), np.nan, p_up)


def _flipped(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return probability(_flip_first(scene, scene.at(skilful(scene, rng, SKILL))))


def _flip_first(scene: Scene, log_odds: FloatArray) -> FloatArray:
    return np.where(scene.symbol == 0, -log_odds, log_odds)


def _anti(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return probability(-scene.at(skilful(scene, rng, SKILL)))


def _stale(scene: Scene, rng: np.random.Generator) -> FloatArray:
    # On time it would know a part of return t + 2, the first that the delayed entry can earn.
    return probability(scene.at(_opinion(scene, rng, 0.5, scene.market.coming(1), 0.5)))


def _swapped(scene: Scene, rng: np.random.Generator) -> FloatArray:
    known = _opinion(scene, rng, 0.3, scene.market.insight(own=True), 0.5)
    return probability(scene.at(np.roll(known, 1, axis=1)))


def _label_shifted(scene: Scene, rng: np.random.Generator) -> FloatArray:
    known = np.roll(scene.market.coming(HORIZON, after=1), DAY, axis=0)
    return probability(scene.at(_opinion(scene, rng, 0.6, known, 0.5)))


def _smoothed(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return probability(scene.at(SPREAD * scene.noise(rng, 0.99)))


def _freezing(scene: Scene, rng: np.random.Generator) -> FloatArray:
    log_odds = scene.at(skilful(scene, rng, SKILL))
    left = np.clip(1.0 - np.arange(len(scene)) / 800.0, 0.0, 1.0)
    return probability(left * log_odds + (1.0 - left) * 0.4685)


def _loud_in_turmoil(scene: Scene, rng: np.random.Generator) -> FloatArray:
    log_odds = scene.at(_opinion(scene, rng, 0.0, scene.insight, HERD))
    excited = scene.at(_recent_turmoil(scene))
    return probability(np.where(excited > np.quantile(excited, 2.0 / 3.0), 4.0, 1.0) * log_odds)


def _recent_turmoil(scene: Scene) -> FloatArray:
    """Mean absolute move of the last two hours, shape (bars, symbols)."""
    moves = np.abs(np.nan_to_num(np.diff(scene.market.log_price, axis=0, prepend=scene.market.log_price[:1])))
    total = np.cumsum(moves, axis=0)
    before = np.vstack([np.zeros((24, scene.market.symbols)), total[:-24]])
    return np.asarray(total - before)


def _per_symbol(scene: Scene, rng: np.random.Generator) -> FloatArray:
    level = rng.uniform(-1.2, 1.2, scene.market.symbols)
    return probability(level[scene.symbol] + 0.03 * rng.standard_normal(len(scene)))


def _four_values(scene: Scene, rng: np.random.Generator) -> FloatArray:
    log_odds = scene.at(skilful(scene, rng, SKILL))
    return np.array([0.32, 0.45, 0.57, 0.70])[np.searchsorted([-0.5, 0.0, 0.5], log_odds)]


def _weak_leak(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return probability(scene.at(skilful(scene, rng, LEAK_SKILL)))


def _decaying(scene: Scene, rng: np.random.Generator) -> FloatArray:
    known, ignorant = (scene.at(skilful(scene, rng, skill)) for skill in (SKILL, 0.0))
    return probability(np.where(np.arange(len(scene)) < len(scene) // 2, known, ignorant))


def _novel_flipped(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return probability(_flip_first(scene, scene.at(skilful(scene, rng, SKILL, herd=0.0))))


def _good(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return probability(scene.at(skilful(scene, rng, SKILL)))


def _weak(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return probability(scene.at(skilful(scene, rng, WEAK_SKILL)))


def _calibrated(scene: Scene, rng: np.random.Generator) -> FloatArray:
    return probability(_CALIBRATED * scene.at(skilful(scene, rng, SKILL)))


GALLERY: Final = (
    Model("frozen", "says 0.6150 always", Kind.ROGUE, _frozen),
    Model("always-buy", "BUY at any time, with changing confidence", Kind.ROGUE, _always_buy),
    Model("always-sell", "SELL at any time, with changing confidence", Kind.ROGUE, _always_sell),
    Model("coin", "a coin flip with random confidence", Kind.ROGUE, _coin),
    Model("copy-ensemble", "the voters' score and a little noise", Kind.ROGUE, _copy_ensemble),
    Model("copy-voter", "one voter's output and a little noise", Kind.ROGUE, _copy_voter),
    Model("overconfident", "no skill, often above 90 % sure", Kind.ROGUE, _overconfident),
    Model("follower", "follows the herd of voters, no skill", Kind.ROGUE, _follower),
    Model("full-leak", "sees the next 12 bars", Kind.ROGUE, _full_leak),
    Model("next-bar-leak", "sees the next bar, before anyone can enter", Kind.ROGUE, _next_bar_leak),
    Model("missing", "the good one, 20 % of its outputs missing", Kind.ROGUE, _missing),
    Model("silent-in-turmoil", "the good one, silent on the 10 % wildest bars", Kind.ROGUE, _silent_in_turmoil),
    Model("flipped", "the good one, sign flipped on one symbol", Kind.ROGUE, _flipped),
    Model("anti", "the good one, sign flipped everywhere", Kind.ROGUE, _anti),
    Model("four-values", "the good one, rounded to four values", Kind.ROGUE, _four_values),
    Model("stale", "its skill is of one bar, and comes one bar late", Kind.ROGUE, _stale),
    Model("swapped", "knows each symbol, names its neighbour", Kind.ROGUE, _swapped),
    Model("label-shifted", "trained on labels a day off: knows yesterday's hour", Kind.ROGUE, _label_shifted),
    Model("smoothed", "random, but smooth over hours", Kind.ROGUE, _smoothed),
    Model("freezing", "the good one, dying into a constant within 800 decisions", Kind.ROGUE, _freezing),
    Model("loud-in-turmoil", "no skill, overconfident in wild markets only", Kind.ROGUE, _loud_in_turmoil),
    Model("per-symbol", "a constant of each symbol's own", Kind.ROGUE, _per_symbol),
    Model("weak-leak", "a leak of 58 % hits", Kind.LIMIT, _weak_leak),
    Model("decaying", "the good one, without any skill from half-way on", Kind.LIMIT, _decaying),
    Model("novel-flipped", "skilful, unlike the voters, flipped on one symbol", Kind.LIMIT, _novel_flipped),
    Model("good", "right in 54.1 % of its decisions", Kind.GOOD, _good),
    Model("weak", "right in 52.5 %: plan for months", Kind.GOOD, _weak),
    Model(
        "calibrated",
        "the good one, its probabilities meaning what they say",
        Kind.GOOD,
        _calibrated,
        _CALIBRATED_MARGIN,
    ),
)
"""Every model, in the order of the tables."""

BY_NAME: Final = {model.name: model for model in GALLERY}

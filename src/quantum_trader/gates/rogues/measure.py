"""One repetition tried: every model of the gallery under the plain rule's three ways of looking, and under the verdict.

The same seed, market and model give the same numbers, whoever else is tried and in whatever order: each model draws
from a generator of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.labels import DELAY
from quantum_trader.gates.judge import judge
from quantum_trader.gates.panel import forward
from quantum_trader.gates.policy import LEGACY, ContractPolicy
from quantum_trader.gates.result import GateState
from quantum_trader.gates.rogues.gallery import Model
from quantum_trader.gates.rogues.market import REAL, SIMULATED, FloatArray, Market
from quantum_trader.gates.rogues.scene import EVENTS, Scene, acted, bars_for
from quantum_trader.gates.trend import bucket_of
from quantum_trader.gates.verdict import Verdict
from quantum_trader.gates.whole_policy import WHOLE, Policy

SYMBOLS: Final = 10
"""Of simulated markets; given prices have theirs."""

FIRST_LOOK: Final = 200
LOOK_EVERY: Final = 25
"""Decisions at the plain rule's first look, and between two looks."""

NEVER: Final = 0


@dataclass(frozen=True, slots=True)
class Result:
    """How one model fared in one repetition.

    Attributes:
        repetition: Its number.
        model: Its name.
        events: Decisions seen when everything first held; NEVER if it never did.
        bars: Bars observed then.
        legacy_once: Whether the plain rule was ready at its one look at the first 200.
        legacy_all: Decisions seen when it was first ready, looking every 25 at all so far; NEVER if it never was.
        legacy_last: The same, looking at the last 200 only.
        settled: BUY and SELL decisions with an outcome.
        hits: Of them right.
        open: What does not pass at the end, by name.
    """

    repetition: int
    model: str
    events: int
    bars: int
    legacy_once: bool
    legacy_all: int
    legacy_last: int
    settled: int
    hits: int
    open: tuple[str, ...]


def scene_of(market: str, repetition: int, seed: int, prices: FloatArray | None = None, events: int = EVENTS) -> Scene:
    """Market, decisions and voters of one repetition.

    Args:
        market: A simulated market's name, or REAL.
        repetition: Its number.
        seed: Of the whole run.
        prices: Log closes of the real market, shape (bars, symbols); a window is drawn from them.
        events: Decisions.

    Raises:
        ValueError: if the market is unknown, or REAL and there are no prices or too few.
    """
    rng = np.random.default_rng([seed, _number(market), repetition])
    if market == REAL:
        if prices is None:
            raise ValueError("the real market needs prices")
        return Scene.of(Market.window(prices, bars_for(prices.shape[1], events), rng), rng, events)
    if market not in SIMULATED:
        raise ValueError(f"market {market!r} is none of {', '.join(SIMULATED)} and {REAL}")
    return Scene.of(SIMULATED[market](rng, bars_for(SYMBOLS, events), SYMBOLS), rng, events)


def measure(
    scene: Scene, models: Iterable[Model], market: str, repetition: int, seed: int, policy: Policy = WHOLE
) -> list[Result]:
    """Every model on one scene; `market`, `repetition` and `seed` are the scene's."""
    results = []
    for model in models:
        p_up, action = outputs(scene, model, market, repetition, seed)
        results.append(tried(scene, p_up, action, policy, model=model.name, repetition=repetition))
    return results


def outputs(scene: Scene, model: Model, market: str, repetition: int, seed: int) -> tuple[FloatArray, NDArray[np.int8]]:
    """One model's p_up (NaN where it gives none) and actions on its scene, both of shape (n,)."""
    rng = np.random.default_rng([seed, _number(market), repetition, _number(model.name)])
    p_up = model.make(scene, rng)
    return p_up, acted(p_up, model.margin)


def tried(
    scene: Scene,
    p_up: FloatArray,
    action: NDArray[np.int8],
    policy: Policy = WHOLE,
    *,
    model: str = "",
    repetition: int = 0,
) -> Result:
    """One model's outputs and actions of shape (n,) on a scene, judged; name and number are only noted."""
    verdict = judge(scene.sample(p_up, action), scene.panel, policy)
    held = verdict.whole.held_at if verdict.whole is not None else None
    looks = PlainLooks.of(p_up, action, scene.ensemble)
    settled, hits = _hits(scene, action)
    return Result(
        repetition=repetition,
        model=model,
        events=NEVER if held is None else int(np.searchsorted(scene.bar, held)),
        bars=NEVER if held is None else held,
        legacy_once=looks.once(),
        legacy_all=looks.first(),
        legacy_last=looks.first(FIRST_LOOK),
        settled=settled,
        hits=hits,
        open=_open(verdict),
    )


def _open(verdict: Verdict) -> tuple[str, ...]:
    contract = () if verdict.contract is GateState.PASS else ("Contract",)
    checks = () if verdict.whole is None else verdict.whole.checks
    return contract + tuple(check.name for check in checks if check.state is not GateState.PASS)


def _hits(scene: Scene, action: NDArray[np.int8]) -> tuple[int, int]:
    moves = forward(scene.panel.log_price, DELAY)[scene.bar, scene.symbol]
    settled = (action != 0) & ~np.isnan(moves)
    return int(settled.sum()), int(((action > 0) == (moves > 0))[settled].sum())


@dataclass(frozen=True, slots=True, eq=False)
class PlainLooks:
    """Running sums over a model's valid rows, from which the plain rule at any look follows.

    Attributes:
        rows: Shape (n + 1,), valid rows among the first k decisions.
        sums: Shape (m + 1, columns), sums over the first m valid rows: the three actions, agreement, confidence, its
            square, then each bucket's rows and agreeing rows.
        policy: Thresholds of the plain rule.
    """

    rows: NDArray[np.int64]
    sums: FloatArray
    policy: ContractPolicy

    @classmethod
    def of(
        cls,
        p_up: FloatArray,
        action: NDArray[np.int8],
        ensemble: NDArray[np.int8],
        policy: ContractPolicy = LEGACY,
    ) -> "PlainLooks":
        """The sums of outputs, actions and decisions of shape (n,)."""
        valid = ~np.isnan(p_up)
        p, action = p_up[valid], action[valid]
        agrees = action == ensemble[valid]
        confidence = np.maximum(p, 1 - p)
        bucket = bucket_of(confidence, policy.bucket_edges)
        inside = [bucket == k for k in range(len(policy.bucket_edges) - 1)]
        columns = [*(action == said for said in (-1, 0, 1)), agrees, confidence - 0.75, np.square(confidence - 0.75)]
        columns += [part for rows in inside for part in (rows, rows & agrees)]
        table = np.column_stack(columns).astype(np.float64)
        return cls(
            np.concatenate([[0], np.cumsum(valid)]),
            np.vstack([np.zeros((1, table.shape[1])), np.cumsum(table, axis=0)]),
            policy,
        )

    def once(self) -> bool:
        """Whether it is ready at one look at the first FIRST_LOOK decisions."""
        return bool(self.ready(np.array([min(FIRST_LOOK, len(self.rows) - 1)]))[0])

    def first(self, last: int | None = None) -> int:
        """Decisions at the first look at which it is ready, NEVER if there is none.

        Args:
            last: Only so many decisions are looked at; all so far if not given.
        """
        looks = np.arange(FIRST_LOOK, len(self.rows), LOOK_EVERY)
        ready = np.flatnonzero(self.ready(looks, None if last is None else looks - last))
        return int(looks[ready[0]]) if len(ready) else NEVER

    def ready(self, upto: NDArray[np.int64], since: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        """The plain rule on decisions `since` (from 0) to `upto` - 1, all of shape (looks,)."""
        start = np.zeros_like(upto) if since is None else since
        total = self.sums[self.rows[upto]] - self.sums[self.rows[start]]
        n = (self.rows[upto] - self.rows[start]).astype(np.float64)
        some, n = n > 0, np.maximum(n, 1.0)
        spread = np.sqrt(np.maximum(total[:, 5] / n - np.square(total[:, 4] / n), 0.0))
        passed = (
            (total[:, :3].max(axis=1) / n <= self.policy.share_max).astype(int)
            + (spread >= self.policy.spread_min)
            + (total[:, 3] / n >= self.policy.agreement_min)
            + _never_drops(total[:, 6::2], total[:, 7::2])
        )
        return np.asarray(some & (passed >= self.policy.passes_needed))


def _never_drops(sizes: FloatArray, agreeing: FloatArray) -> NDArray[np.bool_]:
    """Whether agreement never drops from one filled bucket to the next, shape (looks,), of (looks, buckets)."""
    accuracy = np.where(sizes > 0, agreeing / np.maximum(sizes, 1.0), -np.inf)
    best = np.maximum.accumulate(accuracy, axis=1)
    return np.asarray(((sizes == 0) | (accuracy >= best)).all(axis=1))


def _number(name: str) -> int:
    """A name as a number for seeding."""
    return int.from_bytes(name.encode("ascii"), "big")

"""What if it had voted: recalibrated Brier gain, after-cost difference and flips of each cycle, summed (GATES.md, D).

- Two scores stand against each other: the voters' and the pool of voters and model. Both are recalibrated at each
  cycle's start, from events whose delayed horizon has ended by then; a missing output's event counts with both.
- Gains and differences enter a cycle's sums only for decisions in its first L bars.
- A symbol's regime in a cycle is the tercile of its volatility at the cycle's start among its earlier ones.
- Results do not depend on how the cycles are cut into calls.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.predictions import Action
from quantum_trader.gates.events import Events
from quantum_trader.gates.overlay import running
from quantum_trader.gates.panel import SPAN
from quantum_trader.gates.sample import CYCLE, LOOKBACK
from quantum_trader.gates.tallies import sums
from quantum_trader.gates.whole_policy import DeploymentPolicy

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

REGIMES = ("calm", "usual", "volatile")
"""Terciles of volatility."""

_ROUNDING = 1e-12
"""A single decision's Brier gain below this is none."""

_STAYS = (0, 4, 8)
"""Kinds of flips that are none."""


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """Sums over a cycle's counted decisions, a row per cycle.

    Attributes:
        n: Shape (cycles, symbols), decisions on which the model answered.
        gain: Shape (cycles, symbols), Brier gain.
        gain_squares: Shape (cycles,), of single decisions.
        regime_n: Shape (cycles, regimes).
        regime_gain: Shape (cycles, regimes).
        pnl: Shape (cycles,), after-cost log return of the decisions with its vote less that without.
        pnl_squares: Shape (cycles,), of single decisions.
        flip_pnl: Shape (cycles, 9), the same by kind of flip, 3 (before + 1) + after + 1.
    """

    n: FloatArray
    gain: FloatArray
    gain_squares: FloatArray
    regime_n: FloatArray
    regime_gain: FloatArray
    pnl: FloatArray
    pnl_squares: FloatArray
    flip_pnl: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class FlipCounts:
    """Decisions with and without its vote, a row per cycle, outcomes or not.

    Attributes:
        kinds: Shape (cycles, 9), events by 3 (before + 1) + after + 1.
        consensus_before: Shape (cycles, voters + 2), events by number of agreeing voters.
        consensus_after: The same with its vote.
    """

    kinds: IntArray
    consensus_before: IntArray
    consensus_after: IntArray

    @classmethod
    def of(cls, events: Events, cycle: IntArray, cycles: int) -> Self:
        """Counts of events, each in its cycle, 0 to cycles - 1."""
        standing = events.standing
        seats = standing.present.shape[1] + 2
        return cls(
            kinds=_histogram(cycle, cycles, kind_of(events.sample.ensemble, standing.after), 9),
            consensus_before=_histogram(cycle, cycles, standing.consensus_before, seats),
            consensus_after=_histogram(cycle, cycles, standing.consensus_after, seats),
        )


@dataclass(frozen=True, slots=True)
class FlipSummary:
    """What a vote would have changed, whole cycles only.

    Attributes:
        events: Decisions.
        flipped: Those that would have been another.
        directions: Events by direction, such as "HOLD->BUY"; those that occurred.
        resolved: Decisions whose gain is counted: in the first L bars of a cycle, and with an outcome.
        pnl: After-cost log return of the counted flips, by direction.
        total: Their sum.
        se: Its standard error, clustered by cycle.
        consensus_before: Events by number of agreeing voters, from 0.
        consensus_after: The same with its vote.
    """

    events: int
    flipped: int
    directions: dict[str, int]
    resolved: int
    pnl: dict[str, float]
    total: float
    se: float
    consensus_before: tuple[int, ...]
    consensus_after: tuple[int, ...]

    @classmethod
    def of(cls, flips: FlipCounts, gains: Gains) -> Self:
        """The summary of all complete cycles."""
        kinds, pnl = flips.kinds.sum(axis=0), np.cumsum(gains.flip_pnl, axis=0)[-1]
        named = {
            f"{Action(kind // 3 - 1).name}->{Action(kind % 3 - 1).name}": kind
            for kind in range(9)
            if kind not in _STAYS and kinds[kind]
        }
        return cls(
            events=int(kinds.sum()),
            flipped=int(sum(kinds[kind] for kind in named.values())),
            directions={name: int(kinds[kind]) for name, kind in named.items()},
            resolved=int(gains.n.sum()),
            pnl={name: float(pnl[kind]) for name, kind in named.items()},
            total=float(np.cumsum(gains.pnl)[-1]),
            se=float(np.sqrt(np.cumsum(np.square(gains.pnl))[-1])),
            consensus_before=tuple(flips.consensus_before.sum(axis=0).tolist()),
            consensus_after=tuple(flips.consensus_after.sum(axis=0).tolist()),
        )


def kind_of(before: NDArray[np.int8], after: NDArray[np.int8]) -> IntArray:
    """3 (before + 1) + after + 1: 0, 4 and 8 are decisions that stay as they are."""
    return 3 * (before.astype(np.int64) + 1) + after + 1


def pnl_difference(before: FloatArray, after: FloatArray, move: FloatArray, cost: float) -> FloatArray:
    """(a' - a) R - cost (|a'| - |a|), per event, as a log return."""
    return np.asarray((after - before) * move - cost * (np.abs(after) - np.abs(before)))


def brier_gain(before: FloatArray, after: FloatArray, rose: FloatArray) -> FloatArray:
    """Squared error of the probability without the model less that with it, per event."""
    return np.asarray(np.square(before - rose) - np.square(after - rose))


class Counterfactual:
    """Gains of one model, continued from call to call."""

    def __init__(self, symbols: int, policy: DeploymentPolicy) -> None:
        """A start without a past.

        Args:
            symbols: Symbols.
            policy: Section D.
        """
        self._symbols: Final = symbols
        self._policy: Final = policy
        # n and sum of y - 1/2; of each score: sums of u, u^2, u (y - 1/2).
        self._moments = np.zeros(8)
        self._earlier: Final[list[list[float]]] = [[] for _ in range(symbols)]

    def extend(self, events: Events, sigma: FloatArray, start: int) -> Gains:
        """Gains of the next cycles.

        Args:
            events: Those resolved since the last call, all with an outcome: of bars start - SPAN to the last cycle's
                end - SPAN - 1.
            sigma: Shape (cycles, symbols), volatility at each cycle's start; NaN where it is not known.
            start: First bar of the first of these cycles.
        """
        cycles = len(sigma)
        slopes, intercepts = self._recalibrations(events, start, cycles)
        counted = events.take((events.sample.bar >= start) & (events.sample.bar % CYCLE < LOOKBACK))
        sample = counted.sample
        cycle, symbol, rose = sample.cycle - start // CYCLE, sample.symbol, sample.outcome.astype(np.float64)
        low, high = self._policy.prediction_min, 1.0 - self._policy.prediction_min
        sides = [
            np.clip(0.5 + intercepts[cycle, side] + slopes[cycle, side] * score, low, high)
            for side, score in enumerate((counted.scores.ensemble, counted.scores.pooled))
        ]
        gain = brier_gain(sides[0], sides[1], rose)
        # Two equal predictions from different scores differ by rounding, which must not add up to a gain.
        gain = np.where(np.abs(gain) < _ROUNDING, 0.0, gain)
        before, after = sample.ensemble, counted.standing.after
        pnl = pnl_difference(before.astype(float), after.astype(float), sample.forward, self._policy.cost)
        regime = self._regimes(sigma)[cycle, symbol]
        ranked, terciles = regime >= 0, len(REGIMES)
        # Without an answer nothing is known of the model, though the two recalibrations may differ there.
        answered = sample.valid.astype(np.float64)
        cell, flip = cycle * self._symbols + symbol, cycle * 9 + kind_of(before, after)
        tercile = (cycle * terciles + regime)[ranked]
        return Gains(
            n=sums(cell, cycles * self._symbols, answered).reshape(cycles, self._symbols),
            gain=sums(cell, cycles * self._symbols, gain).reshape(cycles, self._symbols),
            gain_squares=sums(cycle, cycles, np.square(gain)),
            regime_n=sums(tercile, cycles * terciles, answered[ranked]).reshape(cycles, terciles),
            regime_gain=sums(tercile, cycles * terciles, gain[ranked]).reshape(cycles, terciles),
            pnl=sums(cycle, cycles, pnl),
            pnl_squares=sums(cycle, cycles, np.square(pnl)),
            flip_pnl=sums(flip, cycles * 9, pnl).reshape(cycles, 9),
        )

    def _recalibrations(self, events: Events, start: int, cycles: int) -> tuple[FloatArray, FloatArray]:
        """Slopes and intercepts at each cycle's start, both of shape (cycles, 2): without the model and with it."""
        first, bars = start - SPAN, cycles * CYCLE
        at, half = events.sample.bar - first, events.sample.outcome.astype(np.float64) - 0.5
        columns: list[FloatArray | None] = [None, half]
        for score in (events.scores.ensemble, events.scores.pooled):
            columns += [score, score * score, score * half]
        totals = running(self._moments, np.stack([sums(at, bars, column) for column in columns], axis=1))
        self._moments = totals[-1].copy()
        # At bar c events up to bar c - SPAN have ended; that is the first bar here, and every cycle's bars after it.
        then = totals[1 : bars + 1 : CYCLE]
        n, half_sum = then[:, 0], then[:, 1]
        ridge = self._policy.recalibration_ridge
        enough = n >= self._policy.recalibration_events
        slopes, intercepts = np.zeros((cycles, 2)), np.zeros((cycles, 2))
        for side in range(2):
            u, uu, uh = (then[:, 2 + 3 * side + k] / np.maximum(n, 1.0) for k in range(3))
            variance = uu - u * u
            varies = enough & (variance > 1e-12 * uu)
            covariance = (uh * n - u * half_sum) / (n + ridge + (n == 0))
            slope = np.maximum(0.0, np.where(varies, covariance, 0.0) / np.where(varies, variance, 1.0))
            slopes[:, side] = slope
            intercepts[:, side] = np.where(enough, half_sum / np.maximum(n + ridge, 1.0) - slope * u, 0.0)
        return slopes, intercepts

    def _regimes(self, sigma: FloatArray) -> IntArray:
        """Index into REGIMES, shape (cycles, symbols); -1 where there is too little to rank among."""
        out = np.full(sigma.shape, -1, np.int64)
        for symbol, earlier in enumerate(self._earlier):
            for cycle, value in enumerate(sigma[:, symbol].tolist()):
                # NaN is not known.
                if value != value:
                    continue
                if len(earlier) >= self._policy.regime_cycles:
                    out[cycle, symbol] = min(len(REGIMES) * bisect_left(earlier, value) // len(earlier), 2)
                insort(earlier, value)
        return out


def _histogram(group: IntArray, groups: int, value: IntArray, values: int) -> IntArray:
    return np.bincount(group * values + value, minlength=groups * values).reshape(groups, values)

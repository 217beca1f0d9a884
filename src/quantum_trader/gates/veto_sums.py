"""What the vetoes need of each cycle, summed: repetition, spread over symbols, correlations, early and late hits."""

from collections import Counter
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from quantum_trader.gates.events import Events
from quantum_trader.gates.tallies import sums
from quantum_trader.gates.whole_policy import VetoPolicy

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

GRID = 10_000
"""Outputs closer than one part of this are the same value."""


@dataclass(frozen=True, slots=True, eq=False)
class Repeats:
    """How a model repeats itself, a row per cycle, as seen at its end.

    Attributes:
        distinct: Values among the recent outputs, rounded to 1e-4.
        top_share: Share of the commonest of them; NaN where there is no output yet.
        streak: Longest run of one value on one symbol that reached into this cycle; 0 for none.
    """

    distinct: IntArray
    top_share: FloatArray
    streak: IntArray


class Repetition:
    """Counts repeats, continued from call to call."""

    def __init__(self, symbols: int, policy: VetoPolicy) -> None:
        """A start without a past.

        Args:
            symbols: Symbols.
            policy: How far the recent outputs reach.
        """
        self._recent: Final = policy.recent_events
        self._tail = np.empty(0, np.int64)
        # -1 is no rounded probability.
        self._last = np.full(symbols, -1, np.int64)
        self._run = np.zeros(symbols, np.int64)

    def extend(self, p: FloatArray, symbol: IntArray, cycle: IntArray, cycles: int) -> Repeats:
        """Repeats at the end of each of the next cycles, from all their valid outputs in time order.

        Args:
            p: Shape (n,), outputs, none missing.
            symbol: Shape (n,).
            cycle: Shape (n,), 0 to cycles - 1.
            cycles: Cycles.
        """
        value = np.rint(p * GRID).astype(np.int64)
        streak = np.zeros(cycles, np.int64)
        np.maximum.at(streak, cycle, self._runs(value, symbol))
        line = np.concatenate([self._tail, value])
        ends = len(self._tail) + np.searchsorted(cycle, np.arange(cycles), side="right")
        distinct, top = np.zeros(cycles, np.int64), np.full(cycles, np.nan)
        for k, end in enumerate(ends.tolist()):
            seen = line[max(0, end - self._recent) : end].tolist()
            if seen:
                counts = Counter(seen)
                distinct[k], top[k] = len(counts), max(counts.values()) / len(seen)
        self._tail = line[-self._recent :].copy()
        return Repeats(distinct, top, streak)

    def _runs(self, value: IntArray, symbol: IntArray) -> IntArray:
        """Length of the run that each output ends, shape (n,)."""
        if not len(value):
            return np.empty(0, np.int64)
        order = np.argsort(symbol, kind="stable")
        v, owner = value[order], symbol[order]
        place = np.arange(len(v))
        new_owner = np.concatenate([[True], owner[1:] != owner[:-1]])
        starts = new_owner | np.concatenate([[True], v[1:] != v[:-1]])
        began = np.maximum.accumulate(np.where(starts, place, 0))
        length = place - began + 1
        # A symbol's first run may go on from the call before.
        goes_on = new_owner[began] & (v == self._last[owner])
        length = np.where(goes_on, length + self._run[owner], length)
        last = np.concatenate([new_owner[1:], [True]])
        self._last[owner[last]], self._run[owner[last]] = v[last], length[last]
        out = np.empty(len(v), np.int64)
        out[order] = length
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums of outputs and scores of valid events, a row per cycle.

    Attributes:
        p: Shape (cycles, symbols, 3), sums of (p - 1/2)^0 to ^2.
        lowest: Shape (cycles,), smallest p; infinite where there is none.
        highest: Shape (cycles,), largest; minus infinite where there is none.
        score: Shape (cycles, symbols, 6), for the ensemble's score b: n, s, b, s^2, b^2, s b.
        voters: Shape (cycles, voters, 6), the same for each voter, over events where it voted.
    """

    p: FloatArray
    lowest: FloatArray
    highest: FloatArray
    score: FloatArray
    voters: FloatArray

    @classmethod
    def of(cls, said: Events, cycle: IntArray, cycles: int, symbols: int) -> Self:
        """Sums of events that all have an output, each in its cycle, 0 to cycles - 1."""
        p, symbol, scores, present = said.sample.p_up, said.sample.symbol, said.scores, said.standing.present
        cell, cells = cycle * symbols + symbol, cycles * symbols
        x = p - 0.5
        spread = [sums(cell, cells), sums(cell, cells, x), sums(cell, cells, x * x)]
        lowest, highest = np.full(cycles, np.inf), np.full(cycles, -np.inf)
        np.minimum.at(lowest, cycle, p)
        np.maximum.at(highest, cycle, p)
        voters = []
        for voter in range(present.shape[1]):
            voted = present[:, voter]
            voters.append(_pairs(scores.own[voted], scores.voters[voted, voter], cycle[voted], cycles))
        return cls(
            p=np.stack(spread, axis=1).reshape(cycles, symbols, 3),
            lowest=lowest,
            highest=highest,
            score=_pairs(scores.own, scores.ensemble, cell, cells).reshape(cycles, symbols, 6),
            voters=np.stack(voters, axis=1),
        )


def _pairs(x: FloatArray, y: FloatArray, group: IntArray, groups: int) -> FloatArray:
    """Sums n, x, y, x^2, y^2, x y per group, shape (groups, 6)."""
    columns = [None, x, y, x * x, y * y, x * y]
    return np.stack([sums(group, groups, column) for column in columns], axis=1)


def correlations(pairs: FloatArray) -> FloatArray:
    """Pearson correlation from sums n, x, y, x^2, y^2, x y in the last axis; 0 where a variance is zero."""
    n, x, y, xx, yy, xy = np.moveaxis(pairs, -1, 0)
    n = np.maximum(n, 1.0)
    vx, vy = xx / n - np.square(x / n), yy / n - np.square(y / n)
    # A variance this small beside its square mean is what rounding left of none.
    varies = (vx > 1e-12 * xx / n) & (vy > 1e-12 * yy / n)
    root = np.sqrt(np.where(varies, vx * vy, 1.0))
    return np.asarray(np.where(varies, np.clip((xy / n - x * y / n / n) / root, -1.0, 1.0), 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """BUYs and SELLs with an outcome, a row per part of a cycle (early and late, in turn).

    Attributes:
        n: Events.
        delayed: Hits on the delayed horizon.
        undelayed: Hits on the horizon that starts at the decision.
    """

    n: IntArray
    delayed: IntArray
    undelayed: IntArray

    @classmethod
    def of(cls, delayed: BoolArray, undelayed: BoolArray, part: IntArray, parts: int) -> Self:
        """Counts of settled events, each in its part, 0 to parts - 1."""
        return cls(
            n=np.bincount(part, minlength=parts),
            delayed=np.bincount(part[delayed], minlength=parts),
            undelayed=np.bincount(part[undelayed], minlength=parts),
        )

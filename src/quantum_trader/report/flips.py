"""The counterfactual: which decisions would another vote have flipped, and what would they have earned?

- In a report the voters' answers, weights and quorum are the recorded ones, and the shadow votes too, at the weight it
  would get. `quantum counterfactual` changes any of them (see `revote`).
- A flip earns (a' - a) R - cost (|a'| - |a|): R the delayed log return, cost per unit of turnover (GATES.md,
  "Exact forms"). Every decision is held for its horizon by itself, so the sum is no account's equity.
- It covers every decision of the window; the verdict's own lines (section D) read complete cycles only.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.labels import DELAY, HORIZON
from quantum_trader.core.predictions import Action
from quantum_trader.gates import clustered
from quantum_trader.gates.clustered import Estimate
from quantum_trader.gates.counterfactual import kind_of, pnl_difference
from quantum_trader.report.frame import Frame
from quantum_trader.report.revote import Ballot, vote_again

COST = 0.0002
"""Of one unit of turnover, as a fraction (GATES.md, "Exact forms")."""

POINTS = 400
"""A curve has at most this many points; a longer one is thinned, keeping the extremes between its points."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Direction:
    """Flips from one action to another.

    Attributes:
        before: The decision as it was.
        after: As it would have been.
        count: How many.
        settled: How many of them have an outcome.
        pnl: Their log return after cost, summed.
        se: Its standard error, the root of the sum of squares of the cycles' sums.
    """

    before: str
    after: str
    count: int
    settled: int
    pnl: float
    se: float


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A cumulative sum over time, each array of shape (k,).

    Attributes:
        ts: Milliseconds since the epoch at which the point was reached.
        value: The sum there.
        low: Smallest sum since the point before.
        high: Largest sum since the point before.
        per_point: Steps that one point stands for.
    """

    ts: IntArray
    value: FloatArray
    low: FloatArray
    high: FloatArray
    per_point: int


@dataclass(frozen=True, slots=True, eq=False)
class Flips:
    """What other rules of the vote would have changed.

    Attributes:
        weight: The weight at which a shadow voted; NaN where the rules changed otherwise.
        cost: Per unit of turnover.
        decisions: Decisions that were voted on again.
        flipped: Decisions that would have been another action.
        settled: Flips with a known outcome.
        directions: Flips by direction, the commonest first.
        total: Log return of the settled flips after cost, summed.
        total_se: Its standard error, the root of the sum of squares of the cycles' sums (GATES.md, D).
        per_flip: Its mean with a standard error clustered by cycle.
        matrix: Shape (3, 3), decisions by the action before (SELL, HOLD, BUY) and after.
        consensus: For each number of agreeing voters, BUY and SELL decisions before and after.
        curve: Cumulative log return after cost; no points where nothing settled.
    """

    weight: float
    cost: float
    decisions: int
    flipped: int
    settled: int
    directions: tuple[Direction, ...]
    total: float
    total_se: float
    per_flip: Estimate
    matrix: IntArray
    consensus: tuple[tuple[int, int, int], ...]
    curve: Curve


def counterfactual(frame: Frame, judged: str, weight: float, cost: float = COST) -> Flips | None:
    """Vote again with the judged model at `weight`; None where it never was a shadow."""
    rows = np.flatnonzero(frame.models[judged].shadow)
    if not len(rows):
        return None
    return compare(frame, Ballot({judged: weight}), cost, rows=rows, weight=weight)


def compare(
    frame: Frame, ballot: Ballot, cost: float = COST, *, rows: IntArray | None = None, weight: float = math.nan
) -> Flips:
    """The recorded decisions against a vote under other rules.

    Args:
        frame: Decisions.
        ballot: The other rules.
        cost: Per unit of turnover.
        rows: Index of the decisions to vote on again; all of them if not given.
        weight: To be told in the result.

    Raises:
        ConfigError: if the ballot names a model that took no part.
    """
    at = np.arange(len(frame)) if rows is None else rows
    votes = vote_again(frame, ballot, at)
    before, after, cycle = frame.action[at], votes.actions, frame.cycle[at]
    flipped = after != before
    pnl = pnl_difference(before.astype(float), after.astype(float), frame.forward[at], cost)
    settled = flipped & ~np.isnan(pnl)
    # A flip's money is there when its horizon has ended, not when it was decided.
    ts = frame.ts_open[at] + frame.interval * (1 + DELAY + HORIZON)
    return Flips(
        weight=weight,
        cost=cost,
        decisions=len(at),
        flipped=int(flipped.sum()),
        settled=int(settled.sum()),
        directions=_directions(before, after, pnl, cycle),
        total=float(pnl[settled].sum()),
        total_se=_sum_se(pnl[settled], cycle[settled]),
        per_flip=clustered.mean(pnl[settled], cycle[settled]),
        matrix=np.bincount(kind_of(before, after), minlength=9).reshape(3, 3),
        consensus=_consensus(before, frame.consensus[at], after, votes.consensus),
        curve=thinned(ts[settled], np.cumsum(pnl[settled])),
    )


def _sum_se(values: FloatArray, cycle: IntArray) -> float:
    code, cycles = clustered.codes(cycle)
    return float(np.sqrt(np.square(np.bincount(code, values, minlength=cycles)).sum())) if len(values) else math.nan


def thinned(ts: IntArray, value: FloatArray, points: int = POINTS) -> Curve:
    """A curve of at most `points` points, each the last of its group with the group's extremes."""
    n = len(ts)
    if not n:
        return Curve(ts, value, value, value, 1)
    size = -(-n // points)
    starts = np.arange(0, n, size)
    ends = np.minimum(starts + size, n) - 1
    return Curve(
        ts[ends], value[ends], np.minimum.reduceat(value, starts), np.maximum.reduceat(value, starts), per_point=size
    )


def _directions(
    before: NDArray[np.int8], after: NDArray[np.int8], pnl: FloatArray, cycle: IntArray
) -> tuple[Direction, ...]:
    found = []
    for a in Action:
        for b in Action:
            at = (before == a) & (after == b)
            if a != b and at.any():
                known = at & ~np.isnan(pnl)
                money, se = float(pnl[known].sum()), _sum_se(pnl[known], cycle[known])
                found.append(Direction(a.name, b.name, int(at.sum()), int(known.sum()), money, se))
    return tuple(sorted(found, key=lambda d: -d.count))


def _consensus(
    before: NDArray[np.int8], agreed: IntArray, after: NDArray[np.int8], agree: IntArray
) -> tuple[tuple[int, int, int], ...]:
    without = np.bincount(agreed[before != 0], minlength=1)
    with_ = np.bincount(agree[after != 0], minlength=1)
    size = max(len(without), len(with_))
    without, with_ = (np.pad(counts, (0, size - len(counts))) for counts in (without, with_))
    return tuple((k, int(without[k]), int(with_[k])) for k in range(size) if without[k] or with_[k])

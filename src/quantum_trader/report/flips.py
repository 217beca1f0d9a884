"""The counterfactual re-vote: which decisions would the shadow's vote have flipped, and what would they have earned?

- The voters' answers, weights and quorum are the recorded ones; the shadow votes too, at the weight it would get.
- A flip earns (a' - a) R - cost (|a'| - |a|): R the delayed log return, cost per unit of turnover (GATES.md,
  "Exact forms"). Every decision is held for its horizon by itself, so the sum is no account's equity.
- It is no part of the contract's verdict.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.labels import DELAY, HORIZON
from quantum_trader.core.predictions import Action
from quantum_trader.core.vote import vote
from quantum_trader.gates import clustered
from quantum_trader.gates.clustered import Estimate
from quantum_trader.report.frame import Frame

COST = 0.0002
"""Of one unit of turnover, as a fraction (GATES.md, "Exact forms")."""

POINTS = 400
"""A curve has at most this many points; a longer one is thinned, keeping the extremes between its points."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Direction:
    """Flips from one action to another: how many, how many with an outcome, and their log return after cost."""

    before: str
    after: str
    count: int
    settled: int
    pnl: float


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
    """What the shadow's vote would have changed.

    Attributes:
        weight: The weight it voted at.
        cost: Per unit of turnover.
        decisions: Decisions that it watched.
        flipped: Decisions that would have been another action.
        settled: Flips with a known outcome.
        directions: Flips by direction, the commonest first.
        total: Log return of the settled flips after cost, summed.
        per_flip: Its mean with a standard error clustered by cycle.
        consensus: For each number of agreeing voters, BUY and SELL decisions without and with the shadow's vote.
        curve: Cumulative log return after cost; no points where nothing settled.
    """

    weight: float
    cost: float
    decisions: int
    flipped: int
    settled: int
    directions: tuple[Direction, ...]
    total: float
    per_flip: Estimate
    consensus: tuple[tuple[int, int, int], ...]
    curve: Curve


def counterfactual(frame: Frame, judged: str, weight: float, cost: float = COST) -> Flips | None:
    """Vote again with the judged model at `weight`; None where it never was a shadow."""
    rows = np.flatnonzero(frame.models[judged].shadow)
    if not len(rows):
        return None
    after, consensus = _vote_again(frame, judged, weight, rows)
    before = frame.action[rows]
    flipped = after != before
    pnl = (after.astype(float) - before) * frame.forward[rows] - cost * (np.abs(after).astype(float) - np.abs(before))
    settled = flipped & ~np.isnan(pnl)
    # A flip's money is there when its horizon has ended, not when it was decided.
    ts = frame.ts_open[rows] + frame.interval * (1 + DELAY + HORIZON)
    return Flips(
        weight=weight,
        cost=cost,
        decisions=len(rows),
        flipped=int(flipped.sum()),
        settled=int(settled.sum()),
        directions=_directions(before, after, pnl),
        total=float(pnl[settled].sum()),
        per_flip=clustered.mean(pnl[settled], frame.cycle[rows][settled]),
        consensus=_consensus(before, frame.consensus[rows], after, consensus),
        curve=thinned(ts[settled], np.cumsum(pnl[settled])),
    )


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


def _vote_again(frame: Frame, judged: str, weight: float, rows: IntArray) -> tuple[NDArray[np.int8], IntArray]:
    """Actions and consensus with the judged model among the voters, each of shape (rows,)."""
    names = list(frame.models)
    columns = [frame.models[name] for name in names]
    actions = np.stack([c.action[rows] for c in columns], axis=1)
    sure = np.stack([np.nan_to_num(c.confidence[rows]) for c in columns], axis=1)
    votes = [c.valid & (c.voter if name != judged else True) for name, c in zip(names, columns, strict=True)]
    present = np.stack([v[rows] for v in votes], axis=1)
    weights = np.stack([c.weight[rows] for c in columns], axis=1)
    weights[:, names.index(judged)] = weight
    # Who does not vote weighs nothing; vote() wants a positive number all the same.
    weights = np.where(np.isnan(weights), 1.0, weights)
    quorum = frame.min_consensus[rows]
    kinds, kind = np.unique(np.column_stack([weights, quorum]), axis=0, return_inverse=True)
    out, consensus = np.zeros(len(rows), np.int8), np.zeros(len(rows), np.int64)
    for k, values in enumerate(kinds):
        at = kind.ravel() == k
        result = vote(actions[at], sure[at], present[at], values[:-1].copy(), int(values[-1]))
        out[at], consensus[at] = result.actions, result.consensus
    return out, consensus


def _directions(before: NDArray[np.int8], after: NDArray[np.int8], pnl: FloatArray) -> tuple[Direction, ...]:
    found = []
    for a in Action:
        for b in Action:
            at = (before == a) & (after == b)
            if a != b and at.any():
                known = at & ~np.isnan(pnl)
                found.append(Direction(a.name, b.name, int(at.sum()), int(known.sum()), float(pnl[known].sum())))
    return tuple(sorted(found, key=lambda d: -d.count))


def _consensus(
    before: NDArray[np.int8], agreed: IntArray, after: NDArray[np.int8], agree: IntArray
) -> tuple[tuple[int, int, int], ...]:
    without = np.bincount(agreed[before != 0], minlength=1)
    with_ = np.bincount(agree[after != 0], minlength=1)
    size = max(len(without), len(with_))
    without, with_ = (np.pad(counts, (0, size - len(counts))) for counts in (without, with_))
    return tuple((k, int(without[k]), int(with_[k])) for k in range(size) if without[k] or with_[k])

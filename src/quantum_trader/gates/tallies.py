"""What the contract needs of each cycle, summed: its gates read these sums, and no event twice."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.predictions import Action
from quantum_trader.gates.policy import LEGACY
from quantum_trader.gates.sample import Sample
from quantum_trader.gates.trend import bucket_of

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

CENTRE = 0.75
"""Confidences are summed from here: the middle of their range, so that sums of powers lose no digits."""

T = TypeVar("T")


def stacked(parts: Sequence[T]) -> T:
    """Groups of arrays of one kind, their rows one after the other."""
    first: Any = parts[0]
    columns = {item.name: np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(first)}
    return type(parts[0])(**columns)


def sums(group: IntArray, groups: int, values: FloatArray | None = None) -> FloatArray:
    """Sum of values, or number of events, per group, shape (groups,); added in the order of events."""
    return np.bincount(group, values, groups).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What a model said, a row per cycle; shape (cycles,) where not stated.

    Attributes:
        rows: Events, missing outputs included.
        valid: Events with an output.
        actions: Shape (cycles, 3), SELL, HOLD and BUY among them.
        agreeing: Those with the ensemble's action.
        confidence: Shape (cycles, 5), sums of (confidence - CENTRE)^0 to ^4.
        lowest: Smallest confidence; infinite where there is none.
        highest: Largest; minus infinite where there is none.
        plain_n: Shape (cycles, buckets), those in each bucket of the plain rule.
        plain_agreeing: Shape (cycles, buckets), those among them with the ensemble's action.
    """

    rows: IntArray
    valid: IntArray
    actions: IntArray
    agreeing: IntArray
    confidence: FloatArray
    lowest: FloatArray
    highest: FloatArray
    plain_n: IntArray
    plain_agreeing: IntArray

    @classmethod
    def of(cls, events: Sample, cycle: IntArray, cycles: int) -> Self:
        """Sums of events, each in its cycle, 0 to cycles - 1."""
        said = events.take(events.valid)
        group = cycle[events.valid]
        agrees = said.action == said.ensemble
        plain_n, plain_agreeing = _bucketed(group, cycles, said.confidence, agrees, LEGACY.bucket_edges)
        return cls(
            rows=np.bincount(cycle, minlength=cycles),
            valid=np.bincount(group, minlength=cycles),
            actions=np.stack([np.bincount(group[said.action == a], minlength=cycles) for a in Action], axis=1),
            agreeing=np.bincount(group[agrees], minlength=cycles),
            confidence=_powers(group, cycles, said.confidence, 4),
            lowest=_extreme(np.minimum, group, cycles, said.confidence),
            highest=_extreme(np.maximum, group, cycles, said.confidence),
            plain_n=plain_n,
            plain_agreeing=plain_agreeing,
        )

    def upto(self, cycles: int) -> Self:
        """The first so many cycles."""
        return replace(self, **{item.name: getattr(self, item.name)[:cycles] for item in fields(self)})

    @property
    def constant(self) -> bool:
        """Whether all confidences are the same."""
        return bool(self.lowest.min(initial=np.inf) == self.highest.max(initial=-np.inf))


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """How a model's BUYs and SELLs turned out, by confidence, a row per cycle (or part of one).

    Attributes:
        powers: Shape (cycles, 5), sums of (confidence - CENTRE)^0 to ^4 of those that lie in a bucket.
        hits: Shape (cycles, 4), sums of (confidence - CENTRE)^0 to ^3 of their hits.
        bucket_n: Shape (cycles, buckets), events.
        bucket_hits: Shape (cycles, buckets), hits.
        lowest: Shape (cycles,), smallest confidence among them; infinite where there is none.
        highest: Shape (cycles,), largest; minus infinite where there is none.
    """

    powers: FloatArray
    hits: FloatArray
    bucket_n: IntArray
    bucket_hits: IntArray
    lowest: FloatArray
    highest: FloatArray

    @classmethod
    def of(cls, settled: Sample, group: IntArray, groups: int, edges: tuple[float, ...]) -> Self:
        """Sums of events that are all settled, each in its group, 0 to groups - 1."""
        inside = bucket_of(settled.confidence, edges) >= 0
        group, hit, c = group[inside], settled.hit[inside], settled.confidence[inside]
        bucket_n, bucket_hits = _bucketed(group, groups, c, hit, edges)
        return cls(
            powers=_powers(group, groups, c, 4),
            hits=_powers(group[hit], groups, c[hit], 3),
            bucket_n=bucket_n,
            bucket_hits=bucket_hits,
            lowest=_extreme(np.minimum, group, groups, c),
            highest=_extreme(np.maximum, group, groups, c),
        )

    def cycles_at(self, cycle: int) -> Self:
        """Rows per cycle from rows per part (early and late, in turn), as known at the end of a cycle.

        The cycle's own late part is not known then; shape (cycle + 1, ...).
        """
        known = 2 * cycle + 1
        merged: dict[str, Any] = {}
        for item in fields(self):
            parts = getattr(self, item.name)[:known]
            late = parts[1::2]
            early = parts[0::2].copy()
            if item.name in ("lowest", "highest"):
                pick = np.minimum if item.name == "lowest" else np.maximum
                early[: len(late)] = pick(early[: len(late)], late)
            else:
                early[: len(late)] += late
            merged[item.name] = early
        return replace(self, **merged)

    @property
    def constant(self) -> bool:
        """Whether all confidences are the same."""
        return bool(self.lowest.min(initial=np.inf) == self.highest.max(initial=-np.inf))


def _bucketed(
    group: IntArray, groups: int, confidence: FloatArray, hit: BoolArray, edges: tuple[float, ...]
) -> tuple[IntArray, IntArray]:
    """Events and hits per group and confidence bucket, both of shape (groups, buckets)."""
    buckets, bucket = len(edges) - 1, bucket_of(confidence, edges)
    cell, size = group * buckets + bucket, groups * buckets
    n = np.bincount(cell[bucket >= 0], minlength=size).reshape(groups, buckets)
    return n, np.bincount(cell[(bucket >= 0) & hit], minlength=size).reshape(groups, buckets)


def _powers(group: IntArray, groups: int, confidence: FloatArray, highest: int) -> FloatArray:
    x = confidence - CENTRE
    columns, power = [sums(group, groups)], np.ones(len(x))
    for _ in range(highest):
        power = power * x
        columns.append(sums(group, groups, power))
    return np.stack(columns, axis=1)


def _extreme(pick: np.ufunc, group: IntArray, groups: int, values: FloatArray) -> FloatArray:
    out = np.full(groups, np.inf if pick is np.minimum else -np.inf)
    pick.at(out, group, values)
    return out

"""Events of one judged model as arrays: what every gate reads, in one canonical order.

Rules of a sample (a breach is a *fault*: the verdict is INVALID, and no gate passes):

- an event is one (bar, symbol); none occurs twice, none lies outside the observed bars;
- p_up is NaN (the output is missing) or within [0, 1]; a missing output's action and confidence are not read;
- actions are -1, 0 or 1, a confidence is within [0, 1];
- an outcome is 1 exactly where the forward return is known and > 0.

A cycle is C = L + H + D = 49 bars, counted from bar 0 (GATES.md, Notation); decisions happen at cycle ends only.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantum_trader.core.errors import QuantumError
from quantum_trader.core.labels import DELAY, HORIZON, UNKNOWN
from quantum_trader.core.predictions import valid as is_probability

LOOKBACK = 36
"""L, bars of a cycle whose decisions count; the H + D bars after them are its embargo."""

CYCLE = LOOKBACK + HORIZON + DELAY
"""C, bars of one cycle: outcomes of different cycles' first L bars do not overlap."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class SampleError(QuantumError):
    """Arrays that cannot be a sample: lengths differ, or a value is of the wrong kind."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Events of one model, sorted by bar and symbol; build it with `of`.

    Attributes:
        bar: Shape (n,), bars since the observation began, from 0.
        symbol: Shape (n,), index of the symbol.
        p_up: Shape (n,), probability of a rise; NaN where the output is missing.
        action: Shape (n,), -1 SELL, 0 HOLD, 1 BUY; 0 where missing.
        confidence: Shape (n,), as the model stated it; NaN where missing.
        ensemble: Shape (n,), the voters' decision, -1, 0 or 1.
        outcome: Shape (n,), 1 or 0 on the delayed horizon, UNKNOWN (-1) where it has not happened.
        forward: Shape (n,), log return over the delayed horizon; NaN where unknown.
        bars: Bars observed so far; events lie in bars 0 to bars - 1.
    """

    bar: IntArray
    symbol: IntArray
    p_up: FloatArray
    action: NDArray[np.int8]
    confidence: FloatArray
    ensemble: NDArray[np.int8]
    outcome: NDArray[np.int8]
    forward: FloatArray
    bars: int

    @classmethod
    def of(
        cls,
        bar: ArrayLike,
        symbol: ArrayLike,
        p_up: ArrayLike,
        action: ArrayLike,
        ensemble: ArrayLike,
        *,
        confidence: ArrayLike | None = None,
        outcome: ArrayLike | None = None,
        forward: ArrayLike | None = None,
        bars: int | None = None,
    ) -> Self:
        """A sample from plain arrays of one length, in any order.

        Args:
            bar: Bars since the observation began.
            symbol: Index of the symbol.
            p_up: NaN where the model gave no valid answer in time.
            action: The model's; anything (NaN too) where p_up is NaN.
            ensemble: The voters' decision at the same event.
            confidence: max(p, 1 - p) if not given.
            outcome: 1, 0, and UNKNOWN or NaN; from `forward` if not given; unknown if neither is given.
            forward: Log returns over the delayed horizon; NaN where unknown.
            bars: Bars observed so far; up to the last event if not given.

        Raises:
            SampleError: if lengths differ or an index, an action or an outcome is no whole number.
        """
        p = _floats("p_up", p_up)
        present = ~np.isnan(p)
        bar_ = _integers("bar", bar)
        stated = np.maximum(p, 1.0 - p) if confidence is None else _floats("confidence", confidence)
        moves = np.full(len(p), np.nan) if forward is None else _floats("forward", forward)
        happened = np.where(np.isnan(moves), UNKNOWN, moves > 0) if outcome is None else _floats("outcome", outcome)
        columns: dict[str, Any] = {
            "bar": bar_,
            "symbol": _integers("symbol", symbol),
            "p_up": p,
            "action": _small("action", _filled(_floats("action", action), present, 0.0)),
            "confidence": _filled(stated, present, np.nan),
            "ensemble": _small("ensemble", _floats("ensemble", ensemble)),
            "outcome": _small("outcome", np.where(np.isnan(happened), UNKNOWN, happened)),
            "forward": moves,
        }
        wrong = {name: len(column) for name, column in columns.items() if len(column) != len(p)}
        if wrong:
            raise SampleError(f"sample: lengths differ, p_up has {len(p)}, others {wrong}")
        order = np.lexsort((columns["symbol"], bar_))
        ordered = {name: np.ascontiguousarray(column[order]) for name, column in columns.items()}
        observed = int(bar_.max(initial=-1)) + 1 if bars is None else bars
        return cls(**ordered, bars=observed)

    def __len__(self) -> int:
        return len(self.bar)

    @property
    def valid(self) -> BoolArray:
        """Where the model answered, shape (n,)."""
        return ~np.isnan(self.p_up)

    @property
    def cycle(self) -> IntArray:
        """Index of each event's cycle, shape (n,)."""
        return self.bar // CYCLE

    @property
    def settled(self) -> BoolArray:
        """Where a BUY or SELL of the model has an outcome, shape (n,)."""
        return np.asarray(self.valid & (self.action != 0) & (self.outcome != UNKNOWN))

    @property
    def hit(self) -> BoolArray:
        """Whether the action's direction was the outcome's, shape (n,); meaningful only where `settled`."""
        return np.asarray((self.action == 1) == (self.outcome == 1))

    @property
    def complete_cycles(self) -> int:
        """Cycles that the observed bars have completed."""
        return self.bars // CYCLE

    def take(self, rows: NDArray[np.bool_]) -> Self:
        """The events of a mask of shape (n,); the observed bars stay as they are."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return replace(self, **columns)

    def to_cycle_end(self) -> Self:
        """What is known at the last complete cycle's end: later events are cut, later outcomes unknown again.

        An outcome is known once bar t + D + H has closed, that is when it lies before the end.
        """
        end = self.complete_cycles * CYCLE
        kept = self if end == self.bars else replace(self.take(self.bar < end), bars=end)
        known = kept.bar + DELAY + HORIZON < end
        outcome = np.where(known, kept.outcome, UNKNOWN).astype(np.int8)
        return replace(kept, outcome=outcome, forward=np.where(known, kept.forward, np.nan))

    def faults(self) -> tuple[str, ...]:
        """Every broken rule of this module, a sentence each with its count; empty for a sound sample."""
        present = self.valid
        known = self.outcome != UNKNOWN
        twice = (np.diff(self.bar) == 0) & (np.diff(self.symbol) == 0)
        contradicts = known & ~np.isnan(self.forward) & ((self.outcome == 1) != (self.forward > 0))
        checks = {
            "events lie outside the observed bars": (self.bar < 0) | (self.bar >= self.bars),
            "events are there twice (same bar and symbol)": twice,
            "values of p_up are no probability": present & ~is_probability(self.p_up),
            "confidences are not within [0, 1]": present & ~is_probability(self.confidence),
            "actions are not -1, 0 or 1": np.abs(self.action) > 1,
            "ensemble actions are not -1, 0 or 1": np.abs(self.ensemble) > 1,
            "outcomes are not 0, 1 or unknown": known & (self.outcome != 0) & (self.outcome != 1),
            "outcomes contradict their forward return": contradicts,
        }
        counts = {rule: int(np.count_nonzero(broken)) for rule, broken in checks.items()}
        return tuple(f"{count} {rule}" for rule, count in counts.items() if count)


_COLUMNS = ("bar", "symbol", "p_up", "action", "confidence", "ensemble", "outcome", "forward")


def _floats(name: str, values: ArrayLike) -> FloatArray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SampleError(f"sample: {name} must be numbers") from error
    if array.ndim != 1:
        raise SampleError(f"sample: {name} has shape {array.shape}, expected one dimension")
    return array


def _filled(values: FloatArray, present: BoolArray, filler: float) -> FloatArray:
    return np.where(present, values, filler) if len(values) == len(present) else values


def _integers(name: str, values: ArrayLike) -> IntArray:
    array = _floats(name, values)
    if not (np.abs(array) < 2.0**53).all() or not (array == np.floor(array)).all():
        raise SampleError(f"sample: {name} must be whole numbers")
    return array.astype(np.int64)


def _small(name: str, values: FloatArray) -> NDArray[np.int8]:
    """Whole numbers as int8; one out of range becomes 2, which is a fault in every column that uses this."""
    whole = _integers(name, values)
    return np.where(np.abs(whole) <= 1, whole, 2).astype(np.int8)

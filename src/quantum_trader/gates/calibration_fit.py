"""Recalibration: a monotone map from stated to true probabilities, learned from the past and scored on what came after.

- Only resolved events count: valid ones whose delayed horizon has ended before the fit does.
- A fit needs a least number of events and cycles, both outcomes, and outcomes that rise with what is stated.
- It is judged walking forward: the events are cut into parts of equal size in time; each part is scored under the map
  of what was resolved before it began, or as stated where that past gives no map. What is reported are these scores.
- It helps if the Brier score falls by 1.645 standard errors, clustered by cycle.

Two methods: Platt's logistic map of the log-odds with his smoothed targets (Platt 1999), and isotonic regression with a
knot at each block's mean and straight lines between (centred isotonic regression; Oron and Flournoy 2017).
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.calibration import LEAST_P, Curve, IsotonicCurve, PlattCurve, conviction
from quantum_trader.core.errors import CalibrationError
from quantum_trader.core.labels import UNKNOWN
from quantum_trader.gates import clustered
from quantum_trader.gates.calibration import platt
from quantum_trader.gates.clustered import Estimate
from quantum_trader.gates.isotonic import pool_adjacent_violators
from quantum_trader.gates.panel import SPAN
from quantum_trader.gates.planning import SPREAD_ACCURACY
from quantum_trader.gates.policy import DEFAULT, ContractPolicy
from quantum_trader.gates.quality import BINS, Quality, quality
from quantum_trader.gates.sample import CYCLE, Sample

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

_GRID = 9
"""Decimals to which stated probabilities are rounded before isotonic regression: knots then lie 1e-9 apart."""


class Method(StrEnum):
    """How the map is made."""

    PLATT = "platt"
    ISOTONIC = "isotonic"


@dataclass(frozen=True, slots=True)
class RecalibrationPolicy:
    """Thresholds of a recalibration; they stand in its file.

    Attributes:
        parts: Parts of equal size in time; the first is only learned from.
        bins: Of ECE and the decomposition.
        platt_events: Resolved events that Platt's map, of two parameters, needs.
        isotonic_events: The same for isotonic regression, which overfits where there are fewer than one or two
            thousand (Niculescu-Mizil and Caruana 2005).
        min_cycles: Cycles that a fit needs, and the scored events.
        clip: An isotonic map says nothing nearer to 0 or 1: its end blocks hold few events.
        gain_z: Standard errors by which the Brier score must fall.
    """

    parts: int = 5
    bins: int = BINS
    platt_events: int = 500
    isotonic_events: int = 2000
    min_cycles: int = 20
    clip: float = 0.01
    gain_z: float = 1.645

    def events_of(self, method: Method) -> int:
        """Resolved events that a method needs."""
        return self.platt_events if method is Method.PLATT else self.isotonic_events


STANDARD = RecalibrationPolicy()


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """Resolved events in time order, every array of shape (n,).

    Attributes:
        bar: Of the decision.
        p: Stated probability of a rise.
        y: 1.0 where the price rose over the delayed horizon, else 0.0.
        action: The model's.
    """

    bar: IntArray
    p: FloatArray
    y: FloatArray
    action: NDArray[np.int8]

    @classmethod
    def of(cls, sample: Sample, end: int | None = None) -> Self:
        """The events of a sample that are resolved by bar `end`, or by the last observed bar.

        Raises:
            CalibrationError: if the sample breaks a rule.
        """
        faults = sample.faults()
        if faults:
            raise CalibrationError(f"nothing is fitted on broken data: {faults[0]}")
        limit = sample.bars if end is None else min(end, sample.bars)
        rows = sample.valid & (sample.outcome != UNKNOWN) & (sample.bar + SPAN < limit)
        return cls(sample.bar[rows], sample.p_up[rows], sample.outcome[rows].astype(np.float64), sample.action[rows])

    def __len__(self) -> int:
        return len(self.bar)

    @property
    def cycle(self) -> IntArray:
        """Cycle of each event, shape (n,)."""
        return self.bar // CYCLE

    @property
    def cycles(self) -> int:
        """Cycles with at least one event."""
        return len(np.unique(self.cycle))

    def take(self, rows: BoolArray) -> Self:
        """The events of a mask of shape (n,)."""
        return type(self)(self.bar[rows], self.p[rows], self.y[rows], self.action[rows])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of what came after each fit.

    Attributes:
        events: Scored.
        cycles: Of the scored events.
        gain: Brier score as stated minus that of the map; positive is better.
        before: Of the probabilities as stated.
        after: Of the same events, mapped.
        helps: Whether the gain is above the policy's standard errors.
    """

    events: int
    cycles: int
    gain: Estimate
    before: Quality
    after: Quality
    helps: bool


def fit(events: Resolved, method: Method, policy: RecalibrationPolicy = STANDARD) -> Curve:
    """The map that resolved events give.

    Raises:
        CalibrationError: if there are too few, only one outcome occurred, or outcomes do not rise with p.
    """
    needed = policy.events_of(method)
    if len(events) < needed or events.cycles < policy.min_cycles:
        raise CalibrationError(
            f"{method.value} needs {needed} resolved events in {policy.min_cycles} cycles of {CYCLE} bars: "
            f"there are {len(events)} in {events.cycles}"
        )
    rises = int(events.y.sum())
    if rises in (0, len(events)):
        raise CalibrationError(f"every one of {len(events)} outcomes is a {'rise' if rises else 'fall'}")
    return _platt(events, rises) if method is Method.PLATT else _isotonic(events, policy.clip)


def _platt(events: Resolved, rises: int) -> PlattCurve:
    falls = len(events) - rises
    targets = np.where(events.y > 0, (rises + 1.0) / (rises + 2.0), 1.0 / (falls + 2.0))
    found = platt(np.clip(events.p, LEAST_P, 1.0 - LEAST_P), targets)
    if math.isnan(found.slope):
        raise CalibrationError("the stated probabilities do not differ, or separate the outcomes: no logistic map fits")
    if found.slope <= 0.0:
        raise CalibrationError(f"outcomes do not rise with the stated probability: the slope is {found.slope:.3f}")
    return PlattCurve(found.intercept, found.slope)


def _isotonic(events: Resolved, clip: float) -> IsotonicCurve:
    x, inverse, counts = np.unique(np.round(events.p, _GRID), return_inverse=True, return_counts=True)
    weights = counts.astype(np.float64)
    fitted = pool_adjacent_violators(np.bincount(inverse, events.y) / weights, weights)
    block = np.concatenate([[0], np.cumsum(np.diff(fitted) > 0)])
    if block[-1] == 0:
        raise CalibrationError("outcomes do not rise with the stated probability: isotonic regression finds one level")
    mass = np.bincount(block, weights)
    knots = np.bincount(block, weights * x) / mass
    levels = np.bincount(block, weights * fitted) / mass
    # Rounding of the means may not make them fall.
    levels = np.clip(np.maximum.accumulate(levels), clip, 1.0 - clip)
    return IsotonicCurve(tuple(knots.tolist()), tuple(levels.tolist()))


def walk_forward(events: Resolved, method: Method, policy: RecalibrationPolicy = STANDARD) -> Evaluation:
    """Score a method on each part of the events under the map of what was resolved before that part began.

    Raises:
        CalibrationError: if no part but the first has enough of a past, or what can be scored is too little.
    """
    mapped, scored = _mapped(events, method, policy)
    p, q, y, cycle = events.p[scored], mapped[scored], events.y[scored], events.cycle[scored]
    cycles = len(np.unique(cycle))
    if cycles < policy.min_cycles:
        raise CalibrationError(
            f"a walk-forward needs a past of {policy.events_of(method)} resolved events in {policy.min_cycles} cycles, "
            f"and then {policy.min_cycles} cycles to be scored: there are {len(events)} events in {events.cycles} "
            f"cycles, of which {cycles} can be scored"
        )
    gain = clustered.mean(np.square(p - y) - np.square(q - y), cycle)
    before, after = quality(p, y, cycle, policy.bins), quality(q, y, cycle, policy.bins)
    return Evaluation(len(y), cycles, gain, before, after, gain.z >= policy.gain_z)


def _mapped(events: Resolved, method: Method, policy: RecalibrationPolicy) -> tuple[FloatArray, BoolArray]:
    """Every event's probability under the map of its past, and which events have enough of one; both shape (n,)."""
    mapped, scored = events.p.copy(), np.zeros(len(events), dtype=np.bool_)
    at = np.linspace(0, len(events), policy.parts + 1).astype(int)[1:-1]
    starts = np.unique(events.bar[at]) if len(events) else np.empty(0, dtype=np.int64)
    ends = np.append(starts, np.iinfo(np.int64).max)[1:]
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        past = events.take(events.bar + SPAN < start)
        if len(past) < policy.events_of(method) or past.cycles < policy.min_cycles:
            continue
        rows = (events.bar >= start) & (events.bar < end)
        scored |= rows
        try:
            mapped[rows] = fit(past, method, policy)(events.p[rows])
        except CalibrationError:
            # That past gives no map, so none would have been in use.
            continue
    return mapped, scored


def spread_conflict(events: Resolved, curve: Curve, contract: ContractPolicy = DEFAULT) -> str:
    """What to say where calibrated confidence could not pass the contract's second gate; empty where it could."""
    stated = float(np.maximum(events.p, 1.0 - events.p).std())
    mapped = float(conviction(curve(events.p), events.action).std())
    if mapped >= contract.spread_min - contract.spread_slack:
        return ""
    return (
        f"Confidence varies by {stated:.4f} as stated and by {mapped:.4f} calibrated; the contract asks for "
        f"{contract.spread_min:g}. A calibrated model under {SPREAD_ACCURACY:.1%} accuracy cannot reach it, which is "
        "why the contract and the thresholds read what the model states."
    )

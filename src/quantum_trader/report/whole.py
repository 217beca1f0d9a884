"""What a report shows of a whole verdict besides its lines: evidence over time, slices, answers against answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.predictions import Action
from quantum_trader.gates import clustered
from quantum_trader.gates.calibration import corp, quantile_bins, reliability
from quantum_trader.gates.clustered import Estimate
from quantum_trader.gates.recalibration import walk_forward
from quantum_trader.gates.sample import CYCLE, Sample
from quantum_trader.gates.scores import brier
from quantum_trader.gates.slices import SliceGain, Slices
from quantum_trader.gates.verdict import Verdict
from quantum_trader.gates.whole_policy import Policy
from quantum_trader.report.views import FloatArray, IntArray, ReliabilityView, reliability_of

BINS = 10


@dataclass(frozen=True, slots=True, eq=False)
class EvidenceView:
    """The evidence at every cycle's end.

    Attributes:
        ts: Shape (k,), close of the cycle's last bar, milliseconds since the epoch.
        log_e: Shape (k,), logarithm of E.
        level: What it must reach.
        held: Index of the first cycle at whose end everything held; None if there was none.
    """

    ts: IntArray
    log_e: FloatArray
    level: float
    held: int | None


@dataclass(frozen=True, slots=True)
class Scored:
    """How good probabilities are on the events that both sides spoke of.

    Attributes:
        n: Events.
        ece: Expected calibration error over ten bins of about equal size.
        brier: Brier score.
        miscalibration: What a perfect recalibration would take from it (CORP).
        discrimination: What telling rises from falls takes from it.
    """

    n: int
    ece: float
    brier: float
    miscalibration: float
    discrimination: float

    @classmethod
    def of(cls, p: FloatArray, rise: FloatArray) -> Self:
        """Scores of probabilities p against outcomes 0 or 1, both of shape (n,)."""
        if not len(p):
            return cls(0, math.nan, math.nan, math.nan, math.nan)
        curve, parts = reliability(p, rise, quantile_bins(p, BINS), BINS), corp(p, rise)
        return cls(len(p), curve.ece, brier(p, rise), parts.miscalibration, parts.discrimination)


@dataclass(frozen=True, slots=True)
class SymbolLine:
    """The judged model on one symbol: what it said there, and what the pool gains."""

    name: str
    valid: int
    hit_rate: Estimate
    agreement: Estimate
    gain: SliceGain | None


@dataclass(frozen=True, slots=True, eq=False)
class WholeView:
    """Beside the lines of a whole verdict.

    Attributes:
        evidence: Over time; None before the first cycle's end.
        symbols: A line each.
        regimes: By volatility; empty before the first cycle's end.
        confusion: Shape (3, 3), valid events by the model's action (SELL, HOLD, BUY) and the ensemble's.
        recalibrated: Its probabilities after a recalibration that never saw an outcome before it happened.
        before: Scores of its own probabilities on the events of `after`.
        after: Scores of the recalibrated ones.
    """

    evidence: EvidenceView | None
    symbols: tuple[SymbolLine, ...]
    regimes: tuple[SliceGain, ...]
    confusion: IntArray
    recalibrated: ReliabilityView
    before: Scored
    after: Scored


def whole_view(
    sample: Sample, verdict: Verdict, names: Sequence[str], ts_first: int, bar_ms: int, policy: Policy
) -> WholeView:
    """Views of a judged model's sample with its outcomes, and of the verdict on it."""
    whole = verdict.whole
    slices = (whole.slices if whole else None) or Slices((), ())
    said = walk_forward(sample, policy.deployment)
    both = ~np.isnan(said) & ~np.isnan(sample.forward)
    rise = (sample.forward > 0)[both].astype(np.float64)
    return WholeView(
        evidence=_evidence(verdict, ts_first, bar_ms),
        symbols=_symbols(sample, names, slices),
        regimes=slices.regimes,
        confusion=_confusion(sample),
        recalibrated=reliability_of(said[both], rise > 0, sample.cycle[both], BINS),
        before=Scored.of(sample.p_up[both], rise),
        after=Scored.of(said[both], rise),
    )


def _evidence(verdict: Verdict, ts_first: int, bar_ms: int) -> EvidenceView | None:
    whole = verdict.whole
    if whole is None or not whole.log_e:
        return None
    ends = np.arange(1, len(whole.log_e) + 1, dtype=np.int64) * CYCLE
    alpha = whole.policy.evidence.alpha_of(whole.version)
    held = None if whole.held_at is None else whole.held_at // CYCLE - 1
    return EvidenceView(ts_first + ends * bar_ms, np.array(whole.log_e), math.log(1.0 / alpha), held)


def _symbols(sample: Sample, names: Sequence[str], slices: Slices) -> tuple[SymbolLine, ...]:
    lines = []
    gains = {line.name: line for line in slices.symbols}
    for number, name in enumerate(names):
        events = sample.take(sample.valid & (sample.symbol == number))
        settled = events.take(events.settled)
        lines.append(
            SymbolLine(
                name=name,
                valid=len(events),
                hit_rate=clustered.share(settled.hit, settled.cycle),
                agreement=clustered.share(events.action == events.ensemble, events.cycle),
                gain=gains.get(name),
            )
        )
    return tuple(lines)


def _confusion(sample: Sample) -> NDArray[np.int64]:
    valid, size = sample.valid, len(Action)
    cell = size * (sample.action[valid].astype(np.int64) + 1) + sample.ensemble[valid] + 1
    inside = cell[(cell >= 0) & (cell < size * size)]
    return np.bincount(inside, minlength=size * size).reshape(size, size)

"""Descriptive numbers of one model, whichever it is: what it says, how surely, how often rightly."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from quantum_trader.core.predictions import Action
from quantum_trader.gates import clustered
from quantum_trader.gates.clustered import Estimate
from quantum_trader.gates.degenerate import OutputMeasures, measure_outputs
from quantum_trader.gates.result import finite
from quantum_trader.gates.sample import Sample


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """Numbers of one model; every estimate has its standard error clustered by cycle and is NaN for no events.

    Attributes:
        rows: Events, missing outputs included.
        valid: Events with an output.
        cycles: Cycles with at least one valid event.
        buy: Share of BUY among valid events.
        sell: Share of SELL.
        hold: Share of HOLD.
        confidence: Mean confidence.
        spread: Population standard deviation of confidence.
        hit_rate: Share of BUY and SELL with an outcome whose outcome was in the action's direction.
        agreement: Share of valid events with the ensemble's action.
        outputs: How varied the outputs are.
    """

    rows: int
    valid: int
    cycles: int
    buy: Estimate
    sell: Estimate
    hold: Estimate
    confidence: Estimate
    spread: Estimate
    hit_rate: Estimate
    agreement: Estimate
    outputs: OutputMeasures

    @property
    def coverage(self) -> float:
        """Share of events with an output; NaN for no events."""
        return self.valid / self.rows if self.rows else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not finite becomes None."""
        return finite({**asdict(self), "coverage": self.coverage})


def describe(sample: Sample) -> ModelSummary:
    """Numbers of every event in the sample, complete cycles or not."""
    events = sample.take(sample.valid)
    settled = events.take(events.settled)
    cycle = events.cycle
    shares = {action: clustered.share(events.action == action, cycle) for action in Action}
    return ModelSummary(
        rows=len(sample),
        valid=len(events),
        cycles=shares[Action.HOLD].clusters,
        buy=shares[Action.BUY],
        sell=shares[Action.SELL],
        hold=shares[Action.HOLD],
        confidence=clustered.mean(events.confidence, cycle),
        spread=clustered.standard_deviation(events.confidence, cycle),
        hit_rate=clustered.share(settled.hit, settled.cycle),
        agreement=clustered.share(events.action == events.ensemble, cycle),
        outputs=measure_outputs(sample.p_up, sample.symbol),
    )

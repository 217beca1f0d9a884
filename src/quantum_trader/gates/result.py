"""What one gate says: its state, the number with standard error and sizes, the threshold, the reason, what it needs."""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from quantum_trader.gates.trend import Bucket

ACTION_DIVERSITY = "Action Diversity"
CONFIDENCE_SPREAD = "Confidence Spread"
SHADOW_CORRELATION = "Shadow Correlation"
CALIBRATION = "Calibration"

GATES = (ACTION_DIVERSITY, CONFIDENCE_SPREAD, SHADOW_CORRELATION, CALIBRATION)
"""The four gates by name, in the order of every report."""


class GateState(StrEnum):
    """What a gate concludes. INSUFFICIENT is never a pass."""

    PASS = "PASS"  # noqa: S105 - the word, not a secret
    FAIL = "FAIL"
    INSUFFICIENT = "INSUFFICIENT"

    @property
    def number(self) -> int:
        """1 pass, 0 insufficient, -1 fail, as in the golden vectors."""
        return {"PASS": 1, "INSUFFICIENT": 0, "FAIL": -1}[self.value]


@dataclass(frozen=True, slots=True)
class GateResult:
    """One line of the report.

    Attributes:
        name: One of GATES, or of the checks of another section.
        state: PASS, FAIL or INSUFFICIENT.
        value: The number; NaN where there is nothing to compute it from.
        se: Its standard error, clustered by cycle; NaN likewise, and always under the plain rule.
        n: Events that the number is made of (blocks for Evidence and Recent).
        n_effective: Independent events with the same standard error.
        cycles: Cycles with at least one of these events.
        threshold: What the number is compared with, in its units (for Calibration the slope that is `trend_z` se).
        rule: The comparison in words.
        reason: Why the state is what it is, one sentence.
        z: Calibration's trend z; NaN for the others.
        more_events: Events still missing, estimated from n (se / limit)^2 - n; None where INSUFFICIENT cannot be cured
            by more of the same, 0 where nothing is missing.
        more_cycles: The same in cycles, at the present rate of events.
        buckets: Calibration's table; empty for the others.
        section: Of GATES.md: A the contract, B vetoes, C evidence, D deployment checks.
    """

    name: str
    state: GateState
    value: float
    se: float
    n: int
    n_effective: float
    cycles: int
    threshold: float
    rule: str
    reason: str
    z: float = math.nan
    more_events: int | None = 0
    more_cycles: int | None = 0
    buckets: tuple[Bucket, ...] = ()
    section: str = "A"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not finite becomes None."""
        values = asdict(self)
        values["state"] = self.state.value
        values["buckets"] = [{**asdict(bucket), "accuracy": bucket.accuracy} for bucket in self.buckets]
        return finite(values)


def finite(values: dict[str, Any]) -> dict[str, Any]:
    """The mapping with every float that is not finite replaced by None, in nested mappings and lists too."""
    return {key: _finite(value) for key, value in values.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return finite(value)
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""The plain rule, bit for bit (golden g01): what it says of a model, beside what the contract says.

- Rows without the shadow's output are dropped; no row at all is "no predictions".
- Action Diversity: the commonest action's share <= 0.70.
- Confidence Spread: population standard deviation >= 0.05, without slack: a nominal 0.05 may fail.
- Shadow Correlation: agreement with the ensemble's action >= 0.55.
- Calibration: *agreement* does not drop from one bucket to the next; an empty bucket passes.
- Ready: 3 of the 4.

It has no standard errors and passes vacuously. It is kept for comparison and promotes nothing.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantum_trader.gates.policy import LEGACY, ContractPolicy
from quantum_trader.gates.trend import Bucket, bucket_table

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LegacyOutcome:
    """What the plain rule says.

    Attributes:
        n: Rows with an output; with none nothing else means anything and no gate passes.
        max_share: Share of the commonest action.
        spread: Population standard deviation of confidence.
        agreement: Share of rows whose action is the ensemble's.
        diverse: Gate Action Diversity.
        spread_out: Gate Confidence Spread.
        correlated: Gate Shadow Correlation.
        calibrated: Gate Calibration.
        ready: Whether enough gates pass.
        buckets: Confidence buckets with *agreement* as their hits.
    """

    n: int
    max_share: float
    spread: float
    agreement: float
    diverse: bool
    spread_out: bool
    correlated: bool
    calibrated: bool
    ready: bool
    buckets: tuple[Bucket, ...]

    @property
    def passed(self) -> int:
        """Gates that pass."""
        return self.diverse + self.spread_out + self.correlated + self.calibrated


def legacy_gates(
    action: NDArray[np.integer],
    confidence: FloatArray,
    ensemble: NDArray[np.integer],
    policy: ContractPolicy = LEGACY,
) -> LegacyOutcome:
    """The plain rule on rows in their given order, all of shape (n,).

    Args:
        action: The shadow's, -1, 0 or 1.
        confidence: The shadow's; NaN marks a row without its output.
        ensemble: The voters' decision, -1, 0 or 1.
        policy: Thresholds; LEGACY's are the plain rule's.

    Raises:
        ValueError: if shapes differ.
    """
    if not action.shape == confidence.shape == ensemble.shape:
        raise ValueError(f"legacy_gates: shapes {action.shape}, {confidence.shape}, {ensemble.shape} differ")
    present = ~np.isnan(confidence)
    action, confidence, agrees = action[present], confidence[present], action[present] == ensemble[present]
    n = len(action)
    if n == 0:
        return LegacyOutcome(0, math.nan, math.nan, math.nan, False, False, False, False, False, ())
    counts = np.unique(action, return_counts=True)[1]
    buckets = bucket_table(confidence, agrees, policy.bucket_edges, policy.bucket_events)
    return plain_rule(int(counts.max()), float(np.std(confidence)), int(agrees.sum()), n, buckets, policy)


def plain_rule(
    commonest: int, spread: float, agreeing: int, n: int, buckets: tuple[Bucket, ...], policy: ContractPolicy = LEGACY
) -> LegacyOutcome:
    """The plain rule from counts of n rows, of which there is at least one."""
    max_share, agreement = commonest / n, agreeing / n
    gates = (
        max_share <= policy.share_max,
        spread >= policy.spread_min,
        agreement >= policy.agreement_min,
        _never_drops(buckets),
    )
    return LegacyOutcome(n, max_share, spread, agreement, *gates, sum(gates) >= policy.passes_needed, buckets)


def _never_drops(buckets: tuple[Bucket, ...]) -> bool:
    before = 0.0
    for bucket in buckets:
        if not bucket.n:
            continue
        if bucket.accuracy < before:
            return False
        before = bucket.accuracy
    return True

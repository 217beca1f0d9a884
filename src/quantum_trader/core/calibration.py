"""From the probability that a model states to one that means what it says: a monotone map of [0, 1], and its use.

- A calibration belongs to one artefact; another artefact's answers are never mapped by it.
- It never changes an action: thresholds read what the model states. It changes how sure the vote is of that action.
- The arithmetic is the same bit by bit for one row and for a million: sums and products of doubles, and the C
  library's log and exp value by value (numpy's differ between vector units; ADR 0008).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.errors import CalibrationError
from quantum_trader.core.predictions import confidence

FloatArray = NDArray[np.float64]

LEAST_P = 1e-6
"""Probabilities are kept so far from 0 and 1 before their log-odds are taken, as in the gates' pooled score."""

KNOT_GAP = 5e-10
"""Knots lie at least so far apart, so that no slope between them overflows."""

_LARGEST = 1e3
"""Of a Platt parameter: log-odds of 13.8 at most go in, so that the map's argument stays far from overflow."""


@dataclass(frozen=True, slots=True)
class PlattCurve:
    """The logistic map sigmoid(intercept + slope logit p) with a positive slope (Platt 1999).

    Raises:
        CalibrationError: if a parameter is not finite or the slope is not positive.
    """

    intercept: float
    slope: float

    def __post_init__(self) -> None:
        if not (abs(self.intercept) <= _LARGEST and 0.0 < self.slope <= _LARGEST):
            raise CalibrationError(
                f"intercept {self.intercept} and slope {self.slope}: expected finite numbers up to {_LARGEST:g} "
                "and a positive slope"
            )

    def __call__(self, p: FloatArray) -> FloatArray:
        """Calibrated probabilities of p, shape (n,); NaN stays NaN."""
        return np.array([self._one(value) for value in p.tolist()], dtype=np.float64)

    def _one(self, p: float) -> float:
        if math.isnan(p):
            return p
        kept = min(max(p, LEAST_P), 1.0 - LEAST_P)
        z = self.intercept + self.slope * (math.log(kept) - math.log1p(-kept))
        if z >= 0.0:
            return 1.0 / (1.0 + math.exp(-z))
        odds = math.exp(z)
        return odds / (1.0 + odds)


@dataclass(frozen=True, slots=True)
class IsotonicCurve:
    """Straight lines between knots, constant beyond the first and the last.

    Attributes:
        p: What the model states at the knots, strictly rising within [0, 1], at least two.
        calibrated: What it means there, never falling, within [0, 1].

    Raises:
        CalibrationError: if the knots are not so.
    """

    p: tuple[float, ...]
    calibrated: tuple[float, ...]

    def __post_init__(self) -> None:
        x, y = np.array(self.p, dtype=np.float64), np.array(self.calibrated, dtype=np.float64)
        rules = {
            "knots need as many calibrated values as probabilities, at least two": len(x) == len(y) >= 2,
            "knots are not within [0, 1]": all(bool(((part >= 0.0) & (part <= 1.0)).all()) for part in (x, y)),
            f"knots do not rise by {KNOT_GAP:g} each": bool((np.diff(x) >= KNOT_GAP).all()),
            "calibrated values fall": bool((np.diff(y) >= 0.0).all()),
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise CalibrationError(broken[0])

    def __call__(self, p: FloatArray) -> FloatArray:
        """Calibrated probabilities of p, shape (n,); NaN stays NaN."""
        x, y = np.array(self.p), np.array(self.calibrated)
        kept = np.clip(p, x[0], x[-1])
        left = np.clip(np.searchsorted(x, kept, side="right") - 1, 0, len(x) - 2)
        slope = (y[left + 1] - y[left]) / (x[left + 1] - x[left])
        # Clipped to its own two knots: rounding may not make the map fall from one segment to the next.
        between: FloatArray = np.clip(y[left] + slope * (kept - x[left]), y[left], y[left + 1])
        return between


Curve = PlattCurve | IsotonicCurve


@dataclass(frozen=True, slots=True)
class Calibration:
    """A verified calibration as a policy holds it.

    Attributes:
        digest: SHA-256 of its file's bytes: its identity, part of the policy's digest.
        model: Short name of the model.
        artefact: Digest of the artefact whose answers it maps.
        curve: The map.
    """

    digest: str
    model: str
    artefact: str
    curve: Curve


def conviction(p_calibrated: FloatArray, actions: NDArray[np.int8]) -> FloatArray:
    """Probability that an action's own side comes true, shape (n,): p for BUY, 1 - p for SELL.

    HOLD takes no side; there it is that of the likelier one. Below one half where a model acts on a side that by its
    own record comes true less often than not: max(p, 1 - p) would turn that doubt into confidence.

    >>> conviction(np.array([0.48, 0.48, 0.48]), np.array([1, -1, 0], np.int8)).tolist()
    [0.48, 0.52, 0.52]
    """
    sides: FloatArray = np.where(
        actions > 0, p_calibrated, np.where(actions < 0, 1.0 - p_calibrated, confidence(p_calibrated))
    )
    return sides

"""What one model says of one symbol at one bar, and in which words."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np
from numpy.typing import NDArray

MODELS = ("xgb", "lgbm", "nhits", "patchtst")
"""Short names of the four models, in the order of every breakdown."""

FULL_NAMES = {"xgb": "xgboost", "lgbm": "lightgbm", "nhits": "nhits", "patchtst": "patchtst"}
"""The `model` field of a breakdown entry; a shadow's has the suffix ``_shadow``."""

DISPLAY_NAMES = {"xgb": "XGBoost", "lgbm": "LightGBM", "nhits": "N-HiTS", "patchtst": "PatchTST"}

DEFAULT_WEIGHTS = {"xgb": 0.25, "lgbm": 0.25, "nhits": 0.30, "patchtst": 0.20}


class Action(IntEnum):
    """A direction. The numbers are those of the gates' arrays."""

    SELL = -1
    HOLD = 0
    BUY = 1


class Status(StrEnum):
    """How a prediction ended. Every decision holds exactly one of these for every model."""

    OK = "ok"
    """On time and valid."""
    LATE = "late"
    """Did not answer before its deadline; what it says afterwards is dropped."""
    FAILED = "failed"
    """Raised, crashed or could not be loaded."""
    MISSING = "missing"
    """Never answered."""
    REFUSED = "refused"
    """Answered with something that is no probability, or was given features that are not finite."""


class Role(StrEnum):
    """Whether a model's answer counts."""

    VOTER = "voter"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From p_up to an action: BUY at or above `buy_above`, SELL at or below `sell_below`, HOLD between."""

    buy_above: float
    sell_below: float

    def actions(self, p_up: NDArray[np.float64]) -> NDArray[np.int8]:
        """Actions of probabilities, same shape; where p_up is NaN the action is HOLD.

        >>> Thresholds(0.55, 0.45).actions(np.array([0.55, 0.5, 0.1])).tolist()
        [1, 0, -1]
        """
        return (p_up >= self.buy_above).astype(np.int8) - (p_up <= self.sell_below).astype(np.int8)


def confidence(p_up: NDArray[np.float64]) -> NDArray[np.float64]:
    """max(p, 1-p), same shape: how sure a model is of the likelier side, 0.5 to 1."""
    return np.maximum(p_up, 1.0 - p_up)


def valid(p_up: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a value is a probability: finite and within [0, 1]."""
    return np.asarray((p_up >= 0.0) & (p_up <= 1.0))


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """A model's answers for n symbols at one bar.

    Attributes:
        p_up: Shape (n,); NaN wherever `statuses` is not OK.
        actions: Shape (n,), -1, 0, 1; 0 where not OK.
        statuses: One per symbol.
        artefact: Digest of the loaded artefact; empty where none could be loaded.
        reason: Why the model did not answer, for people; empty where it did.
    """

    p_up: NDArray[np.float64]
    actions: NDArray[np.int8]
    statuses: tuple[Status, ...]
    artefact: str
    reason: str = ""

    @classmethod
    def of(cls, p_up: NDArray[np.float64], thresholds: Thresholds, artefact: str) -> "ModelOutput":
        """Answers that arrived: whatever is no probability is refused, value by value."""
        good = valid(p_up)
        clean = np.where(good, p_up, np.nan)
        statuses = tuple(Status.OK if ok else Status.REFUSED for ok in good.tolist())
        reason = "" if good.all() else "an output is no probability"
        return cls(clean, thresholds.actions(clean), statuses, artefact, reason)

    @classmethod
    def none(cls, n: int, status: Status, artefact: str, reason: str) -> "ModelOutput":
        """No answer for any of n symbols."""
        return cls(np.full(n, np.nan), np.zeros(n, np.int8), (status,) * n, artefact, reason)

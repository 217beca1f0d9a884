"""What one model says of one symbol at one bar, and in which words."""

import math
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


_BY_SIGN = {action.value: action for action in Action}


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


class Cause(StrEnum):
    """Why there is no answer, in one word: the beginning of every reason, and what an intent's entry says."""

    STARTING = "starting"
    """Its process is not ready yet."""
    STOPPED = "stopped"
    """Its process ended and waits for its next start."""
    LOAD = "load"
    """Its artefact cannot be loaded."""
    GRACE = "grace"
    """Nothing came within the grace."""
    BREAKER = "breaker"
    """Nothing was there, and after too many misses nobody waited."""
    HUNG = "hung"
    """It did not answer for so long, or computed on it for so long, that its process was ended."""
    CRASHED = "crashed"
    """Its process ended over this very batch."""
    ERROR = "error"
    """It raised."""
    NAN = "nan"
    INFINITE = "infinite"
    RANGE = "range"
    """Answered with a number outside [0, 1]."""
    SHAPE = "shape"
    """Answered with another number of values than it was asked for, or with something that is no answer."""
    TOO_LARGE = "too-large"
    DIGEST = "digest"
    """Another artefact answered than the one that was configured."""
    INPUT = "input"
    """It predicted on another input than it was given."""
    FEATURES = "features"
    """The features of this window are not finite; no model may see them."""


def because(cause: Cause, detail: str = "") -> str:
    """A reason as it is recorded: the cause, then what people need to know.

    >>> because(Cause.SHAPE, "7 values for 5 symbols")
    'shape: 7 values for 5 symbols'
    """
    return f"{cause}: {detail}" if detail else str(cause)


def cause_of(reason: str) -> str:
    """The cause that a reason begins with.

    >>> cause_of("shape: 7 values for 5 symbols")
    'shape'
    """
    return reason.partition(":")[0]


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

    def action(self, p_up: float) -> Action:
        """The same of one probability, without what an array costs.

        >>> Thresholds(0.55, 0.45).action(0.55).name
        'BUY'
        """
        return _BY_SIGN[(p_up >= self.buy_above) - (p_up <= self.sell_below)]


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
        reasons: One per symbol: why the model did not answer, from `because`; empty where it did.
        input_hashes: One per symbol: hash of the input that the model says it saw (`core.features.input_hashes`);
            empty for a voter, whose input is the decision's.
    """

    p_up: NDArray[np.float64]
    actions: NDArray[np.int8]
    statuses: tuple[Status, ...]
    artefact: str
    reasons: tuple[str, ...]
    input_hashes: tuple[str, ...] = ()

    @classmethod
    def of(cls, p_up: NDArray[np.float64], thresholds: Thresholds, artefact: str) -> "ModelOutput":
        """Answers that arrived: whatever is no probability is refused, value by value."""
        good = valid(p_up)
        if good.all():
            n = len(p_up)
            return cls(p_up, thresholds.actions(p_up), (Status.OK,) * n, artefact, ("",) * n)
        clean = np.where(good, p_up, np.nan)
        statuses = tuple(Status.OK if ok else Status.REFUSED for ok in good.tolist())
        reasons = tuple(no_probability(p) for p in p_up.tolist())
        return cls(clean, thresholds.actions(clean), statuses, artefact, reasons)

    @classmethod
    def none(cls, n: int, status: Status, artefact: str, reason: str) -> "ModelOutput":
        """No answer for any of n symbols."""
        return cls(np.full(n, np.nan), np.zeros(n, np.int8), (status,) * n, artefact, (reason,) * n)


_IS_NAN = because(Cause.NAN, "the output is NaN")
_IS_INFINITE = because(Cause.INFINITE, "the output is infinite")


def no_probability(p: float) -> str:
    """Why a value is no probability; empty where it is one.

    >>> no_probability(1.5)
    'range: the output 1.5 is outside [0, 1]'
    """
    if 0.0 <= p <= 1.0:
        return ""
    if math.isnan(p):
        return _IS_NAN
    if math.isinf(p):
        return _IS_INFINITE
    return because(Cause.RANGE, f"the output {p!r} is outside [0, 1]")

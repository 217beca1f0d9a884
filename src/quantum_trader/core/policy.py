"""The two policies of a decision: how votes count, and how an actionable decision is sized."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from quantum_trader.core.calibration import Calibration
from quantum_trader.core.errors import ConfigError
from quantum_trader.core.predictions import DEFAULT_WEIGHTS, MODELS


@dataclass(frozen=True)
class VotePolicy:
    """How votes count.

    Attributes:
        weights: Nominal weight of every model, used where it votes; renormalised over the voters present.
        min_consensus: Voters that must agree for BUY or SELL.
        calibrations: By model, what its stated probability means; a model without one is taken at its word.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    min_consensus: int = 2
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for model, weight in self.weights.items():
            if model not in MODELS:
                raise ConfigError(f"weight of {model!r}: unknown model, expected one of {', '.join(MODELS)}")
            if not (math.isfinite(weight) and weight > 0):
                raise ConfigError(f"weight of {model}: {weight} is not a positive number")
        if self.min_consensus < 1:
            raise ConfigError(f"min_consensus: {self.min_consensus} is not at least 1")
        for model, calibration in self.calibrations.items():
            if calibration.model != model:
                raise ConfigError(f"calibration of {model}: it is one of {calibration.model}")

    def digest(self, voters: tuple[str, ...]) -> str:
        """SHA-256 over what can change a decision: the voters' weights, calibrations and the quorum, not the shadows'.

        Where no voter has a calibration, the word does not occur: such a policy keeps the digest that it always had.
        """
        calibrations = {name: self.calibrations[name].digest for name in voters if name in self.calibrations}
        return vote_digest({name: self.weights[name] for name in voters}, self.min_consensus, calibrations)


def vote_digest(weights: Mapping[str, float], min_consensus: int, calibrations: Mapping[str, str]) -> str:
    """The digest of a vote's policy from its parts; weights and calibrations' digests of the voters only."""
    fields: dict[str, object] = {"weights": dict(weights), "min_consensus": min_consensus}
    if calibrations:
        fields["calibrations"] = dict(calibrations)
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class IntentPolicy:
    """Size and stops written into an intent; consumers own sizing, risk and execution.

    Attributes:
        position_size_usd: Notional of every intent in US dollars.
        leverage: Whole number, at least 1.
        stop_atr: Distance of the stop from entry in average true ranges.
        take_atr: Distance of the target from entry in average true ranges.
    """

    position_size_usd: float = 10.0
    leverage: int = 1
    stop_atr: float = 1.25
    take_atr: float = 3.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name}: {value} is not a positive number")

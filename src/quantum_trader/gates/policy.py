"""Every threshold of the contract (GATES.md, section A) in one frozen object with a digest."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Self

from quantum_trader.core.errors import ConfigError

CLUSTERED = "clustered"
"""Outcome accuracy, standard errors clustered by cycle, PASS, FAIL or INSUFFICIENT."""

PLAIN = "plain"
"""The rule as it was: agreement counts as accuracy, empty buckets pass, no standard errors."""

SCHEMA = "quantum_trader.contract_policy/1"


@dataclass(frozen=True, slots=True)
class ContractPolicy:
    """Thresholds of the four gates.

    Attributes:
        name: For people; not part of the digest.
        rule: CLUSTERED or PLAIN.
        min_events: Valid events below which nothing passes.
        min_cycles: Cycles below which nothing passes; at least 2, as one cycle has no standard error.
        passes_needed: Gates of the four that must pass.
        share_max: G1, largest share of one action.
        spread_min: G2, smallest population standard deviation of confidence.
        spread_slack: G2, what float rounding may take from it.
        agreement_min: G3, smallest agreement with the ensemble's action.
        se_max: Largest standard error of a share that is sufficient.
        spread_se_max: The same for the standard deviation.
        bucket_edges: G4, ascending; a bucket holds its lower edge, a last edge of 1 is held too.
        bucket_events: G4, events that make a bucket count.
        buckets_needed: G4, buckets that must count.
        trend_z: G4, z of the slope of hit on confidence to pass; its negative fails.
        drop_z_pass: G4, an adjacent drop below this z does not pass.
        drop_z_fail: G4, an adjacent drop below this z fails.
    """

    name: str = "default"
    rule: str = CLUSTERED
    min_events: int = 200
    min_cycles: int = 20
    passes_needed: int = 3
    share_max: float = 0.70
    spread_min: float = 0.05
    spread_slack: float = 1e-12
    agreement_min: float = 0.55
    se_max: float = 0.03
    spread_se_max: float = 0.01
    bucket_edges: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    bucket_events: int = 50
    buckets_needed: int = 3
    trend_z: float = 1.645
    drop_z_pass: float = -1.0
    drop_z_fail: float = -2.4

    def __post_init__(self) -> None:
        for field, (low, high) in _RANGES.items():
            value = getattr(self, field)
            # Written so that NaN is refused too.
            if not low <= value <= high:
                raise ConfigError(f"policy {self.name!r}: {field} = {value!r}, expected {low:g} to {high:g}")
        if self.rule not in (CLUSTERED, PLAIN):
            raise ConfigError(f"policy {self.name!r}: rule {self.rule!r}, expected {CLUSTERED!r} or {PLAIN!r}")
        if self.rule == CLUSTERED and (self.min_events < 1 or self.min_cycles < 2):
            raise ConfigError(f"policy {self.name!r}: needs min_events >= 1 and min_cycles >= 2 for a standard error")
        edges = self.bucket_edges
        ascending = all(low < high for low, high in pairwise(edges))
        if len(edges) < 3 or not ascending or edges[0] < 0 or edges[-1] > 1:
            raise ConfigError(f"policy {self.name!r}: bucket_edges must ascend within [0, 1] and make two buckets")
        if self.drop_z_fail > self.drop_z_pass:
            raise ConfigError(f"policy {self.name!r}: drop_z_fail must not exceed drop_z_pass")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """A policy from parsed TOML or JSON; what is not named keeps its default.

        Raises:
            ConfigError: for an unknown key, a value of the wrong type or one out of range.
        """
        known = {field.name: field.default for field in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"policy: unknown key {unknown[0]!r}; known are {', '.join(known)}")
        return cls(**{key: typed(key, value, known[key]) for key, value in values.items()})

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, such as `from_mapping` reads."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["bucket_edges"] = list(self.bucket_edges)
        return values

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal, of the canonical JSON (sorted keys, no spaces) of everything but the name."""
        content = {key: value for key, value in self.to_mapping().items() if key != "name"}
        content["schema"] = SCHEMA
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()


_BIG = 1_000_000_000
_RANGES: dict[str, tuple[float, float]] = {
    "min_events": (0, _BIG),
    "min_cycles": (0, _BIG),
    "passes_needed": (1, 4),
    "share_max": (0.0, 1.0),
    "spread_min": (0.0, 0.5),
    "spread_slack": (0.0, 1e-6),
    "agreement_min": (0.0, 1.0),
    "se_max": (0.0, 1.0),
    "spread_se_max": (0.0, 1.0),
    "bucket_events": (1, _BIG),
    "buckets_needed": (2, 100),
    "trend_z": (0.0, 100.0),
    "drop_z_pass": (-100.0, 0.0),
    "drop_z_fail": (-100.0, 0.0),
}


def typed(key: str, value: Any, default: Any) -> Any:
    """The value as its default's type: whole numbers serve as floats, nothing else is converted.

    Raises:
        ConfigError: naming the key, if the value is of another type or not finite.
    """
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple):
            raise ConfigError(f"policy: {key} must be a list of numbers, not {value!r}")
        return tuple(typed(key, item, 0.0) for item in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(default) or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(f"policy: {key} must be of type {type(default).__name__}, not {value!r}")
    return value


DEFAULT = ContractPolicy()
"""The contract as GATES.md states it."""

LEGACY = ContractPolicy(
    name="legacy",
    rule=PLAIN,
    min_events=0,
    min_cycles=0,
    spread_slack=0.0,
    bucket_edges=(0.5, 0.6, 0.7, 0.8, 0.9),
    bucket_events=1,
)
"""The plain rule: what no event contradicts passes."""

NAMED: Mapping[str, ContractPolicy] = {policy.name: policy for policy in (DEFAULT, LEGACY)}


def named(name: str) -> ContractPolicy:
    """The policy of that name.

    Raises:
        ConfigError: if there is none.

    >>> named("legacy").rule
    'plain'
    """
    if name not in NAMED:
        raise ConfigError(f"policy {name!r}: known names are {', '.join(NAMED)}")
    return NAMED[name]

"""Every threshold of the whole verdict (GATES.md, sections A to D and the watch) in one frozen object with a digest."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

from quantum_trader.core.errors import ConfigError
from quantum_trader.gates.policy import CLUSTERED, DEFAULT, ContractPolicy, typed

SCHEMA = "quantum_trader.policy/1"

_BIG = 1_000_000_000


class _Section:
    """A frozen group of numbers, each with its range; what breaks a rule is refused where it is built."""

    NAME: ClassVar[str]
    RANGES: ClassVar[dict[str, tuple[float, float]]]

    def __post_init__(self) -> None:
        for name, (low, high) in self.RANGES.items():
            value = getattr(self, name)
            # Written so that NaN is refused too.
            if not low <= value <= high:
                raise ConfigError(f"policy: {self.NAME}.{name} = {value!r}, expected {low:g} to {high:g}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """The group from parsed TOML or JSON; what is not named keeps its default.

        Raises:
            ConfigError: for an unknown key, a value of the wrong type or one out of range.
        """
        known = {item.name: item.default for item in fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"policy: unknown key '{cls.NAME}.{unknown[0]}'; known are {', '.join(known)}")
        return cls(**{key: typed(f"{cls.NAME}.{key}", value, known[key]) for key, value in values.items()})

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, such as `from_mapping` reads."""
        return {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class VetoPolicy(_Section):
    """Section B.

    Attributes:
        coverage_min: Smallest share of events with a valid output on time.
        recent_events: Valid events that distinct values and the commonest are counted over.
        distinct_min: Fewest distinct values among them, rounded to 1e-4.
        top_share_max: Largest share of the commonest of them.
        streak_max: Longest run of one rounded value on one symbol, over all events.
        within_share_min: Smallest share of the variance of p that lies within symbols.
        correlation_max: The correlation with the ensemble's score and with every voter lies under it.
        homogeneity_z: Largest distance of a symbol's correlation from the median symbol's, in standard errors.
        homogeneity_cycles: Cycles that make a symbol count there; more than 3, as cycles - 3 is divided by.
        leak_cycles: Cycles before the leak alarm can ring.
        leak_hit_rate: A hit rate above it by `leak_se` standard errors is an alarm.
        leak_se: See there.
        leak_delay_z: z of undelayed minus delayed hit rate above which, with `leak_edge_share`, is an alarm.
        leak_edge_share: The delayed edge over one half is under this share of the undelayed one.
    """

    NAME: ClassVar[str] = "vetoes"
    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "coverage_min": (0.0, 1.0),
        "recent_events": (1, 100_000),
        "distinct_min": (1, 10_001),
        "top_share_max": (0.0, 1.0),
        "streak_max": (1, _BIG),
        "within_share_min": (0.0, 1.0),
        "correlation_max": (0.0, 1.0),
        "homogeneity_z": (0.0, 100.0),
        "homogeneity_cycles": (4, _BIG),
        "leak_cycles": (2, _BIG),
        "leak_hit_rate": (0.5, 1.0),
        "leak_se": (0.0, 100.0),
        "leak_delay_z": (0.0, 100.0),
        "leak_edge_share": (0.0, 1.0),
    }

    coverage_min: float = 0.95
    recent_events: int = 200
    distinct_min: int = 30
    top_share_max: float = 0.10
    streak_max: int = 5
    within_share_min: float = 0.25
    correlation_max: float = 0.95
    homogeneity_z: float = 4.0
    homogeneity_cycles: int = 10
    leak_cycles: int = 20
    leak_hit_rate: float = 0.60
    leak_se: float = 3.0
    leak_delay_z: float = 4.0
    leak_edge_share: float = 0.5


@dataclass(frozen=True, slots=True)
class EvidencePolicy(_Section):
    """Section C.

    Attributes:
        alpha: Chance of promoting a model without skill of its own, however often one looks.
        optimal_blocks: Blocks (sum of squared x) at which the evidence is most powerful; it sets rho.
        refit_bars: Bars between two refits of the shadow on the voters.
        ridge: Penalty on the voters' coefficients, none on the intercept.
        residual_events: Residuals that a refit must find more of for its scale to count.
        residual_min: A scale of the residuals below this says nothing of its own.
        q_clip: Largest standardised residual.
        q_min: A smaller one is none.
        half_life: Of the volatility's exponential weights, bars.
        volatility_weight: Summed weight that a volatility must exceed.
        z_clip: Largest standardised return.
        block_bars: Bars of a block.
        burn_blocks: Earlier blocks with a result before one counts.
    """

    NAME: ClassVar[str] = "evidence"
    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "alpha": (1e-9, 0.2),
        "optimal_blocks": (1e-3, 1e9),
        "refit_bars": (1, 1_000_000),
        "ridge": (1e-6, 1e9),
        "residual_events": (1, _BIG),
        "residual_min": (1e-9, 10.0),
        "q_clip": (0.1, 100.0),
        "q_min": (0.0, 1.0),
        "half_life": (1.0, 1e6),
        "volatility_weight": (1.0, 1e6),
        "z_clip": (0.1, 100.0),
        "block_bars": (1, 1_000_000),
        "burn_blocks": (1, 1_000_000),
    }

    alpha: float = 0.01
    optimal_blocks: float = 200.0
    refit_bars: int = 48
    ridge: float = 5.0
    residual_events: int = 30
    residual_min: float = 0.02
    q_clip: float = 3.0
    q_min: float = 1e-3
    half_life: float = 60.0
    volatility_weight: float = 5.0
    z_clip: float = 5.0
    block_bars: int = 12
    burn_blocks: int = 24

    def alpha_of(self, version: int | None) -> float:
        """What one version of a lineage may spend: 6 alpha / (pi^2 j^2), which sums to alpha over all; alpha for None.

        >>> round(EvidencePolicy().alpha_of(1), 6), EvidencePolicy().alpha_of(None)
        (0.006079, 0.01)
        """
        if version is None:
            return self.alpha
        if version < 1:
            raise ConfigError(f"lineage version {version}: expected 1 or more")
        return 6.0 * self.alpha / (math.pi * version) ** 2


@dataclass(frozen=True, slots=True)
class DeploymentPolicy(_Section):
    """Section D.

    Attributes:
        recalibration_events: Resolved events below which both sides predict one half.
        recalibration_ridge: Events of prior weight on "no skill".
        prediction_min: Recalibrated predictions stay within this and its complement.
        gain_fail_z: A Brier gain at or below this z fails; above it, but not above 0, is insufficient.
        pnl_z: The after-cost difference lies above this z.
        cost: Per unit of turnover, as a log return.
        slice_alpha: Of one family of slices (symbols, regimes), shared out among them.
        regime_cycles: Earlier cycles that a symbol's volatility is ranked among before it has a regime.
        recent_blocks: Fewest blocks of the recent part.
        recent_share: Share of the blocks after the burn-in that are recent.
        recent_z: Their sum is at least this many roots of their sum of squares.
        recent_fail_z: At or below it fails; between the two is insufficient.
    """

    NAME: ClassVar[str] = "deployment"
    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "recalibration_events": (1, _BIG),
        "recalibration_ridge": (0.0, 1e9),
        "prediction_min": (0.0, 0.5),
        "gain_fail_z": (-100.0, 0.0),
        "pnl_z": (-100.0, 0.0),
        "cost": (0.0, 1.0),
        "slice_alpha": (1e-9, 0.5),
        "regime_cycles": (3, _BIG),
        "recent_blocks": (1, _BIG),
        "recent_share": (0.0, 1.0),
        "recent_z": (0.0, 100.0),
        "recent_fail_z": (-100.0, 0.0),
    }

    recalibration_events: int = 50
    recalibration_ridge: float = 200.0
    prediction_min: float = 0.05
    gain_fail_z: float = -1.645
    pnl_z: float = -1.645
    cost: float = 0.0002
    slice_alpha: float = 0.05
    regime_cycles: int = 20
    recent_blocks: int = 24
    recent_share: float = 1.0 / 3.0
    recent_z: float = 1.0
    recent_fail_z: float = -1.645


@dataclass(frozen=True, slots=True)
class WatchPolicy(_Section):
    """The watch after promotion.

    Attributes:
        drift_share: mu of the CUSUM as a share of the promoted mean.
        alarm_odds: The CUSUM rings above the logarithm of this.
        shift_p: A Kolmogorov-Smirnov p below it, together with `shift_psi`, is a shift.
        shift_psi: A population stability index above it is a shift.
        guard_z: A guarded share may exceed its share before promotion by this many standard errors.
        guard_slack: And by this much besides.
        latency_ratio: Largest ratio of the 99th percentile of latency to that before promotion.
        bars: Bars after which the watch ends with a written verdict (24 hours of 5-minute bars).
    """

    NAME: ClassVar[str] = "watch"
    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "drift_share": (1e-6, 1.0),
        "alarm_odds": (1.0 + 1e-9, 1e12),
        "shift_p": (0.0, 1.0),
        "shift_psi": (0.0, 100.0),
        "guard_z": (0.0, 100.0),
        "guard_slack": (0.0, 1.0),
        "latency_ratio": (1.0, 1e6),
        "bars": (1, _BIG),
    }

    drift_share: float = 0.5
    alarm_odds: float = 2000.0
    shift_p: float = 0.001
    shift_psi: float = 0.25
    guard_z: float = 4.0
    guard_slack: float = 0.02
    latency_ratio: float = 1.5
    bars: int = 288


@dataclass(frozen=True, slots=True)
class Policy:
    """Every threshold of a verdict over sections A to D, and of the watch after it.

    Attributes:
        name: For people; not part of the digest.
        contract: Section A; its rule is CLUSTERED.
        vetoes: Section B.
        evidence: Section C.
        deployment: Section D.
        watch: After promotion.
    """

    name: str = "default"
    contract: ContractPolicy = DEFAULT
    vetoes: VetoPolicy = field(default_factory=VetoPolicy)
    evidence: EvidencePolicy = field(default_factory=EvidencePolicy)
    deployment: DeploymentPolicy = field(default_factory=DeploymentPolicy)
    watch: WatchPolicy = field(default_factory=WatchPolicy)

    def __post_init__(self) -> None:
        if self.contract.rule != CLUSTERED:
            raise ConfigError(
                f"policy {self.name!r}: the plain rule promotes nothing; the contract's rule is clustered"
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """A policy from parsed TOML or JSON: `name` and one table for each section; the rest keeps its default.

        Raises:
            ConfigError: for an unknown table or key, a value of the wrong type or one out of range.
        """
        unknown = sorted(set(values) - set(_SECTIONS) - {"name"})
        if unknown:
            raise ConfigError(f"policy: unknown key {unknown[0]!r}; known are name, {', '.join(_SECTIONS)}")
        wrong = [name for name in _SECTIONS if not isinstance(values.get(name, {}), Mapping)]
        if wrong:
            raise ConfigError(f"policy: {wrong[0]} must be a table, not {values[wrong[0]]!r}")
        sections = {name: kind.from_mapping(values[name]) for name, kind in _SECTIONS.items() if name in values}
        return cls(name=typed("name", values.get("name", "default"), "default"), **sections)

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, such as `from_mapping` reads."""
        return {"name": self.name, **{name: getattr(self, name).to_mapping() for name in _SECTIONS}}

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal, of the canonical JSON (sorted keys, no spaces) of everything but the names."""
        content = {key: value for key, value in self.to_mapping().items() if key != "name"}
        content["contract"] = {key: value for key, value in content["contract"].items() if key != "name"}
        content["schema"] = SCHEMA
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()


_SECTIONS: Mapping[str, Any] = {
    "contract": ContractPolicy,
    "vetoes": VetoPolicy,
    "evidence": EvidencePolicy,
    "deployment": DeploymentPolicy,
    "watch": WatchPolicy,
}

WHOLE = Policy()
"""Everything as GATES.md states it."""

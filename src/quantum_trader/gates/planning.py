"""How long until a verdict can fall: blocks and calendar time for a model of given strength (GATES.md, Planning).

Calendar time counts, not events: evidence comes in blocks, the contract wants whole cycles.

From accuracy to the standardised mean of a block, every view taken as normal:

- a share `a` of right directions is a correlation of sin(pi (a - 1/2)) with the return over the horizon;
- what the voters know too is taken out: (r - c v) / sqrt(1 - c^2), c the correlation with the ensemble, v its own;
- a block holds 12 d S views a bar; their sum grows with them, its error with their root, wider where views overlap in
  time (persistence) or symbols move alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from quantum_trader.core.errors import ConfigError
from quantum_trader.core.labels import DELAY, HORIZON
from quantum_trader.gates.evidence import blocks_needed, rho_of
from quantum_trader.gates.sample import CYCLE
from quantum_trader.gates.whole_policy import WHOLE, Policy

SPREAD_ACCURACY = 0.568
"""A calibrated model that is right less often cannot vary its confidence as much as the contract asks."""

ACCURACIES = (0.53, 0.54, 0.55)
"""What people ask for."""

MS_PER_DAY = 86_400_000


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often is what decided, and how the model relates to the voters.

    The defaults of the last four describe the study's skilful model (golden g11): 54.1 % right, ten symbols, one
    decision in twelve bars, a standardised mean of 0.215.

    Attributes:
        symbols: Symbols.
        bar_ms: Length of a bar, milliseconds.
        share: Decisions per symbol and bar, above 0 and at most 1.
        overlap: Correlation of the model's log-odds with the ensemble's score.
        ensemble: Accuracy of the ensemble.
        persistence: Mean autocorrelation of the model's own view within the horizon.
        alike: Correlation of what its own view earns on two symbols.
    """

    symbols: int
    bar_ms: int
    share: float = 1.0
    overlap: float = 0.6
    ensemble: float = 0.52
    persistence: float = 0.5
    alike: float = 0.1

    def __post_init__(self) -> None:
        ranges = {
            "symbols": self.symbols >= 1,
            "bar_ms": self.bar_ms >= 1,
            "share": 0 < self.share <= 1,
            "overlap": -1 < self.overlap < 1,
            "ensemble": 0 < self.ensemble < 1,
            "persistence": 0 <= self.persistence <= 1,
            "alike": 0 <= self.alike <= 1,
        }
        wrong = [name for name, holds in ranges.items() if not holds]
        if wrong:
            raise ConfigError(f"plan: {wrong[0]} = {getattr(self, wrong[0])!r} is out of range")


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a verdict can be expected for one strength.

    Attributes:
        accuracy: Share of right directions.
        mean: Standardised mean of a block.
        blocks: Blocks of evidence needed; None if it never suffices.
        bars: Bars until the verdict, at a cycle's end, the contract's minimum and the start of the evidence included.
        events: Decisions until then.
        days: Days until then.
        reaches_spread: Whether such a model, calibrated, can reach the contract's confidence spread.
        reason: What decides the length, one sentence.
    """

    accuracy: float
    mean: float
    blocks: int | None
    bars: int | None
    events: int | None
    days: float | None
    reaches_spread: bool
    reason: str


def correlation_of(accuracy: float) -> float:
    """Correlation of a normal view with a return whose sign it gets right that often.

    >>> round(correlation_of(0.541), 4)
    0.1284
    """
    return math.sin(math.pi * (accuracy - 0.5))


def block_mean(accuracy: float, cadence: Cadence) -> float:
    """Standardised mean of a block of a model of that accuracy; not positive where it adds nothing to the voters."""
    alone = correlation_of(accuracy) - cadence.overlap * correlation_of(cadence.ensemble)
    own = alone / math.sqrt(1.0 - cadence.overlap**2)
    held = 1.0 + (HORIZON - 1) * cadence.share * cadence.persistence
    together = 1.0 + (cadence.symbols - 1) * cadence.alike
    return own * math.sqrt(HORIZON * cadence.symbols * cadence.share / (held * together))


def least_bars(cadence: Cadence, policy: Policy = WHOLE) -> int:
    """Bars before the contract can conclude anything: its cycles, and its events at this cadence."""
    per_cycle = cadence.symbols * cadence.share * CYCLE
    return CYCLE * max(policy.contract.min_cycles, math.ceil(policy.contract.min_events / per_cycle))


def forecast(accuracy: float, cadence: Cadence, policy: Policy = WHOLE, version: int | None = None) -> Forecast:
    """When a verdict can be expected for a model of one accuracy.

    Raises:
        ConfigError: if the accuracy is no share above one half.
    """
    if not 0.5 < accuracy < 1.0:
        raise ConfigError(f"plan: accuracy {accuracy!r}: expected a share above 0.5 and below 1")
    rules = policy.evidence
    mean = block_mean(accuracy, cadence)
    rho = rho_of(rules.optimal_blocks, rules.alpha)
    blocks = blocks_needed(mean, rho, rules.alpha_of(version))
    spread = accuracy >= SPREAD_ACCURACY
    if blocks is None:
        reason = "It adds nothing to what the voters know; no time suffices."
        return Forecast(accuracy, mean, None, None, None, None, spread, reason)
    silent = _silent_bars(cadence, policy)
    evidence = silent + blocks * rules.block_bars
    least = least_bars(cadence, policy)
    bars = CYCLE * math.ceil(max(evidence, least) / CYCLE)
    why = "the evidence" if evidence > least else "the contract's least number of cycles and events"
    return Forecast(
        accuracy=accuracy,
        mean=mean,
        blocks=blocks,
        bars=bars,
        events=round(bars * cadence.symbols * cadence.share),
        days=bars * cadence.bar_ms / MS_PER_DAY,
        reaches_spread=spread,
        reason=f"{why[0].upper()}{why[1:]} decides how long it takes.",
    )


def plan(
    cadence: Cadence, accuracies: Sequence[float] = ACCURACIES, policy: Policy = WHOLE, version: int | None = None
) -> tuple[Forecast, ...]:
    """How long until this can be decided at a cadence, for models of several accuracies.

    Raises:
        ConfigError: if an accuracy is no share above one half.
    """
    return tuple(forecast(accuracy, cadence, policy, version) for accuracy in accuracies)


def _silent_bars(cadence: Cadence, policy: Policy) -> int:
    """Bars before a block counts: a refit that finds enough residuals, then the burn-in."""
    rules = policy.evidence
    first = math.ceil((rules.residual_events + 1) / (cadence.symbols * cadence.share))
    refit = rules.refit_bars * math.ceil(max(first, 1) / rules.refit_bars)
    return refit + DELAY + 1 + rules.burn_blocks * rules.block_bars

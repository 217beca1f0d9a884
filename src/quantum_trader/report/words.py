"""Numbers and times as text, the same in the terminal and in the HTML file."""

import math

from quantum_trader.core.errors import format_ms
from quantum_trader.core.predictions import Status
from quantum_trader.gates.clustered import Estimate
from quantum_trader.gates.deployment import AFTER_COST, BRIER_GAIN, BY_REGIME, BY_SYMBOL, RECENT
from quantum_trader.gates.evidence import EVIDENCE
from quantum_trader.gates.result import (
    ACTION_DIVERSITY,
    CALIBRATION,
    CONFIDENCE_SPREAD,
    SHADOW_CORRELATION,
    GateResult,
    GateState,
)
from quantum_trader.gates.sample import CYCLE
from quantum_trader.gates.verdict import Verdict
from quantum_trader.gates.vetoes import COVERAGE, DEGENERATE, HOMOGENEOUS, LEAK, REDUNDANT

Z95 = 1.959963984540054
"""Standard errors on each side of a 95 % interval."""

NONE = "–"
"""Stands for a number that does not exist."""

STATE_MARKS = {
    "PASS": "✓",
    "FAIL": "✗",
    "INSUFFICIENT": "…",
    "PROMOTE": "✓",
    "REJECT": "✗",
    "HOLD": "…",
    "INVALID": "!",
}
"""A sign beside the word, so that nothing is told by colour alone."""

STATUS_WORDS = {
    Status.OK: "on time",
    Status.LATE: "late",
    Status.FAILED: "failed",
    Status.MISSING: "missing",
    Status.REFUSED: "refused",
}
"""How the statuses are called in a table's head."""

SECTIONS = {
    "A": "The contract",
    "B": "Vetoes",
    "C": "Evidence",
    "D": "Had it voted",
}
"""Titles of GATES.md's sections."""

SECTION_WORDS = {
    "A": "what the four gates say",
    "B": "what alone keeps a model from a vote",
    "C": "what it knows that the voters do not, however often one looks",
    "D": "would its vote have helped",
}
"""What each section asks."""

_SHARES = (ACTION_DIVERSITY, SHADOW_CORRELATION, COVERAGE, DEGENERATE, LEAK)
_DIGITS = {CALIBRATION: 3, REDUNDANT: 3, HOMOGENEOUS: 2, EVIDENCE: 2, BY_SYMBOL: 2, BY_REGIME: 2, RECENT: 2}
_AT_MOST = (ACTION_DIVERSITY, DEGENERATE, HOMOGENEOUS, LEAK)
_ABOVE = (BRIER_GAIN, AFTER_COST)


def percent(value: float, digits: int = 1) -> str:
    """A share in per cent.

    >>> percent(0.5123)
    '51.2%'
    """
    return NONE if math.isnan(value) else f"{value:.{digits}%}"


def decimal(value: float, digits: int = 4) -> str:
    """A number with fixed digits.

    >>> decimal(float("nan"))
    '–'
    """
    return NONE if math.isnan(value) else f"{value:.{digits}f}"


def percent_se(estimate: Estimate, *, count: bool = False) -> str:
    """A share with its standard error, both in per cent, and with `count` the events.

    >>> percent_se(Estimate(0.512, 0.013, 1204, 900.0, 40), count=True)
    '51.2% ± 1.3 (1,204)'
    """
    if math.isnan(estimate.value):
        return NONE
    text = f"{estimate.value:.1%} ± {_error(100 * estimate.se, 1, estimate.clusters)}"
    return f"{text} ({estimate.n:,})" if count else text


def decimal_se(estimate: Estimate, digits: int = 3) -> str:
    """A number with its standard error."""
    if math.isnan(estimate.value):
        return NONE
    return f"{estimate.value:.{digits}f} ± {_error(estimate.se, digits, estimate.clusters)}"


def basis_points_se(estimate: Estimate) -> str:
    """A mean log return in basis points with its standard error.

    >>> basis_points_se(Estimate(0.00033, 0.00015, 50, 40.0, 12))
    '+3.30 ± 1.50 bp'
    """
    if math.isnan(estimate.value):
        return NONE
    return f"{1e4 * estimate.value:+,.2f} ± {_error(1e4 * estimate.se, 2, estimate.clusters)} bp"


def _error(se: float, digits: int, clusters: int) -> str:
    """A standard error; one cluster alone gives exactly 0, which is no knowledge."""
    return f"{se:.{digits}f}" if clusters > 1 else NONE


def basis_points(value: float) -> str:
    """A log return in basis points, with its sign.

    >>> basis_points(-0.00123)
    '-12.3 bp'
    """
    return NONE if math.isnan(value) else f"{1e4 * value:+,.1f} bp"


def gate_number(gate: GateResult) -> str:
    """A line's number ± standard error."""
    if math.isnan(gate.value):
        return NONE
    share, digits = gate.name in _SHARES, _DIGITS.get(gate.name, 4)
    number = f"{gate.value:.1%}" if share else f"{gate.value:.{digits}f}"
    # The plain rule knows no standard errors, nor does the evidence need one.
    if math.isnan(gate.se):
        return number
    return f"{number} ± {_error(100 * gate.se if share else gate.se, 1 if share else digits, gate.cycles)}"


def gate_threshold(gate: GateResult) -> str:
    """What a line's number is compared with."""
    if math.isnan(gate.threshold):
        return NONE
    number = f"{gate.threshold:.1%}" if gate.name in _SHARES else f"{gate.threshold:.3f}"
    return f"{sign(gate)} {number}"


def sign(gate: GateResult) -> str:
    """How a line's number is compared with its threshold."""
    if gate.name == REDUNDANT:
        return "<"
    return "≤" if gate.name in _AT_MOST else ">" if gate.name in _ABOVE else "≥"


def gate_sizes(gate: GateResult) -> str:
    """Events, raw and effective."""
    effective = NONE if math.isnan(gate.n_effective) else f"{gate.n_effective:,.0f}"
    return f"{gate.n:,} / {effective}"


def minute(ts_ms: int) -> str:
    """A time to the minute, UTC.

    >>> minute(1767321393250)
    '2026-01-02 02:36'
    """
    return format_ms(ts_ms)[:16].replace("T", " ")


def price(value: float) -> str:
    """A price with six significant digits and no exponent.

    >>> price(98123.456), price(0.00001234)
    ('98,123.5', '0.00001234')
    """
    digits = max(0, 5 - math.floor(math.log10(value))) if value > 0 else 2
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def short(digest: str) -> str:
    """The first twelve characters of a digest."""
    return digest[:12]


def days(milliseconds: int) -> str:
    """A span in days or, below two, in hours.

    >>> days(90 * 60_000), days(10 * 86_400_000)
    ('1.5 hours', '10.0 days')
    """
    if milliseconds < 2 * 86_400_000:
        return f"{milliseconds / 3_600_000:.1f} hours"
    return f"{milliseconds / 86_400_000:.1f} days"


def plain_rule(verdict: Verdict) -> str:
    """What the rule without standard errors would say of the same events; empty where it was not asked."""
    plain = verdict.plain
    if plain is None:
        return ""
    ready = "ready" if plain.ready else "not ready"
    return (
        f"For comparison, the plain rule (no standard errors, agreement counted as accuracy) says {ready}: "
        f"{plain.passed} of 4. It promotes nothing."
    )


def side_by_side(verdict: Verdict) -> list[tuple[str, str, str, str, str]]:
    """For each gate: its name, what this policy says and of what number, what the plain rule says and of what number.

    Empty where the plain rule was not asked.
    """
    plain = verdict.plain
    if plain is None:
        return []
    said = {
        ACTION_DIVERSITY: (plain.diverse, percent(plain.max_share)),
        CONFIDENCE_SPREAD: (plain.spread_out, decimal(plain.spread)),
        SHADOW_CORRELATION: (plain.correlated, percent(plain.agreement)),
        CALIBRATION: (plain.calibrated, "agreement per bucket"),
    }
    return [
        (gate.name, gate.state.value, gate_number(gate), "PASS" if said[gate.name][0] else "FAIL", said[gate.name][1])
        for gate in verdict.gates
    ]


def gate_needs(gate: GateResult, bar_ms: int = 0) -> str:
    """What an INSUFFICIENT line needs; empty for any other.

    Args:
        gate: The line.
        bar_ms: Length of a bar; with it the need is said in days too.
    """
    if gate.state is not GateState.INSUFFICIENT or gate.more_events == 0:
        return ""
    if gate.more_events is None or gate.more_cycles is None:
        return "More events of this kind will not settle it."
    span = f", {days(gate.more_cycles * CYCLE * bar_ms)}" if bar_ms else ""
    return f"Needs about {gate.more_events:,} more events ({gate.more_cycles:,} cycles{span})."


def interval(value: float, se: float) -> str:
    """A 95 % interval of a log return in basis points, from its standard error.

    >>> interval(0.001, 0.0005)
    '+0.2 to +19.8 bp'
    """
    if math.isnan(value) or math.isnan(se):
        return NONE
    return f"{1e4 * (value - Z95 * se):+,.1f} to {1e4 * (value + Z95 * se):+,.1f} bp"


def share_interval(estimate: Estimate) -> str:
    """A 95 % interval of a share, from its clustered standard error.

    >>> share_interval(Estimate(0.5, 0.01, 100, 90.0, 20))
    '48.0% to 52.0%'
    """
    if math.isnan(estimate.value):
        return NONE
    half = Z95 * estimate.se
    return f"{max(0.0, estimate.value - half):.1%} to {min(1.0, estimate.value + half):.1%}"

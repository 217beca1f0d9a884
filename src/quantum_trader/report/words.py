"""Numbers and times as text, the same in the terminal and in the HTML file."""

import math

from quantum_trader.core.errors import format_ms
from quantum_trader.core.predictions import Status
from quantum_trader.gates.clustered import Estimate
from quantum_trader.gates.result import (
    ACTION_DIVERSITY,
    CALIBRATION,
    CONFIDENCE_SPREAD,
    SHADOW_CORRELATION,
    GateResult,
    GateState,
)
from quantum_trader.gates.verdict import Verdict

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

_SHARES = (ACTION_DIVERSITY, SHADOW_CORRELATION)
_SIGNS = {ACTION_DIVERSITY: "≤", CONFIDENCE_SPREAD: "≥", SHADOW_CORRELATION: "≥", CALIBRATION: "≥"}


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
    """A gate's number ± standard error."""
    if math.isnan(gate.value):
        return NONE
    share = gate.name in _SHARES
    digits = 1 if share else 3 if gate.name == CALIBRATION else 4
    number = f"{gate.value:.1%}" if share else f"{gate.value:.{digits}f}"
    # The plain rule knows no standard errors.
    if math.isnan(gate.se):
        return number
    return f"{number} ± {_error(100 * gate.se if share else gate.se, digits, gate.cycles)}"


def gate_threshold(gate: GateResult) -> str:
    """What a gate's number is compared with."""
    if math.isnan(gate.threshold):
        return NONE
    number = f"{gate.threshold:.1%}" if gate.name in _SHARES else f"{gate.threshold:.3f}"
    return f"{_SIGNS[gate.name]} {number}"


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


def gate_needs(gate: GateResult) -> str:
    """What an INSUFFICIENT gate needs; empty for any other."""
    if gate.state is not GateState.INSUFFICIENT or gate.more_events == 0:
        return ""
    if gate.more_events is None or gate.more_cycles is None:
        return "More events of this kind will not settle it."
    return f"Needs about {gate.more_events:,} more events ({gate.more_cycles:,} cycles)."

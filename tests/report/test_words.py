"""Numbers as text: what does not exist is a dash, never `nan`; doctests of the module hold."""

import doctest
import math
from dataclasses import replace

import pytest

from quantum_trader.gates.clustered import Estimate
from quantum_trader.gates.result import CALIBRATION, CONFIDENCE_SPREAD, GATES, GateResult, GateState
from quantum_trader.report import views, words

NOTHING = Estimate(math.nan, math.nan, 0, 0.0, 0)


def gate(name: str = CONFIDENCE_SPREAD, **changes: object) -> GateResult:
    line = GateResult(name, GateState.PASS, 0.0612, 0.0021, 1204, 811.4, 30, 0.05, "rule", "reason")
    return replace(line, **changes)


@pytest.mark.parametrize("module", [words, views])
def test_the_examples_in_docstrings_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted > 0


@pytest.mark.parametrize(
    "text",
    [
        words.percent(math.nan),
        words.decimal(math.nan),
        words.percent_se(NOTHING, count=True),
        words.decimal_se(NOTHING),
        words.basis_points(math.nan),
        words.basis_points_se(NOTHING),
        words.gate_number(gate(value=math.nan)),
        words.gate_threshold(gate(threshold=math.nan)),
    ],
)
def test_a_number_that_does_not_exist_is_a_dash(text: str) -> None:
    assert text == words.NONE


def test_gates_show_number_threshold_and_sizes() -> None:
    assert words.gate_number(gate()) == "0.0612 ± 0.0021"
    assert words.gate_number(gate(GATES[0], value=0.4253)) == "42.5% ± 0.2"
    assert words.gate_number(gate(CALIBRATION, value=0.5561, se=0.0648)) == "0.556 ± 0.065"
    assert words.gate_number(gate(se=math.nan)) == "0.0612"
    assert words.gate_threshold(gate()) == "≥ 0.050"
    assert words.gate_threshold(gate(GATES[0], threshold=0.7)) == "≤ 70.0%"
    assert words.gate_sizes(gate()) == "1,204 / 811"
    assert words.gate_sizes(gate(n_effective=math.nan)) == "1,204 / –"


def test_one_cluster_has_no_standard_error() -> None:
    lonely = Estimate(0.5, 0.0, 8, 1.0, 1)
    assert words.percent_se(lonely, count=True) == "50.0% ± – (8)"
    assert words.decimal_se(lonely) == "0.500 ± –"
    assert words.gate_number(gate(se=0.0, cycles=1)) == "0.0612 ± –"


def test_only_an_open_gate_needs_something() -> None:
    open_gate = gate(state=GateState.INSUFFICIENT, more_events=1500, more_cycles=12)
    assert words.gate_needs(open_gate) == "Needs about 1,500 more events (12 cycles)."
    assert words.gate_needs(replace(open_gate, more_events=None)) == "More events of this kind will not settle it."
    assert words.gate_needs(replace(open_gate, state=GateState.FAIL)) == ""


@pytest.mark.parametrize(
    ("value", "text"), [(91_234.567, "91,234.6"), (2.07, "2.07"), (1_234_567.0, "1,234,567"), (0.000012, "0.000012")]
)
def test_prices_have_six_digits_and_no_exponent(value: float, text: str) -> None:
    assert words.price(value) == text

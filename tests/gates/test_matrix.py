"""The generated contract matrix: every line of a verdict on every degenerate input, and what else is judged or fitted.

A line that is not named for an input must not pass on it. One that is named passes for the reason that stands beside
it, on a number that was measured: from at least one event, and finite.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from quantum_trader.core.errors import CalibrationError
from quantum_trader.gates.calibration import corp, l2_error, murphy, platt, reliability, uniform_bins
from quantum_trader.gates.calibration_fit import Method, Resolved, fit, walk_forward
from quantum_trader.gates.deployment import AFTER_COST, BRIER_GAIN, BY_REGIME, BY_SYMBOL, DEPLOYMENT
from quantum_trader.gates.evidence import EVIDENCE
from quantum_trader.gates.judge import judge
from quantum_trader.gates.planning import Cadence, least_bars, plan
from quantum_trader.gates.quality import quality
from quantum_trader.gates.result import (
    ACTION_DIVERSITY,
    CONFIDENCE_SPREAD,
    GATES,
    SHADOW_CORRELATION,
    GateResult,
    GateState,
)
from quantum_trader.gates.sample import CYCLE, Sample
from quantum_trader.gates.scores import auc, brier, hit_rate, log_loss
from quantum_trader.gates.verdict import Verdict, VerdictState
from quantum_trader.gates.vetoes import COVERAGE, DEGENERATE, HOMOGENEOUS, LEAK, REDUNDANT, VETOES
from quantum_trader.gates.watch import Conduct, WatchState, watch
from quantum_trader.gates.whole_policy import WatchPolicy

PROMOTE, REJECT, HOLD, INVALID = VerdictState
Make = Callable[..., Any]

LINES = (*GATES, *VETOES, EVIDENCE, *DEPLOYMENT)

EARLIER = {COVERAGE, DEGENERATE, REDUNDANT, HOMOGENEOUS}
"""Vetoes that need no outcome."""

SHAPES = {ACTION_DIVERSITY, CONFIDENCE_SPREAD}
"""Gates that need no outcome and, in these worlds, pass; the model is at odds with the ensemble in all of them."""

SKILFUL = set(LINES) - {SHADOW_CORRELATION}


def _with_model(p_up: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda w: w.with_model(p_up(w))


def _one_class(w: Any) -> Any:
    # Prices only rise, and the model says so.
    prices = np.cumsum(np.abs(np.diff(w.log_price, axis=0, prepend=0.0)) + 1e-6, axis=0)
    return replace(w.with_model(np.maximum(w.p_up, 1 - w.p_up)), log_price=prices)


def _no_voters(w: Any) -> Any:
    n = len(w.bar)
    nobody, held = np.full((n, 3), np.nan), np.zeros((n, 3), np.int8)
    return replace(w, voter_p=nobody, voter_action=held, ensemble=np.zeros(n, np.int8))


def _certain_voters(w: Any) -> Any:
    return replace(w, voter_p=np.where(w.voter_p > 0.55, 1.0, np.where(w.voter_p < 0.45, 0.0, w.voter_p)))


def _prices(value: float) -> Callable[[Any], Any]:
    return lambda w: replace(w, log_price=np.full(w.log_price.shape, value))


def _same(w: Any) -> Any:
    return w


def _rows(chosen: Callable[[int], Any]) -> Callable[[Any], Any]:
    return lambda w: w.take(chosen(len(w.bar)))


INPUTS: dict[str, tuple[dict[str, Any], Callable[[Any], Any], VerdictState, set[str]]] = {
    # Name: of which world, changed how; the verdict; the lines that pass.
    "empty": ({"bars": 0}, _same, HOLD, set()),
    "one row": ({"bars": 1, "symbols": 1}, _same, HOLD, set()),
    "one bar short of a cycle": ({"bars": CYCLE - 1}, _same, HOLD, set()),
    "one cycle of many events": ({"bars": CYCLE, "symbols": 60}, _same, HOLD, set()),
    # The evidence is valid at any time; nothing else concludes anything.
    "19 cycles": ({"bars": 19 * CYCLE}, _same, HOLD, {EVIDENCE}),
    "no event": ({"bars": 40 * CYCLE}, _rows(lambda _: np.empty(0, int)), HOLD, set()),
    "all missing": ({}, _with_model(lambda w: np.full(len(w.bar), np.nan)), REJECT, set()),
    "some missing": (
        {},
        _with_model(lambda w: np.where(w.bar % 25 == 0, np.nan, w.p_up)),
        PROMOTE,
        SKILFUL,
    ),
    # Degenerate Output rejects it. A correlation without variance counts as 0 (GATES.md, "Exact forms"), and its vote
    # is measured like any other: golden g11's `frozen`.
    "constant": (
        {},
        _with_model(lambda w: np.full(len(w.bar), 0.61502802372)),
        REJECT,
        {COVERAGE, REDUNDANT, HOMOGENEOUS, LEAK, AFTER_COST, BY_SYMBOL, BY_REGIME},
    ),
    # Both sides' recalibrations predict the one class, so that no slice can be worse off.
    "one class": ({}, _one_class, REJECT, {*SHAPES, *EARLIER, AFTER_COST, BY_SYMBOL, BY_REGIME}),
    "no prices": ({}, _prices(math.nan), HOLD, SHAPES | EARLIER),
    # Every outcome is a fall: a decision that the model turns into HOLD saves its cost.
    "prices that stand still": ({}, _prices(0.0), HOLD, {*SHAPES, *EARLIER, LEAK, AFTER_COST, BY_SYMBOL, BY_REGIME}),
    "no voters": ({}, _no_voters, HOLD, SKILFUL - {REDUNDANT, HOMOGENEOUS}),
    # Log-odds of 27 drown the pool: a model with skill gains nothing there.
    "certain voters": ({}, _certain_voters, HOLD, SKILFUL - {BRIER_GAIN}),
    # One symbol cannot differ from itself, and Homogeneous says so: "of 1 symbols".
    "one symbol": ({"symbols": 1, "skill": 0.25}, _same, PROMOTE, SKILFUL),
    "ties": ({}, _with_model(lambda w: np.round(w.p_up, 1)), REJECT, SKILFUL - {DEGENERATE}),
    "unsorted": ({}, _rows(lambda n: np.random.default_rng(1).permutation(n)), PROMOTE, SKILFUL),
    "duplicated": ({"bars": 30 * CYCLE}, _rows(lambda n: np.repeat(np.arange(n), 2)), INVALID, set()),
    "no probability": ({}, _with_model(lambda w: np.where(w.bar == 99, 1.5, w.p_up)), INVALID, set()),
    "NaN confidence": ({}, _same, INVALID, set()),
    "voters' actions missing": (
        {},
        lambda w: replace(w, voter_action=np.full(w.voter_action.shape, np.nan)),
        INVALID,
        set(),
    ),
}


@pytest.fixture(scope="module")
def judged(world: Make) -> Callable[[str], Verdict]:
    """The verdict on an input, made once."""

    @cache
    def make(name: str) -> Verdict:
        built, change, _, _ = INPUTS[name]
        w = change(world(**built))
        sample = w.sample()
        if name == "NaN confidence":
            sample = replace(sample, confidence=np.where(sample.bar == 99, np.nan, sample.confidence))
        return judge(sample, w.panel())

    return make


def lines_of(verdict: Verdict) -> dict[str, GateResult]:
    assert verdict.whole is not None
    return {line.name: line for line in (*verdict.gates, *verdict.whole.checks)}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("name", INPUTS)
def test_a_line_passes_only_on_what_it_measured(judged: Callable[[str], Verdict], name: str, line: str) -> None:
    found = lines_of(judged(name))[line]
    assert (found.state is GateState.PASS) == (line in INPUTS[name][3]), found
    assert found.reason.endswith(".")
    if found.state is GateState.INSUFFICIENT:
        assert (found.more_events is None) == (found.more_cycles is None)
        assert found.more_cycles is None or found.more_cycles > 0 or judged(name).state is INVALID
    else:
        assert found.n > 0
        assert math.isfinite(found.value)
        assert math.isfinite(found.threshold)
        assert (found.more_events, found.more_cycles) == (0, 0)


@pytest.mark.parametrize("name", INPUTS)
def test_the_verdict_follows(judged: Callable[[str], Verdict], name: str) -> None:
    verdict, expected = judged(name), INPUTS[name][2]
    assert verdict.state is expected, verdict.summary
    assert verdict.exit_code == expected.exit_code
    assert tuple(lines_of(verdict)) == LINES
    json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    if expected is PROMOTE:
        assert len(INPUTS[name][3]) >= len(LINES) - 1


@pytest.mark.parametrize("line", LINES)
def test_the_matrix_says_something_of_every_line(line: str) -> None:
    # A line that passes nowhere here, or everywhere, would not be tested by it. The world's model is at odds with the
    # ensemble, so that Shadow Correlation passes only where the contract's own matrix says (test_contract.py).
    passing = [name for name, (*_, lines) in INPUTS.items() if line in lines]
    assert bool(passing) == (line != SHADOW_CORRELATION)
    assert len(passing) < len(INPUTS)


# ---- What else is judged, measured or fitted, on arrays that are degenerate in the same ways ----

rng = np.random.default_rng(8)
N = 4 * CYCLE * 80
LOGIT = rng.normal(0.0, 1.0, N)
CERTAIN = rng.integers(0, 2, N).astype(float)

ARRAYS: dict[str, tuple[Any, Any]] = {
    # p and y of N events, four a bar.
    "empty": (np.empty(0), np.empty(0)),
    "one row": (np.array([0.6]), np.array([1.0])),
    "all missing": (np.full(N, np.nan), rng.integers(0, 2, N).astype(float)),
    "constant": (np.full(N, 0.615), rng.integers(0, 2, N).astype(float)),
    "one class": (1 / (1 + np.exp(-LOGIT)), np.ones(N)),
    "no outcome": (1 / (1 + np.exp(-LOGIT)), np.full(N, np.nan)),
    "ties": (np.round(1 / (1 + np.exp(-LOGIT)), 1), (rng.random(N) < 1 / (1 + np.exp(-LOGIT / 3))).astype(float)),
    "certain": (CERTAIN, np.where(rng.random(N) < 0.7, CERTAIN, 1.0 - CERTAIN)),
}


def events_of(name: str, symbols: int = 4) -> Resolved:
    p, y = ARRAYS[name]
    n = len(p)
    outcome = np.where(np.isnan(y), np.nan, np.where(y > 0, 1e-3, -1e-3))
    bar = np.arange(n) // symbols
    sample = Sample.of(bar, np.arange(n) % symbols, p, np.sign(p - 0.5), np.zeros(n), forward=outcome, bars=n + 20)
    return Resolved.of(sample)


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("name", ARRAYS)
def test_a_calibration_is_fitted_only_where_there_is_something_to_learn(name: str, method: Method) -> None:
    events = events_of(name)
    if name in {"ties", "certain"}:
        assert walk_forward(events, method).helps
        mapped = fit(events, method)(np.linspace(0, 1, 101))
        assert (np.diff(mapped) >= 0).all()
        assert name == "ties" or (mapped[0], mapped[-1]) == pytest.approx((0.3, 0.7), abs=0.02)
        return
    with pytest.raises(CalibrationError):
        fit(events, method)
    if len(events) < 500:
        with pytest.raises(CalibrationError):
            walk_forward(events, method)
    else:
        assert not walk_forward(events, method).helps


@pytest.mark.parametrize("method", list(Method))
def test_a_calibration_does_not_depend_on_order_or_on_one_symbol(method: Method) -> None:
    events, other = events_of("ties"), events_of("ties", 1)
    p, y = ARRAYS["ties"]
    order = np.random.default_rng(2).permutation(N)
    bar = np.arange(N) // 4
    forward = np.where(y > 0, 1e-3, -1e-3)
    shuffled = Sample.of(
        bar[order], (np.arange(N) % 4)[order], p[order], np.sign(p - 0.5)[order], np.zeros(N), forward=forward[order],
        bars=N + 20,
    )  # fmt: skip
    assert fit(Resolved.of(shuffled), method) == fit(events, method)
    assert fit(other, method) == fit(events, method)
    twice = Sample.of(bar // 2, np.arange(N) % 4, p, np.zeros(N), np.zeros(N), forward=forward, bars=N)
    with pytest.raises(CalibrationError, match="there twice"):
        Resolved.of(twice)


MEASURES: dict[str, Callable[[Any, Any], Any]] = {
    "brier": brier,
    "log-loss": log_loss,
    "auc": auc,
    "hit rate": hit_rate,
    "ece": lambda p, y: reliability(p, y, uniform_bins(p), 10).ece,
    "mce": lambda p, y: reliability(p, y, uniform_bins(p), 10).mce,
    "murphy": lambda p, y: murphy(p, y).reliability,
    "corp": lambda p, y: corp(p, y).miscalibration,
    "l2": lambda p, y: l2_error(p, y).debiased,
    "platt": lambda p, y: platt(p, y).slope,
    "quality": lambda p, y: quality(p, y, np.arange(len(p)) // CYCLE).ece.value,
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", sorted(set(ARRAYS) - {"all missing", "no outcome"}))
def test_a_measure_is_finite_or_says_that_it_is_none(name: str, measure: str) -> None:
    p, y = ARRAYS[name]
    found = MEASURES[measure](p, y)
    undefined = {"empty"} | {"auc": {"one row", "one class"}, "platt": {"one row", "one class", "constant"}}.get(
        measure, set()
    )
    assert math.isfinite(found) == (name not in undefined)


WATCH = WatchPolicy()
BUSY = Conduct(2000, (0, 200, 900, 900), 1400, 100, 4, 20.0)
NOBODY = Conduct(0, (), 0, 0, 0)
BLOCKS = {
    "empty": np.empty(0),
    "one row": np.array([0.2]),
    "constant": np.full(24, 0.2),
    "silent": np.zeros(24),
    "ties": np.tile([0.5, -0.1], 12),
}


@pytest.mark.parametrize("after", [NOBODY, Conduct(1, (0, 1), 1, 0, 0), BUSY], ids=["nobody", "one", "busy"])
@pytest.mark.parametrize("before", [NOBODY, BUSY], ids=["from nothing", "from something"])
@pytest.mark.parametrize("name", BLOCKS)
def test_the_watch_keeps_only_what_it_watched(name: str, before: Conduct, after: Conduct) -> None:
    verdict = watch(BLOCKS[name], 0.2, before, after, WATCH.bars, WATCH, 12)
    states = {line.name: line.state for line in verdict.lines}
    compared = before.decisions and after.decisions
    for guard in ("Consensus", "Agreement", "Contention", "Errors"):
        assert (states[guard] is GateState.INSUFFICIENT) == (not compared), guard
    known = not math.isnan(before.latency_p99_ms) and not math.isnan(after.latency_p99_ms)
    assert (states["Latency"] is GateState.INSUFFICIENT) == (not known)
    assert (states["CUSUM"] is GateState.INSUFFICIENT) == (len(BLOCKS[name]) == 0)
    assert (verdict.state is WatchState.KEEP) == (len(BLOCKS[name]) >= WATCH.bars // 12 and after.decisions > 0)
    if verdict.state is WatchState.KEEP:
        assert ("Not compared: Consensus" in verdict.summary) == (not compared)
    json.dumps(verdict.to_dict(), allow_nan=False)


@pytest.mark.parametrize("symbols", [1, 50])
@pytest.mark.parametrize("share", [1e-6, 1.0])
@pytest.mark.parametrize("ensemble", [0.4, 0.5, 0.9])
def test_a_plan_never_promises_less_than_the_contract_asks(symbols: int, share: float, ensemble: float) -> None:
    cadence = Cadence(symbols=symbols, bar_ms=300_000, share=share, ensemble=ensemble)
    assert plan(cadence, ()) == ()
    for found in plan(cadence, (0.5 + 1e-9, 0.54, 1.0 - 1e-9)):
        if found.bars is None:
            assert (found.blocks, found.events, found.days) == (None, None, None)
            assert found.mean < 1e-3
            continue
        assert found.bars >= least_bars(cadence) >= 20 * CYCLE
        assert found.bars % CYCLE == 0
        assert found.events is not None
        assert found.events >= 200

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_trader.gates.contract import contract_gates
from quantum_trader.gates.policy import DEFAULT, LEGACY, ContractPolicy
from quantum_trader.gates.result import GATES, GateResult, GateState
from quantum_trader.gates.sample import CYCLE, Sample

PASS, FAIL, INSUFFICIENT = GateState.PASS, GateState.FAIL, GateState.INSUFFICIENT

Make = Callable[..., Sample]

STUDY = [
    "frozen",
    "always_buy",
    "coin",
    "copy_ens",
    "anti",
    "fnoise",
    "redundant",
    "leak_full",
    "missing20",
    "flip1",
    "quant4",
    "symconst",
    "good",
    "good_cal",
]


@pytest.mark.parametrize("name", STUDY)
def test_golden_contract_gates(golden: Callable[[str], Any], study: Callable[[str], Sample], name: str) -> None:
    expected = golden("g11_e2e")["expected"]["neutral"]
    assert sorted(expected) == sorted(STUDY)
    gates = contract_gates(study(name).to_cycle_end())
    assert [gate.state.number for gate in gates] == expected[name]["contract_gates_final"]
    assert (sum(gate.state is PASS for gate in gates) >= 3) == expected[name]["final_parts"]["contract"]


def by_name(gates: tuple[GateResult, ...]) -> dict[str, GateResult]:
    return {gate.name: gate for gate in gates}


def test_a_skilful_model_passes_all_four(model: Make) -> None:
    gates = contract_gates(model())
    assert [gate.name for gate in gates] == list(GATES)
    assert [gate.state for gate in gates] == [PASS] * 4
    for gate in gates:
        assert 0 < gate.se < 0.1
        assert gate.n_effective > 0
        assert gate.cycles == 40
        assert (gate.more_events, gate.more_cycles) == (0, 0)
        assert gate.reason.endswith(".")
    assert [gate.n for gate in gates[:3]] == [49 * 40 * 3] * 3
    calibration = gates[3]
    assert sum(bucket.n for bucket in calibration.buckets) == calibration.n < gates[0].n
    assert calibration.z == pytest.approx(calibration.value / calibration.se)
    assert calibration.value >= calibration.threshold


# ---- The contract matrix: every gate on every degenerate input. An input names the gates that pass on it. ----


def _constant(make: Make) -> Sample:
    base = make()
    n = len(base)
    return Sample.of(
        base.bar,
        base.symbol,
        np.full(n, 0.61502802372),
        np.ones(n),
        base.ensemble,
        forward=base.forward,
        bars=base.bars,
    )


def _rebuilt(base: Sample, rows: Any, **changes: Any) -> Sample:
    columns = {name: getattr(base, name)[rows] for name in ("bar", "symbol", "p_up", "action", "ensemble", "forward")}
    return Sample.of(**(columns | changes), bars=base.bars)


def _one_class(make: Make) -> Sample:
    base = make()
    p = np.maximum(base.p_up, 1 - base.p_up)
    return Sample.of(
        base.bar, base.symbol, p, np.ones(len(p)), base.ensemble, forward=np.abs(base.forward), bars=base.bars
    )


def _ties(make: Make) -> Sample:
    base = make()
    return _rebuilt(base, slice(None), p_up=np.round(base.p_up, 1))


def _no_outcomes(make: Make) -> Sample:
    base = make()
    return _rebuilt(base, slice(None), forward=np.full(len(base), np.nan))


def _few_outcomes(make: Make) -> Sample:
    base = make()
    return _rebuilt(base, slice(None), forward=np.where(base.cycle < 19, base.forward, np.nan))


def _duplicated(make: Make) -> Sample:
    base = make(bars=49 * 20, symbols=1)
    return _rebuilt(base, np.repeat(np.arange(len(base)), 5))


def _nan_confidence(make: Make) -> Sample:
    base = make()
    return replace(base, confidence=np.where(base.bar == 100, np.nan, base.confidence))


def _no_probability(make: Make) -> Sample:
    base = make()
    return replace(base, p_up=np.where(base.bar == 100, np.inf, base.p_up))


def _unsorted(make: Make) -> Sample:
    base = make()
    return _rebuilt(base, np.random.default_rng(1).permutation(len(base)))


def _199_events(make: Make) -> Sample:
    # In 25 cycles: enough of them, only the events are too few.
    base = make(bars=25 * CYCLE, symbols=1)
    return base.take(np.isin(np.arange(len(base)), np.arange(199) * 6))


def _all_missing(make: Make) -> Sample:
    base = make()
    return _rebuilt(base, slice(None), p_up=np.full(len(base), np.nan))


def _some_missing(make: Make) -> Sample:
    base = make()
    return _rebuilt(base, slice(None), p_up=np.where(base.bar % 5 == 0, np.nan, base.p_up))


ALL, NONE = set(GATES), set[str]()

MATRIX: dict[str, tuple[Callable[[Make], Sample], set[str]]] = {
    "empty": (lambda make: make(bars=0), NONE),
    "one row": (lambda make: make(bars=1, symbols=1), NONE),
    "all missing": (_all_missing, NONE),
    "199 events": (_199_events, NONE),
    "one cycle of many events": (lambda make: make(bars=CYCLE, symbols=100), NONE),
    "19 cycles": (lambda make: make(bars=19 * CYCLE, symbols=20), NONE),
    "duplicated": (_duplicated, NONE),
    "NaN confidence": (_nan_confidence, NONE),
    "no probability": (_no_probability, NONE),
    "constant": (_constant, NONE),
    "one class": (_one_class, {"Confidence Spread"}),
    "no outcomes": (_no_outcomes, ALL - {"Calibration"}),
    "outcomes in 19 cycles": (_few_outcomes, ALL - {"Calibration"}),
    "some missing": (_some_missing, ALL),
    "ties": (_ties, ALL),
    "one symbol": (lambda make: make(symbols=1, bars=49 * 100), ALL),
    "unsorted": (_unsorted, ALL),
}


@pytest.mark.parametrize("gate", range(len(GATES)), ids=GATES)
@pytest.mark.parametrize("name", MATRIX)
def test_contract_matrix(model: Make, name: str, gate: int) -> None:
    build, passing = MATRIX[name]
    result = contract_gates(build(model))[gate]
    assert result.name == GATES[gate]
    assert (result.state is PASS) == (result.name in passing)
    assert result.reason
    if result.state is INSUFFICIENT:
        assert result.more_events is None or result.more_events > 0
        assert (result.more_events is None) == (result.more_cycles is None)
    else:
        assert math.isfinite(result.value)
        assert math.isfinite(result.se)


def test_one_cycle_alone_would_have_no_standard_error(model: Make) -> None:
    # Why the matrix's case matters: without the floor on cycles every error of it is zero.
    gates = contract_gates(model(bars=CYCLE, symbols=100))
    assert [gate.se < 1e-12 for gate in gates] == [True] * 4
    assert [gate.more_cycles for gate in gates] == [19] * 4


def test_order_of_events_does_not_matter(model: Make) -> None:
    assert contract_gates(_unsorted(model)) == contract_gates(model())


# ---- Thresholds, one by one ----

ONE_EACH = 50 * CYCLE


def hand_made(p: Any, action: Any, ensemble: Any, up: Any) -> Sample:
    """One event a bar on one symbol, over whole cycles."""
    n = len(p)
    return Sample.of(np.arange(n), np.zeros(n), p, action, ensemble, forward=np.where(up, 0.01, -0.01), bars=n)


def test_too_large_a_share_fails_though_another_is_still_uncertain() -> None:
    # BUY is 35 of every 49 bars; the rest is SELL in one cycle and HOLD in the next, which makes their errors wide.
    bar = np.arange(20 * CYCLE)
    action = np.where(bar % CYCLE < 35, 1, -(bar // CYCLE % 2))
    gate = contract_gates(hand_made(np.full(len(bar), 0.6), action, action, bar % 2 == 0))[0]
    assert (gate.state, gate.value, gate.cycles) == (FAIL, pytest.approx(35 / 49), 20)
    sells = contract_gates(hand_made(np.full(len(bar), 0.6), np.where(action == 1, 0, action), action, bar % 2 == 0))
    assert sells[0].state is INSUFFICIENT


@pytest.mark.parametrize(("sells", "state"), [(3, PASS), (2, FAIL)])
def test_a_share_of_exactly_70_percent_passes(sells: int, state: GateState) -> None:
    bar = np.arange(ONE_EACH)
    action = np.where(bar % 10 < sells, -1, 1)
    gate = contract_gates(hand_made(np.full(ONE_EACH, 0.6), action, action, bar % 2 == 0))[0]
    assert (gate.state, gate.value) == (state, 1 - sells / 10)


def test_a_nominal_spread_passes_with_slack_and_fails_without() -> None:
    p = np.tile([0.6, 0.7], ONE_EACH // 2)
    sample = hand_made(p, np.ones(len(p)), np.ones(len(p)), p > 0.65)
    assert contract_gates(sample)[1].state is PASS
    assert contract_gates(sample, replace(DEFAULT, spread_slack=0.0))[1].state is FAIL
    assert contract_gates(sample, LEGACY)[1].state is FAIL


@pytest.mark.parametrize(("agreeing", "state"), [(11, PASS), (10, FAIL)])
def test_agreement_of_exactly_55_percent_passes(agreeing: int, state: GateState) -> None:
    bar = np.arange(ONE_EACH // 20 * 20)
    ensemble = np.where(bar % 20 < agreeing, 1, -1)
    gate = contract_gates(hand_made(np.full(len(bar), 0.6), np.ones(len(bar)), ensemble, bar % 2 == 0))[2]
    assert (gate.state, gate.value) == (state, agreeing / 20)


def with_accuracies(buckets: dict[float, tuple[int, int]], seed: int = 4) -> Sample:
    """BUYs with a confidence, and so many hits of so many events at each, spread at random over the bars."""
    confidence = np.repeat(list(buckets), [n for n, _ in buckets.values()])
    hit = np.concatenate([np.arange(n) < hits for n, hits in buckets.values()])
    order = np.random.default_rng(seed).permutation(len(hit))
    assert len(hit) >= 20 * CYCLE
    return hand_made(confidence[order], np.ones(len(hit)), np.ones(len(hit)), hit[order])


@pytest.mark.parametrize(
    ("buckets", "state", "words"),
    [
        ({0.55: (400, 200), 0.65: (400, 230), 0.75: (400, 260)}, PASS, "no drop"),
        ({0.55: (400, 200), 0.65: (400, 260), 0.75: (400, 254)}, PASS, "no drop"),
        ({0.55: (400, 200), 0.65: (400, 260), 0.75: (400, 234)}, INSUFFICIENT, "may drop"),
        ({0.55: (400, 200), 0.65: (400, 290), 0.75: (400, 250)}, FAIL, "drops from one"),
        ({0.55: (400, 212), 0.65: (400, 210), 0.75: (400, 214)}, INSUFFICIENT, "No trend"),
        ({0.55: (400, 260), 0.65: (400, 246), 0.75: (400, 232)}, FAIL, "less often"),
        ({0.55: (600, 300), 0.65: (600, 400), 0.75: (49, 40)}, INSUFFICIENT, "2 confidence buckets"),
        ({0.55: (600, 300), 0.65: (600, 400), 0.75: (50, 40)}, PASS, "no drop"),
        ({0.55: (600, 400), 0.65: (600, 300), 0.75: (49, 10)}, FAIL, "less often"),
        ({0.9: (400, 200), 1.0: (400, 320), 0.55: (400, 200)}, INSUFFICIENT, "2 confidence buckets"),
        ({0.85: (400, 230), 1.0: (400, 280), 0.55: (400, 200)}, PASS, "no drop"),
    ],
)
def test_calibration(buckets: dict[float, tuple[int, int]], state: GateState, words: str) -> None:
    sample = with_accuracies(buckets)
    gate = contract_gates(sample)[3]
    assert (gate.state, words in gate.reason) == (state, True), gate.reason
    assert sum(bucket.n for bucket in gate.buckets) == sum(n for n, _ in buckets.values())


def test_calibration_is_about_outcomes_and_not_about_agreement(model: Make) -> None:
    base = model()
    against = replace(base, ensemble=(-base.action).astype(np.int8))
    assert contract_gates(base)[3] == contract_gates(against)[3]
    assert contract_gates(model(skill=-1.0))[3].state is FAIL


def test_shares_are_said_of_the_right_actions() -> None:
    bar = np.arange(ONE_EACH)
    action = np.where(bar % 10 < 6, 1, np.where(bar % 10 < 9, 0, -1))
    gate = contract_gates(hand_made(np.full(ONE_EACH, 0.6), action, action, bar % 2 == 0))[0]
    assert gate.reason == "BUY 60.0%, HOLD 30.0%, SELL 10.0%: none is above 70%."


def test_a_drop_of_exactly_what_is_let_pass_passes_and_a_little_more_does_not() -> None:
    sample = with_accuracies({0.55: (400, 200), 0.65: (400, 260), 0.75: (400, 234)})
    z = min(bucket.z for bucket in contract_gates(sample)[3].buckets if not math.isnan(bucket.z))
    assert contract_gates(sample, replace(DEFAULT, drop_z_pass=z, trend_z=0.1))[3].state is PASS
    less = replace(DEFAULT, drop_z_pass=z * (1 - 1e-12), trend_z=0.1)
    assert contract_gates(sample, less)[3].state is INSUFFICIENT
    assert contract_gates(sample, replace(DEFAULT, drop_z_fail=z, drop_z_pass=0.0))[3].state is INSUFFICIENT
    assert contract_gates(sample, replace(DEFAULT, drop_z_fail=z * (1 - 1e-12), drop_z_pass=0.0))[3].state is FAIL


# ---- How much more is needed ----


def test_what_calibration_needs_grows_with_the_square_or_with_the_smallest_bucket() -> None:
    # A doubtful drop of z: settled at 2.4, so by (2.4 / z)^2 times the events.
    doubtful = contract_gates(with_accuracies({0.55: (400, 200), 0.65: (400, 260), 0.75: (400, 234)}))[3]
    z = min(bucket.z for bucket in doubtful.buckets if not math.isnan(bucket.z))
    assert doubtful.more_events == math.ceil(1200 * ((2.4 / z) ** 2 - 1))
    # The third bucket holds 40 of 50: a quarter more of all.
    small = contract_gates(with_accuracies({0.55: (600, 300), 0.65: (600, 400), 0.75: (40, 30)}))[3]
    assert small.more_events == math.ceil(1240 * 0.25)
    # 1,240 events lie in 26 cycles, the last of them short; what is missing is rounded up to whole ones.
    assert (small.cycles, small.more_cycles) == (26, 7)
    trend = contract_gates(with_accuracies({0.55: (400, 206), 0.65: (400, 210), 0.75: (400, 218)}))[3]
    assert trend.state is INSUFFICIENT
    assert 0 < trend.z < 1.645
    assert trend.more_events == math.ceil(1200 * ((1.645 / trend.z) ** 2 - 1))


def test_the_missing_events_are_about_enough(model: Make) -> None:
    # Ten symbols that move as one within a cycle: the standard error shrinks with cycles, slowly.
    def herded(cycles: int) -> Sample:
        rng = np.random.default_rng(8)
        base = model(bars=cycles * CYCLE, symbols=2)
        chance = rng.uniform(0.2, 1.0, cycles)[base.cycle]
        agrees = rng.random(len(base)) < chance
        return replace(base, ensemble=np.where(agrees, base.action, 1 - np.abs(base.action)).astype(np.int8))

    first = contract_gates(herded(30))[2]
    assert first.state is INSUFFICIENT
    assert first.more_events is not None
    assert first.more_cycles is not None
    assert first.n_effective < first.n / 10
    then = contract_gates(herded(30 + first.more_cycles))[2]
    assert then.se == pytest.approx(0.03, rel=0.15)
    assert first.n * ((first.se / 0.03) ** 2 - 1) == pytest.approx(first.more_events, abs=1)


def test_what_waiting_cannot_cure_says_so(model: Make) -> None:
    gate = contract_gates(_constant(model))[3]
    assert (gate.state, gate.more_events, gate.more_cycles) == (INSUFFICIENT, None, None)


# ---- Properties, under a policy small enough for small samples to pass ----

LENIENT = ContractPolicy.from_mapping(
    {
        "min_events": 4,
        "min_cycles": 2,
        "se_max": 0.5,
        "spread_se_max": 0.5,
        "bucket_events": 1,
        "buckets_needed": 2,
        "trend_z": 0.1,
    }
)

# Sixty-fourths, so that 1 - p is exact and a mirrored sample has the same confidences.
events = st.lists(
    st.tuples(
        st.integers(0, 4 * CYCLE - 1),
        st.integers(0, 3),
        st.integers(0, 64).map(lambda k: k / 64),
        st.sampled_from([-1, 0, 1]),
        st.sampled_from([-1, 0, 1]),
        st.sampled_from([-0.01, 0.01, math.nan]),
    ),
    min_size=1,
    max_size=60,
    unique_by=lambda event: event[:2],
)

Event = tuple[int, int, float, int, int, float]


def sample_of(rows: list[Event]) -> Sample:
    bar, symbol, p, action, ensemble, forward = zip(*rows, strict=True)
    return Sample.of(bar, symbol, p, action, ensemble, forward=forward, bars=4 * CYCLE)


@given(events, st.randoms(use_true_random=False))
def test_permuting_events_changes_nothing(rows: list[Event], rng: Any) -> None:
    shuffled = rows.copy()
    rng.shuffle(shuffled)
    before, after = (contract_gates(sample_of(r), LENIENT) for r in (rows, shuffled))
    assert [gate.to_dict() for gate in before] == [gate.to_dict() for gate in after]


@given(events, st.lists(st.tuples(st.integers(0, 4 * CYCLE - 1), st.integers(4, 7)), unique=True, max_size=30))
def test_missing_outputs_change_no_gate(rows: list[Event], missing: list[tuple[int, int]]) -> None:
    more = rows + [(bar, symbol, math.nan, 1, 1, 0.01) for bar, symbol in missing]
    before, after = (contract_gates(sample_of(r), LENIENT) for r in (rows, more))
    assert [gate.to_dict() for gate in before] == [gate.to_dict() for gate in after]


@given(events)
def test_up_and_down_are_alike(rows: list[Event]) -> None:
    mirrored = [(bar, symbol, 1 - p, -a, -e, -forward) for bar, symbol, p, a, e, forward in rows]
    before, after = (contract_gates(sample_of(r), LENIENT) for r in (rows, mirrored))
    assert [(g.state, g.n) for g in before] == [(g.state, g.n) for g in after]
    for one, other in zip(before, after, strict=True):
        assert one.value == pytest.approx(other.value, nan_ok=True)


@given(events)
def test_forgetting_outcomes_never_helps(rows: list[Event]) -> None:
    known = contract_gates(sample_of(rows), LENIENT)
    forgotten = contract_gates(sample_of([(*row[:5], math.nan) for row in rows]), LENIENT)
    assert forgotten[3].state is INSUFFICIENT
    assert [gate.to_dict() for gate in known[:3]] == [gate.to_dict() for gate in forgotten[:3]]


@given(events)
@settings(max_examples=200)
def test_a_pass_always_has_its_number(rows: list[Event]) -> None:
    for gate in contract_gates(sample_of(rows), LENIENT):
        if gate.state is PASS:
            assert gate.n > 0
            assert gate.cycles >= 2
            assert math.isfinite(gate.value)
            assert gate.se <= 0.5 or gate.name == "Calibration"
        if gate.state is not INSUFFICIENT:
            assert gate.more_events == 0


def test_the_lenient_policy_lets_small_samples_pass(model: Make) -> None:
    # Or the properties above would hold of nothing.
    sample = model(bars=2 * CYCLE, symbols=20, spread=1.5, herd=1.0)
    assert PASS in {gate.state for gate in contract_gates(sample, LENIENT)}
    assert contract_gates(sample, LENIENT)[3].state is PASS


# ---- The plain rule through the same door ----


def test_the_legacy_policy_gives_the_plain_rules_lines(golden: Callable[[str], Any]) -> None:
    case = golden("g01_seed_gates")["cases"]["random60"]
    numbers = {"SELL": -1, "HOLD": 0, "BUY": 1}
    actions, confidences, ensemble = zip(*case["events"], strict=True)
    n = len(actions)
    sample = Sample.of(
        np.arange(n),
        np.zeros(n),
        np.full(n, 0.5),
        [numbers[a] for a in actions],
        [numbers[a] for a in ensemble],
        confidence=confidences,
    )
    gates = by_name(contract_gates(sample, LEGACY))
    assert {name: gate.state is PASS for name, gate in gates.items()} == case["expected"]["gates"]
    assert {gate.state for gate in contract_gates(Sample.of([], [], [], [], []), LEGACY)} == {INSUFFICIENT}

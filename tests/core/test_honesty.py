import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.core.honest import SERVED, SYMBOLS, reference, served
from tests.core.strategies import INTERVAL, START, THRESHOLDS

from quantum_trader.core.alarms import Alarm, AlarmName, Board
from quantum_trader.core.decision import DecisionRecord, Occasion, decide, shadow_votes
from quantum_trader.core.features import SCHEMA, Float32Array
from quantum_trader.core.hashes import input_hashes
from quantum_trader.core.honesty import (
    ABSTAINS,
    FROZEN,
    FROZEN_RUN,
    OTHER_INPUT,
    REPEATED,
    SILENT,
    Honesty,
)
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import DEFAULT_WEIGHTS, Cause, ModelOutput, Status, because

F = len(SCHEMA.names)
VOTERS = ("xgb", "lgbm", "nhits")
SHADOW = "patchtst"
POLICY = VotePolicy(weights=dict(DEFAULT_WEIGHTS), min_consensus=2)
WITHIN = 24

A, B = AlarmName, Status


@dataclasses.dataclass
class Group:
    """One decided group before it is made into records; a fault changes it."""

    t: int
    symbols: Sequence[str]
    rows: Float32Array
    outputs: dict[str, ModelOutput]
    own_hashes: list[str]

    def records(self) -> list[DecisionRecord]:
        n = len(self.symbols)
        ts = START + self.t * INTERVAL
        occasion = Occasion(
            timeframe="5m",
            symbols=self.symbols,
            ts_open=[ts] * n,
            ts_close=[ts + INTERVAL] * n,
            prices=[1.0] * n,
            atr_fractions=[0.01] * n,
            input_hashes=self.own_hashes,
        )
        voters = {name: self.outputs[name] for name in VOTERS}
        beside = shadow_votes(self.outputs[SHADOW])
        return [
            DecisionRecord(
                decision=decision,
                shadows={SHADOW: beside[i]},
                reasons={
                    name: f"{output.statuses[i].value}: {output.reasons[i]}"
                    for name, output in voters.items()
                    if output.statuses[i] is not Status.OK
                },
                ts_decision=ts + INTERVAL,
            )
            for i, decision in enumerate(decide(occasion, voters, POLICY))
        ]


Fault = Callable[[Group], None]


def group(t: int, rows: Float32Array, symbols: Sequence[str] = SYMBOLS) -> Group:
    """Rows of shape (n, F), and answers that move with them."""
    hashes = input_hashes(rows)
    outputs = {}
    for number, name in enumerate((*VOTERS, SHADOW)):
        p_up = 1.0 / (1.0 + np.exp(-5.0 * rows[:, number : number + 5].astype(np.float64).sum(axis=1)))
        outputs[name] = ModelOutput.of(p_up, THRESHOLDS, "a" * 64)
    outputs[SHADOW] = dataclasses.replace(outputs[SHADOW], input_hashes=tuple(hashes))
    return Group(t, symbols, rows, outputs, list(hashes))


def random_group(t: int, symbols: Sequence[str] = SYMBOLS, seed: int = 0) -> Group:
    rng = np.random.default_rng([seed, t])
    return group(t, rng.normal(0.0, 0.01, (len(symbols), F)).astype(np.float32), symbols)


def quiet(_: Group) -> None:
    """No fault."""


def run(honesty: Honesty, groups: Iterable[Group], fault: Fault = quiet) -> list[tuple[Alarm, ...]]:
    """What stands after each group."""
    said = []
    for one in groups:
        fault(one)
        said.append(honesty.observe(one.rows, one.records()))
    return said


def keys(alarms: Iterable[Alarm]) -> set[tuple[str, str, str]]:
    return {tuple(alarm.key) for alarm in alarms}


def first(said: Sequence[tuple[Alarm, ...]], name: AlarmName, model: str, symbol: str) -> int:
    """At which bar, counted from 1, an alarm first stands."""
    return next(bar for bar, alarms in enumerate(said, 1) if (name, model, symbol) in keys(alarms))


# Faults.


def with_output(name: str, change: Callable[[ModelOutput, Group], ModelOutput], only: str | None = None) -> Fault:
    """Change a model's answers, of one symbol or of all."""

    def fault(one: Group) -> None:
        before = one.outputs[name]
        after = change(before, one)
        rows = [only is None or symbol == only for symbol in one.symbols]
        one.outputs[name] = ModelOutput(
            np.where(rows, after.p_up, before.p_up),
            np.where(rows, after.actions, before.actions).astype(np.int8),
            tuple(a if r else b for a, b, r in zip(after.statuses, before.statuses, rows, strict=True)),
            before.artefact,
            tuple(a if r else b for a, b, r in zip(after.reasons, before.reasons, rows, strict=True)),
            tuple(a if r else b for a, b, r in zip(after.input_hashes, before.input_hashes, rows, strict=True))
            if before.input_hashes
            else (),
        )

    return fault


def answers(name: str, p_up: float, only: str | None = None) -> Fault:
    def change(output: ModelOutput, _: Group) -> ModelOutput:
        made = ModelOutput.of(np.full(len(output.p_up), p_up), THRESHOLDS, output.artefact)
        return dataclasses.replace(made, input_hashes=output.input_hashes)

    return with_output(name, change, only)


def silent(name: str, status: Status, reason: str, only: str | None = None) -> Fault:
    def change(output: ModelOutput, _: Group) -> ModelOutput:
        made = ModelOutput.none(len(output.p_up), status, output.artefact, reason)
        return dataclasses.replace(made, input_hashes=("",) * len(output.input_hashes))

    return with_output(name, change, only)


def reports(digest: str, *, refused: bool, only: str | None = None) -> Fault:
    """The shadow says that it saw something else, and is refused for it or not."""

    def change(output: ModelOutput, _: Group) -> ModelOutput:
        n = len(output.p_up)
        reason = because(Cause.INPUT, "it predicted on another input than it was sent")
        made = ModelOutput.none(n, Status.REFUSED, output.artefact, reason) if refused else output
        return dataclasses.replace(made, input_hashes=(digest,) * n)

    return with_output(SHADOW, change, only)


def constant_rows(one: Group) -> None:
    """Every feature zero, from the engine's own hands."""
    made = group(one.t, np.zeros_like(one.rows), one.symbols)
    one.rows, one.outputs, one.own_hashes = made.rows, made.outputs, made.own_hashes


def served_groups(bars: int = SERVED, seed: int = 0) -> list[Group]:
    return [group(t, rows) for t, rows in enumerate(served(seed)[:bars])]


def watching(seed: int = 0) -> Honesty:
    return Honesty({name: reference(seed) for name in (*VOTERS, SHADOW)})


@pytest.mark.parametrize("seed", [0, 1])
def test_an_honest_market_raises_nothing_in_2000_bars_of_5_symbols(seed: int) -> None:
    honesty = watching(seed)
    for t, rows in enumerate(served(seed)):
        one = group(t, rows)
        assert honesty.observe(one.rows, one.records()) == (), t


PLANTED: dict[str, tuple[Fault, set[tuple[AlarmName, str]]]] = {
    "the engine's features are constant": (constant_rows, {(A.CONSTANT_INPUT, ""), (A.INPUT_DRIFT, "xgb")}),
    "the shadow is fed a constant": (
        reports("c" * 16, refused=True),
        {(A.CONSTANT_INPUT, SHADOW), (A.SHADOW_INPUT, SHADOW)},
    ),
    "the shadow is fed a constant for one symbol": (
        reports("c" * 16, refused=True, only="XRPUSDT"),
        {(A.CONSTANT_INPUT, SHADOW), (A.SHADOW_INPUT, SHADOW)},
    ),
    "the shadow answers 0.6150 for every symbol": (answers(SHADOW, 0.6150), {(A.FROZEN_OUTPUT, SHADOW)}),
    "the shadow answers 0.6150 for one symbol": (answers(SHADOW, 0.6150, "ETHUSDT"), {(A.FROZEN_OUTPUT, SHADOW)}),
    "a voter answers 0.6150 for every symbol": (answers("nhits", 0.6150), {(A.FROZEN_OUTPUT, "nhits")}),
    "a voter fails": (silent("lgbm", B.FAILED, "error: ValueError"), {(A.VOTER_ABSTAINS, "lgbm")}),
    "a voter is refused for one symbol": (
        silent("lgbm", B.REFUSED, "nan", "SOLUSDT"),
        {(A.VOTER_ABSTAINS, "lgbm")},
    ),
    "the shadow is dead": (silent(SHADOW, B.MISSING, "crashed"), {(A.SHADOW_SILENT, SHADOW)}),
    "the shadow is late": (silent(SHADOW, B.LATE, "grace"), {(A.SHADOW_SILENT, SHADOW)}),
}


@pytest.mark.parametrize("name", PLANTED, ids=str)
def test_every_planted_fault_raises_its_alarm_within_24_bars(name: str) -> None:
    fault, expected = PLANTED[name]
    honesty = watching()
    groups = served_groups(200)
    assert set().union(*map(keys, run(honesty, groups[:100]))) == set()
    raised = {
        (alarm.name, alarm.model) for alarms in run(honesty, groups[100 : 100 + WITHIN], fault) for alarm in alarms
    }
    assert expected <= raised
    # Nobody else is blamed.
    if name != "the engine's features are constant":
        assert raised == expected


@pytest.mark.parametrize("name", PLANTED, ids=str)
def test_every_alarm_is_over_after_its_fault_and_each_was_raised_once(name: str) -> None:
    honesty, board, changes = watching(), Board(), []
    groups = served_groups(400)
    for alarms in run(honesty, groups[:150], PLANTED[name][0]) + run(honesty, groups[150:]):
        changes.append(board.update("honesty", alarms))
    assert board.standing == ()
    raised = [alarm.key for change in changes for alarm in change.raised]
    assert len(raised) == len(set(raised))


# When exactly.


def test_two_symbols_with_one_input_are_seen_at_once() -> None:
    def fault(one: Group) -> None:
        one.own_hashes[1] = one.own_hashes[0]

    (said,) = run(Honesty({}), [random_group(0)], fault)
    (alarm,) = said
    assert alarm.key == (A.CONSTANT_INPUT, "", "")
    assert alarm.detail == "one input for BTCUSDT, ETHUSDT"


def test_an_input_that_repeats_itself_is_seen_at_the_third_bar() -> None:
    def fault(one: Group) -> None:
        one.own_hashes[2] = "c" * 16

    said = run(Honesty({}), (random_group(t) for t in range(5)), fault)
    assert first(said, A.CONSTANT_INPUT, "", "BNBUSDT") == REPEATED.need + 1 == 3
    assert {key for alarms in said for key in keys(alarms)} == {(A.CONSTANT_INPUT, "", "BNBUSDT")}


def test_a_row_that_is_stuck_beside_a_sequence_that_moves_is_seen() -> None:
    def fault(one: Group) -> None:
        one.rows[2] = 0.25

    said = run(Honesty({}), (random_group(t) for t in range(5)), fault)
    assert first(said, A.CONSTANT_INPUT, "", "BNBUSDT") == 3
    assert "row of features" in said[-1][0].detail


def test_the_shadows_constant_input_is_seen_at_its_first_bar_over_symbols() -> None:
    said = run(Honesty({}), [random_group(0)], reports("c" * 16, refused=True))
    assert keys(said[0]) == {(A.CONSTANT_INPUT, SHADOW, ""), (A.SHADOW_INPUT, SHADOW, "")}


def test_the_shadows_constant_input_on_a_lone_symbol_is_seen_at_the_third_bar() -> None:
    groups = (random_group(t, ("BTCUSDT",)) for t in range(4))
    said = run(Honesty({}), groups, reports("c" * 16, refused=False))
    assert keys(said[1]) == set()
    assert keys(said[2]) == {(A.CONSTANT_INPUT, SHADOW, "BTCUSDT")}


def test_bars_without_features_are_no_constant_input() -> None:
    def fault(one: Group) -> None:
        one.rows[:2] = np.nan
        one.own_hashes[:2] = ["", ""]
        hashes = input_hashes(one.rows)
        assert hashes[0] == hashes[1]
        one.outputs[SHADOW] = dataclasses.replace(one.outputs[SHADOW], input_hashes=hashes)

    said = run(Honesty({"xgb": reference()}), (random_group(t) for t in range(5)), fault)
    assert set().union(*map(keys, said)) == set()


@pytest.mark.parametrize("name", ["xgb", SHADOW])
def test_a_frozen_answer_on_one_symbol_is_seen_at_the_twentieth(name: str) -> None:
    said = run(Honesty({}), (random_group(t) for t in range(30)), answers(name, 0.6150, "ETHUSDT"))
    assert first(said, A.FROZEN_OUTPUT, name, "ETHUSDT") == FROZEN_RUN
    assert "0.6150 at 20 bars in a row" in said[-1][0].detail


def test_answers_that_are_missed_do_not_end_a_frozen_run() -> None:
    honesty = Honesty({})
    for t in range(2 * FROZEN_RUN):
        late = silent("xgb", B.LATE, "grace", "ETHUSDT")
        fault = late if t % 2 else answers("xgb", 0.6150, "ETHUSDT")
        (said,) = run(honesty, [random_group(t)], fault)
    assert (A.FROZEN_OUTPUT, "xgb", "ETHUSDT") in keys(said)


def test_one_other_answer_between_two_frozen_runs_is_no_end() -> None:
    honesty, frozen = Honesty({}), answers("xgb", 0.6150, "ETHUSDT")
    run(honesty, (random_group(t) for t in range(FROZEN_RUN)), frozen)
    bars = 3 * (FROZEN_RUN + 1)
    for t in range(bars):
        (said,) = run(honesty, [random_group(FROZEN_RUN + t)], frozen if t % (FROZEN_RUN + 1) else quiet)
        assert keys(said) == {(A.FROZEN_OUTPUT, "xgb", "ETHUSDT")}
    after = run(honesty, (random_group(FROZEN_RUN + bars + t) for t in range(FROZEN.calm)))
    assert [bool(alarms) for alarms in after] == [True] * (FROZEN.calm - 1) + [False]


def test_one_answer_for_all_symbols_is_seen_at_the_third_bar() -> None:
    said = run(Honesty({}), (random_group(t) for t in range(5)), answers("xgb", 0.6150))
    assert first(said, A.FROZEN_OUTPUT, "xgb", "") == 3
    assert said[2][0].detail == "0.6150 for all of 5 symbols"


def test_two_symbols_may_agree() -> None:
    def fault(one: Group) -> None:
        for name, output in one.outputs.items():
            p_up = np.full(2, output.p_up[0])
            one.outputs[name] = dataclasses.replace(
                ModelOutput.of(p_up, THRESHOLDS, "a" * 64), input_hashes=output.input_hashes
            )

    said = run(Honesty({}), (random_group(t, SYMBOLS[:2]) for t in range(50)), fault)
    assert set().union(*map(keys, said)) == set()


def test_a_voter_may_miss_one_bar_of_24_and_is_named_with_its_reason_at_the_second() -> None:
    honesty, fails = Honesty({}), silent("lgbm", B.FAILED, "error: ValueError: no", "SOLUSDT")
    assert keys(run(honesty, [random_group(0)], fails)[0]) == set()
    assert set().union(*map(keys, run(honesty, (random_group(t) for t in range(1, 24))))) == set()
    assert keys(run(honesty, [random_group(24)], fails)[0]) == set(), "the first one is forgotten"
    (said,) = run(honesty, [random_group(25)], fails)[0]
    assert said == Alarm(A.VOTER_ABSTAINS, "lgbm", "SOLUSDT", "failed: error: ValueError: no")


def test_a_voter_that_speaks_again_is_cleared_after_three_bars() -> None:
    honesty = Honesty({})
    run(honesty, (random_group(t) for t in range(5)), silent("lgbm", B.FAILED, "error"))
    said = run(honesty, (random_group(t) for t in range(5, 10)))
    assert [len(alarms) for alarms in said] == [1] * (ABSTAINS.calm - 1) + [0] * (5 - ABSTAINS.calm + 1)


def test_a_shadow_is_silent_when_it_misses_half_of_the_bars() -> None:
    honesty = Honesty({})
    late = silent(SHADOW, B.LATE, "grace: nothing came in time", "BTCUSDT")
    for t in range(24):
        (said,) = run(honesty, [random_group(t)], late if t % 2 else quiet)
        assert bool(said) == (t == 2 * SILENT.need - 1)
    assert said[0].detail == "late: grace: nothing came in time"
    for t in range(24):
        (said,) = run(honesty, [random_group(24 + t)], late if t % 2 else quiet)
        assert keys(said) == {(A.SHADOW_SILENT, SHADOW, "BTCUSDT")}, "it flaps"


def test_a_shadow_that_misses_a_third_is_not_silent() -> None:
    honesty = Honesty({})
    late = silent(SHADOW, B.LATE, "grace")
    said = [run(honesty, [random_group(t)], quiet if t % 3 else late)[0] for t in range(100)]
    assert set().union(*map(keys, said)) == set()


def test_another_input_is_told_at_once_and_stands_for_12_calm_bars() -> None:
    honesty = Honesty({})
    (said,) = run(honesty, [random_group(0)], reports("c" * 16, refused=True, only="BTCUSDT"))
    assert keys(said) == {(A.SHADOW_INPUT, SHADOW, "BTCUSDT")}
    after = run(honesty, (random_group(t) for t in range(1, 20)))
    assert [len(alarms) for alarms in after[: OTHER_INPUT.calm]] == [1] * (OTHER_INPUT.calm - 1) + [0]


# One alarm for all symbols.


def test_what_begins_for_all_symbols_at_once_is_one_alarm_until_it_is_over_for_all() -> None:
    honesty = Honesty({})
    said = run(honesty, (random_group(t) for t in range(3)), silent("lgbm", B.FAILED, "error: no"))
    (alarm,) = said[-1]
    assert alarm == Alarm(A.VOTER_ABSTAINS, "lgbm", "", "all 5 symbols; of BTCUSDT: failed: error: no")
    # Four recover.
    still = run(honesty, (random_group(t) for t in range(3, 40)), silent("lgbm", B.FAILED, "error: no", "XRPUSDT"))
    assert {frozenset(keys(alarms)) for alarms in still} == {frozenset({(A.VOTER_ABSTAINS, "lgbm", "")})}
    assert run(honesty, (random_group(t) for t in range(40, 44)))[-1] == ()


def test_what_begins_for_one_symbol_after_the_other_stays_apart() -> None:
    honesty = Honesty({})
    run(honesty, (random_group(t) for t in range(3)), silent("lgbm", B.FAILED, "error", "XRPUSDT"))
    said = run(honesty, (random_group(t) for t in range(3, 8)), silent("lgbm", B.FAILED, "error"))
    assert keys(said[-1]) == {(A.VOTER_ABSTAINS, "lgbm", symbol) for symbol in SYMBOLS}


def test_symbols_that_come_one_by_one_have_an_alarm_each() -> None:
    honesty = Honesty({})
    for t in range(4):
        for symbol in SYMBOLS:
            (said,) = run(honesty, [random_group(t, (symbol,))], silent("lgbm", B.FAILED, "error"))
    assert keys(said) == {(A.VOTER_ABSTAINS, "lgbm", symbol) for symbol in SYMBOLS}


def test_what_concerns_several_symbols_at_one_bar_is_not_told_again_for_each() -> None:
    def fault(one: Group) -> None:
        one.own_hashes[:2] = ["c" * 16, "c" * 16]

    said = run(Honesty({}), (random_group(t) for t in range(10)), fault)
    assert [keys(alarms) for alarms in said] == [{(A.CONSTANT_INPUT, "", "")}] * 10


# Drift belongs to the model whose training it contradicts.


def test_only_the_model_whose_training_is_contradicted_has_an_input_drift() -> None:
    other = dataclasses.replace(reference(), deciles=reference().deciles + 1000.0)
    honesty = Honesty({"xgb": reference(), "lgbm": reference(), SHADOW: other})
    said = run(honesty, served_groups(30))
    assert keys(said[-1]) == {(A.INPUT_DRIFT, SHADOW, "")}


def test_a_model_without_statistics_has_no_drift_alarm() -> None:
    said = run(Honesty({}), served_groups(60), lambda one: one.rows.__imul__(100))
    assert set().union(*map(keys, said)) == set()


def test_an_empty_group_says_what_stood_before() -> None:
    honesty = watching()
    said = run(honesty, (random_group(t) for t in range(3)), silent("lgbm", B.FAILED, "error"))
    assert honesty.observe(np.zeros((0, F), dtype=np.float32), []) == said[-1]


# Whatever comes.


@st.composite
def histories(draw: st.DrawFn) -> list[Mapping[str, NDArray[np.float64] | bool]]:
    """Bars of one symbol: whether a voter abstains, whether the shadow answers, which of two answers comes."""
    bars = st.fixed_dictionaries({"abstains": st.booleans(), "silent": st.booleans(), "same": st.booleans()})
    runs = draw(st.lists(st.tuples(bars, st.integers(1, 30)), min_size=1, max_size=8))
    return [bar for bar, times in runs for _ in range(times)]


@given(histories())
def test_whatever_comes_an_alarm_stands_at_least_its_calm_bars_and_stands_for_a_reason(
    history: list[Mapping[str, bool]],
) -> None:
    honesty, board = Honesty({}), Board()
    since: dict[AlarmName, int] = {}
    for t, bar in enumerate(history):
        faults = [
            silent("lgbm", B.FAILED, "error") if bar["abstains"] else quiet,
            silent(SHADOW, B.LATE, "grace") if bar["silent"] else quiet,
            answers("xgb", 0.6150) if bar["same"] else quiet,
        ]
        (said,) = run(honesty, [random_group(t, ("BTCUSDT",))], lambda one, faults=faults: [f(one) for f in faults])
        changes = board.update("honesty", said)
        for alarm in changes.raised:
            since[alarm.name] = t
        for alarm in changes.cleared:
            calm = {A.VOTER_ABSTAINS: ABSTAINS, A.SHADOW_SILENT: SILENT, A.FROZEN_OUTPUT: FROZEN}[alarm.name].calm
            assert t - since[alarm.name] >= calm
            for bar in range(t - calm + 1, t + 1):
                assert not {
                    A.VOTER_ABSTAINS: history[bar]["abstains"],
                    A.SHADOW_SILENT: history[bar]["silent"],
                    A.FROZEN_OUTPUT: all(one["same"] for one in history[max(0, bar - FROZEN_RUN + 1) : bar + 1]),
                }[alarm.name]
        last = history[max(0, t - 23) : t + 1]
        standing = {alarm.name for alarm in said}
        if sum(bar["abstains"] for bar in history[: t + 1]) < ABSTAINS.need:
            assert A.VOTER_ABSTAINS not in standing
        if all(bar["silent"] for bar in last) and len(last) == 24:
            assert A.SHADOW_SILENT in standing
        if all(bar["abstains"] for bar in last) and len(last) == 24:
            assert A.VOTER_ABSTAINS in standing
        if all(bar["same"] for bar in last) and len(last) == 24:
            assert A.FROZEN_OUTPUT in standing
        if not any(bar["same"] for bar in history[: t + 1]):
            assert A.FROZEN_OUTPUT not in standing


def test_who_changed_is_forgotten_and_who_goes_on_keeps_what_was_seen_of_it() -> None:
    honesty, fails = Honesty({}), silent("lgbm", B.FAILED, "error", "SOLUSDT")
    raised = {(A.VOTER_ABSTAINS, "lgbm", "SOLUSDT")}
    assert keys(run(honesty, (random_group(t) for t in range(2)), fails)[-1]) == raised
    honesty.recast({"nhits": reference()}, {"nhits"})
    assert keys(run(honesty, [random_group(2)])[0]) == raised
    honesty.recast({}, {"lgbm"})
    assert keys(run(honesty, [random_group(3)])[0]) == set()

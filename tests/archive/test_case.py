"""What a verdict reads: the window, the prices, and every way in which decisions and bars can contradict each other."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report.conftest import FIVE_MINUTES, START, World, make_world

from quantum_trader.archive.case import Case, case_of
from quantum_trader.archive.columns import to_records, to_table
from quantum_trader.archive.store import NUMBERS
from quantum_trader.archive.window import Join
from quantum_trader.core.bars import WINDOW, BarSeries
from quantum_trader.core.errors import ConfigError, format_ms
from quantum_trader.gates.judge import judge, judge_trial
from quantum_trader.gates.trial import Trial
from quantum_trader.gates.verdict import VerdictState

SYMBOLS = {"BTCUSDT": 91_000.0, "ETHUSDT": 3_100.0}


def when(bar: int) -> str:
    return format_ms(START + bar * FIVE_MINUTES)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(SYMBOLS, decisions=160)


def rows_of(world: World, keep: Callable[[int, str], bool]) -> World:
    """The world without the decisions that a rule on bar and symbol drops."""
    bar = (world.table["ts_open"].to_numpy() - START) // FIVE_MINUTES
    mask = [keep(int(b), s) for b, s in zip(bar, world.table["symbol"].to_pylist(), strict=True)]
    return World(world.table.filter(pa.array(mask)), world.bars)


def put(world: World, column: str, value: Any, bar: int, symbol: str = "BTCUSDT", until: int | None = None) -> World:
    """The world with another value in one column, of one symbol, from a bar on (`until`, exclusive)."""
    at = (world.table["ts_open"].to_numpy() - START) // FIVE_MINUTES
    values = [
        value if bar <= b < (until or 1 << 40) and s == symbol else v
        for b, s, v in zip(at, world.table["symbol"].to_pylist(), world.table[column].to_pylist(), strict=True)
    ]
    field = world.table.schema.field(column)
    index = world.table.schema.get_field_index(column)
    return World(world.table.set_column(index, field, pa.array(values, field.type)), world.bars)


def case(world: World) -> Case:
    return case_of(world.table.select(NUMBERS), world.bars, "patchtst", 0.2)


def faults(world: World) -> tuple[str, ...]:
    found = case(world)
    verdict = judge(found.sample, found.panel, faults=found.faults)
    assert (verdict.state is VerdictState.INVALID) == bool(found.faults)
    if found.faults:
        assert verdict.faults[: len(found.faults)] == found.faults
        assert verdict.summary == f"INVALID: {found.faults[0]}."
    return found.faults


def test_the_case_is_the_records(world: World) -> None:
    found = case(world)
    assert (found.voters, found.symbols) == (("xgb", "lgbm", "nhits"), tuple(SYMBOLS))
    assert (found.ts_first, found.bar_ms, found.artefact) == (START, FIVE_MINUTES, "4" * 64)
    assert (found.faults, found.notes, found.sample.bars) == ((), (), 160)
    who = found.panel.electorate
    assert (who.weights, who.shadow_weight, who.min_consensus) == ((0.25, 0.25, 0.30), 0.2, 2)
    events = {(int(b), int(s)): i for i, (b, s) in enumerate(zip(found.sample.bar, found.sample.symbol, strict=True))}
    for record in to_records(world.table):
        decision = record.decision
        row = events[(decision.ts_open - START) // FIVE_MINUTES, found.symbols.index(decision.symbol)]
        for number, name in enumerate(found.voters):
            vote = decision.votes[name]
            p = found.panel.voter_p[row, number]
            assert p == vote.p_up if vote.status == "ok" else np.isnan(p)
        shadow, p = record.shadows["patchtst"], found.sample.p_up[row]
        assert p == shadow.p_up if shadow.status == "ok" else np.isnan(p)
        assert np.exp(found.panel.log_price[found.sample.bar[row], found.sample.symbol[row]]) == pytest.approx(
            decision.entry_price
        )
    assert np.isnan(found.panel.before).all()


def test_the_bar_before_the_window_gives_the_first_return(world: World) -> None:
    later = rows_of(world, lambda bar, _: bar >= 30)
    found = case(later)
    closes = [np.log(world.bars[name].close[29]) for name in SYMBOLS]
    np.testing.assert_array_equal(found.panel.before, closes)
    assert found.ts_first == START + 30 * FIVE_MINUTES


@given(cuts=st.lists(st.integers(1, 159), unique=True, max_size=6).map(sorted))
@settings(max_examples=15, deadline=None)
def test_portions_give_what_the_whole_gives(cuts: list[int]) -> None:
    world = make_world(SYMBOLS, decisions=160)
    whole = case(world)
    join = Join("patchtst", whole.symbols, START, FIVE_MINUTES, 0.2)
    parts = [join.portion(world.table, world.bars, end) for _, end in pairwise([0, *cuts, 160])]
    trial = Trial(2, join.electorate)
    for part in parts:
        trial.extend(part.sample, part.panel)
    assert [part.faults for part in parts] == [()] * len(parts)
    assert judge_trial(trial).to_dict() == judge(whole.sample, whole.panel).to_dict()


def holed(bars: Mapping[str, BarSeries], symbol: str, first: int, last: int) -> dict[str, BarSeries]:
    """Bars without those from first to last of one symbol."""
    series = bars[symbol]
    kept = np.ones(len(series), np.bool_)
    kept[first : last + 1] = False
    columns = {name: getattr(series, name)[kept] for name in ("ts_open", "open", "high", "low", "close", "volume")}
    return {**bars, symbol: replace(series, **columns)}


class TestFaults:
    def test_a_decision_is_missing(self, world: World) -> None:
        found = faults(rows_of(world, lambda bar, s: not (s == "ETHUSDT" and bar in (70, 71))))
        assert found == (f"2 bars have no decision, the first ETHUSDT {when(70)}",)

    def test_before_its_first_decision_a_symbol_misses_nothing(self, world: World) -> None:
        assert faults(rows_of(world, lambda bar, s: s == "BTCUSDT" or bar >= 70)) == ()

    def test_after_a_hole_the_window_fills_again(self) -> None:
        world = make_world(SYMBOLS, decisions=WINDOW + 60)
        holey = World(world.table, holed(world.bars, "ETHUSDT", 20, 24))
        filling = rows_of(holey, lambda bar, s: s == "BTCUSDT" or not 20 <= bar < 24 + WINDOW)
        assert faults(filling) == ()
        late = rows_of(holey, lambda bar, s: s == "BTCUSDT" or not 20 <= bar <= 24 + WINDOW)
        assert faults(late) == (f"1 bars have no decision, the first ETHUSDT {when(24 + WINDOW)}",)

    def test_a_decision_has_no_bar(self, world: World) -> None:
        holey = World(world.table, holed(world.bars, "ETHUSDT", 20, 24))
        (found,) = faults(holey)
        assert found == f"5 decisions are on bars that are not there, the first ETHUSDT {when(20)}"

    def test_a_bar_was_changed(self, world: World) -> None:
        series = world.bars["ETHUSDT"]
        close = series.close.copy()
        close[44] = np.nextafter(close[44], np.inf)
        changed = World(world.table, {**world.bars, "ETHUSDT": replace(series, close=close)})
        assert faults(changed) == (
            f"1 bars are changed: the entry price is another than the bar's close, the first ETHUSDT {when(44)}",
        )

    def test_a_decision_is_there_twice(self, world: World) -> None:
        twice = World(pa.concat_tables([world.table, world.table.slice(9, 1)]).unify_dictionaries(), world.bars)
        assert faults(twice)[0] == f"1 decisions are there twice, the first BTCUSDT {when(9)}"

    def test_weights_change(self, world: World) -> None:
        assert faults(put(world, "lgbm.weight", 0.5, 90))[0] == (
            f"the weight of lgbm changes from 0.25 to 0.5 at bar {when(90)}"
        )

    def test_the_quorum_changes(self, world: World) -> None:
        assert faults(put(world, "min_consensus", 3, 90))[0] == f"min_consensus changes from 2 to 3 at bar {when(90)}"

    def test_voters_change(self, world: World) -> None:
        gone = put(put(world, "nhits.role", None, 80), "nhits.weight", None, 80)
        assert faults(gone)[0] == f"the voters change: nhits does not vote at bar {when(80)}"
        assert faults(put(world, "patchtst.role", "voter", 81))[0] == (
            f"the voters change: patchtst votes at bar {when(81)}"
        )

    def test_the_judged_artefact_changes(self, world: World) -> None:
        assert faults(put(world, "patchtst.artefact", "9" * 64, 55)) == (
            f"the artefact of patchtst changes from {'4' * 12} to {'9' * 12} at bar {when(55)}",
        )
        # Where none could be loaded the model did not answer; that is no change.
        assert faults(put(world, "patchtst.artefact", "", 55, until=60)) == ()


class TestWindow:
    def test_it_begins_with_the_models_first_part(self, world: World) -> None:
        absent = put(put(world, "patchtst.role", None, 0, until=40), "patchtst.role", None, 0, "ETHUSDT", until=40)
        found = case(absent)
        assert found.ts_first == START + 40 * FIVE_MINUTES
        assert found.notes == (f"80 decisions before {when(40)}, without patchtst, are left out.",)
        assert (found.faults, found.sample.bars) == ((), 120)

    def test_a_bar_that_is_still_being_decided_is_left_out(self, world: World) -> None:
        found = case(rows_of(world, lambda bar, s: s == "BTCUSDT" or bar < 159))
        assert (found.sample.bars, found.faults) == (159, ())
        assert found.notes == (f"The bar of {when(159)} is not decided by every symbol yet; it is left out.",)

    def test_a_later_absence_is_a_missing_answer(self, world: World) -> None:
        found = case(put(world, "patchtst.role", None, 100, until=110))
        assert found.faults == ()
        gone = (found.sample.bar >= 100) & (found.sample.bar < 110) & (found.sample.symbol == 0)
        assert np.isnan(found.sample.p_up[gone]).all()

    def test_a_voter_is_not_judged(self, world: World) -> None:
        with pytest.raises(ConfigError, match="xgb: it never was in shadow"):
            case_of(world.table, world.bars, "xgb", 0.25)
        alone = put(world, "patchtst.role", "shadow", 0)
        for name in ("xgb", "lgbm", "nhits"):
            for symbol in SYMBOLS:
                alone = put(alone, f"{name}.role", None, 0, symbol)
        with pytest.raises(ConfigError, match="has no voter"):
            case_of(alone.table, alone.bars, "patchtst", 0.2)

    def test_without_decisions_or_bars_there_is_nothing(self, world: World) -> None:
        with pytest.raises(ConfigError, match="nothing to judge"):
            case_of(to_table([]), world.bars, "patchtst", 0.2)
        with pytest.raises(ConfigError, match="hold only BTCUSDT"):
            case_of(world.table, {"BTCUSDT": world.bars["BTCUSDT"]}, "patchtst", 0.2)

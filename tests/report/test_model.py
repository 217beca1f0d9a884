"""The report's content: the gates' own numbers, every decision counted, and no crash on missing data."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from quantum_trader.archive.case import case_of, judge_case
from quantum_trader.archive.columns import SCHEMA
from quantum_trader.archive.join import samples
from quantum_trader.core.errors import ConfigError
from quantum_trader.gates.policy import LEGACY, ContractPolicy
from quantum_trader.gates.summary import describe
from quantum_trader.gates.verdict import VerdictState, judge_contract
from quantum_trader.gates.whole_policy import Policy
from quantum_trader.report.model import build_report, shadow_of


def report(world: Any, judged: str | None = "patchtst", **options: Any) -> Any:
    return build_report(world.table, world.bars, judged, **({"simulated": True, "title": "test"} | options))


def test_numbers_are_those_of_the_gates(world: Any) -> None:
    data, sample = report(world), samples(world.table, world.bars)
    case = case_of(world.table, world.bars, "patchtst", 0.2)
    assert data.verdict.to_dict() == judge_case(case).to_dict()
    assert data.verdict.whole is not None
    assert data.headline == data.verdict.summary
    assert {m.name: m.summary.to_dict() for m in data.models} == {k: describe(s).to_dict() for k, s in sample.items()}
    matrix = data.charts.agreement
    for i, model in enumerate(data.models):
        assert matrix.share[i, -1] == model.summary.agreement.value


def test_every_decision_is_counted_once_for_every_model(world: Any) -> None:
    data = report(world)
    for model in data.models:
        assert sum(model.statuses.values()) == model.decisions == data.decisions == len(world.table)
    assert sum(data.actions.values()) == data.decisions
    assert all(count for name, count in report(world).models[3].statuses.items() if name != "ok")


def test_the_policy_and_a_given_verdict_are_used(world: Any) -> None:
    assert report(world, policy=LEGACY).verdict.scope == "contract only, plain rule"
    stricter = Policy(name="stricter", contract=ContractPolicy(agreement_min=0.99))
    assert report(world, policy=stricter).verdict.whole.policy is stricter
    given = judge_contract(samples(world.table, world.bars)["xgb"])
    assert report(world, verdict=given).verdict is given


def test_the_order_of_the_decisions_does_not_matter(world: Any) -> None:
    shuffled = world.table.take(pa.array(np.random.default_rng(0).permutation(len(world.table))))
    other = build_report(shuffled, world.bars, "patchtst", simulated=True, title="test")
    assert other.intents == report(world).intents
    assert other.charts.flips.total == report(world).charts.flips.total
    np.testing.assert_array_equal(other.charts.reliability.counts, report(world).charts.reliability.counts, strict=True)


def test_sample_intents_are_the_latest_of_three_symbols(world: Any) -> None:
    data = report(world)
    assert len({line.symbol for line in data.intents}) == 3
    table = world.table.to_pylist()
    for line in data.intents:
        later = [r for r in table if r["symbol"] == line.symbol and r["action"] and r["ts_close"] > line.ts_close]
        assert later == []
        row = next(r for r in table if r["symbol"] == line.symbol and r["ts_close"] == line.ts_close)
        assert (row["confidence"], row["consensus_count"]) == (line.confidence, line.consensus)
        assert line.total == 4
        expected = f"{row['patchtst.confidence']:.3f}" if row["patchtst.status"] == "ok" else row["patchtst.status"]
        assert line.answer.endswith(expected)


def test_one_symbol_gives_three_intents_of_it(worlds: Callable[..., Any]) -> None:
    data = report(worlds({"BTCUSDT": 100.0}, decisions=120))
    assert len(data.intents) == 3
    assert [line.ts_close for line in data.intents] == sorted({line.ts_close for line in data.intents})


def test_no_decisions_give_a_report_that_says_so() -> None:
    data = build_report(SCHEMA.empty_table(), {}, "patchtst", simulated=False, title="empty")
    assert data.headline == "Nothing was judged: there are no decisions in the window."
    assert data.charts is None
    assert data.verdict is None


def test_without_a_shadow_nothing_is_judged(worlds: Callable[..., Any]) -> None:
    world = worlds({"BTCUSDT": 100.0}, decisions=60, shadow=None)
    assert shadow_of(world.table) is None
    data = report(world, None)
    assert data.headline == "Nothing was judged: no model was in shadow."
    assert (data.charts.flips, data.charts.reliability, data.judged) == (None, None, None)
    assert len(data.models) == 4


def test_a_model_that_took_no_part_is_named(worlds: Callable[..., Any]) -> None:
    world = worlds({"BTCUSDT": 100.0}, decisions=60)
    absent = world.table.set_column(
        world.table.schema.get_field_index("patchtst.role"),
        SCHEMA.field("patchtst.role"),
        pa.nulls(len(world.table), SCHEMA.field("patchtst.role").type),
    )
    data = build_report(absent, world.bars, "patchtst", simulated=True, title="test")
    assert data.headline == "Nothing was judged: PatchTST took no part in these decisions."
    assert data.judged is None


def test_no_outcome_yet_holds_the_verdict(worlds: Callable[..., Any]) -> None:
    data = report(worlds({"BTCUSDT": 100.0}, decisions=10, later=0))
    assert data.outcomes == 0
    assert data.verdict.state is VerdictState.HOLD
    assert data.charts.reliability.n == 0
    assert data.charts.flips.settled == 0


def test_decisions_that_occur_twice_are_invalid_and_still_reported(world: Any) -> None:
    twice = pa.concat_tables([world.table, world.table.slice(0, 5)]).unify_dictionaries()
    data = build_report(twice, world.bars, "patchtst", simulated=True, title="test")
    assert data.verdict.state is VerdictState.INVALID
    assert data.headline.startswith("INVALID")


def test_decisions_without_bars_are_an_error_that_names_the_symbol(world: Any) -> None:
    bars = {name: series for name, series in world.bars.items() if name != "ETHUSDT"}
    with pytest.raises(ConfigError, match="ETHUSDT"):
        build_report(world.table, bars, "patchtst", simulated=True, title="test")


def test_the_shadow_is_found(world: Any) -> None:
    assert shadow_of(world.table) == "patchtst"


def test_a_voter_is_judged_by_the_contract_alone(world: Any) -> None:
    data = report(world, "xgb")
    assert (data.verdict.scope, data.verdict.whole, data.charts.flips) == ("contract only", None, None)
    assert data.charts.whole.evidence is None


def test_the_whole_view_is_of_the_same_events(world: Any) -> None:
    data = report(world)
    view, sample = data.charts.whole, samples(world.table, world.bars)["patchtst"]
    whole = data.verdict.whole
    assert view.evidence.log_e.tolist() == list(whole.log_e)
    assert view.evidence.ts[0] == data.ts_first + 49 * data.bar_ms
    valid = sample.valid
    assert view.confusion.sum() == valid.sum() == sum(line.valid for line in view.symbols)
    for row, action in enumerate((-1, 0, 1)):
        for place, other in enumerate((-1, 0, 1)):
            both = valid & (sample.action == action) & (sample.ensemble == other)
            assert view.confusion[row, place] == both.sum()
    assert [line.gain for line in view.symbols] == list(whole.slices.symbols)
    assert view.regimes == whole.slices.regimes
    assert view.before.n == view.after.n == view.recalibrated.n > 0
    worst = min(line.z for line in whole.slices.symbols)
    assert worst == next(check.value for check in whole.checks if check.name == "By Symbol")

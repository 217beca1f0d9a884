"""What is counted is what was written, model by model; what is shown is true at the moment of reading."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.core.strategies import occasion_of, output_of, records

from quantum_trader.core.alarms import Alarm, AlarmName
from quantum_trader.core.decision import DecisionRecord, decide, shadow_votes
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import MODELS, Cause, ModelOutput, Role, Status, because
from quantum_trader.engine.metrics import FATES, LATENCY_BUCKETS, OTHER, Metrics, Running

VOTERS = ("xgb", "lgbm", "nhits")
IDENTITY = Running("0.1.0", "f" * 64, "p" * 64, dict.fromkeys(VOTERS, "a" * 64), {"patchtst": "b" * 64})
NOW_MS = 1_767_321_393_250


@dataclass
class Shadow:
    model: str = "patchtst"
    up: bool = True
    breaker_open: bool = False
    restarts: int = 0


@dataclass
class Page:
    """Samples of one reading by name and labels."""

    metrics: Metrics
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for family in text_string_to_metric_families(generate_latest(self.metrics.registry).decode()):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.samples, "the same series twice"
                self.samples[key] = sample.value

    def value(self, series: str, /, **labels: str) -> float:
        return self.samples[series, frozenset(labels.items())]

    def total(self, series: str, /, **labels: str) -> float:
        wanted = set(labels.items())
        return sum(value for (found, has), value in self.samples.items() if found == series and wanted <= has)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(IDENTITY)


def records_of(n: int, shadow: ModelOutput, **voters: ModelOutput) -> list[DecisionRecord]:
    outputs = {name: voters.get(name, output_of([0.9] * n)) for name in VOTERS}
    decisions = decide(occasion_of(n), outputs, VotePolicy())
    votes = shadow_votes(shadow)
    reasons = {
        name: f"{output.statuses[0].value}: {output.reasons[0]}"
        for name, output in outputs.items()
        if output.reasons[0]
    }
    return [
        DecisionRecord(decision=decision, shadows={"patchtst": vote}, reasons=reasons, ts_decision=NOW_MS)
        for decision, vote in zip(decisions, votes, strict=True)
    ]


def commit(
    metrics: Metrics,
    records: list[DecisionRecord],
    *,
    written: set[str] | None = None,
    intent: bool = True,
    ms: int = 40,
) -> None:
    ids = {record.decision.decision_id for record in records} if written is None else written
    pairs: list[tuple[DecisionRecord, dict[str, Any] | None]] = [(record, {} if intent else None) for record in records]
    metrics.committed(pairs, [f"{NOW_MS - ms}-{i}" for i in range(len(records))], ids, NOW_MS)


class TestACommitIsCounted:
    def test_by_action_model_role_and_status(self, metrics: Metrics) -> None:
        late = ModelOutput.none(5, Status.LATE, "b" * 64, because(Cause.GRACE, "nothing within 20 ms"))
        commit(metrics, records_of(5, late))
        page = Page(metrics)
        assert page.value("quantum_decisions_total", action="BUY") == 5
        assert page.value("quantum_decisions_total", action="HOLD") == 0
        assert page.value("quantum_intents_total") == 5
        assert page.value("quantum_predictions_total", model="xgb", role="voter", status="ok") == 5
        assert page.value("quantum_predictions_total", model="patchtst", role="shadow", status="late") == 5
        assert page.value("quantum_predictions_total", model="patchtst", role="shadow", status="ok") == 0
        assert page.value("quantum_misses_total", model="patchtst", role="shadow", cause="grace") == 5
        assert page.value("quantum_bars_total", fate="decided") == 5
        assert page.value("quantum_last_decision_timestamp_seconds") == NOW_MS / 1000

    def test_with_a_voters_cause_from_the_records_reason(self, metrics: Metrics) -> None:
        broken = ModelOutput.none(2, Status.FAILED, "a" * 64, because(Cause.ERROR, "ValueError: no: such thing"))
        commit(metrics, records_of(2, output_of([0.6] * 2), lgbm=broken))
        assert Page(metrics).value("quantum_misses_total", model="lgbm", role="voter", cause="error") == 2

    def test_without_what_it_did_not_write(self, metrics: Metrics) -> None:
        records = records_of(3, output_of([0.6] * 3))
        commit(metrics, records, written={records[1].decision.decision_id}, intent=False)
        page = Page(metrics)
        assert page.total("quantum_decisions_total") == 1
        assert page.value("quantum_intents_total") == 0
        assert page.value("quantum_bars_total", fate="decided") == 1
        assert page.value("quantum_bars_total", fate="decided_before") == 2
        assert page.value("quantum_decision_latency_seconds_count") == 1

    def test_and_one_that_wrote_nothing_is_no_decision(self, metrics: Metrics) -> None:
        commit(metrics, records_of(2, output_of([0.6] * 2)), written=set())
        metrics.committed([], [], (), NOW_MS)
        page = Page(metrics)
        assert page.total("quantum_decisions_total") == page.total("quantum_predictions_total") == 0
        assert math.isnan(page.value("quantum_last_decision_timestamp_seconds"))

    def test_with_the_time_since_the_bars_entry(self, metrics: Metrics) -> None:
        commit(metrics, records_of(1, output_of([0.6])), ms=40)
        page = Page(metrics)
        assert page.value("quantum_decision_latency_seconds_sum") == pytest.approx(0.040)
        assert page.value("quantum_decision_latency_seconds_bucket", le="0.03") == 0
        assert page.value("quantum_decision_latency_seconds_bucket", le="0.05") == 1

    def test_with_no_negative_time_where_the_servers_clock_is_ahead(self, metrics: Metrics) -> None:
        commit(metrics, records_of(1, output_of([0.6])), ms=-700)
        assert Page(metrics).value("quantum_decision_latency_seconds_sum") == 0

    def test_but_no_text_of_a_shadow_becomes_a_series(self, metrics: Metrics) -> None:
        for i in range(20):
            commit(metrics, records_of(1, ModelOutput.none(1, Status.FAILED, "", f"whatever {i}: it likes")))
        page = Page(metrics)
        assert page.value("quantum_misses_total", model="patchtst", role="shadow", cause=OTHER) == 20

    def test_for_a_model_that_votes_and_has_a_shadow_of_its_own_kind(self) -> None:
        metrics = Metrics(Running("0", "f", "p", {"xgb": "a"}, {"xgb": "b"}))
        decisions = decide(occasion_of(1), {"xgb": output_of([0.9])}, VotePolicy())
        shadows = {"xgb": shadow_votes(output_of([0.1]))[0]}
        commit(metrics, [DecisionRecord(decision=decisions[0], shadows=shadows, reasons={}, ts_decision=0)])
        page = Page(metrics)
        assert page.value("quantum_predictions_total", model="xgb", role="voter", status="ok") == 1
        assert page.value("quantum_predictions_total", model="xgb", role="shadow", status="ok") == 1


@given(st.lists(records(), min_size=1, max_size=4), st.data())
def test_for_every_model_decisions_equal_its_predictions_over_all_statuses(
    batches: list[list[DecisionRecord]], data: st.DataObject
) -> None:
    metrics = Metrics(IDENTITY)
    decided: dict[tuple[str, str], int] = {}
    answers = 0
    for batch in batches:
        ids = [record.decision.decision_id for record in batch]
        written = set(data.draw(st.lists(st.sampled_from(ids), unique=True)))
        commit(metrics, batch, written=written)
        for record in batch:
            if record.decision.decision_id not in written:
                continue
            for role, votes in ((Role.VOTER, record.decision.votes), (Role.SHADOW, record.shadows)):
                for model, vote in votes.items():
                    decided[model, role.value] = decided.get((model, role.value), 0) + 1
                    answers += vote.status == "ok"
    page = Page(metrics)
    for model in MODELS:
        for role in Role:
            found = page.total("quantum_predictions_total", model=model, role=role.value)
            assert found == decided.get((model, role.value), 0)
    assert page.total("quantum_misses_total") == page.total("quantum_predictions_total") - answers


class TestOtherCounts:
    def test_bars_by_fate_gaps_and_clock_steps(self, metrics: Metrics) -> None:
        for fate in FATES:
            metrics.bars(fate, 2)
        metrics.gap(12)
        metrics.clock_stepped()
        page = Page(metrics)
        assert {page.value("quantum_bars_total", fate=fate) for fate in FATES} == {2}
        assert {"duplicate", "out_of_order", "refused", "warming_up"} < set(FATES)
        assert (page.value("quantum_gaps_total"), page.value("quantum_gap_bars_total")) == (1, 12)
        assert page.value("quantum_clock_steps_total") == 1

    def test_times_of_a_group(self, metrics: Metrics) -> None:
        metrics.deciding.observe(0.012)
        metrics.grace_wait.observe(0.020)
        with metrics.commit.time():
            pass
        page = Page(metrics)
        assert page.value("quantum_deciding_seconds_sum") == 0.012
        assert page.value("quantum_grace_wait_seconds_bucket", le="0.02") == 1
        assert page.value("quantum_commit_seconds_count") == 1

    def test_buckets_go_up_from_a_millisecond_to_ten_seconds(self) -> None:
        assert (LATENCY_BUCKETS[0], LATENCY_BUCKETS[-1]) == (0.001, 10.0)
        assert list(LATENCY_BUCKETS) == sorted(set(LATENCY_BUCKETS))

    def test_the_backlog_is_unknown_until_the_server_told(self, metrics: Metrics) -> None:
        assert math.isnan(Page(metrics).value("quantum_stream_unread_entries"))
        metrics.backlog(7, 5)
        page = Page(metrics)
        assert (page.value("quantum_stream_unread_entries"), page.value("quantum_stream_pending_entries")) == (7, 5)
        metrics.backlog(None, 0)
        assert math.isnan(Page(metrics).value("quantum_stream_unread_entries"))


class TestAlarms:
    def test_stand_are_cleared_and_count_once_for_each_time_they_rise(self, metrics: Metrics) -> None:
        frozen = [Alarm(AlarmName.FROZEN_OUTPUT, "patchtst", symbol, "24 equal") for symbol in ("BTCUSDT", "ETHUSDT")]
        name = str(AlarmName.FROZEN_OUTPUT)
        for standing, stand, raised in ((frozen[:1], 1, 1), (frozen, 2, 2), (frozen, 2, 2), ([], 0, 2), (frozen, 2, 4)):
            metrics.alarms(standing)
            page = Page(metrics)
            assert page.value("quantum_alarms", name=name) == stand
            assert page.value("quantum_alarms_raised_total", name=name) == raised

    def test_exist_at_zero_from_the_start(self, metrics: Metrics) -> None:
        page = Page(metrics)
        assert {page.value("quantum_alarms", name=str(name)) for name in AlarmName} == {0}
        assert {page.value("quantum_alarms_raised_total", name=str(name)) for name in AlarmName} == {0}


class TestStatesAreAskedForAtEveryReading:
    def test_shadows(self, metrics: Metrics) -> None:
        shadow = Shadow()
        metrics.watch_shadows(lambda: [shadow])
        assert Page(metrics).value("quantum_shadow_up", model="patchtst") == 1
        shadow.up, shadow.breaker_open, shadow.restarts = False, True, 3
        page = Page(metrics)
        assert page.value("quantum_shadow_up", model="patchtst") == 0
        assert page.value("quantum_shadow_breaker_open", model="patchtst") == 1
        assert page.value("quantum_shadow_restarts_total", model="patchtst") == 3

    def test_vitals(self, metrics: Metrics) -> None:
        ready = False
        metrics.watch_vitals(lambda: ready, lambda: 1.5)
        assert Page(metrics).value("quantum_ready") == 0
        ready = True
        page = Page(metrics)
        assert (page.value("quantum_ready"), page.value("quantum_loop_age_seconds")) == (1, 1.5)


def test_the_start_says_who_is_running(metrics: Metrics) -> None:
    page = Page(metrics)
    assert page.value("quantum_engine_info", version="0.1.0", features="f" * 64, policy="p" * 64) == 1
    assert page.value("quantum_model_info", model="patchtst", role="shadow", artefact="b" * 64) == 1
    assert page.value("process_resident_memory_bytes") > 0


def test_two_engines_in_one_process_share_nothing(metrics: Metrics) -> None:
    commit(metrics, records_of(1, output_of([0.6])))
    other = Page(Metrics(IDENTITY))
    assert other.total("quantum_decisions_total") == 0
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("quantum")]


def test_no_symbol_is_a_label_and_the_page_does_not_grow_with_time(metrics: Metrics) -> None:
    before = Page(metrics).samples.keys()
    for n in (1, 5, 5):
        commit(metrics, records_of(n, output_of([0.6] * n)))
        metrics.alarms([Alarm(AlarmName.CONSTANT_INPUT, "xgb", f"S{n}USDT", "")])
    assert Page(metrics).samples.keys() == before
    assert not [labels for _, labels in before if dict(labels).get("symbol") is not None]

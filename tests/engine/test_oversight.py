import logging
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
import redis
from prometheus_client import generate_latest
from tests.core.strategies import occasion_of, output_of

from quantum_trader.bus.client import Durability, connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.wire import decode_lifecycle
from quantum_trader.bus.writer import LifecycleWriter
from quantum_trader.core.alarms import AlarmName
from quantum_trader.core.decision import DecisionRecord, decide
from quantum_trader.core.features import SCHEMA
from quantum_trader.core.honesty import Honesty
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import Cause, ModelOutput, Status, because
from quantum_trader.engine.metrics import Metrics, Running
from quantum_trader.engine.oversight import LONGEST_QUEUE, Committed, Oversight, Timing
from quantum_trader.engine.steady_clock import SteadyClock

NAMES = StreamNames()
NOW_US = 1_767_225_900_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    connected = connect(server.url)
    connected.flushall()
    yield connected
    connected.close()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(Running("0", "f", "p", {"xgb": "a"}, {}))


def oversight(client: redis.Redis, metrics: Metrics) -> Oversight:
    return Oversight(metrics, Honesty({}), LifecycleWriter(client, NAMES, Durability.NONE))


def group(number: int, *, silent: bool = False, written: bool = True) -> Committed:
    reason = because(Cause.ERROR, "it broke")
    xgb = ModelOutput.none(1, Status.FAILED, "a", reason) if silent else output_of([0.5 + number / 1000])
    occasion = msgspec.structs.replace(
        occasion_of(1), ts_open=[number * 300_000], ts_close=[(number + 1) * 300_000], input_hashes=[f"{number:016x}"]
    )
    decision = decide(occasion, {"xgb": xgb}, VotePolicy())[0]
    reasons = {"xgb": f"failed: {reason}"} if silent else {}
    record = DecisionRecord(decision=decision, shadows={}, reasons=reasons, ts_decision=number)
    rows = np.full((1, len(SCHEMA.names)), number, dtype=np.float32)
    fate = frozenset({decision.decision_id}) if written else frozenset()
    return Committed(rows, [(record, None)], ["1-0"], fate, Timing(0.01, 0.002, 0.001), NOW_US + number)


def events(client: redis.Redis) -> list[tuple[str, str, str]]:
    found = [decode_lifecycle(fields) for _, fields in client.xrange(NAMES.lifecycle)]
    assert all(event.kind == "alarm" for event in found)
    return [(event.detail["name"], event.detail["model"], event.detail["state"]) for event in found]


def test_an_alarm_is_logged_counted_and_published_once_and_once_when_it_is_over(
    client: redis.Redis, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    watching = oversight(client, metrics)
    for number in range(6):
        watching.committed(group(number, silent=True))
    assert ("voter-abstains", "xgb", "raised") in events(client)
    standing = len(events(client))
    assert caplog.text.count("[ALARM] voter-abstains") == 1
    assert b'quantum_alarms{name="voter-abstains"} 1.0' in generate_latest(metrics.registry)
    for number in range(6, 40):
        watching.committed(group(number))
    assert ("voter-abstains", "xgb", "cleared") in events(client)[standing:]
    assert "[ALARM OVER] voter-abstains" in caplog.text
    assert b'quantum_alarms{name="voter-abstains"} 0.0' in generate_latest(metrics.registry)


def test_who_speaks_now_is_shown_and_published_and_the_alarm_of_who_went_is_over(
    client: redis.Redis, metrics: Metrics
) -> None:
    watching = oversight(client, metrics)
    for number in range(6):
        watching.committed(group(number, silent=True))
    now = Running("0", "f", "q", {}, {"xgb": "b"})
    watching.recast(now, {}, {"xgb": {"change": "demoted", "artefact": "b"}}, NOW_US)
    watching.committed(group(6))
    found = [decode_lifecycle(fields) for _, fields in client.xrange(NAMES.lifecycle)]
    assert [event.detail for event in found if event.kind == "recast"] == [
        {"model": "xgb", "change": "demoted", "artefact": "b"}
    ]
    assert found[-1].detail["state"] == "cleared"
    page = generate_latest(metrics.registry)
    assert b'quantum_model_info{artefact="b",model="xgb",role="shadow"} 1.0' in page
    assert b'role="voter"} 1.0' not in page.split(b"# HELP quantum_model_info")[1]
    assert b'quantum_engine_info{features="f",policy="q",version="0"} 1.0' in page
    assert b'quantum_predictions_total{model="xgb",role="shadow",status="ok"} 0.0' in page


def test_what_was_decided_before_is_not_watched_again(client: redis.Redis, metrics: Metrics) -> None:
    watching = oversight(client, metrics)
    for number in range(6):
        watching.committed(group(number, silent=True, written=False))
    assert events(client) == []


def test_a_clock_that_stepped_back_is_an_alarm_until_it_has_caught_up(client: redis.Redis, metrics: Metrics) -> None:
    wall = [NOW_US]
    clock = SteadyClock(lambda: wall[0], lambda: 0)
    watching = oversight(client, metrics)
    watching.turned(clock)
    assert events(client) == []
    wall[0] -= 60_000_000
    clock.now_us()
    watching.turned(clock)
    watching.turned(clock)
    assert events(client) == [("clock-step", "", "raised")]
    wall[0] += 60_000_001
    clock.now_us()
    watching.turned(clock)
    assert events(client) == [("clock-step", "", "raised"), ("clock-step", "", "cleared")]
    assert b"quantum_clock_steps_total 1.0" in generate_latest(metrics.registry)


def test_a_lost_lease_is_the_last_word(client: redis.Redis, metrics: Metrics) -> None:
    oversight(client, metrics).lease_lost("taken", NOW_US)
    assert events(client) == [(AlarmName.LEASE_LOST.value, "", "raised")]


class TestAnEventThatCannotBePublished:
    def test_waits_for_the_stream_and_stops_nobody(
        self, client: redis.Redis, metrics: Metrics, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.set(NAMES.lifecycle, "somebody's text")
        watching = oversight(client, metrics)
        for number in range(6):
            watching.committed(group(number, silent=True))
        assert "alarm event not published yet" in caplog.text
        client.delete(NAMES.lifecycle)
        watching.committed(group(6, silent=True))
        assert ("voter-abstains", "xgb", "raised") in events(client)

    def test_is_not_kept_for_ever(
        self, client: redis.Redis, metrics: Metrics, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.set(NAMES.lifecycle, "somebody's text")
        watching = oversight(client, metrics)
        wall = [NOW_US]
        clock = SteadyClock(lambda: wall[0], lambda: 0)
        for step in range(LONGEST_QUEUE + 10):
            wall[0] += -120_000_000 if step % 2 else 120_000_000
            clock.now_us()
            watching.turned(clock)
        assert "could not be published and are dropped" in caplog.text


def test_an_onlooker_that_fails_is_told_and_goes_no_further(
    client: redis.Redis, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    watching = oversight(client, metrics)
    broken = group(1)
    watching.committed(Committed(broken.rows[:0], broken.pairs, [], broken.written, broken.timing, broken.now_us))
    assert "an onlooker failed; decisions go on" in caplog.text

"""What goes wrong while nobody looks: the operator finds a clear line, and the record is complete when it is over."""

import dataclasses
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.contract.test_bus_backends import Faults, Proxy
from tests.e2e.harness import pending, release, stream_length, wait_until
from tests.e2e.night import (
    AGAIN,
    NAMES,
    SmallDisk,
    Stepping,
    Watched,
    alarms,
    assert_complete,
    health,
    small_disk,
    start_again,
)
from tests.e2e.test_service import PAIRS, expected, publish

from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.lease import TTL_MS
from quantum_trader.bus.process import any_port
from quantum_trader.bus.wire import encode_bar
from quantum_trader.clock import now_ms
from quantum_trader.core.bars import WINDOW, Bar, BarSeries, interval_ms, timeframe_name
from quantum_trader.core.errors import BusError
from quantum_trader.market.simulator import simulate

STEP_MS = interval_ms("5m")
HOUR_S = 3600


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "valkey") as running:
        yield running


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 16) as made:
        if made is None:
            pytest.skip("no right to mount a file system (as root, or: unshare -Urm pytest ...)")
        yield made


@pytest.fixture(autouse=True)
def no_engine_left() -> Iterator[None]:
    """A test that fails leaves no engine behind."""
    yield
    while Watched.lives:
        Watched.lives.pop().kill()


def decided(url: str, at_least: int) -> None:
    """Wait for so many decisions."""
    wait_until(lambda: stream_length(url, NAMES.decisions) >= at_least, timeout_s=120, every_s=0.002)


def up_to(series: dict[str, BarSeries], bars: int) -> dict[str, BarSeries]:
    return {symbol: each.slice(0, bars) for symbol, each in series.items()}


def from_bar(series: dict[str, BarSeries], start: int) -> dict[str, BarSeries]:
    return {symbol: each.slice(start, len(each)) for symbol, each in series.items()}


# --- the stream server ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_server_killed_and_back_after_longer_than_the_quick_tries(server: EmbeddedServer, tmp_path: Path) -> None:
    series = simulate(WINDOW + 600, 31, PAIRS)
    engine = Watched(release(tmp_path), server.url)
    publish(server.url, series)
    decided(server.url, 100)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    time.sleep(15)
    assert engine.process.poll() is None, engine.log
    assert any("Connection refused" in reason for reason in engine.health("ready"))
    assert engine.health("live") == [], "a restart of the engine would not bring the server back"
    start_again(server)
    decided(server.url, expected(series))
    assert engine.health("ready") == []
    assert engine.stop() == 0, engine.log
    assert [AGAIN in message for message in engine.messages].count(True) == 1, "told once, not at every try"
    assert engine.says("the stream server works again")
    assert "Traceback" not in engine.log
    assert_complete(server.url, series, tmp_path / "models")


@pytest.mark.slow
def test_server_that_hangs_makes_the_engine_unready_not_dead(server: EmbeddedServer, tmp_path: Path) -> None:
    series = simulate(WINDOW + 600, 32, PAIRS)
    engine = Watched(release(tmp_path), server.url)
    publish(server.url, series)
    decided(server.url, 100)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        # Longer than the loop's own limit: every try ends with a reply that does not come.
        end = time.monotonic() + 45
        unready = False
        while time.monotonic() < end:
            assert engine.health("live") == []
            unready = unready or engine.health("ready") != []
            time.sleep(0.5)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert unready
    decided(server.url, expected(series))
    assert engine.stop() == 0, engine.log
    assert engine.says(AGAIN)
    assert_complete(server.url, series, tmp_path / "models")


@pytest.mark.slow
def test_slow_bus_makes_decisions_late_and_nothing_else(server: EmbeddedServer, tmp_path: Path) -> None:
    series = simulate(WINDOW + 40, 33, PAIRS)
    env_file = release(tmp_path)
    publish(server.url, up_to(series, WINDOW + 10))
    engine = Watched(env_file, server.url)
    decided(server.url, 33)
    assert engine.stop() == 0, engine.log
    publish(server.url, from_bar(series, WINDOW + 10))
    with Proxy(server.url, Faults(delay_s=0.2, stall=0.04, stall_s=4.0)) as proxy:
        engine = Watched(env_file, proxy.url)
        decided(server.url, expected(series))
        assert engine.stop(60) == 0, engine.log
    assert proxy.met["stall"] >= 2, "of the requests the tenth meets it, the 37th and so on"
    assert not engine.says(AGAIN), "four seconds are within the patience of one request"
    assert_complete(server.url, series, tmp_path / "models")


@pytest.mark.slow
@pytest.mark.parametrize("stalled_s", [3.0, 20.0])
def test_stopped_in_the_middle_of_a_batch_while_the_bus_stalls(
    server: EmbeddedServer, tmp_path: Path, stalled_s: float
) -> None:
    series = simulate(WINDOW + 400, 34, PAIRS)
    env_file = release(tmp_path)
    with Proxy(server.url, Faults()) as proxy:
        engine = Watched(env_file, proxy.url)
        publish(server.url, series)
        decided(server.url, 90)
        proxy.faults.delay_s = stalled_s
        time.sleep(0.5)
        before = stream_length(server.url, NAMES.decisions)
        assert before < expected(series), "in the middle"
        # Within the patience of one request it goes on for a while; beyond it the engine gives up; it says which.
        assert engine.stop(90) == 0, engine.log
        assert engine.says("stopped with bars in hand") == (stalled_s < 5)
        assert engine.says("stopped while the stream server is away") == (stalled_s > 5)
        assert "Traceback" not in engine.log
    assert stream_length(server.url, NAMES.decisions) < expected(series)
    engine = Watched(env_file, server.url)
    decided(server.url, expected(series))
    assert engine.stop() == 0, engine.log
    assert_complete(server.url, series, tmp_path / "models")


# --- the disk -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_full_disk_of_a_server_that_refuses_to_write(disk: SmallDisk, tmp_path: Path) -> None:
    # With `appendfsync everysec` the server lives on and refuses: MISCONF, until there is space.
    series = simulate(WINDOW + 600, 35, PAIRS)
    with EmbeddedServer(disk.folder / "valkey", appendfsync="everysec") as server:
        engine = Watched(release(tmp_path), server.url)
        publish(server.url, series)
        decided(server.url, 100)
        disk.fill()
        wait_until(lambda: engine.says(AGAIN))
        told = len(engine.messages)
        time.sleep(65)
        assert engine.process.poll() is None
        assert any("MISCONF" in reason for reason in engine.health("ready"))
        assert engine.health("live") == []
        again = [message for message in engine.messages[told:] if AGAIN in message]
        assert len(again) == 1, "once a minute"
        assert stream_length(server.url, NAMES.decisions) < expected(series)
        disk.make_space()
        decided(server.url, expected(series))
        assert engine.stop() == 0, engine.log
        assert engine.says("the stream server works again")
        assert "Traceback" not in engine.log
        assert_complete(server.url, series, tmp_path / "models")
        # What it acknowledged stands on the disk, too.
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        start_again(server)
        assert_complete(server.url, series, tmp_path / "models")


@pytest.mark.slow
def test_full_disk_of_a_server_that_ends(disk: SmallDisk, tmp_path: Path) -> None:
    # With `appendfsync always` a server that cannot keep its promise ends itself.
    series = simulate(WINDOW + 600, 36, PAIRS)
    with EmbeddedServer(disk.folder / "valkey") as server:
        engine = Watched(release(tmp_path), server.url)
        publish(server.url, series)
        decided(server.url, 100)
        disk.fill()
        wait_until(lambda: server.pid is None)
        with pytest.raises(BusError) as caught:
            server.start()
        assert "No space left on device" in str(caught.value)
        assert "\n" not in str(caught.value)
        wait_until(lambda: engine.says(AGAIN))
        assert engine.health("ready") != []
        disk.make_space()
        start_again(server)
        decided(server.url, expected(series))
        assert engine.stop() == 0, engine.log
        assert_complete(server.url, series, tmp_path / "models")


def test_full_disk_of_the_log_and_the_ready_file(server: EmbeddedServer, disk: SmallDisk, tmp_path: Path) -> None:
    series = simulate(WINDOW + 40, 37, PAIRS)
    env_file = release(disk.folder)
    disk.fill()
    where = f"127.0.0.1:{any_port()}"
    publish(server.url, up_to(series, WINDOW + 20))
    engine = Watched(env_file, server.url, QUANTUM_HEALTH_ADDRESS=where)
    decided(server.url, 60)
    assert engine.log == "", "not a byte had room"
    assert health(where, "ready") == [], "it decides, and whoever asks is told so"
    disk.make_space()
    publish(server.url, from_bar(series, WINDOW + 20))
    decided(server.url, expected(series))
    assert engine.stop() == 0, engine.log
    assert "stopped: decided_before=0, decisions=123" in engine.log, "the log goes on"
    assert_complete(server.url, series, disk.folder / "models")


# --- the clock ------------------------------------------------------------------------------------------------------


def recent(bars: int, seed: int) -> dict[str, BarSeries]:
    """Bars whose last one closed just now."""
    last_close = now_ms() // STEP_MS * STEP_MS
    return simulate(bars, seed, PAIRS, start_ms=last_close - bars * STEP_MS)


def test_clock_that_steps_back_two_hours_and_is_set_right_again(server: EmbeddedServer, tmp_path: Path) -> None:
    series = recent(WINDOW + 30, 38)
    engine = Stepping(release(tmp_path), server.url)
    publish(server.url, up_to(series, WINDOW + 10))
    decided(server.url, 33)
    engine.step(-2 * HOUR_S)
    wait_until(lambda: alarms(server.url, "clock-step") == ["raised"])
    # By the stepped clock these bars are not finished yet.
    part = {symbol: each.slice(WINDOW + 10, WINDOW + 20) for symbol, each in series.items()}
    publish(server.url, part)
    decided(server.url, 63)
    assert engine.health("ready") == []
    engine.step(0)
    wait_until(lambda: alarms(server.url, "clock-step") == ["raised", "cleared"])
    publish(server.url, from_bar(series, WINDOW + 20))
    decided(server.url, expected(series))
    assert engine.stop() == 0, engine.log
    assert engine.says("the clock stepped back by 7200.")
    assert engine.says("the clock has caught up")
    assert_complete(server.url, series, tmp_path / "models")


def test_start_with_a_clock_that_is_behind_what_was_decided(server: EmbeddedServer, tmp_path: Path) -> None:
    series = recent(WINDOW + 5, 39)
    env_file = release(tmp_path)
    publish(server.url, up_to(series, WINDOW + 3))
    engine = Stepping(env_file, server.url)
    decided(server.url, 12)
    assert engine.stop() == 0, engine.log
    publish(server.url, from_bar(series, WINDOW + 3))
    engine = Stepping(env_file, server.url, step_s=-2 * HOUR_S)
    assert engine.process.wait(60) == 1
    assert "set the clock right and start again" in engine.messages[-1]
    assert "Traceback" not in engine.log
    assert stream_length(server.url, NAMES.decisions) == 12
    engine = Stepping(env_file, server.url)
    decided(server.url, expected(series))
    assert engine.stop() == 0, engine.log
    assert_complete(server.url, series, tmp_path / "models")


# --- the bars -------------------------------------------------------------------------------------------------------

GARBAGE: tuple[dict[bytes, bytes], ...] = (
    {b"event_type": b"market.bar", b"payload": b"{not json"},
    {b"event_type": b"market.bar", b"payload": b"[1, 2, 3]"},
    {b"payload": b"{}"},
    {b"\xff\x00": b"\xfe" * 1000},
)


def rows(series: dict[str, BarSeries], number: int) -> list[Bar]:
    return [each.bar(number) for each in series.values()]


def hourly(bar: Bar) -> Bar:
    return dataclasses.replace(bar, interval=12 * STEP_MS, ts_open=bar.ts_open // (12 * STEP_MS) * 12 * STEP_MS)


def send(client: redis.Redis, *entries: Bar | dict[bytes, bytes]) -> None:
    """Put entries into the bar stream as they are, in one transaction: no writer of ours would."""
    with client.pipeline(transaction=True) as pipe:
        for entry in entries:
            if isinstance(entry, Bar):
                entry = encode_bar(entry, timeframe_name(entry.interval), 1_700_000_000_000_000)
            pipe.xadd(NAMES.bars, entry)
        pipe.execute()


def test_bars_twice_late_swapped_foreign_and_garbage_between_them(server: EmbeddedServer, tmp_path: Path) -> None:
    series = simulate(WINDOW + 60, 42, PAIRS)
    env_file = release(tmp_path)
    publish(server.url, up_to(series, WINDOW + 5))
    engine = Watched(env_file, server.url)
    decided(server.url, 18)
    far_future = dataclasses.replace(series["BTCUSDT"].bar(WINDOW), ts_open=4_070_908_800_000)
    with connect(server.url) as client:
        for number in range(WINDOW + 5, WINDOW + 25, 2):
            now, following = rows(series, number), rows(series, number + 1)
            changed = [dataclasses.replace(bar, volume=bar.volume + 1.0) for bar in now]
            # Of the two that swapped places the older is decided first: they came together.
            send(client, *following, GARBAGE[number // 2 % 4], *now, *changed, hourly(now[0]), far_future)
            decided(server.url, 3 * (number + 2 - WINDOW + 1))
            # After their time: dropped, one by one.
            send(client, *changed, *rows(series, number - 40))
        wait_until(lambda: pending(server.url) == 0 and client.xlen(NAMES.bars) == delivered(client))
    assert engine.stop() == 0, engine.log
    # Ten rounds: 3 doubles of a waiting bar, 1 hourly, 1 of the future, 1 garbage; then 6 that are too late.
    assert engine.messages[-1].startswith("stopped: decided_before=0, decisions=78, ")
    assert ", out_of_order=60, refused=60, " in engine.messages[-1]
    for rule in (
        "the same bar is waiting already",
        "timeframe 1h, configured is 5m",
        "unfinished",
        "JSON is malformed",
    ):
        assert engine.says(rule), rule
    assert "Traceback" not in engine.log
    # The next life finds all of it in its past, and its windows are whole all the same.
    publish(server.url, from_bar(series, WINDOW + 25))
    engine = Watched(env_file, server.url)
    decided(server.url, expected(series))
    assert engine.stop() == 0, engine.log
    assert_complete(server.url, series, tmp_path / "models")


def delivered(client: redis.Redis) -> int:
    """Entries that the engine's group has read."""
    (group,) = client.xinfo_groups(NAMES.bars)
    return int(group["entries-read"])


# --- two engines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGKILL])
def test_second_engine_waits_and_takes_over_in_the_middle(
    server: EmbeddedServer, tmp_path: Path, ends: signal.Signals
) -> None:
    series = simulate(WINDOW + 300, 40, PAIRS)
    env_file = release(tmp_path)
    first = Watched(env_file, server.url)
    first.wait_ready()
    second = Watched(env_file, server.url, QUANTUM_CONSUMER="engine-2")
    wait_until(lambda: second.says(f"group ai-engine has an engine: engine-1 on {os.uname().nodename}, process "))
    assert second.health("ready") == ["waiting for the lease of its group"]
    publish(server.url, series)
    decided(server.url, 60)
    first.process.send_signal(ends)
    assert first.process.wait(30) == (0 if ends == signal.SIGTERM else -signal.SIGKILL)
    second.wait_ready()
    assert second.says("its lease is taken over") == (ends == signal.SIGKILL), "given back, or found to be free"
    decided(server.url, expected(series))
    assert second.stop() == 0, second.log
    assert_complete(server.url, series, tmp_path / "models")


@pytest.mark.slow
def test_engine_that_slept_through_its_lease_ends_and_writes_nothing(server: EmbeddedServer, tmp_path: Path) -> None:
    series = simulate(WINDOW + 500, 41, PAIRS)
    env_file = release(tmp_path)
    first = Watched(env_file, server.url)
    first.wait_ready()
    publish(server.url, series)
    decided(server.url, 60)
    first.process.send_signal(signal.SIGSTOP)
    try:
        second = Watched(env_file, server.url, QUANTUM_CONSUMER="engine-2")
        second.wait_ready()
        assert not second.says("its lease is taken over"), "a process that sleeps is not gone: its lease ran out"
        decided(server.url, expected(series))
        first.process.send_signal(signal.SIGCONT)
        assert first.process.wait(2 * TTL_MS / 1000) == 1
    finally:
        first.kill()
    assert first.messages[-1].endswith("was taken by another engine; this engine writes nothing more")
    assert "Traceback" not in first.log
    assert alarms(server.url, "lease-lost") == ["raised"]
    assert second.stop() == 0, second.log
    assert_complete(server.url, series, tmp_path / "models")

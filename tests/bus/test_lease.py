"""The lease with the real server: one holder, replaced at once when it is dead, after its time when it is silent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.e2e.harness import wait_until

from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.identity import Identity
from quantum_trader.bus.lease import Lease, LeaseHeldError, LeaseLostError, read_holder
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.session import Session
from quantum_trader.core.errors import BusError

NAMES = StreamNames()
GROUP = "ai-engine"
FAR = Identity("elsewhere", 4711, 99, "another-boot pid:[1]", "engine-2")
HERE = Identity.here("engine-1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("lease") / "valkey", appendfsync="no") as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with connect(server.url) as connected:
        connected.flushall()
        yield connected


def a_lease(client: redis.Redis, identity: Identity = HERE, ttl_ms: int = 60_000) -> Lease:
    return Lease(client, NAMES, GROUP, identity, ttl_ms)


def child() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=subprocess.DEVNULL)


def identity_of(process: "subprocess.Popen[bytes]") -> Identity:
    """What the process would say of itself."""
    ticks = int(Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    return Identity(HERE.host, process.pid, ticks, HERE.machine, "engine-1")


# --- identity -----------------------------------------------------------------------------------------------------


def test_a_process_is_gone_only_when_it_ended() -> None:
    assert HERE.gone() is False
    assert FAR.gone() is None
    assert Identity("h", 1, 1, "", "c").gone() is None
    process = child()
    try:
        identity = identity_of(process)
        assert identity.gone() is False
        process.send_signal(signal.SIGSTOP)
        assert identity.gone() is False, "stopped is not ended"
        # Another process under the same number.
        assert Identity(identity.host, identity.pid, identity.started + 1, identity.machine, "c").gone() is True
    finally:
        process.kill()
    wait_until(lambda: identity.gone() is True)
    assert Path(f"/proc/{process.pid}").exists(), "a zombie is gone, though nobody has reaped it"
    process.wait()
    assert identity.gone() is True


# --- one holder ---------------------------------------------------------------------------------------------------


def test_the_second_is_told_who_holds_it(client: redis.Redis) -> None:
    first, second = a_lease(client), a_lease(client, FAR)
    assert first.acquire() is None
    assert first.acquire() is None, "asking again changes nothing"
    holder = second.acquire()
    assert holder is not None
    assert holder.identity == HERE
    seconds, micros = client.time()
    assert abs(holder.since - (seconds * 1000 + micros // 1000)) < 60_000
    with pytest.raises(LeaseLostError, match="is not held"):
        _ = second.fence
    with pytest.raises(
        LeaseHeldError, match=f"group ai-engine has an engine already: engine-1 on .*, process {os.getpid()}"
    ):
        second.wait(0.3)
    assert not second.wait(60, stopped=lambda: True)
    # Another group is another engine's business.
    assert Lease(client, NAMES, "other", FAR).acquire() is None
    first.release()
    assert read_holder(Session(client), NAMES, GROUP) is None
    assert second.acquire() is None
    assert read_holder(Session(client), NAMES, GROUP).identity == FAR


def test_a_dead_process_of_this_machine_is_replaced_at_once(client: redis.Redis) -> None:
    process = child()
    first = a_lease(client, identity_of(process))
    assert first.acquire() is None
    second = a_lease(client)
    assert second.acquire() is not None
    process.send_signal(signal.SIGSTOP)
    assert second.acquire() is not None
    process.kill()
    process.wait()
    assert second.acquire() is None
    assert not first.renew()
    with pytest.raises(LeaseLostError):
        _ = first.fence


def test_a_silent_holder_elsewhere_is_replaced_when_its_time_is_over(client: redis.Redis) -> None:
    first, second = a_lease(client, FAR, ttl_ms=400), a_lease(client)
    assert first.acquire() is None
    assert second.acquire() is not None
    assert second.wait(30)
    assert not first.renew()
    second.release()
    assert not first.renew(), "lost is lost: who has it after us has seen bars that we have not"
    first.release()
    assert second.acquire() is None


def test_nobody_took_it_so_it_is_still_held(client: redis.Redis) -> None:
    lease = a_lease(client, ttl_ms=50)
    assert lease.acquire() is None
    fence = lease.fence
    wait_until(lambda: not client.exists(NAMES.lease(GROUP)))
    assert lease.renew()
    assert lease.fence == fence
    assert client.pttl(NAMES.lease(GROUP)) > 0
    wait_until(lambda: not client.exists(NAMES.lease(GROUP)))
    assert lease.acquire() is None
    assert lease.fence == fence
    wait_until(lambda: not client.exists(NAMES.lease(GROUP)))
    lease.keep()
    assert client.exists(NAMES.lease(GROUP))


def test_keep_renews_in_time_and_no_more_often(client: redis.Redis) -> None:
    lease = a_lease(client, ttl_ms=600)
    assert lease.acquire() is None
    before = client.info("commandstats")["cmdstat_watch"]["calls"]
    end = time.monotonic() + 2.0
    turns = 0
    while time.monotonic() < end:
        lease.keep()
        turns += 1
        time.sleep(0.005)
    assert client.exists(NAMES.lease(GROUP))
    renewals = client.info("commandstats")["cmdstat_watch"]["calls"] - before
    assert 2 <= renewals <= 10
    assert turns > renewals
    client.set(NAMES.lease_epoch(GROUP), "9 somebody")
    time.sleep(0.25)
    with pytest.raises(LeaseLostError, match="was taken by another engine; this engine writes nothing more"):
        lease.keep()
    with pytest.raises(LeaseLostError, match="not held"):
        lease.keep()


def test_a_server_that_lost_its_memory_ends_the_lease(client: redis.Redis) -> None:
    lease = a_lease(client, ttl_ms=3)
    assert lease.acquire() is None
    client.flushall()
    time.sleep(0.01)
    with pytest.raises(LeaseLostError, match="vanished from the stream server"):
        lease.keep()


def test_foreign_values_are_named(client: redis.Redis) -> None:
    client.set(NAMES.lease(GROUP), "mine")
    with pytest.raises(BusError, match="lease key quantum:lease:ai-engine holds b'mine'"):
        a_lease(client).acquire()
    client.delete(NAMES.lease(GROUP))
    client.set(NAMES.lease_epoch(GROUP), "mine")
    with pytest.raises(BusError, match="lease key quantum:lease-epoch:ai-engine holds b'mine'"):
        a_lease(client).acquire()


def test_many_contenders_one_holder_each_time(server: EmbeddedServer, client: redis.Redis) -> None:
    rounds, contenders = 30, 6
    won: list[list[str]] = [[] for _ in range(rounds)]
    gates = [threading.Barrier(contenders) for _ in range(2 * rounds)]

    def contend(name: str) -> None:
        mine = connect(server.url)
        for n in range(rounds):
            lease = a_lease(mine, Identity("far", 1, 1, "", name))
            gates[2 * n].wait(60)
            if lease.acquire() is None:
                won[n].append(name)
            gates[2 * n + 1].wait(60)
            lease.release()
            lease.close()
        mine.close()

    threads = [threading.Thread(target=contend, args=(f"engine-{i}",)) for i in range(contenders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A round may begin before the winner of the last one gave the lease back.
    assert all(len(names) <= 1 for names in won)
    assert len(won[0]) == 1
    assert int(client.get(NAMES.lease_epoch(GROUP)).split()[0]) == sum(map(len, won))


# --- any order of events ------------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(st.sampled_from(["acquire", "renew", "release", "expire", "write"]), st.integers(0, 2)), max_size=40
)


@settings(max_examples=60)
@given(EVENTS)
def test_only_the_last_taker_may_write(server: EmbeddedServer, events: list[tuple[str, int]]) -> None:
    with connect(server.url) as client:
        client.flushall()
        leases = [a_lease(client, Identity("far", n, 1, "", f"engine-{n}")) for n in range(3)]
        # The rule, said a second time: who took last, whether its time still runs, who may still think it is theirs.
        last, runs = None, False
        for event, n in events:
            if event == "expire":
                client.delete(NAMES.lease(GROUP))
                runs = False
            elif event == "acquire":
                free = not runs or last == n
                assert (leases[n].acquire() is None) == free
                if free:
                    last, runs = n, True
            elif event == "renew":
                kept = leases[n].renew()
                assert not kept or last == n
                runs = runs or kept
            elif event == "release":
                leases[n].release()
                if last == n:
                    # It takes back what it gave only by taking it anew.
                    runs = False
            else:
                assert may_write(client, leases[n]) <= (last == n)
        if last is not None and runs:
            assert leases[last].acquire() is None
            assert may_write(client, leases[last])
        for lease in leases:
            lease.close()


def may_write(client: redis.Redis, lease: Lease) -> bool:
    try:
        fence = lease.fence
        fence.check(client.get(fence.key))
    except LeaseLostError:
        return False
    return True


# --- a process that sleeps ----------------------------------------------------------------------------------------

SLEEPER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.contract.test_bus_backends import a_batch, a_record
from quantum_trader.bus.client import Durability, connect
from quantum_trader.bus.identity import Identity
from quantum_trader.bus.lease import Lease, LeaseLostError
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.writer import DecisionWriter
client = connect(sys.argv[1])
lease = Lease(client, StreamNames(), "ai-engine", Identity.here("engine-1"), ttl_ms=500)
assert lease.wait(30)
writer = DecisionWriter(client, StreamNames(), Durability.NONE, lease=lease)
n = 0
while True:
    n += 1
    try:
        writer.commit(a_batch([a_record("BTCUSDT", n)]))
    except LeaseLostError as error:
        Path(sys.argv[2]).write_text(f"{n} {error}")
        sys.exit(3)
    time.sleep(0.01)
"""


def test_a_stopped_holder_wakes_up_and_may_not_commit(
    server: EmbeddedServer, client: redis.Redis, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen([sys.executable, "-c", SLEEPER, server.url, str(said), root], stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: client.xlen(NAMES.decisions) >= 5)
        process.send_signal(signal.SIGSTOP)
        heir = a_lease(client, ttl_ms=60_000)
        assert heir.acquire() is not None, "stopped is not dead"
        assert heir.wait(30)
        written = client.xlen(NAMES.decisions)
        process.send_signal(signal.SIGCONT)
        assert process.wait(60) == 3
    finally:
        process.kill()
        process.wait()
    assert client.xlen(NAMES.decisions) == written
    assert said.read_text().partition(" ")[2].endswith("was taken by another engine; this engine writes nothing more")
    assert heir.renew()

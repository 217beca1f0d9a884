"""What every stream server must do for us, tried on each one that this machine has, over good and bad networks."""

import contextlib
import os
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import redis
from tests.archive.many import unbroken

from quantum_trader.bus.books import read_books, recount
from quantum_trader.bus.client import Durability, connect, durability
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.identity import Identity
from quantum_trader.bus.lease import Fence, Lease, LeaseLostError
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.overview import read_overview
from quantum_trader.bus.reader import BadEntry, BarEntry, BarReader, DecisionReader
from quantum_trader.bus.session import Session
from quantum_trader.bus.tally import Part
from quantum_trader.bus.wire import decode_intent, encode_bar
from quantum_trader.bus.writer import BarWriter, CommitBatch, CommitResult, DecisionWriter, LifecycleWriter
from quantum_trader.core.bars import Bar
from quantum_trader.core.chain import GENESIS, unchained
from quantum_trader.core.decision import Decision, DecisionRecord, ModelVote, ShadowVote, canonical, decision_id
from quantum_trader.core.errors import BusError, WireError
from quantum_trader.core.intent import build_intent
from quantum_trader.core.policy import IntentPolicy

NOW_US = 1768012593250080
STEP = 300_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT")
NAMES = StreamNames()
GROUP = "ai-engine"


@pytest.fixture(params=["embedded-valkey", "redis-server"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedServer]:
    binary = None
    if request.param == "redis-server":
        found = shutil.which("redis-server")
        if found is None:
            pytest.skip("no redis-server on this machine (Debian: apt install redis-server)")
        binary = Path(found)
    with EmbeddedServer(tmp_path / "server", binary=binary) as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with connect(server.url) as connected:
        yield connected


@dataclass
class Faults:
    """Shares of what passes that meet each fault."""

    lose_reply: float = 0.0
    cut_reply: float = 0.0
    lose_request: float = 0.0
    stall: float = 0.0
    stall_s: float = 0.0
    delay_s: float = 0.0


class Proxy:
    """A TCP proxy before a server that loses, cuts and delays; what it did is counted."""

    def __init__(self, url: str, faults: Faults, seed: int = 1) -> None:
        self.faults, self.met = faults, Counter[str]()
        self._target = ("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0]))
        # One sequence a direction: what meets the n-th request does not depend on how replies are cut into packets.
        self._requests, self._replies = (np.random.default_rng([seed, way]) for way in (0, 1))
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def __enter__(self) -> "Proxy":
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            close(each)
        for thread in self._threads:
            thread.join()

    def _run(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            with self._lock:
                self._sockets += [near, far]
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._run(self._pump, near, far, self._on_request)
            self._run(self._pump, far, near, self._on_reply)

    def _pump(self, source: socket.socket, sink: socket.socket, rule: object) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if not rule(data, sink):  # type: ignore[operator]
                    break
        close(source)
        close(sink)

    def _dice(self, rng: np.random.Generator, *shares: tuple[str, float]) -> str | None:
        with self._lock:
            drawn = rng.random()
            for fault, share in shares:
                if drawn < share:
                    self.met[fault] += 1
                    return fault
                drawn -= share
        return None

    def _on_request(self, data: bytes, sink: socket.socket) -> bool:
        fault = self._dice(self._requests, ("lose_request", self.faults.lose_request), ("stall", self.faults.stall))
        if fault == "lose_request":
            return False
        time.sleep(self.faults.stall_s if fault == "stall" else self.faults.delay_s)
        sink.sendall(data)
        return True

    def _on_reply(self, data: bytes, sink: socket.socket) -> bool:
        fault = self._dice(self._replies, ("lose_reply", self.faults.lose_reply), ("cut_reply", self.faults.cut_reply))
        if fault == "cut_reply":
            sink.sendall(data[: len(data) // 2])
        if fault is None:
            sink.sendall(data)
        return fault is None


def close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


def a_bar(symbol: str, n: int, close_: float = 100.5) -> Bar:
    return Bar(symbol, n * STEP, STEP, 100.0, 102.0, 99.0, close_, 7.25)


def bars_of(rounds: range, symbols: Sequence[str] = SYMBOLS) -> list[Bar]:
    return [a_bar(symbol, n) for n in rounds for symbol in symbols]


def a_record(symbol: str, n: int, action: str = "BUY") -> DecisionRecord:
    vote = ModelVote(action=action, confidence=0.7986, status="ok", artefact="sha256:1", p_up=1 / 3)
    shadow = ShadowVote(action="SELL", confidence=0.6150280237197876, status="ok", artefact="sha256:2", p_up=0.38)
    decision = Decision(
        schema=1,
        decision_id=decision_id(symbol, "5m", n * STEP),
        symbol=symbol,
        timeframe="5m",
        ts_open=n * STEP,
        ts_close=(n + 1) * STEP,
        action=action,
        confidence=0.7986,
        consensus_count=3,
        voters=3,
        min_consensus=2,
        weights={"xgb": 0.25, "lgbm": 0.25, "nhits": 0.3},
        scores={"SELL": 0.0, "HOLD": 0.0, "BUY": 1.0},
        votes={"xgb": vote, "lgbm": vote, "nhits": vote},
        entry_price=100.5,
        atr_value=0.02,
        features="f",
        input_hash="i",
        policy="p",
    )
    return DecisionRecord(decision=decision, shadows={"patchtst": shadow}, reasons={}, ts_decision=(n + 1) * STEP)


def a_batch(records: Sequence[DecisionRecord], entry_ids: Sequence[str] = ()) -> CommitBatch:
    pairs = [(r, build_intent(r.decision, r.shadows, IntentPolicy(), NOW_US)) for r in records]
    return CommitBatch(entry_ids=entry_ids, group=GROUP, records=pairs, now_us=NOW_US)


def decide(entries: Sequence[BarEntry | BadEntry]) -> CommitBatch:
    """A decision for every bar, HOLD at every third."""
    bars = [entry.bar for entry in entries if isinstance(entry, BarEntry)]
    records = [a_record(b.symbol, n := b.ts_open // STEP, "HOLD" if n % 3 == 0 else "BUY") for b in bars]
    return a_batch(records, [entry.entry_id for entry in entries])


def pending(client: redis.Redis) -> int:
    return int(client.xpending(NAMES.bars, GROUP)["pending"])


def stored(client: redis.Redis) -> tuple[list[tuple[str, int]], list[str]]:
    """Symbol and round of every stored decision, and the decision ids of every stored intent, in stream order.

    Whatever happened to the network, the server and the writers: the decisions are one unbroken chain a symbol.
    """
    records = list(DecisionReader(client, NAMES).since(0))
    assert unbroken(records)
    found = [record.decision for record in records]
    intents = [decode_intent(fields)["decision_id"] for _, fields in client.xrange(NAMES.intents)]
    return [(d.symbol, d.ts_open // STEP) for d in found], intents


def assert_exactly_once(client: redis.Redis, rounds: range, symbols: Sequence[str] = SYMBOLS) -> None:
    decisions, intents = stored(client)
    wanted = [(symbol, n) for n in rounds for symbol in symbols]
    assert sorted(decisions) == sorted(wanted)
    for symbol in symbols:
        assert [n for s, n in decisions if s == symbol] == list(rounds)
    assert Counter(intents) == Counter(decision_id(s, "5m", n * STEP) for s, n in wanted if n % 3)
    assert_counted(client, len(wanted), sum(1 for _, n in wanted if n % 3))


def assert_counted(client: redis.Redis, decisions: int, intents: int) -> None:
    """The tally says so, does not contradict the server's own count, and is what the stream gives when read again."""
    session = Session(client)
    books = read_books(session, NAMES)
    assert books.problems() == []
    assert (books.tally.decisions, books.tally.intents) == (decisions, intents)
    assert books.tally.answers[Part("patchtst", "shadow")] == {"ok": decisions}
    again = recount(session, NAMES)
    assert (again.problems, again.trimmed) == ([], 0)
    assert (again.tally.casts, again.tally.answers) == (books.tally.casts, books.tally.answers)
    session.close()


# --- bars ---------------------------------------------------------------------------------------------------------


def test_bars_come_back_as_published_and_only_once(client: redis.Redis) -> None:
    writer, reader = BarWriter(client, NAMES), BarReader(client, NAMES)
    bars = bars_of(range(1, 301))
    assert writer.publish(bars, "5m", NOW_US) == len(bars)
    assert writer.publish(bars, "5m", NOW_US) == 0
    assert writer.publish([*bars[-5:], *bars_of(range(301, 302))], "5m", NOW_US) == 5
    assert writer.publish([], "5m", NOW_US) == 0
    # Another publisher of the same feed finds the same guards; another timeframe has its own.
    assert BarWriter(client, NAMES).publish(bars, "5m", NOW_US) == 0
    assert writer.publish([Bar("BTCUSDT", 3_600_000, 3_600_000, 1.0, 1.0, 1.0, 1.0, 0.0)], "1h", NOW_US) == 1
    reader.ensure_group()
    reader.ensure_group()
    read: list[BarEntry | BadEntry] = []
    while found := reader.read(count=400, block_ms=0):
        assert len(found) <= 400
        read += found
    assert [e.bar for e in read if isinstance(e, BarEntry)][: len(bars)] == bars
    assert {(e.timeframe, e.bar.interval) for e in read if isinstance(e, BarEntry)} == {("5m", STEP), ("1h", 3_600_000)}
    assert len(read) == len(bars) + 6


def test_two_publishers_at_once_write_every_bar_once(server: EmbeddedServer, client: redis.Redis) -> None:
    bars = bars_of(range(1, 401))
    new: list[int] = []

    def publish() -> None:
        writer = BarWriter(connect(server.url), NAMES)
        new.append(sum(writer.publish(bars[i : i + 25], "5m", NOW_US) for i in range(0, len(bars), 25)))
        writer.close()

    threads = [threading.Thread(target=publish) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new) == client.xlen(NAMES.bars) == len(bars)


def test_read_waits_for_the_first_new_bar(server: EmbeddedServer, client: redis.Redis) -> None:
    # The wait is longer than the client's own timeout.
    reader = BarReader(connect(server.url, timeout_s=0.3), NAMES)
    reader.ensure_group()
    assert reader.read(block_ms=500) == []
    late = threading.Timer(0.2, lambda: BarWriter(client, NAMES).publish([a_bar("BTCUSDT", 1)], "5m", NOW_US))
    late.start()
    found = reader.read(block_ms=20_000)
    late.join()
    assert [entry.bar for entry in found if isinstance(entry, BarEntry)] == [a_bar("BTCUSDT", 1)]


def test_unreadable_entries_are_handed_out_as_such(client: redis.Redis) -> None:
    reader, writer = BarReader(client, NAMES), DecisionWriter(client, NAMES, Durability.NONE)
    reader.ensure_group()
    client.xadd(NAMES.bars, {"event_type": "market.bar", "payload": "{}"})
    client.xadd(NAMES.bars, encode_bar(a_bar("BTCUSDT", 1), "5m", NOW_US))
    client.xadd(NAMES.bars, {"hello": "there"})
    first, second, third = reader.read(block_ms=0)
    assert isinstance(first, BadEntry)
    assert "symbol" in first.error
    assert isinstance(second, BarEntry)
    assert isinstance(third, BadEntry)
    assert "event_type" in third.error
    assert pending(client) == 3
    ids = [entry.entry_id for entry in (first, second, third)]
    assert writer.commit(CommitBatch(entry_ids=ids, group=GROUP, records=[], now_us=NOW_US)) == CommitResult((), ())
    assert pending(client) == 0
    assert [entry.entry_id for entry in reader.history(10)] == [second.entry_id]


# --- a consumer's lives -------------------------------------------------------------------------------------------


def test_next_life_gets_what_was_not_acknowledged_first(client: redis.Redis) -> None:
    BarWriter(client, NAMES).publish(bars_of(range(1, 11)), "5m", NOW_US)
    first = BarReader(client, NAMES)
    first.ensure_group()
    seen = first.read(count=20, block_ms=0)
    DecisionWriter(client, NAMES, Durability.ALWAYS).commit(decide(seen[:7]))
    for start in ("claim", "read"):
        second = BarReader(client, NAMES)
        found = second.claim(min_idle_ms=0) if start == "claim" else second.read(count=3, block_ms=0)
        assert found == seen[7:]
        assert second.claim(min_idle_ms=0) == []
    rest = second.read(block_ms=0)
    assert [e.bar for e in rest if isinstance(e, BarEntry)] == bars_of(range(5, 11))
    assert second.read(block_ms=0) == []


def test_entries_of_a_dead_consumer_are_claimed_over_all_pages(client: redis.Redis) -> None:
    BarWriter(client, NAMES).publish(bars_of(range(1, 701)), "5m", NOW_US)
    dead, heir = BarReader(client, NAMES, consumer="dead"), BarReader(client, NAMES, consumer="heir")
    dead.ensure_group()
    lost = dead.read(count=3300, block_ms=0)
    own = heir.read(count=100, block_ms=0)
    assert heir.claim(min_idle_ms=60_000) == []
    assert heir.claim(min_idle_ms=0) == lost
    assert len({entry.entry_id for entry in (*lost, *own)}) == 3400
    assert heir.claim(min_idle_ms=0) == []


def test_entries_deleted_while_pending_are_named(client: redis.Redis) -> None:
    BarWriter(client, NAMES).publish(bars_of(range(1, 3)), "5m", NOW_US)
    first = BarReader(client, NAMES)
    first.ensure_group()
    seen = first.read(block_ms=0)
    client.xdel(NAMES.bars, seen[2].entry_id, seen[5].entry_id)
    again = BarReader(client, NAMES).read(block_ms=0)
    assert [e.entry_id for e in again] == [e.entry_id for e in seen]
    assert [i for i, e in enumerate(again) if isinstance(e, BadEntry) and "deleted" in e.error] == [2, 5]
    heir = BarReader(client, NAMES, consumer="heir").claim(min_idle_ms=0)
    assert sorted(e.entry_id for e in heir) == sorted(e.entry_id for e in seen)
    assert sum(isinstance(e, BadEntry) for e in heir) == 2


def test_memory_of_what_was_handed_out_is_pruned_by_acknowledgement(client: redis.Redis) -> None:
    BarWriter(client, NAMES).publish(bars_of(range(1, 2401)), "5m", NOW_US)
    reader = BarReader(client, NAMES)
    reader.ensure_group()
    seen = reader.read(count=11_000, block_ms=0)
    ids = [entry.entry_id for entry in seen[:10_900]]
    DecisionWriter(client, NAMES, Durability.NONE).commit(CommitBatch(entry_ids=ids, group=GROUP, records=[], now_us=1))
    assert len(reader.read(count=10, block_ms=0)) == 10
    assert len(reader._handed) == 110
    assert reader.claim(min_idle_ms=0) == []


def test_history_is_what_was_handled_and_nothing_else(client: redis.Redis) -> None:
    BarWriter(client, NAMES).publish(bars_of(range(1, 1001)), "5m", NOW_US)
    reader, writer = BarReader(client, NAMES), DecisionWriter(client, NAMES, Durability.NONE)
    with pytest.raises(BusError, match="no consumer group ai-engine"):
        reader.history(5)
    reader.ensure_group()
    assert reader.history(5) == []
    seen = [entry for entry in reader.read(count=4000, block_ms=0) if isinstance(entry, BarEntry)]
    handled = [e for i, e in enumerate(seen) if i % 400 != 399]
    writer.commit(CommitBatch(entry_ids=[e.entry_id for e in handled], group=GROUP, records=[], now_us=NOW_US))
    for life in (reader, BarReader(client, NAMES)):
        found = life.history(512)
        assert [e.entry_id for e in found] == sorted(
            (e.entry_id for e in found), key=lambda i: [*map(int, i.split("-"))]
        )
        for symbol in SYMBOLS:
            assert [e for e in found if e.bar.symbol == symbol] == [e for e in handled if e.bar.symbol == symbol][-512:]
    assert {e.bar.symbol for e in reader.history(3, symbols=["ETHUSDT"])} == {"ETHUSDT"}
    assert len(reader.history(3, symbols=["ETHUSDT"])) == 3
    cut = handled[1000].entry_id
    assert reader.history(10**6, before=cut) == handled[:1000]


def test_history_finds_the_bars_of_a_symbol_that_went_quiet(client: redis.Redis) -> None:
    writer = BarWriter(client, NAMES)
    writer.publish([a_bar("QUIETUSDT", n) for n in range(1, 4)], "5m", NOW_US)
    writer.publish(bars_of(range(1, 601)), "5m", NOW_US)
    reader = BarReader(client, NAMES)
    reader.ensure_group()
    ids = [entry.entry_id for entry in reader.read(count=5000, block_ms=0)]
    DecisionWriter(client, NAMES, Durability.NONE).commit(CommitBatch(entry_ids=ids, group=GROUP, records=[], now_us=1))
    found = reader.history(100, symbols=[*SYMBOLS, "QUIETUSDT"])
    assert Counter(e.bar.symbol for e in found) == {**dict.fromkeys(SYMBOLS, 100), "QUIETUSDT": 3}


# --- decisions ----------------------------------------------------------------------------------------------------


def test_commit_is_decision_intent_and_acknowledgement_in_one(client: redis.Redis) -> None:
    BarWriter(client, NAMES).publish(bars_of(range(1, 4)), "5m", NOW_US)
    reader, writer = BarReader(client, NAMES), DecisionWriter(client, NAMES, durability(client))
    reader.ensure_group()
    batch = decide(reader.read(block_ms=0))
    result = writer.commit(batch)
    assert result == CommitResult(tuple(r.decision.decision_id for r, _ in batch.records), ())
    assert_exactly_once(client, range(1, 4))
    assert pending(client) == 0
    back = list(DecisionReader(client, NAMES, page=4).since(0))
    assert [canonical(r.decision) for r in back] == [canonical(r.decision) for r, _ in batch.records]
    assert [unchained(r) for r in back] == [r for r, _ in batch.records]
    intents = DecisionReader(client, NAMES).intents(last=3)
    assert [i.payload["decision_id"] for i in intents] == stored(client)[1][-3:]
    assert intents[0].timestamp == "2026-01-10T02:36:33.250080+00:00"
    # The same again is refused, whoever asks.
    assert writer.commit(batch) == CommitResult((), result.written)
    assert DecisionWriter(client, NAMES, Durability.NONE).commit(batch) == CommitResult((), result.written)
    assert_exactly_once(client, range(1, 4))


def test_commit_writes_only_the_new_part_of_a_batch(client: redis.Redis) -> None:
    writer = DecisionWriter(client, NAMES, Durability.ALWAYS)
    old, new = [a_record("BTCUSDT", 1), a_record("BTCUSDT", 2)], a_record("BTCUSDT", 3)
    other = a_record("ETHUSDT", 2)
    writer.commit(a_batch(old))
    result = writer.commit(a_batch([*old, other, new, new]))
    assert result.written == (other.decision.decision_id, new.decision.decision_id)
    assert len(result.refused) == 3
    assert stored(client)[0] == [("BTCUSDT", 1), ("BTCUSDT", 2), ("ETHUSDT", 2), ("BTCUSDT", 3)]


def test_a_commit_under_a_lease_that_another_engine_took_writes_nothing(client: redis.Redis) -> None:
    BarWriter(client, NAMES).publish(bars_of(range(1, 3)), "5m", NOW_US)
    reader = BarReader(client, NAMES)
    reader.ensure_group()
    entries = reader.read(block_ms=0)
    first, second = (Lease(client, NAMES, GROUP, Identity("h", 1, 1, "", name), ttl_ms=50) for name in ("a", "b"))
    assert first.acquire() is None
    stale, fresh = (DecisionWriter(client, NAMES, Durability.NONE, lease=lease) for lease in (first, second))
    stale.commit(decide(entries[:5]))
    # Its time is over, but nobody else took the lease: nothing can have happened behind its back.
    while client.exists(NAMES.lease(GROUP)):
        time.sleep(0.01)
    stale.commit(decide(entries[5:7]))
    assert second.acquire() is None
    for batch in (decide(entries[7:]), a_batch([], [entry.entry_id for entry in entries[7:]])):
        with pytest.raises(LeaseLostError, match="was taken by another engine; this engine writes nothing more"):
            stale.commit(batch)
    assert pending(client) == 3
    assert len(stored(client)[0]) == 7
    fresh.commit(decide(entries))
    assert pending(client) == 0
    assert_exactly_once(client, range(1, 3))


def looking_ahead(client: redis.Redis, **options: Lease) -> DecisionWriter:
    """A writer that has committed once and has begun its next commit, for two symbols."""
    writer = DecisionWriter(client, NAMES, Durability.NONE, **options)
    writer.commit(a_batch([a_record("BTCUSDT", 1)]))
    writer.look_ahead(["BTCUSDT", "ETHUSDT"], "5m")
    return writer


def test_a_commit_that_was_begun_ahead_reads_nothing_twice(client: redis.Redis) -> None:
    writer = looking_ahead(client)
    read = client.info("commandstats")["cmdstat_mget"]["calls"]
    assert len(writer.commit(a_batch([a_record("BTCUSDT", 2), a_record("ETHUSDT", 2)])).written) == 2
    assert client.info("commandstats")["cmdstat_mget"]["calls"] == read
    assert stored(client)[0] == [("BTCUSDT", 1), ("BTCUSDT", 2), ("ETHUSDT", 2)]


def test_what_another_writer_wrote_after_the_look_ahead_is_not_written_again(client: redis.Redis) -> None:
    writer, new = looking_ahead(client), [a_record("BTCUSDT", 2), a_record("ETHUSDT", 2)]
    DecisionWriter(client, NAMES, Durability.NONE).commit(a_batch(new[:1]))
    result = writer.commit(a_batch(new))
    assert (result.written, result.refused) == ((new[1].decision.decision_id,), (new[0].decision.decision_id,))
    assert stored(client)[0] == [("BTCUSDT", 1), ("BTCUSDT", 2), ("ETHUSDT", 2)]


def test_a_lease_that_was_taken_after_the_look_ahead_voids_the_commit(client: redis.Redis) -> None:
    first, second = (Lease(client, NAMES, GROUP, Identity("h", 1, 1, "", name), ttl_ms=60_000) for name in ("a", "b"))
    assert first.acquire() is None
    writer = looking_ahead(client, lease=first)
    first.release()
    assert second.acquire() is None
    with pytest.raises(LeaseLostError):
        writer.commit(a_batch([a_record("BTCUSDT", 2)]))
    assert stored(client)[0] == [("BTCUSDT", 1)]


def test_another_commit_than_the_one_that_was_begun_is_read_for_anew(client: redis.Redis) -> None:
    writer = looking_ahead(client)
    assert len(writer.commit(a_batch([a_record("SOLUSDT", 2)])).written) == 1
    writer.look_ahead(["BTCUSDT"], "5m")
    writer.look_ahead(["XRPUSDT"], "5m")
    assert len(writer.commit(a_batch([a_record("XRPUSDT", 2)])).written) == 1
    assert stored(client)[0] == [("BTCUSDT", 1), ("SOLUSDT", 2), ("XRPUSDT", 2)]


def test_a_connection_that_is_lost_after_the_look_ahead_costs_nothing_but_time(client: redis.Redis) -> None:
    writer = looking_ahead(client)
    client.client_kill_filter(_type="normal", skipme=True)
    DecisionWriter(client, NAMES, Durability.NONE).commit(a_batch([a_record("BTCUSDT", 2)]))
    result = writer.commit(a_batch([a_record("BTCUSDT", 2), a_record("BTCUSDT", 3)]))
    assert (len(result.written), len(result.refused)) == (1, 1)
    assert stored(client)[0] == [("BTCUSDT", n) for n in (1, 2, 3)]


def test_answers_nobody_fetched_are_not_taken_for_those_of_the_next_call(client: redis.Redis) -> None:
    session = Session(client)
    session.call(("SET", "list-of-none", "x"))
    session.ask(("GET", "list-of-none"), ("LPUSH", "list-of-none", "1"))
    assert session.asked(("GET", "list-of-none"), ("LPUSH", "list-of-none", "1"))
    assert session.call(("PING",), ("ECHO", "now")) == [b"PONG", b"now"]
    assert not session.asked(("GET", "list-of-none"), ("LPUSH", "list-of-none", "1"))
    session.ask(("GET", "list-of-none"))
    session.close()
    assert session.call(("ECHO", "later")) == [b"later"]
    session.close()


def test_a_lease_that_is_taken_between_reading_and_exec_voids_the_commit(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (Lease(client, NAMES, GROUP, Identity("h", 1, 1, "", name), ttl_ms=5) for name in ("a", "b"))
    assert first.acquire() is None
    check = Fence.check

    def meddle(fence: Fence, value: bytes | None) -> None:
        check(fence, value)
        time.sleep(0.01)
        assert second.acquire() is None

    monkeypatch.setattr(Fence, "check", meddle)
    with pytest.raises(LeaseLostError):
        DecisionWriter(client, NAMES, Durability.NONE, lease=first).commit(a_batch([a_record("BTCUSDT", 1)]))
    assert client.exists(NAMES.decisions, NAMES.decision_guard("BTCUSDT", "5m")) == 0


def test_second_engine_on_the_same_bars_doubles_nothing(server: EmbeddedServer, client: redis.Redis) -> None:
    results: list[CommitResult] = []

    def engine() -> None:
        writer = DecisionWriter(connect(server.url), NAMES, Durability.ALWAYS)
        batches = [[a_record(s, n, "HOLD" if n % 3 == 0 else "BUY") for s in SYMBOLS] for n in range(1, 201)]
        results.extend(writer.commit(a_batch(records)) for records in batches)
        writer.close()

    engines = [threading.Thread(target=engine) for _ in range(2)]
    for thread in engines:
        thread.start()
    for thread in engines:
        thread.join()
    assert_exactly_once(client, range(1, 201))
    assert sum(len(r.written) for r in results) == sum(len(r.refused) for r in results) == 1000


def test_a_chain_goes_on_from_what_stands_in_the_guard(client: redis.Redis) -> None:
    guard = NAMES.decision_guard("BTCUSDT", "5m")
    DecisionWriter(client, NAMES, Durability.NONE).commit(a_batch([a_record("BTCUSDT", n) for n in (1, 2)]))
    position, token, head = client.get(guard).split(b" ")
    back = list(DecisionReader(client, NAMES).since(0))
    assert (int(position), head.decode()) == (2 * STEP, back[-1].chain)
    # What the next writer finds is what it builds on: an older engine's guard has no head, so its chain begins there.
    client.set(guard, position + b" " + token)
    DecisionWriter(client, NAMES, Durability.NONE).commit(a_batch([a_record("BTCUSDT", 3)]))
    assert list(DecisionReader(client, NAMES).since(0))[-1].chain_prev == GENESIS
    client.set(guard, position + b" " + token + b" nonsense")
    with pytest.raises(BusError, match=f"guard key {guard} holds b'nonsense' as the chain's head: expected a SHA-256"):
        DecisionWriter(client, NAMES, Durability.NONE).commit(a_batch([a_record("BTCUSDT", 4)]))
    assert client.xlen(NAMES.decisions) == 3


def test_decisions_since_a_time_and_until_another(client: redis.Redis) -> None:
    writer = DecisionWriter(client, NAMES, Durability.NONE)
    times = []
    for n in range(1, 4):
        writer.commit(a_batch([a_record("BTCUSDT", n)]))
        times.append(int(client.xrevrange(NAMES.decisions, count=1)[0][0].split(b"-")[0]))
        time.sleep(0.002)
    reader = DecisionReader(client, NAMES)
    assert [r.decision.ts_open // STEP for r in reader.since(times[1])] == [2, 3]
    assert [r.decision.ts_open // STEP for r in reader.since(0, times[1])] == [1]
    assert list(reader.since(0, 0)) == []
    assert reader.intents(0) == []
    client.xadd(NAMES.decisions, {"event_type": "ai.decision", "payload": "{}"})
    with pytest.raises(WireError, match=r"entry \d+-\d+: ai.decision: payload: .*decision"):
        list(reader.since(0))


def test_what_is_older_than_the_retention_goes(client: redis.Redis) -> None:
    # Whole nodes of 100 entries go, so a little more than asked may stay.
    with client.pipeline(transaction=False) as pipeline:
        for name in (NAMES.decisions, NAMES.intents, NAMES.bars):
            for i in range(1, 501):
                pipeline.xadd(name, {"old": "1"}, id=f"{i}-0")
        pipeline.execute()
    DecisionWriter(client, NAMES, Durability.NONE, retention_ms=60_000).commit(a_batch([a_record("BTCUSDT", 1)]))
    assert client.xlen(NAMES.decisions) <= 100
    assert client.xlen(NAMES.intents) <= 100
    BarWriter(client, NAMES, retention_ms=60_000).publish([a_bar("BTCUSDT", 1)], "5m", NOW_US)
    assert client.xlen(NAMES.bars) <= 100
    assert stored_last(client) == ("BTCUSDT", 1)


def stored_last(client: redis.Redis) -> tuple[str, int]:
    millis = int(client.xrevrange(NAMES.decisions, count=1)[0][0].split(b"-")[0])
    record = next(iter(DecisionReader(client, NAMES).since(millis)))
    return record.decision.symbol, record.decision.ts_open // STEP


def test_lifecycle_event_is_written_once(client: redis.Redis) -> None:
    writer = LifecycleWriter(client, NAMES, Durability.ALWAYS)
    assert writer.publish("alarm", {"symbol": "BTCUSDT", "rule": "high < low"}, NOW_US)
    assert not writer.publish("alarm", {"symbol": "BTCUSDT", "rule": "high < low"}, NOW_US)
    assert writer.publish("alarm", {"symbol": "BTCUSDT", "rule": "high < low"}, NOW_US + 1)
    assert client.xlen(NAMES.lifecycle) == 2


def test_key_of_another_kind_is_refused_before_anything_is_written(client: redis.Redis) -> None:
    client.set(NAMES.intents, "text")
    with pytest.raises(BusError, match=r"key quantum:stream:trade.intent holds a string, not a stream"):
        DecisionWriter(client, NAMES, Durability.NONE).commit(a_batch([a_record("BTCUSDT", 1)]))
    assert client.exists(NAMES.decisions, NAMES.decision_guard("BTCUSDT", "5m")) == 0
    client.delete(NAMES.intents)
    client.set(NAMES.tally, "text")
    with pytest.raises(BusError, match="key quantum:tally holds a string, not a hash"):
        DecisionWriter(client, NAMES, Durability.NONE).commit(a_batch([a_record("BTCUSDT", 1)]))
    client.delete(NAMES.tally)
    client.hset(NAMES.tally, "decisions", "many")
    with pytest.raises(BusError, match=r"tally key quantum:tally: .*'many'"):
        DecisionWriter(client, NAMES, Durability.NONE).commit(a_batch([a_record("BTCUSDT", 1)]))
    assert client.exists(NAMES.decisions, NAMES.decision_guard("BTCUSDT", "5m")) == 0
    client.set(NAMES.bar_guard("BTCUSDT", "5m"), "nonsense")
    with pytest.raises(BusError, match="guard key quantum:guard:bar:BTCUSDT:5m holds b'nonsense'"):
        BarWriter(client, NAMES).publish([a_bar("BTCUSDT", 1)], "5m", NOW_US)


def test_full_server_refuses_a_batch_whole(client: redis.Redis) -> None:
    client.config_set("maxmemory", "1")
    with pytest.raises(BusError, match=r"committing 1 decisions and 0 acknowledgements: .*memory"):
        DecisionWriter(client, NAMES, Durability.NONE).commit(a_batch([a_record("BTCUSDT", 1)]))
    client.config_set("maxmemory", "0")
    assert client.exists(NAMES.decisions, NAMES.intents, NAMES.decision_guard("BTCUSDT", "5m")) == 0


def test_the_overview_says_what_waits_and_what_was_decided(client: redis.Redis) -> None:
    empty = read_overview(client, NAMES, GROUP, SYMBOLS)
    assert (empty.holder, empty.engine, empty.archive, empty.decisions, empty.answers) == (None, None, None, (), ())
    assert empty.books.problems() == []
    BarWriter(client, NAMES).publish(bars_of(range(1, 4)), "5m", NOW_US)
    reader = BarReader(client, NAMES)
    reader.ensure_group()
    entries = reader.read(count=12, block_ms=0)
    DecisionWriter(client, NAMES, Durability.NONE).commit(decide(entries[:10]))
    seen = read_overview(client, NAMES, GROUP, SYMBOLS)
    assert seen.engine is not None
    assert (seen.engine.pending, seen.engine.unread) == (2, 3)
    assert seen.engine.oldest_ms is not None
    assert 0 <= seen.engine.oldest_ms < 60_000
    assert [(d.symbol, d.ts_close) for d in seen.decisions] == [(symbol, 3 * STEP) for symbol in SYMBOLS]
    assert [(a.model, a.role, a.action) for a in seen.answers][-1] == ("patchtst", "shadow", "SELL")
    assert seen.books.tally.decisions == 10
    DecisionWriter(client, NAMES, Durability.NONE).commit(decide([*entries[10:], *reader.read(block_ms=0)]))
    done = read_overview(client, NAMES, GROUP, SYMBOLS).engine
    assert done is not None
    assert (done.pending, done.unread, done.oldest_ms) == (0, 0, None)


# --- bad networks -------------------------------------------------------------------------------------------------

NETWORKS = [
    pytest.param(Faults(lose_reply=0.01), 1000, id="one-reply-in-a-hundred-lost", marks=pytest.mark.slow),
    pytest.param(Faults(lose_reply=0.03, cut_reply=0.03, lose_request=0.03), 200, id="lost-and-cut"),
    pytest.param(Faults(delay_s=0.002), 100, id="slow"),
]


def run_engine(url: str, rounds: range, timeout_s: float = 5.0) -> None:
    """Publish, read and commit everything through one address, a few bars at a time."""
    client = connect(url, timeout_s=timeout_s)
    publisher, reader = BarWriter(client, NAMES), BarReader(client, NAMES)
    writer = DecisionWriter(client, NAMES, Durability.ALWAYS)
    reader.ensure_group()
    handled = 0
    for n in rounds:
        publisher.publish(bars_of(range(n, n + 1)), "5m", NOW_US)
        while handled < (n - rounds.start + 1) * len(SYMBOLS):
            entries = reader.read(count=3, block_ms=0)
            result = writer.commit(decide(entries))
            assert len(result.written) == len(entries)
            handled += len(entries)
    assert reader.claim(min_idle_ms=0) == []
    for part in (publisher, reader, writer, client):
        part.close()


@pytest.mark.parametrize(("faults", "last"), NETWORKS)
def test_bad_network_loses_and_doubles_nothing(
    server: EmbeddedServer, client: redis.Redis, faults: Faults, last: int
) -> None:
    rounds = range(1, last + 1)
    with Proxy(server.url, faults) as proxy:
        run_engine(proxy.url, rounds)
    wanted = [fault for fault in ("lose_reply", "cut_reply", "lose_request") if getattr(faults, fault)]
    assert all(proxy.met[fault] >= 15 for fault in wanted), proxy.met
    bars = [entry.bar for entry in BarReader(client, NAMES).history(10**6)]
    assert bars == bars_of(rounds)
    assert client.xlen(NAMES.bars) == len(bars)
    assert_exactly_once(client, rounds)
    assert pending(client) == 0


def test_request_that_arrives_after_it_was_given_up_is_void(server: EmbeddedServer, client: redis.Redis) -> None:
    # The client gives up after 0.1 s and repeats; the proxy delivers the first try all the same, 0.1 s later.
    rounds = range(1, 81)
    with Proxy(server.url, Faults(stall=0.03, stall_s=0.2)) as proxy:
        run_engine(proxy.url, rounds, timeout_s=0.1)
        time.sleep(0.3)
    assert proxy.met["stall"] >= 8
    assert client.xlen(NAMES.bars) == len(rounds) * len(SYMBOLS)
    assert_exactly_once(client, rounds)


def test_commit_through_a_dead_network_ends_with_one_line(
    server: EmbeddedServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantum_trader.bus.session.time.sleep", lambda _: None)
    with Proxy(server.url, Faults(lose_reply=1.0)) as proxy:
        writer = DecisionWriter(connect(proxy.url), NAMES, Durability.ALWAYS)
        with pytest.raises(BusError, match="committing 1 decisions and 0 acknowledgements: ") as caught:
            writer.commit(a_batch([a_record("BTCUSDT", 1)]))
    assert "\n" not in str(caught.value)
    assert client.xlen(NAMES.decisions) == 0


# --- a server that dies -------------------------------------------------------------------------------------------


def test_kill_9_of_the_server_loses_no_acknowledged_commit(server: EmbeddedServer, client: redis.Redis) -> None:
    assert durability(client) is Durability.ALWAYS
    acknowledged: list[str] = []
    committing = threading.Event()

    def engine() -> None:
        writer = DecisionWriter(connect(server.url), NAMES, Durability.ALWAYS)
        for n in range(1, 801):
            records = [a_record(s, n, "HOLD" if n % 3 == 0 else "BUY") for s in SYMBOLS]
            acknowledged.extend(writer.commit(a_batch(records)).written)
            committing.set()
        writer.close()

    thread = threading.Thread(target=engine)
    thread.start()
    kills = 0
    rng = np.random.default_rng(3)
    while thread.is_alive():
        assert committing.wait(30)
        committing.clear()
        time.sleep(float(rng.uniform(0.0, 0.1)))
        if server.pid is not None:
            os.kill(server.pid, signal.SIGKILL)
            kills += 1
            promised = set(acknowledged)
            server.start()
            assert {decision_id(s, "5m", n * STEP) for s, n in stored(client)[0]} >= promised
        if kills >= 10:
            break
    thread.join()
    assert kills >= 3
    assert len(acknowledged) == 4000
    assert_exactly_once(client, range(1, 801))


def test_waitaof_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedServer(tmp_path / "everysec", appendfsync="everysec") as server, connect(server.url) as client:
        assert durability(client) is Durability.WAITAOF
        with Proxy(server.url, Faults(lose_reply=0.03)) as proxy:
            writer = DecisionWriter(connect(proxy.url), NAMES, Durability.WAITAOF)
            for n in range(1, 301):
                writer.commit(a_batch([a_record(s, n, "HOLD" if n % 3 == 0 else "BUY") for s in SYMBOLS]))
            writer.close()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        server.start()
        assert_exactly_once(client, range(1, 301))
        # Nothing reaches the disk in time: the commit says so instead of pretending.
        client.config_set("appendfsync", "no")
        monkeypatch.setattr("quantum_trader.bus.guarded._WAITAOF_MS", 200)
        with pytest.raises(BusError, match="did not reach the disk"):
            DecisionWriter(client, NAMES, Durability.WAITAOF).commit(a_batch([a_record("BTCUSDT", 301)]))


def test_a_spectator_reads_bars_and_counts_decisions(client: redis.Redis) -> None:
    writer, reader = BarWriter(client, NAMES), DecisionReader(client, NAMES, page=7)
    bars = [Bar(symbol, ts * STEP, STEP, 1.0, 2.0, 0.5, 1.5, 3.0) for ts in range(20) for symbol in SYMBOLS[:2]]
    assert writer.last_open_ms("BTCUSDT", "5m") is None
    assert writer.publish(bars, "5m", NOW_US) == 40
    client.xadd(NAMES.bars, {"payload": "{"})
    assert writer.last_open_ms("BTCUSDT", "5m") == 19 * STEP
    assert list(reader.bars("5m", 0)) == bars
    assert list(reader.bars("5m", 15 * STEP)) == bars[30:]
    assert list(reader.bars("1h", 0)) == []
    assert reader.count() == 0


def test_a_log_cut_inside_a_transaction_repeats_nothing_after_the_next_kill(
    server: EmbeddedServer, client: redis.Redis, tmp_path: Path
) -> None:
    # Redis 7.0 would carry out the cut beginning at the start after the next: the repeated decisions stood there twice.
    writer = DecisionWriter(client, NAMES, Durability.ALWAYS)
    writer.commit(a_batch([a_record(s, 1, "BUY") for s in SYMBOLS]))
    writer.commit(a_batch([a_record(s, 2, "BUY") for s in SYMBOLS]))
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.pid is not None:
        time.sleep(0.01)
    (log,) = (tmp_path / "server").rglob("*.incr.aof")
    raw = log.read_bytes()
    log.write_bytes(raw[: raw.rindex(b"XADD") + 60])
    server.start()
    assert len(stored(client)[0]) == 5
    writer = DecisionWriter(connect(server.url), NAMES, Durability.ALWAYS)
    writer.commit(a_batch([a_record(s, 2, "BUY") for s in SYMBOLS]))
    assert_exactly_once(client, range(1, 3))
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.start()
    assert_exactly_once(client, range(1, 3))

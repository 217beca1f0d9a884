"""The archive's reader against a real server: every entry once a life, what is gone is named."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from tests.archive.many import NAMES, commit, linked, many_records
from tests.contract.test_bus_backends import Faults, Proxy

from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.tail import NOTHING, DecisionTail, TailEntry, Trimmed
from quantum_trader.core.errors import BusError, ConfigError

KEY = NAMES.decisions


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "valkey") as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with connect(server.url) as connected:
        yield connected


@pytest.fixture
def join(server: EmbeddedServer) -> Iterator[Callable[..., DecisionTail]]:
    """A new life of a consumer."""
    lives: list[tuple[redis.Redis, DecisionTail]] = []

    def joined(consumer: str = "archive-a", group: str = "archive") -> DecisionTail:
        own = connect(server.url)
        tail = DecisionTail(own, NAMES, group, consumer)
        lives.append((own, tail))
        tail.open()
        return tail

    yield joined
    for own, tail in lives:
        tail.close()
        own.close()


def everything(tail: DecisionTail, count: int = 7) -> list[TailEntry]:
    found: list[TailEntry] = []
    while page := tail.read(count).entries:
        assert len(page) <= count
        found += page
    return found


def pending(client: redis.Redis, group: str = "archive") -> int:
    return int(client.xpending(KEY, group)["pending"])


class TestEveryEntry:
    def test_comes_once_in_a_life_from_the_oldest_on(self, client: redis.Redis, join) -> None:
        records = many_records(range(20))
        commit(client, records[:30])
        tail = join()
        assert [entry.record for entry in everything(tail)] == records[:30]
        commit(client, records[30:])
        assert [entry.record for entry in everything(tail)] == records[30:]
        assert pending(client) == 60

    def test_comes_again_in_the_next_life_until_it_is_acknowledged(self, client: redis.Redis, join) -> None:
        records = many_records(range(20))
        commit(client, records)
        first = everything(join())
        second = join()
        assert everything(second, 60) == first
        second.acknowledge([entry.entry_id for entry in first[:41]])
        second.acknowledge([])
        assert pending(client) == 19
        third = join()
        assert everything(third) == first[41:]
        third.acknowledge([entry.entry_id for entry in first[41:]])
        third.acknowledge([entry.entry_id for entry in first])
        assert (pending(client), everything(join())) == (0, [])

    def test_comes_once_over_a_network_that_loses_replies(self, server: EmbeddedServer, client: redis.Redis) -> None:
        records = many_records(range(100))
        commit(client, records)
        with Proxy(server.url, Faults(lose_reply=0.1, cut_reply=0.1, lose_request=0.05)) as proxy:
            own = connect(proxy.url, timeout_s=1.0)
            tail = DecisionTail(own, NAMES, "archive", "archive-a")
            tail.open()
            found = everything(tail)
            tail.acknowledge([entry.entry_id for entry in found])
            tail.close()
            own.close()
            assert proxy.met["lose_reply"] + proxy.met["cut_reply"] > 3
        assert [entry.entry_id for entry in found] == [i.decode() for i, _ in client.xrange(KEY)]
        assert {entry.record.decision.decision_id for entry in found if entry.record} == {
            record.decision.decision_id for record in records
        }
        assert pending(client) == 0

    def test_is_handed_out_with_its_bytes_when_it_cannot_be_read(self, client: redis.Redis, join) -> None:
        client.xadd(KEY, {"event_type": "ai.decision", "payload": b"\xff\x00"})
        commit(client, many_records(range(1)))
        first, *rest = everything(join())
        assert first.record is None
        assert "ai.decision: payload" in first.error
        assert first.fields == (b"event_type", b"ai.decision", b"payload", b"\xff\x00")
        assert [entry.error for entry in rest] == ["", "", ""]

    def test_is_named_when_it_left_the_stream_while_it_was_owned(self, client: redis.Redis, join) -> None:
        commit(client, many_records(range(4)))
        owned = everything(join())
        client.xtrim(KEY, maxlen=3, approximate=False)
        again = everything(join())
        assert [entry.entry_id for entry in again] == [entry.entry_id for entry in owned]
        assert {entry.error for entry in again[:9]} == {"deleted from the stream before it was handled"}
        assert all(entry.record is None and not entry.fields for entry in again[:9])
        assert [entry.record for entry in again[9:]] == many_records(range(4))[9:]


class TestWhatIsGone:
    def test_is_told_before_anything_behind_it_is_read(self, client: redis.Redis, join) -> None:
        records = many_records(range(20))
        commit(client, records)
        tail = join()
        ids = [entry.entry_id for entry in tail.read(10).entries]
        tail.acknowledge(ids)
        last = ids[-1]
        client.xtrim(KEY, maxlen=15, approximate=False)
        oldest = client.xrange(KEY, count=1)[0][0].decode()
        gap = Trimmed(last, oldest, 35)
        page = tail.read(100)
        assert (page.entries, page.trimmed) == ((), gap)
        # A life that ends here has not forgotten it.
        tail = join()
        assert tail.read(100).trimmed == gap
        page = tail.read(100)
        assert [entry.record for entry in page.entries] == records[45:]
        assert page.trimmed is None
        assert tail.read(100).trimmed is None

    def test_is_not_what_was_given_already(self, client: redis.Redis, join) -> None:
        commit(client, many_records(range(20)))
        tail = join()
        tail.read(20)
        client.xtrim(KEY, maxlen=40, approximate=False)
        assert tail.read(20).trimmed is None
        assert len(everything(tail)) == 20
        client.xtrim(KEY, maxlen=0, approximate=False)
        assert tail.read().trimmed is None
        assert join().read().trimmed is None

    def test_may_be_all_that_there_was(self, client: redis.Redis, join) -> None:
        commit(client, many_records(range(2)))
        tail = join()
        last = everything(tail)[-1].entry_id
        commit(client, many_records(range(2, 4)))
        client.xtrim(KEY, maxlen=0, approximate=False)
        assert tail.read().trimmed == Trimmed(last, "", 6)
        assert tail.read().trimmed is None

    def test_before_the_first_reading_is_told_as_such(self, client: redis.Redis, join) -> None:
        commit(client, many_records(range(4)))
        client.xtrim(KEY, maxlen=5, approximate=False)
        tail = join()
        gap = tail.read().trimmed
        assert gap is not None
        assert (gap.after, gap.entries) == (NOTHING, 7)
        assert len(tail.read().entries) == 5

    def test_is_told_without_a_number_where_the_server_lost_count(self, client: redis.Redis, join) -> None:
        commit(client, many_records(range(4)))
        tail = join()
        last = everything(tail)[-1].entry_id
        commit(client, many_records(range(4, 8)))
        client.xgroup_setid(KEY, "archive", last)
        client.xtrim(KEY, maxlen=5, approximate=False)
        gap = tail.read().trimmed
        assert gap is not None
        assert (gap.after, gap.entries) == (last, None)


class TestAGroup:
    def test_of_another_reader_is_refused_and_left_alone(self, client: redis.Redis, join) -> None:
        commit(client, many_records(range(2)))
        everything(join("archive-a"))
        with pytest.raises(ConfigError, match=r"group archive on .* belongs to another reader \(archive-a\)"):
            join("archive-b")
        assert [row["name"] for row in client.xinfo_consumers(KEY, "archive")] == [b"archive-a"]
        assert len(everything(join("archive-b", "archive-2"))) == 6
        assert len(everything(join("archive-a"))) == 6

    def test_that_vanished_is_an_error_until_it_is_joined_again(self, client: redis.Redis, join) -> None:
        commit(client, many_records(range(2)))
        tail = join()
        assert len(everything(tail)) == 6
        client.delete(KEY)
        with pytest.raises(BusError, match=r"reading quantum:stream:ai\.decision"):
            tail.read()
        tail.open()
        commit(client, many_records(range(2, 5)))
        # The stream is gone, the guards are not: the chain goes on.
        heads: dict[str, str] = {}
        linked(many_records(range(2)), heads)
        assert [entry.record for entry in everything(tail)] == linked(many_records(range(2, 5)), heads)
        client.xgroup_destroy(KEY, "archive")
        with pytest.raises(BusError, match="NOGROUP"):
            tail.read()
        tail.open()
        assert len(everything(tail)) == 9

    def test_is_not_made_on_a_key_that_is_no_stream(self, client: redis.Redis, join) -> None:
        client.set(KEY, "text")
        with pytest.raises(BusError, match="holds a string, not a stream"):
            join()

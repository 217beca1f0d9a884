"""The loop over a real server and a real folder: what it acknowledges is on disk, and nothing passes in silence."""

import base64
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import redis
from tests.archive.many import DAY_BARS, NAMES, commit, in_order, many_records
from tests.e2e.harness import wait_until

from quantum_trader.archive.columns import to_records
from quantum_trader.archive.daily import DailyArchive
from quantum_trader.archive.keeper import Keeper, KeeperConfig
from quantum_trader.archive.store import read_decisions
from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.tail import DecisionTail
from quantum_trader.bus.wire import encode_record
from quantum_trader.stopping import Stop

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
def archive(tmp_path: Path) -> Iterator[DailyArchive]:
    with DailyArchive(tmp_path / "archive") as folder:
        yield folder


@pytest.fixture
def keeper(server: EmbeddedServer, archive: DailyArchive) -> Iterator[Callable[..., Keeper]]:
    """A new life of the keeper."""
    with connect(server.url) as own:
        tails = []

        def made(every_s: float = 60.0, rows: int = 5000, stop: Stop | None = None) -> Keeper:
            tails.append(DecisionTail(own, NAMES, "archive", f"archive-{archive.name}"))
            return Keeper(tails[-1], archive, KeeperConfig(every_s, rows), stop or Stop())

        yield made
        for tail in tails:
            tail.close()


def kept(archive: DailyArchive):
    return to_records(read_decisions(archive.decisions))


def lines(path: Path) -> list[dict]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def pending(client: redis.Redis) -> int:
    return int(client.xpending(KEY, "archive")["pending"])


@pytest.mark.parametrize("rows", [7, 1000, 5000])
def test_catching_up_keeps_every_day_and_acknowledges_it(keeper, archive, client, rows: int) -> None:
    records = many_records(range(DAY_BARS - 200, DAY_BARS + 250))
    commit(client, records)
    life = keeper(rows=rows)
    life.catch_up()
    assert kept(archive) == in_order(records)
    assert life.files == {"2026-01-01", "2026-01-02"}
    assert life.counts["kept"] == len(records)
    assert life.complete
    assert pending(client) == 0
    again = keeper()
    again.catch_up()
    assert again.summary().startswith("decisions: 0 kept, 0 repeated, 0 quarantined, 0 missing; 0 files written in ")


def test_what_was_written_and_not_acknowledged_is_no_second_row(keeper, archive, client) -> None:
    records = many_records(range(50))
    commit(client, records)
    keeper().catch_up()
    client.xgroup_setid(KEY, "archive", "0")
    life = keeper()
    life.catch_up()
    assert (life.counts["kept"], life.counts["repeated"]) == (0, 150)
    assert kept(archive) == in_order(records)
    assert pending(client) == 0


def test_entries_that_are_no_decisions_are_kept_raw_and_said(keeper, archive, client, caplog) -> None:
    client.xadd(KEY, {"event_type": "ai.decision", "payload": "{not json"})
    commit(client, many_records(range(2)))
    client.xadd(KEY, {"hello": b"\xff"})
    foreign = many_records(range(2, 3))[0]
    foreign = msgspec.structs.replace(foreign, shadows={"catboost": foreign.shadows["patchtst"]})
    client.xadd(KEY, encode_record(foreign))
    life = keeper()
    life.catch_up()
    first, second, third = lines(archive.folder / "quarantine.jsonl")
    assert first["fields"] == ["event_type", "ai.decision", "payload", "{not json"]
    assert "payload" in first["reason"]
    assert [base64.b64decode(part) for part in second["fields_base64"]] == [b"hello", b"\xff"]
    assert third["reason"] == "no row of the archive can hold all that it says"
    assert '"catboost"' in third["fields"][3]
    assert len(kept(archive)) == 6
    assert not life.complete
    assert life.counts["quarantined"] == 3
    assert caplog.text.count("is kept in quarantine.jsonl") == 3
    assert pending(client) == 0


def test_a_second_record_of_one_decision_is_set_aside(keeper, archive, client, caplog) -> None:
    first = many_records(range(1))[0]
    other = msgspec.structs.replace(first, ts_decision=first.ts_decision + 1)
    commit(client, [first])
    keeper().catch_up()
    client.xadd(KEY, encode_record(other))
    client.xadd(KEY, encode_record(first))
    life = keeper()
    life.catch_up()
    assert kept(archive) == [first]
    (line,) = lines(archive.folder / "quarantine.jsonl")
    assert line["reason"] == (
        f"decision {first.decision.decision_id} is in 2026-01-01.parquet already and says something else there"
    )
    assert f'"ts_decision":{other.ts_decision}' in line["fields"][3]
    assert (life.counts["quarantined"], life.counts["repeated"], life.complete) == (1, 1, False)
    assert "ERROR" in caplog.text


class TestWhatWasTrimmed:
    def test_before_it_was_kept_is_an_error_with_its_span(self, keeper, archive, client, caplog) -> None:
        records = many_records(range(10))
        commit(client, records[:15])
        keeper().catch_up()
        last = client.xrange(KEY)[-1][0].decode()
        commit(client, records[15:])
        client.xtrim(KEY, maxlen=4, approximate=False)
        life = keeper()
        life.catch_up()
        (line,) = lines(archive.folder / "missing.jsonl")
        oldest = client.xrange(KEY)[0][0].decode()
        assert line == {"after": last, "before": oldest, "entries": 11, "reason": "trimmed from the stream"}
        assert (life.counts["missing"], life.counts["kept"], life.complete) == (11, 4, False)
        assert "decisions missing: 11, written after 20" in caplog.text
        assert kept(archive) == in_order([*records[:15], *records[-4:]])
        calm = keeper()
        calm.catch_up()
        assert calm.complete

    def test_while_it_was_owned_is_named_by_its_entry(self, keeper, archive, client) -> None:
        commit(client, many_records(range(2)))
        name = f"archive-{archive.name}"
        client.xgroup_create(KEY, "archive", "0")
        owned = client.xreadgroup("archive", name, {KEY: ">"}, count=2)[0][1]
        client.xtrim(KEY, maxlen=5, approximate=False)
        life = keeper()
        life.catch_up()
        (line,) = lines(archive.folder / "missing.jsonl")
        assert line["entry_id"] == owned[0][0].decode()
        assert (life.counts["missing"], life.counts["kept"]) == (1, 5)
        assert pending(client) == 0

    def test_before_the_archive_began_is_no_loss_of_its(self, keeper, archive, client, caplog) -> None:
        commit(client, many_records(range(4)))
        client.xtrim(KEY, maxlen=5, approximate=False)
        life = keeper()
        life.catch_up()
        assert life.complete
        assert "the archive begins late: 7 decisions" in caplog.text
        assert not (archive.folder / "missing.jsonl").exists()


@pytest.fixture
def running(keeper) -> Iterator[Callable[..., tuple[Keeper, Callable[[], None]]]]:
    """A keeper in a thread, and how to end it."""
    stops: list[Callable[[], None]] = []

    def start(**options: float) -> tuple[Keeper, Callable[[], None]]:
        stop = Stop()
        life = keeper(stop=stop, **options)
        thread = threading.Thread(target=life.run)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join()

        stops.append(end)
        return life, end

    yield start
    for end in stops:
        end()


def test_running_writes_in_time_and_the_rest_at_the_end(running, archive, client) -> None:
    records = many_records(range(20))
    commit(client, records[:10])
    life, end = running(every_s=0.2)
    wait_until(lambda: life.counts["kept"] == 10)
    end()
    life, end = running(every_s=3600.0)
    commit(client, records[10:])
    wait_until(lambda: pending(client) == 50)
    assert len(kept(archive)) == 10
    end()
    assert kept(archive) == in_order(records)
    assert pending(client) == 0


def test_a_server_that_goes_away_is_waited_for_with_one_line(running, archive, server, client, caplog) -> None:
    caplog.set_level(logging.INFO)
    records = many_records(range(40))
    commit(client, records[:60])
    life, end = running(every_s=0.2)
    wait_until(lambda: life.counts["kept"] == 60)
    server.stop()
    wait_until(lambda: "trying again" in "".join(r.getMessage() for r in caplog.records if r.levelname == "ERROR"))
    server.start()
    commit(client, records[60:])
    wait_until(lambda: life.counts["kept"] == 120)
    end()
    assert kept(archive) == in_order(records)
    assert pending(client) == 0
    errors = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert len(errors) == 1
    assert "none of them acknowledged" in errors[0]
    assert caplog.text.count("going on: server and disk are there again") == 1


def test_a_server_that_comes_back_empty_gives_a_new_group(running, archive, client) -> None:
    commit(client, many_records(range(5)))
    life, end = running(every_s=0.2)
    wait_until(lambda: life.counts["kept"] == 15)
    client.flushall()
    commit(client, many_records(range(5, 9)))
    wait_until(lambda: life.counts["kept"] == 27)
    end()
    assert len(kept(archive)) == 27

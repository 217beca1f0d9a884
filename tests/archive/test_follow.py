"""A verdict that goes on with a real stream: cycle by cycle what a judgement from scratch gives."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.archive.many import NAMES, commit, in_order
from tests.report.conftest import FIVE_MINUTES, START, World, make_world

from quantum_trader.archive.case import case_of, judge_case
from quantum_trader.archive.columns import to_records, to_table
from quantum_trader.archive.follow import Follower
from quantum_trader.bus.client import connect
from quantum_trader.bus.cursor import Cursor
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.writer import BarWriter
from quantum_trader.gates.sample import CYCLE
from quantum_trader.gates.verdict import Verdict, VerdictState

SYMBOLS = ("BTCUSDT", "ETHUSDT")
CYCLES = 4


@pytest.fixture(scope="module")
def world() -> World:
    return make_world({"BTCUSDT": 91_000.0, "ETHUSDT": 3_100.0}, decisions=CYCLES * CYCLE + 5)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[redis.Redis]:
    with EmbeddedServer(tmp_path / "valkey", appendfsync="no") as server:
        found = connect(server.url)
        yield found
        found.close()


def write(client: redis.Redis, world: World, first: int, last: int, symbols: tuple[str, ...] = SYMBOLS) -> None:
    """Bars first to last - 1 and their decisions, as feed and engine write them."""
    writer = BarWriter(client, NAMES)
    for symbol in symbols:
        writer.publish(list(world.bars[symbol].slice(first, last)), "5m", START * 1000)
    lower, upper = START + first * FIVE_MINUTES, START + last * FIVE_MINUTES
    records = [r for r in to_records(world.table) if lower <= r.decision.ts_open < upper]
    commit(client, in_order(r for r in records if r.decision.symbol in symbols))


def drain(cursor: Cursor, follower: Follower) -> None:
    while records := cursor.decisions():
        follower.add(to_table(records), cursor.bars("5m"))


def fresh(world: World, cycles: int) -> Verdict:
    """Judged from scratch at a cycle's end."""
    ends = START + cycles * CYCLE * FIVE_MINUTES
    records = [r for r in to_records(world.table) if r.decision.ts_open < ends]
    return judge_case(case_of(to_table(records), world.bars, "patchtst", 0.2))


def test_each_cycle_is_what_a_judgement_from_scratch_gives(client: redis.Redis, world: World) -> None:
    cursor, follower = Cursor(client, NAMES, page=37), Follower("patchtst", FIVE_MINUTES, 0.2)
    found: list[Verdict] = []
    assert follower.ts_end is None
    for first in range(0, CYCLES * CYCLE + 5, 30):
        write(client, world, first, min(first + 30, CYCLES * CYCLE + 5))
        drain(cursor, follower)
        for verdict in follower.verdicts():
            found.append(verdict)
            assert follower.ts_end == START + len(found) * CYCLE * FIVE_MINUTES
    assert not follower.stale
    assert [verdict.cycles for verdict in found] == list(range(1, CYCLES + 1))
    assert found[-1].state is not VerdictState.INVALID
    assert [verdict.to_dict() for verdict in found] == [fresh(world, n).to_dict() for n in range(1, CYCLES + 1)]
    cursor.close()


def test_a_decision_that_comes_late_begins_anew(client: redis.Redis, world: World) -> None:
    cursor, follower = Cursor(client, NAMES), Follower("patchtst", FIVE_MINUTES, 0.2)
    write(client, world, 0, CYCLE)
    write(client, world, CYCLE, 2 * CYCLE + 3, ("BTCUSDT",))
    drain(cursor, follower)
    early = list(follower.verdicts())
    assert [verdict.cycles for verdict in early] == [1, 2]
    write(client, world, CYCLE, 2 * CYCLE + 3, ("ETHUSDT",))
    drain(cursor, follower)
    assert follower.stale
    assert list(follower.verdicts()) == []
    anew = Follower("patchtst", FIVE_MINUTES, 0.2, symbols=sorted(follower.symbols))
    cursor.rewind()
    drain(cursor, anew)
    found = list(anew.verdicts())
    assert [verdict.to_dict() for verdict in found] == [fresh(world, n).to_dict() for n in (1, 2)]
    assert found[1].rows > early[1].rows
    cursor.close()


def test_a_symbol_that_comes_late_begins_anew(client: redis.Redis, world: World) -> None:
    cursor, follower = Cursor(client, NAMES), Follower("patchtst", FIVE_MINUTES, 0.2)
    write(client, world, 0, CYCLE, ("BTCUSDT",))
    drain(cursor, follower)
    assert [verdict.cycles for verdict in follower.verdicts()] == [1]
    write(client, world, CYCLE, CYCLE + 1)
    drain(cursor, follower)
    assert follower.stale
    assert follower.symbols == set(SYMBOLS)
    cursor.close()


def test_who_does_not_decide_is_waited_for_two_bars(client: redis.Redis, world: World) -> None:
    cursor, follower = Cursor(client, NAMES), Follower("patchtst", FIVE_MINUTES, 0.2)
    write(client, world, 0, CYCLE - 1)
    # ETH's last bar of the cycle is there, its decision is not: it may still come.
    BarWriter(client, NAMES).publish(list(world.bars["ETHUSDT"].slice(CYCLE - 1, CYCLE)), "5m", START * 1000)
    for last, judged in ((CYCLE, 0), (CYCLE + 1, 0), (CYCLE + 2, 1)):
        write(client, world, last - 1, last, ("BTCUSDT",))
        drain(cursor, follower)
        found = list(follower.verdicts())
        assert len(found) == judged, last
    assert found[0].state is VerdictState.INVALID
    assert "1 bars have no decision, the first ETHUSDT" in found[0].summary
    cursor.close()

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quantum_trader.engine.assembly import Assembler, Group

SYMBOLS = ("A", "B", "C")
LINGER = 100


def released(assembler: Assembler[str], now_ms: int) -> list[tuple[int, dict[object, str]]]:
    return [(group.ts_open, group.items) for group in assembler.release(now_ms)]


class TestAGroupIsReleased:
    def test_at_once_when_every_symbol_is_there(self) -> None:
        assembler: Assembler[str] = Assembler(SYMBOLS, LINGER)
        for symbol in SYMBOLS:
            assert released(assembler, 0) == []
            assert assembler.add(symbol, 5, symbol.lower(), 0)
        assert released(assembler, 0) == [(5, {"A": "a", "B": "b", "C": "c"})]
        assert released(assembler, 0) == []
        assert assembler.waiting == 0

    def test_after_its_linger_with_what_has_come(self) -> None:
        assembler: Assembler[str] = Assembler(SYMBOLS, LINGER)
        assembler.add("A", 5, "a", 1000)
        assembler.add("B", 5, "b", 1090)
        assert released(assembler, 1099) == []
        assert released(assembler, 1100) == [(5, {"A": "a", "B": "b"})]

    def test_after_every_older_one(self) -> None:
        assembler: Assembler[str] = Assembler(SYMBOLS, LINGER)
        assembler.add("A", 5, "a", 0)
        for symbol in SYMBOLS:
            assembler.add(symbol, 10, symbol, 50)
        assert released(assembler, 99) == []
        assert [ts for ts, _ in released(assembler, 100)] == [5, 10]

    def test_at_once_when_it_is_a_straggler_of_a_released_one(self) -> None:
        assembler: Assembler[str] = Assembler(SYMBOLS, LINGER)
        assembler.add("A", 5, "a", 0)
        released(assembler, 100)
        assert assembler.add("B", 5, "late", 101)
        assert assembler.add("C", 4, "later", 101)
        assert released(assembler, 101) == [(4, {"C": "later"}), (5, {"B": "late"})]

    def test_without_waiting_for_a_straggler_among_younger_ones(self) -> None:
        assembler: Assembler[str] = Assembler(SYMBOLS, LINGER)
        for symbol in SYMBOLS:
            assembler.add(symbol, 5, symbol, 0)
        released(assembler, 0)
        assembler.add("A", 5, "again", 1)
        assembler.add("A", 10, "next", 1)
        assert released(assembler, 1) == [(5, {"A": "again"})]
        assert assembler.waiting == 1

    def test_even_at_time_zero(self) -> None:
        assembler: Assembler[str] = Assembler(("A", "B"), LINGER)
        assembler.add("A", 0, "a", 0)
        assert [ts for ts, _ in released(assembler, LINGER)] == [0]
        assembler.add("B", 0, "b", LINGER)
        assert released(assembler, LINGER) == [(0, {"B": "b"})]


class TestADuplicate:
    def test_of_a_waiting_item_is_refused_and_the_first_one_kept(self) -> None:
        assembler: Assembler[str] = Assembler(SYMBOLS, LINGER)
        assert assembler.add("A", 5, "first", 0)
        assert not assembler.add("A", 5, "second", 1)
        assert released(assembler, LINGER) == [(5, {"A": "first"})]

    def test_does_not_prolong_the_linger(self) -> None:
        assembler: Assembler[str] = Assembler(SYMBOLS, LINGER)
        assembler.add("A", 5, "first", 0)
        assembler.add("A", 5, "second", 90)
        assert assembler.wait_ms(90, 1000) == 10


@given(since=st.integers(0, 1000), now=st.integers(0, 2000), longest=st.integers(0, 500))
def test_the_wait_is_the_rest_of_the_oldest_linger(since: int, now: int, longest: int) -> None:
    assembler: Assembler[str] = Assembler(SYMBOLS, LINGER)
    assert assembler.wait_ms(now, longest) == longest
    assembler.add("A", 10, "a", since + 50)
    assembler.add("A", 5, "a", since)
    wait = assembler.wait_ms(now, longest)
    assert wait == max(0, min(longest, since + LINGER - now))
    if wait < longest:
        assert released(assembler, now + wait) != []


class NothingIsLost(RuleBasedStateMachine):
    """Any order of arrivals, duplicates and stragglers, against a set of what should be waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.assembler: Assembler[int] = Assembler(SYMBOLS, LINGER)
        self.now = 0
        self.number = 0
        self.waiting: dict[tuple[str, int], int] = {}
        self.newest: int | None = None

    @rule(symbol=st.sampled_from([*SYMBOLS, "foreign"]), ts=st.integers(0, 6))
    def arrive(self, symbol: str, ts: int) -> None:
        self.number += 1
        accepted = self.assembler.add(symbol, ts, self.number, self.now)
        assert accepted == ((symbol, ts) not in self.waiting)
        self.waiting.setdefault((symbol, ts), self.number)

    @rule(by=st.integers(0, 2 * LINGER))
    def wait(self, by: int) -> None:
        self.now += by

    @rule()
    def release(self) -> None:
        groups: list[Group[int]] = self.assembler.release(self.now)
        times = [group.ts_open for group in groups]
        assert times == sorted(set(times))
        for group in groups:
            assert group.items == {s: n for (s, ts), n in self.waiting.items() if ts == group.ts_open}
            complete = set(SYMBOLS) <= group.items.keys()
            straggler = self.newest is not None and group.ts_open <= self.newest
            assert complete or straggler or self.now - group.since_ms >= LINGER
        self.waiting = {key: n for key, n in self.waiting.items() if key[1] not in times}
        if times:
            self.newest = max(times[-1], -1 if self.newest is None else self.newest)
        if self.waiting and times:
            assert min(ts for _, ts in self.waiting) > times[-1]

    @invariant()
    def what_is_not_released_waits(self) -> None:
        assert self.assembler.waiting == len(self.waiting)

    def teardown(self) -> None:
        self.now += LINGER
        self.release()
        assert self.waiting == {}


TestNothingIsLost = NothingIsLost.TestCase

"""When a day is written: by age, by number, or because a later one has begun."""

from dataclasses import dataclass

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.archive.many import DAY_BARS, many_records

from quantum_trader.archive.gather import Gathering, day_of
from quantum_trader.core.decision import DecisionRecord


@dataclass(frozen=True)
class Stored:
    entry_id: str
    record: DecisionRecord | None
    fields: tuple[bytes, ...] = (b"a", b"b")
    error: str = ""


def gathered(records: list[DecisionRecord], every_s: float = 60.0, rows: int = 1000, now_s: float = 0.0) -> Gathering:
    gathering = Gathering(every_s, rows)
    for at, record in enumerate(records):
        gathering.add(Stored(f"{at + 1}-0", record), record, now_s)
    return gathering


def test_a_day_is_that_of_the_bars_close() -> None:
    last, first = many_records(range(DAY_BARS - 2, DAY_BARS), ["BTCUSDT"])
    assert (last.decision.ts_close + 300_000, day_of(last)) == (first.decision.ts_close, "2026-01-01")
    assert first.decision.ts_close % 86_400_000 == 0
    assert day_of(first) == "2026-01-02"
    earlier = msgspec.structs.replace(first.decision, ts_close=first.decision.ts_close - 1)
    assert day_of(msgspec.structs.replace(first, decision=earlier)) == "2026-01-01"


class TestADayIsDue:
    def test_when_its_oldest_decision_has_waited(self) -> None:
        gathering = gathered(many_records(range(2)), every_s=60, now_s=5.0)
        assert gathering.due(64.9) == []
        assert gathering.due(65.0) == ["2026-01-01"]

    def test_when_a_later_one_has_begun(self) -> None:
        gathering = gathered(many_records(range(DAY_BARS - 2, DAY_BARS + 1)))
        assert gathering.due(0.0) == ["2026-01-01"]
        assert gathering.all() == ["2026-01-01", "2026-01-02"]
        assert len(gathering.of("2026-01-01").records) == 3
        gathering.drop("2026-01-01")
        assert (gathering.due(0.0), len(gathering)) == ([], 6)

    def test_with_all_others_when_as_many_wait_as_may(self) -> None:
        records = many_records(range(DAY_BARS - 2, DAY_BARS + 1))
        assert gathered(records[:8], rows=9).due(0.0) == ["2026-01-01"]
        assert gathered(records, rows=9).due(0.0) == ["2026-01-01", "2026-01-02"]


@given(bars=st.lists(st.integers(0, 3 * DAY_BARS), unique=True, max_size=20))
def test_nothing_waits_under_another_day(bars: list[int]) -> None:
    records = [record for bar in bars for record in many_records([bar], ["BTCUSDT"])]
    gathering = gathered(records)
    kept = [record for day in gathering.all() for record in gathering.of(day).records]
    assert sorted(r.decision.decision_id for r in kept) == sorted(r.decision.decision_id for r in records)
    assert all(day_of(record) == day for day in gathering.all() for record in gathering.of(day).records)

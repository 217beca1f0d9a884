import dataclasses

import pytest

from quantum_trader.bus.entries import BadEntry, BarEntry
from quantum_trader.core.bars import WINDOW, Bar
from quantum_trader.core.errors import ClockError
from quantum_trader.engine.intake import CLOCK_TOLERANCE_MS, Intake

MINUTE = 60_000
INTERVAL = 5 * MINUTE
START = 1_767_225_600_000


class Clock:
    def __init__(self, now_ms: int) -> None:
        self.ms = now_ms

    def __call__(self) -> int:
        return self.ms


def bar(symbol: str, number: int, timeframe: str = "5m", price: float = 1.5) -> BarEntry:
    return BarEntry(
        f"{START + (number + 1) * INTERVAL}-0",
        Bar(symbol, START + number * INTERVAL, INTERVAL, 1.0, 9.0, 0.5, price, 10.0),
        timeframe,
    )


def intake(*symbols: str, linger_ms: int = 1000, bars: int = WINDOW) -> tuple[Intake, Clock]:
    """An intake whose windows hold `bars` bars, at the close of the next one."""
    clock = Clock(START + (bars + 1) * INTERVAL)
    made = Intake(symbols, "5m", linger_ms, clock)
    made.rebuild([bar(symbol, number) for number in range(bars) for symbol in symbols])
    return made, clock


class TestAGroup:
    def test_is_due_when_every_symbol_is_there_in_symbol_order(self) -> None:
        made, _ = intake("BTCUSDT", "ADAUSDT")
        assert made.take([bar("BTCUSDT", WINDOW)]) == []
        assert list(made.due()) == []
        assert made.waiting == 1
        assert made.take([bar("ADAUSDT", WINDOW)]) == []
        (group,) = made.due()
        assert [item.entry.bar.symbol for item in group.ready] == ["ADAUSDT", "BTCUSDT"]
        assert len(group.entry_ids) == 2
        assert (group.fates, group.gaps) == ({}, [])
        assert group.ready[0].window.matrix()[3, -1] == 1.5

    def test_waits_for_stragglers_at_most_a_linger(self) -> None:
        made, clock = intake("BTCUSDT", "ADAUSDT")
        made.take([bar("BTCUSDT", WINDOW)])
        assert 0 < made.wait_ms(10_000) <= 1000
        clock.ms += 1000
        assert made.wait_ms(10_000) == 0
        (group,) = made.due()
        assert [item.entry.bar.symbol for item in group.ready] == ["BTCUSDT"]

    def test_warms_up_and_says_so(self) -> None:
        made, _ = intake("BTCUSDT", bars=10)
        made.take([bar("BTCUSDT", 10)])
        (group,) = made.due()
        assert (group.ready, group.fates) == ([], {"warming_up": 1})
        assert group.entry_ids == [bar("BTCUSDT", 10).entry_id]

    def test_shows_a_gap_with_its_length(self) -> None:
        made, clock = intake("BTCUSDT")
        clock.ms += 3 * INTERVAL
        made.take([bar("BTCUSDT", WINDOW + 3)])
        (group,) = made.due()
        assert (group.ready, group.gaps, group.fates) == ([], [3], {"warming_up": 1})

    def test_drops_what_is_old_or_there_already_and_acknowledges_it(self) -> None:
        made, _ = intake("BTCUSDT")
        made.take([bar("BTCUSDT", WINDOW - 5)])
        made.take([bar("BTCUSDT", WINDOW - 1)])
        first, second = made.due()
        assert (first.ready, second.ready) == ([], [])
        assert {**first.fates, **second.fates} == {"out_of_order": 1, "duplicate": 1}
        assert first.entry_ids
        assert second.entry_ids

    def test_sees_no_bar_of_the_next_one(self) -> None:
        made, clock = intake("BTCUSDT")
        clock.ms += INTERVAL
        made.take([bar("BTCUSDT", WINDOW, price=7.0), bar("BTCUSDT", WINDOW + 1, price=8.0)])
        assert [group.ready[0].window.matrix()[3, -1] for group in made.due()] == [7.0, 8.0]


class TestABarIsRefused:
    @pytest.mark.parametrize(
        ("entry", "rule"),
        [
            (BadEntry("1-0", "market.bar: no JSON"), "no JSON"),
            (bar("XRPUSDT", WINDOW), "XRPUSDT is not configured"),
            (bar("BTCUSDT", WINDOW, "1h"), "has timeframe 1h"),
            (bar("BTCUSDT", WINDOW + 1), "future"),
        ],
        ids=["garbage", "symbol", "timeframe", "future"],
    )
    def test_with_its_rule(self, entry: BarEntry | BadEntry, rule: str, caplog: pytest.LogCaptureFixture) -> None:
        made, clock = intake("BTCUSDT")
        clock.ms -= CLOCK_TOLERANCE_MS
        assert made.take([entry]) == [entry.entry_id]
        assert list(made.due()) == []
        assert "bar refused" in caplog.text
        if rule != "future":
            assert rule in caplog.text

    def test_when_the_same_one_is_waiting_already(self) -> None:
        made, _ = intake("BTCUSDT", "ADAUSDT")
        assert made.take([bar("BTCUSDT", WINDOW)]) == []
        assert made.take([bar("BTCUSDT", WINDOW)]) != []
        assert made.waiting == 1


def test_a_clock_behind_what_was_handled_stops_the_start() -> None:
    clock = Clock(START)
    made = Intake(["BTCUSDT"], "5m", 0, clock)
    with pytest.raises(ClockError, match="set the clock right and start again"):
        made.rebuild([bar("BTCUSDT", 100)])
    made.rebuild([bar("XRPUSDT", 100), bar("BTCUSDT", 100, "1h")])


def test_a_bar_of_the_future_that_was_refused_does_not_stop_the_next_start() -> None:
    made = Intake(["BTCUSDT"], "5m", 0, Clock(START + (WINDOW + 1) * INTERVAL))
    future = dataclasses.replace(bar("BTCUSDT", 10 * WINDOW), entry_id=bar("BTCUSDT", 7).entry_id)
    made.rebuild([future, *(bar("BTCUSDT", number) for number in range(WINDOW))])
    made.take([bar("BTCUSDT", WINDOW)])
    (group,) = made.due()
    assert len(group.ready) == 1


def test_windows_are_rebuilt_in_time_order_and_the_first_of_two_bars_counts() -> None:
    made = Intake(["BTCUSDT"], "5m", 0, Clock(START + (WINDOW + 1) * INTERVAL))
    history = [bar("BTCUSDT", number) for number in range(WINDOW)]
    history[300], history[301] = history[301], history[300]
    made.rebuild([*history, bar("BTCUSDT", WINDOW - 1, price=8.0), bar("BTCUSDT", 2, price=8.0)])
    made.take([bar("BTCUSDT", WINDOW)])
    (group,) = made.due()
    (ready,) = group.ready
    assert set(ready.window.matrix()[3].tolist()) == {1.5}

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.strategies import INTERVAL, START, random_series

from quantum_trader.core.bars import (
    FIELDS,
    Arrival,
    Bar,
    BarSeries,
    BarWindow,
    Gap,
    check_bar,
    interval_ms,
    venue_symbol,
)
from quantum_trader.core.errors import BarError, ConfigError, format_ms

GOOD = Bar("ETHUSDT", START, INTERVAL, open=100.0, high=103.0, low=99.0, close=102.0, volume=5.0)

NAN, INF = float("nan"), float("inf")

BROKEN = [
    *((name, value, "a value is not finite") for name in FIELDS for value in (NAN, INF, -INF)),
    *((name, value, "a price is not positive") for name in FIELDS[:4] for value in (0.0, -1.0)),
    ("volume", -1e-300, "volume is negative"),
    ("high", 101.9, "high < max(open, close)"),
    ("open", 103.1, "high < max(open, close)"),
    ("low", 100.1, "low > min(open, close)"),
    ("close", 98.9, "low > min(open, close)"),
    ("ts_open", START + 1, "off the 300000 ms grid"),
    ("ts_open", START - 299_999, "off the 300000 ms grid"),
]


def series_of(bars: list[Bar]) -> BarSeries:
    return BarSeries.from_bars(bars)


def bar_by_bar(bars: list[Bar], now_ms: int | None) -> tuple[int, str] | None:
    """Index and sentence of the first bar that breaks a rule, checked one after the other."""
    before = None
    for i, bar in enumerate(bars):
        try:
            check_bar(bar, now_ms)
            if before is not None and bar.ts_open == before:
                raise BarError(bar.symbol, bar.ts_open, "duplicate: the bar before it opens at the same time")
            if before is not None and bar.ts_open < before:
                raise BarError(bar.symbol, bar.ts_open, "out of order")
        except BarError as error:
            return i, str(error)
        before = bar.ts_open
    return None


class TestABarThatBreaksARuleIsRefused:
    @pytest.mark.parametrize(("name", "value", "rule"), BROKEN)
    def test_with_symbol_time_and_rule_in_one_line(self, name: str, value: float, rule: str) -> None:
        bar = replace(GOOD, **{name: value})
        with pytest.raises(BarError) as refusal:
            check_bar(bar)
        assert str(refusal.value) == f"bar ETHUSDT {format_ms(bar.ts_open)}: {rule}"
        assert (refusal.value.symbol, refusal.value.ts_open, refusal.value.rule) == ("ETHUSDT", bar.ts_open, rule)

    def test_unless_it_obeys_every_rule(self) -> None:
        check_bar(GOOD)
        check_bar(replace(GOOD, open=102.0, high=102.0, low=102.0, volume=0.0))

    def test_while_it_is_unfinished_and_no_longer_at_its_close(self) -> None:
        with pytest.raises(BarError, match=r"^bar ETHUSDT 2026-01-01T00:00:00Z: unfinished"):
            check_bar(GOOD, GOOD.ts_close - 1)
        check_bar(GOOD, GOOD.ts_close)


class TestASeriesIsCheckedAsItsBarsAre:
    def test_a_valid_series_passes(self) -> None:
        series = random_series(500, holes=(100, 300))
        series.check()
        series.check(int(series.ts_open[-1]) + INTERVAL)
        still = [replace(bar, open=bar.close, high=bar.close, low=bar.close, volume=0.0) for bar in series]
        series_of(still).check()

    @given(data=st.data(), seed=st.integers(0, 50), finished=st.booleans())
    def test_corruption_is_refused_at_the_same_bar_with_the_same_words(
        self, data: st.DataObject, seed: int, finished: bool
    ) -> None:
        bars = list(random_series(12, seed, holes=(5,)))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(bars) - 1))
            name, value, _ = data.draw(st.sampled_from([*BROKEN, ("again", 0, ""), ("swap", 0, "")]))
            if name == "again":
                bars.insert(at, bars[at])
            elif name == "swap":
                bars[at - 1], bars[at] = bars[at], bars[at - 1]
            elif name == "ts_open":
                bars[at] = replace(bars[at], ts_open=bars[at].ts_open + int(value) % INTERVAL)
            else:
                bars[at] = replace(bars[at], **{name: value})
        now_ms = None if finished else START + data.draw(st.integers(0, 16)) * INTERVAL
        expected = bar_by_bar(bars, now_ms)
        if expected is None:
            series_of(bars).check(now_ms)
            return
        index, sentence = expected
        with pytest.raises(BarError) as refusal:
            series_of(bars).check(now_ms)
        assert str(refusal.value) == sentence
        assert refusal.value.ts_open == bars[index].ts_open

    def test_duplicate_and_out_of_order_are_told_apart(self) -> None:
        bars = list(random_series(4))
        with pytest.raises(BarError, match=r"BTCUSDT 2026-01-01T00:05:00Z: duplicate"):
            series_of([bars[0], bars[1], bars[1]]).check()
        with pytest.raises(BarError, match=r"BTCUSDT 2026-01-01T00:05:00Z: out of order"):
            series_of([bars[0], bars[2], bars[1]]).check()

    def test_an_empty_list_of_bars_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="no bars"):
            BarSeries.from_bars([])


class TestASeries:
    def test_gives_its_bars_back_as_they_were(self) -> None:
        bars = list(random_series(20, seed=4, holes=(7,)))
        assert list(series_of(bars)) == bars
        assert [series_of(bars).bar(i) for i in (0, 7, -1)] == [bars[0], bars[7], bars[-1]]
        assert all(type(bar.ts_open) is int and type(bar.close) is float for bar in series_of(bars))

    def test_between_takes_the_start_and_leaves_the_end(self) -> None:
        series = random_series(10, holes=(4,))
        part = series.between(START + INTERVAL, START + 5 * INTERVAL)
        assert [(ts - START) // INTERVAL for ts in part.ts_open.tolist()] == [1, 2, 3]
        assert len(series.between(0, START)) == 0

    def test_matrix_stacks_the_fields_in_order(self) -> None:
        series = random_series(7)
        matrix = series.matrix()
        assert matrix.shape == (5, 7)
        assert matrix.flags.c_contiguous
        for row, name in zip(matrix, FIELDS, strict=True):
            np.testing.assert_array_equal(row, getattr(series, name))

    def test_every_hole_is_announced_with_its_first_bar_and_its_length(self) -> None:
        bars = list(random_series(10))
        series = series_of([*bars[:3], *bars[4:6], *bars[8:]])
        assert series.gaps() == [
            Gap("BTCUSDT", START + 3 * INTERVAL, 1),
            Gap("BTCUSDT", START + 6 * INTERVAL, 2),
        ]
        assert random_series(10).gaps() == []

    @given(
        steps=st.lists(st.sampled_from([1, 1, 1, 1, 2, 5]), max_size=40),
        window=st.integers(1, 9),
    )
    def test_windows_end_exactly_where_no_bar_is_missing_inside(self, steps: list[int], window: int) -> None:
        ts_open = START + INTERVAL * np.cumsum([0, *steps])
        ones = np.ones(len(ts_open))
        series = BarSeries("X", INTERVAL, ts_open, ones, ones, ones, ones, ones)
        brute = [
            i
            for i in range(window - 1, len(ts_open))
            if ts_open[i] - ts_open[i - window + 1] == (window - 1) * INTERVAL
        ]
        assert series.window_ends(window).tolist() == brute


class TestAWindow:
    @settings(max_examples=200)
    @given(size=st.integers(1, 7), jumps=st.lists(st.sampled_from([1, 1, 1, 1, 1, 0, -1, -4, 2, 5]), max_size=60))
    def test_holds_the_last_bars_without_a_hole_whatever_is_pushed(self, size: int, jumps: list[int]) -> None:
        window = BarWindow("BTCUSDT", INTERVAL, size)
        kept: list[Bar] = []
        at = 0
        for number, jump in enumerate(jumps):
            bar = replace(GOOD, ts_open=START + (at + jump) * INTERVAL, close=float(number), volume=number / 7)
            arrival, gap = window.push(bar)
            if kept and jump <= 0:
                assert arrival is (Arrival.DUPLICATE if jump == 0 else Arrival.OUT_OF_ORDER)
                assert gap is None
            else:
                assert arrival is Arrival.APPENDED
                missing = jump - 1 if kept else 0
                assert gap == (Gap("BTCUSDT", kept[-1].ts_open + INTERVAL, missing) if missing else None)
                kept = [bar] if missing else [*kept, bar]
                at += jump
            tail = kept[-size:]
            expected = np.array([[getattr(bar, name) for bar in tail] for name in FIELDS])
            np.testing.assert_array_equal(window.matrix(), expected)
            assert (window.count, window.ready) == (len(tail), len(kept) >= size)
            assert window.last_ts_open == kept[-1].ts_open

    def test_is_the_slice_of_the_series_after_many_turns_of_its_buffer(self) -> None:
        series = random_series(5 * 16 + 3)
        window = BarWindow("BTCUSDT", INTERVAL, 16)
        matrix = series.matrix()
        for i, bar in enumerate(series):
            window.push(bar)
            np.testing.assert_array_equal(window.matrix(), matrix[:, max(0, i - 15) : i + 1])

    @pytest.mark.parametrize("size", [1, 4])
    def test_gives_copies_that_later_pushes_do_not_change(self, size: int) -> None:
        window = BarWindow("BTCUSDT", INTERVAL, size)
        given_out = []
        for bar in random_series(30):
            window.push(bar)
            given_out.append((window.matrix(), window.matrix().copy()))
        for matrix, copy in given_out:
            np.testing.assert_array_equal(matrix, copy)
        before = window.matrix()
        window.matrix()[:] = -1.0
        np.testing.assert_array_equal(window.matrix(), before)

    def test_starts_empty(self) -> None:
        window = BarWindow("BTCUSDT", INTERVAL, 3)
        assert (window.matrix().shape, window.ready, window.last_ts_open) == ((5, 0), False, None)


class TestNames:
    @pytest.mark.parametrize(("timeframe", "length"), [("1m", 60_000), ("5m", 300_000), ("4h", 14_400_000)])
    def test_a_timeframe_has_a_length(self, timeframe: str, length: int) -> None:
        assert interval_ms(timeframe) == length

    @pytest.mark.parametrize(
        "timeframe", ["", "m", "0m", "00h", "-5m", "5", "5s", "5M", "1.5h", " 5m", "5 m", "٥m", "²m"]
    )
    def test_anything_else_is_refused_by_its_name(self, timeframe: str) -> None:
        with pytest.raises(ConfigError, match=r"^timeframe .*: expected a number and m, h or d"):
            interval_ms(timeframe)

    @pytest.mark.parametrize("pair", ["BTC/USDT", "BTC/USDT:USDT", "btc/usdt", "BTCUSDT"])
    def test_a_pair_has_the_venues_name(self, pair: str) -> None:
        assert venue_symbol(pair) == "BTCUSDT"

    @pytest.mark.parametrize("pair", ["", "/", ":USDT", "BTC-USDT", "BTC USDT", "BTC/USDT\n", "BTC/ÜSDT", "BTC/USDT|x"])
    def test_a_pair_of_other_characters_is_refused(self, pair: str) -> None:
        with pytest.raises(ConfigError, match=r"^pair .*: expected letters and digits"):
            venue_symbol(pair)

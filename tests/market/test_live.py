import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator

import pytest

from quantum_trader.core.bars import Bar
from quantum_trader.core.errors import BarError, ConfigError
from quantum_trader.market.binance_frames import parse_frame
from quantum_trader.market.live import closed_bars
from quantum_trader.market.simulator import DEFAULT_START_MS, simulate

STEP = 300_000
FOREVER = 60


@pytest.fixture
def bars(binance) -> list[Bar]:
    series = simulate(40, 3, ["BTC/USDT"])["BTCUSDT"]
    binance.serve(series)
    return list(series)


def partial(bar: Bar) -> Bar:
    """The bar half way: other numbers, which must never be taken for the final ones."""
    return dataclasses.replace(bar, close=bar.open, volume=bar.volume / 2)


class Follower:
    """Runs `closed_bars` and the other side of the exchange beside each other, and a clock that the test sets."""

    def __init__(self, binance, fast, pairs=("BTC/USDT",), since_ms=None):
        self.now_ms, self.started = DEFAULT_START_MS, time.monotonic()
        self.notices: list[str] = []
        self.stream: AsyncIterator[Bar] = closed_bars(
            "binance",
            pairs,
            "5m",
            self.clock,
            since_ms=since_ms,
            grace_ms=500,
            notice=self.notices.append,
            config=binance.config,
            retries=fast,
        )

    def clock(self) -> int:
        """Runs as clocks do, from where the test has set it."""
        return self.now_ms + int((time.monotonic() - self.started) * 1000)

    async def take(self, count: int) -> list[Bar]:
        async with asyncio.timeout(FOREVER):
            return [await anext(self.stream) for _ in range(count)]


async def follow(follower: Follower, count: int, script) -> list[Bar]:
    """The first bars that come while the script plays in a thread of its own."""
    async with contextlib.aclosing(follower.stream):
        taking = asyncio.create_task(follower.take(count))
        try:
            await asyncio.to_thread(script)
            return await taking
        finally:
            taking.cancel()


def test_a_bar_is_given_out_when_the_next_begins(binance, fast, bars):
    follower = Follower(binance, fast)

    def script() -> None:
        binance.wait_subscribed(1)
        for bar in bars[:4]:
            binance.push(binance.frame(partial(bar), closed=False))
            binance.push(binance.frame(bar, closed=True))

    assert asyncio.run(follow(follower, 3, script)) == bars[:3]
    assert binance.subscriptions == ["btcusdt@kline_5m"]
    assert follower.notices == []
    assert binance.asked == []


def test_nothing_is_missing_after_a_lost_connection(binance, fast, bars):
    follower = Follower(binance, fast)

    def script() -> None:
        binance.wait_subscribed(1)
        binance.push(binance.frame(bars[0], closed=True))
        binance.push(binance.frame(bars[1], closed=True))
        binance.push(binance.frame(partial(bars[2]), closed=False))
        binance.drop()
        binance.wait_subscribed(2)
        binance.push(binance.frame(partial(bars[5]), closed=False))
        binance.push(binance.frame(bars[5], closed=True))
        binance.push(binance.frame(partial(bars[6]), closed=False))

    assert asyncio.run(follow(follower, 6, script)) == bars[:6]
    assert any("3 bars fetched by REST" in notice for notice in follower.notices)


def test_the_bar_of_the_break_is_never_its_half(binance, fast, bars):
    """The connection breaks inside a bar and comes back inside the next: the half seen before must not be given out."""
    follower = Follower(binance, fast)

    def script() -> None:
        binance.wait_subscribed(1)
        binance.push(binance.frame(partial(bars[0]), closed=False))
        binance.drop()
        binance.wait_subscribed(2)
        binance.push(binance.frame(partial(bars[1]), closed=False))
        binance.push(binance.frame(bars[1], closed=True))
        binance.push(binance.frame(bars[2], closed=True))

    assert asyncio.run(follow(follower, 2, script)) == bars[:2]


def test_a_bar_whose_frames_were_lost_is_asked_for(binance, fast, bars):
    follower = Follower(binance, fast)
    follower.now_ms = bars[4].ts_close - 1_000

    def script() -> None:
        binance.wait_subscribed(1)
        binance.push(binance.frame(partial(bars[4]), closed=False))

    assert asyncio.run(follow(follower, 1, script)) == [bars[4]]


def test_it_begins_where_the_caller_stopped(binance, fast, bars):
    follower = Follower(binance, fast, since_ms=bars[10].ts_open - 1)
    follower.now_ms = bars[20].ts_open + 1

    def script() -> None:
        binance.wait_subscribed(1)
        binance.push(binance.frame(bars[20], closed=True))
        binance.push(binance.frame(partial(bars[21]), closed=False))

    assert asyncio.run(follow(follower, 11, script)) == bars[10:21]


def test_a_halt_of_the_exchange_is_left_out(binance, fast, bars):
    del binance.rows["BTCUSDT"][2:6]
    follower = Follower(binance, fast)

    def script() -> None:
        binance.wait_subscribed(1)
        for bar in [*bars[:2], *bars[6:9]]:
            binance.push(binance.frame(bar, closed=True))

    assert asyncio.run(follow(follower, 4, script)) == [*bars[:2], *bars[6:8]]


def test_a_rest_failure_delays_and_loses_nothing(binance, fast, bars):
    follower = Follower(binance, fast)
    binance.faults = [503] * 3

    def script() -> None:
        binance.wait_subscribed(1)
        for bar in [bars[0], *bars[3:6]]:
            binance.push(binance.frame(bar, closed=True))

    assert asyncio.run(follow(follower, 5, script)) == bars[:5]
    assert any("no answer in 3 attempts" in notice for notice in follower.notices)


def test_a_broken_bar_ends_the_stream(binance, fast, bars):
    follower = Follower(binance, fast)

    def script() -> None:
        binance.wait_subscribed(1)
        binance.push(binance.frame(dataclasses.replace(bars[0], high=bars[0].low / 2), closed=True))
        binance.push(binance.frame(bars[1], closed=False))

    with pytest.raises(BarError, match="high < max"):
        asyncio.run(follow(follower, 1, script))


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("ws_spot_btcusdt_kline_5m_2020-05-24.jsonl", "BTC/USDT"),
        ("ws_spot_ethusdt_kline_5m_2021-04-25.jsonl", "ETH/USDT"),
    ],
)
def test_recorded_frames_give_the_recorded_bar(binance, fast, shared, name, pair):
    frames = (shared / "feed" / name).read_text().splitlines()
    binance.rows = {"BTCUSDT": [], "ETHUSDT": []}
    follower = Follower(binance, fast, [pair])
    follower.now_ms = json.loads(frames[0])["E"]

    def script() -> None:
        binance.wait_subscribed(1)
        for frame in frames:
            binance.push(frame)

    assert asyncio.run(follow(follower, 1, script)) == [bar for bar in map(parse_frame, frames) if bar is not None]


def test_two_pairs_share_a_connection(binance, fast):
    series = simulate(10, 3, ["BTC/USDT", "ETH/USDT"])
    binance.serve(*series.values())
    follower = Follower(binance, fast, ["BTC/USDT", "ETH/USDT"])

    def script() -> None:
        binance.wait_subscribed(2)
        for bars in zip(*series.values(), strict=True):
            for bar in bars:
                binance.push(binance.frame(bar, closed=True))

    got = asyncio.run(follow(follower, 18, script))
    for symbol, own in series.items():
        assert [bar for bar in got if bar.symbol == symbol] == list(own)[:9]


def test_futures_use_their_own_stream(binance, fast, bars):
    follower = Follower(binance, fast, ["BTC/USDT:USDT"])

    def script() -> None:
        binance.wait_subscribed(1)
        for bar in bars[:2]:
            binance.push(binance.frame(bar, closed=True))

    assert asyncio.run(follow(follower, 1, script)) == bars[:1]


def test_an_unknown_pair_is_named(binance, fast, bars):
    with pytest.raises(ConfigError, match="binance has no pair DOGE/USDT"):
        asyncio.run(Follower(binance, fast, ["DOGE/USDT"]).take(1))


def test_it_stops_in_the_middle_of_a_flood(binance, fast, bars):
    """Closing the stream while updates arrive must end it: a lost cancellation would leave it waiting for ever."""
    for attempt in range(1, 9):
        follower = Follower(binance, fast)

        def script(subscriptions: int = attempt) -> None:
            binance.wait_subscribed(subscriptions)
            for bar in [bars[0], *[partial(bars[1])] * 150]:
                binance.push(binance.frame(bar, closed=False))

        async def leave(follower: Follower = follower, script=script) -> None:
            flood = asyncio.create_task(asyncio.to_thread(script))
            async with asyncio.timeout(FOREVER), contextlib.aclosing(follower.stream):
                await anext(follower.stream)
            await flood

        asyncio.run(leave())

"""Closed bars as an exchange forms them, none missing: websocket candles, and REST wherever those have a hole.

- An update carries the whole candle so far. A candle is closed when the next one of its pair begins on the same
  connection: its last update was then its final one.
- A new connection starts without candles: the half that an old one saw never counts as final, and bars that closed
  meanwhile are fetched by REST.
- A pair in which nobody trades, or whose frame was lost, begins no candle: `grace_ms` after its bar should have
  closed it is fetched by REST.
- Bars of a pair come in order, each once. What the exchange itself does not have (a halt) is left out.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from quantum_trader.core.bars import Bar, check_bar
from quantum_trader.core.errors import ConfigError
from quantum_trader.market.exchange import Exchange, ExchangeError, Retries, open_exchange

_PAUSE_S = 1.0
"""Between attempts to reconnect, and between questions for a bar that the exchange does not have yet."""

_LONGEST_WAIT_S = 10.0
"""After which the clock is looked at again: a machine that slept does not wait for the rest of its bar."""


def _quiet(text: str) -> None:
    """Notices that nobody reads."""


async def closed_bars(
    exchange: str,
    pairs: Sequence[str],
    timeframe: str,
    clock: Callable[[], int],
    since_ms: int | None = None,
    grace_ms: int = 3_000,
    notice: Callable[[str], None] = _quiet,
    config: Mapping[str, Any] | None = None,
    retries: Retries | None = None,
) -> AsyncGenerator[Bar, None]:
    """Every closed bar of the pairs from now on, or from `since_ms`; ends only by an error or by the caller.

    A caller that stops early closes the generator (`contextlib.aclosing`), and with it the connection.

    Args:
        exchange: ccxt's name, such as binance.
        pairs: BTC/USDT for spot, BTC/USDT:USDT for the perpetual future.
        timeframe: Such as 5m.
        clock: The time in milliseconds since the epoch.
        since_ms: Open of the first bar wanted; None starts with the bar that is forming.
        grace_ms: How long after its end a bar may stay unfinished on the websocket.
        notice: Told in one line of every reconnect and of bars fetched by REST.
        config: Merged into ccxt's configuration of the exchange.
        retries: Of every REST request; when they are used up, the next round begins.

    Raises:
        ConfigError: if exchange, pair or timeframe is unknown or the exchange streams no candles.
        ExchangeError: if the exchange cannot be reached at the start, or refuses the subscription.
        BarError: if it sends a bar that breaks a rule.
    """
    async with open_exchange(exchange, pairs, timeframe, config, retries) as opened:
        if not opened.client.has.get("watchOHLCV"):
            raise ConfigError(f"{exchange} streams no candles")
        queue: asyncio.Queue[Bar] = asyncio.Queue()
        # Since: the first bar that opens no earlier. Without it: the bar that is forming.
        first = clock() // opened.interval if since_ms is None else -(-since_ms // opened.interval)
        followers = [_Follower(opened, pair, queue, clock, first * opened.interval, grace_ms, notice) for pair in pairs]
        tasks = [asyncio.create_task(follower.follow()) for follower in followers]
        try:
            while True:
                yield await _next(queue, tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _next(queue: asyncio.Queue[Bar], tasks: list[asyncio.Task[None]]) -> Bar:
    """The next bar, or the error that ended a follower."""
    getter = asyncio.create_task(queue.get())
    try:
        await asyncio.wait([getter, *tasks], return_when=asyncio.FIRST_COMPLETED)
        if getter.done():
            return getter.result()
        for task in tasks:
            if task.done():
                task.result()
        raise ExchangeError("a follower of the exchange ended")
    finally:
        getter.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await getter


class _Follower:
    """Follows one pair. `_next_open` is the bar to be given out next: a failure never moves it."""

    def __init__(
        self,
        exchange: Exchange,
        pair: str,
        queue: asyncio.Queue[Bar],
        clock: Callable[[], int],
        first_open: int,
        grace_ms: int,
        notice: Callable[[str], None],
    ) -> None:
        self._exchange, self._pair, self._queue = exchange, pair, queue
        self._clock, self._grace_ms, self._notice = clock, grace_ms, notice
        self._next_open = first_open

    async def follow(self) -> None:
        """Give out bars for ever."""
        import ccxt

        await self._catch_up()
        while True:
            try:
                if not await self._wait() and self._overdue_ms() >= 0:
                    await self._catch_up()
            except ccxt.OperationFailed as error:
                self._notice(f"{self._pair}: connection lost ({type(error).__name__}), reconnecting")
                await asyncio.sleep(_PAUSE_S)
                await self._catch_up()
            except ccxt.BaseError as error:
                raise ExchangeError(f"{self._exchange.name}: {self._pair}: {error}") from error

    async def _wait(self) -> bool:
        """Give out what is closed, then wait for the next update or for the time at which one is overdue.

        Returns:
            Whether there was an update.
        """
        watch = self._exchange.client.watch_ohlcv(self._pair, self._exchange.timeframe)
        watching = asyncio.ensure_future(watch)
        try:
            # Registered with ccxt first, looked at its candles then: an update in between wakes us.
            await asyncio.sleep(0)
            whole = await self._give_closed()
            patience = max(-self._overdue_ms() / 1000, _PAUSE_S)
            # Not wait_for: in Python 3.11 it swallows a cancellation that meets an update, and never ends.
            await asyncio.wait({watching}, timeout=min(patience, _LONGEST_WAIT_S if whole else _PAUSE_S))
            return watching.done() and watching.result() is not None
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    def _overdue_ms(self) -> int:
        """Since when the websocket should have closed the next bar; negative before."""
        return self._clock() - (self._next_open + self._exchange.interval + self._grace_ms)

    async def _give_closed(self) -> bool:
        """Give out every candle of this connection that another follows, the holes before them first.

        Returns:
            Whether it could; False where a hole remains, because REST did not answer or does not have it yet.
        """
        while True:
            candles = self._candles()
            if candles and candles[0].ts_open > self._next_open:
                due = self._next_open
                await self._catch_up(candles[0].ts_open)
                if self._next_open == due:
                    return False
            elif len(candles) > 1:
                self._give(candles[0])
            else:
                return True

    def _candles(self) -> list[Bar]:
        """This connection's candles that are not given out yet, oldest first; the last is still forming."""
        cached = self._exchange.client.ohlcvs.get(self._pair, {}).get(self._exchange.timeframe, [])
        return [self._exchange.bar(self._pair, row) for row in cached if row[0] >= self._next_open]

    async def _catch_up(self, before: int | None = None) -> None:
        """Fetch the closed bars that are due, up to one that has begun already or else up to the clock.

        A failure leaves everything due: the next round asks again.
        """
        stop = before if before is not None else self._clock() // self._exchange.interval * self._exchange.interval
        fetched = 0
        try:
            while self._next_open < stop:
                limit = self._exchange.page_size(self._pair)
                page = await self._exchange.fetch(self._pair, self._next_open, limit)
                due = [bar for bar in page if self._next_open <= bar.ts_open < stop]
                for bar in due:
                    self._give(bar)
                fetched += len(due)
                if not due and not self._skip_hole(page, stop, limit):
                    break
        except ExchangeError as error:
            self._notice(f"{self._pair}: {error}")
        if fetched:
            self._notice(f"{self._pair}: {fetched} bars fetched by REST")

    def _skip_hole(self, page: list[Bar], stop: int, limit: int) -> bool:
        """Step over bars that the exchange has not; False where they may still come."""
        later = [bar.ts_open for bar in page if bar.ts_open >= stop]
        window = limit * self._exchange.interval
        if later:
            self._next_open = later[0]
        elif self._next_open + window <= stop:
            self._next_open += window
        else:
            return False
        return True

    def _give(self, bar: Bar) -> None:
        check_bar(bar)
        self._queue.put_nowait(bar)
        self._next_open = bar.ts_close

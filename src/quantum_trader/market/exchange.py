"""A ccxt exchange: opened for some pairs, asked for candles, with retries and errors in our words."""

import asyncio
import contextlib
import difflib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from quantum_trader.core.bars import Bar, interval_ms, venue_symbol
from quantum_trader.core.errors import ConfigError, QuantumError

_DEFAULT_LIMIT = 500

T = TypeVar("T")


class ExchangeError(QuantumError):
    """An exchange cannot be reached, or refused a request."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a failed request is repeated; the wait doubles from `first_wait_s` seconds."""

    attempts: int = 6
    first_wait_s: float = 1.0


class Exchange:
    """One ccxt client (ccxt.pro: REST and websocket) for one set of pairs and one timeframe.

    Attributes:
        name: ccxt's name, such as ``binance``.
        client: The ccxt object; its candles (`ohlcvs`) are all of the websocket connection that is open.
    """

    def __init__(self, name: str, timeframe: str, retries: Retries, client: Any) -> None:
        self.name, self.timeframe, self.client = name, timeframe, client
        self.interval = interval_ms(timeframe)
        self._retries = retries

    def bar(self, pair: str, row: Sequence[float | None]) -> Bar:
        """A bar of ccxt's ``[time, open, high, low, close, volume]``; a missing number becomes NaN, for the check."""
        values = (float("nan") if value is None else float(value) for value in row[1:6])
        return Bar(venue_symbol(pair), int(row[0] or 0), self.interval, *values)

    async def fetch(self, pair: str, since_ms: int, limit: int | None = None) -> list[Bar]:
        """Candles from `since_ms` on, oldest first, the unfinished one included.

        Raises:
            ExchangeError: if every attempt failed.
        """
        rows = await self._attempt(lambda: self.client.fetch_ohlcv(pair, self.timeframe, since_ms, limit))
        return [self.bar(pair, row) for row in sorted(rows, key=lambda row: row[0])]

    def page_size(self, pair: str) -> int:
        """Candles that one request may give."""
        return int(self.client.feature_value(pair, "fetchOHLCV", "limit", _DEFAULT_LIMIT) or _DEFAULT_LIMIT)

    async def load(self, pairs: Sequence[str]) -> None:
        """Read the exchange's list of markets and check pairs and timeframe against it.

        Raises:
            ConfigError: if a pair or the timeframe is not there.
            ExchangeError: if every attempt failed.
        """
        frames = self.client.timeframes or {}
        if self.timeframe not in frames:
            raise ConfigError(f"{self.name} has no timeframe {self.timeframe}; there are {', '.join(frames)}")
        markets = await self._attempt(self.client.load_markets)
        for pair in pairs:
            if pair not in markets:
                near = difflib.get_close_matches(pair, list(markets), n=3, cutoff=0.5)
                hint = f"; near it: {', '.join(near)}" if near else ""
                raise ConfigError(f"{self.name} has no pair {pair}{hint}")

    async def _attempt(self, request: Callable[[], Awaitable[T]]) -> T:
        import ccxt

        wait = self._retries.first_wait_s
        for attempt in range(1, self._retries.attempts + 1):
            try:
                return await request()
            except ccxt.OperationFailed as error:
                if attempt == self._retries.attempts:
                    raise ExchangeError(f"{self.name}: no answer in {attempt} attempts ({_reason(error)})") from error
            except ccxt.BaseError as error:
                raise ExchangeError(f"{self.name} refused the request ({_reason(error)})") from error
            await asyncio.sleep(wait)
            wait *= 2
        raise ExchangeError(f"{self.name}: no attempts allowed")


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text[:200]}"


def market_kind(pair: str) -> str:
    """``spot``, ``linear`` or ``inverse``, by ccxt's notation: BTC/USDT, BTC/USDT:USDT, BTC/USD:BTC.

    >>> market_kind("BTC/USDT:USDT")
    'linear'
    """
    names, _, settle = pair.partition(":")
    base, slash, quote = names.partition("/")
    if not (base and slash and quote):
        raise ConfigError(f"pair {pair!r}: expected BTC/USDT, or BTC/USDT:USDT for the perpetual future")
    if not settle:
        return "spot"
    return "linear" if settle == quote else "inverse"


@contextlib.asynccontextmanager
async def open_exchange(
    name: str,
    pairs: Sequence[str],
    timeframe: str,
    config: Mapping[str, Any] | None = None,
    retries: Retries | None = None,
) -> AsyncIterator[Exchange]:
    """An exchange whose markets are loaded and hold all the pairs; closed again at the end.

    Args:
        name: ccxt's name of the exchange.
        pairs: In ccxt's notation, at least one, no two with the same venue symbol.
        timeframe: Such as 5m.
        config: Merged into ccxt's own configuration of the exchange (keys, proxies, URLs).
        retries: Of every request.

    Raises:
        ConfigError: if exchange, pair or timeframe is unknown.
        ExchangeError: if it cannot be reached.
    """
    import ccxt.pro

    if name not in ccxt.pro.exchanges:
        near = difflib.get_close_matches(name, ccxt.pro.exchanges, n=3)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise ConfigError(f"exchange {name!r} is unknown to ccxt.pro{hint}")
    _check_pairs(pairs)
    client = _client_class(name)(ccxt.Exchange.deep_extend(_only_kinds(name, pairs), dict(config or {})))
    exchange = Exchange(name, timeframe, retries or Retries(), client)
    try:
        await exchange.load(pairs)
        yield exchange
    finally:
        await client.close()


def _check_pairs(pairs: Sequence[str]) -> None:
    if not pairs:
        raise ConfigError("no pairs: expected at least one, such as BTC/USDT")
    seen: dict[str, str] = {}
    for pair in pairs:
        market_kind(pair)
        other = seen.setdefault(venue_symbol(pair), pair)
        if other != pair:
            raise ConfigError(f"{other} and {pair} are both called {venue_symbol(pair)}: use one file for each")
    if len(seen) != len(pairs):
        raise ConfigError("a pair is given twice")


def _only_kinds(name: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Binance keeps its lists of markets apart; only those that are needed are read."""
    if name != "binance":
        return {}
    return {"options": {"fetchMarkets": {"types": sorted({market_kind(pair) for pair in pairs})}}}


def _client_class(name: str) -> Any:
    """ccxt.pro's class of an exchange, which forgets its candles when it makes a new connection.

    ccxt reconnects by itself at the next call that watches, and keeps what the old connection saw: perhaps the middle
    of a bar that has closed since.
    """
    import ccxt.pro

    base: Any = getattr(ccxt.pro, name)

    class Forgetful(base):  # type: ignore[misc]
        def on_connected(self, client: Any, message: Any = None) -> None:
            """A websocket is open; this is the hook that ccxt leaves to its users."""
            super().on_connected(client, message)
            self.ohlcvs.clear()

        def on_close(self, client: Any, error: Any) -> None:
            """A websocket is closed; ccxt 4.5 says so twice, and the second time it would drop the new connection."""
            if self.clients.get(client.url) is client:
                super().on_close(client, error)

    return Forgetful

"""Closed bars of one symbol: the values, the rules they obey, and the window that models see.

Rules of a bar (each refusal names symbol, time and rule):

- every price is finite and positive, volume is finite and not negative;
- high >= max(open, close) and low <= min(open, close);
- it opens on the timeframe's grid, counted from the epoch;
- it is finished: its close is not later than the time of looking;
- in a series, every bar opens later than the one before it (neither duplicate nor out of order).

A hole in a series is no error but a *gap*: it is announced, and the window starts again from nothing after it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.errors import BarError, ConfigError

WINDOW = 512
"""Closed bars that one prediction sees: exactly these and nothing older."""

FIELDS = ("open", "high", "low", "close", "volume")

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_UNITS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


def interval_ms(timeframe: str) -> int:
    """Length of a timeframe in milliseconds.

    Raises:
        ConfigError: if it is not a positive number followed by m, h or d.

    >>> interval_ms("5m")
    300000
    """
    number, unit = timeframe[:-1], timeframe[-1:]
    if unit not in _UNITS or not number.isascii() or not number.isdigit() or int(number) == 0:
        raise ConfigError(f"timeframe {timeframe!r}: expected a number and m, h or d, such as 5m or 1h")
    return int(number) * _UNITS[unit]


def timeframe_name(interval: int) -> str:
    """The shortest name of an interval in milliseconds.

    >>> timeframe_name(3_600_000)
    '1h'
    """
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        if interval >= length and interval % length == 0:
            return f"{interval // length}{unit}"
    raise ConfigError(f"bars every {interval} ms: expected whole minutes")


def venue_symbol(pair: str) -> str:
    """The venue's name of a pair: ``BTC/USDT`` and ``BTC/USDT:USDT`` give ``BTCUSDT``.

    Raises:
        ConfigError: if a character outside A-Z and 0-9 remains.

    >>> venue_symbol("BTC/USDT")
    'BTCUSDT'
    """
    symbol = pair.split(":", maxsplit=1)[0].replace("/", "").upper()
    if not symbol.isascii() or not symbol.isalnum():
        raise ConfigError(f"pair {pair!r}: expected letters and digits, such as BTC/USDT")
    return symbol


@dataclass(frozen=True, slots=True)
class Bar:
    """One closed bar. Times are milliseconds since the epoch, UTC; the close time is exclusive."""

    symbol: str
    ts_open: int
    interval: int
    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def ts_close(self) -> int:
        """The instant at which the bar was complete (its open plus one interval)."""
        return self.ts_open + self.interval


def broken_rule(bar: Bar) -> str | None:
    """The first rule of this module that a bar breaks by itself, or None."""
    prices = (bar.open, bar.high, bar.low, bar.close)
    # `not (x > 0)` is true for NaN as well; infinity is caught by the comparison with itself minus itself.
    if not all(np.isfinite(value) for value in (*prices, bar.volume)):
        return "a value is not finite"
    if min(prices) <= 0:
        return "a price is not positive"
    if bar.volume < 0:
        return "volume is negative"
    if bar.high < max(bar.open, bar.close):
        return "high < max(open, close)"
    if bar.low > min(bar.open, bar.close):
        return "low > min(open, close)"
    if bar.ts_open % bar.interval:
        return f"off the {bar.interval} ms grid"
    return None


def check_bar(bar: Bar, now_ms: int | None = None) -> None:
    """Refuse a bar that breaks a rule; with `now_ms`, also one that is not finished by then.

    Raises:
        BarError: naming symbol, time and rule.
    """
    rule = broken_rule(bar)
    if rule is None and now_ms is not None and bar.ts_close > now_ms:
        rule = "unfinished: it closes after the time of looking"
    if rule is not None:
        raise BarError(bar.symbol, bar.ts_open, rule)


@dataclass(frozen=True, slots=True)
class Gap:
    """Missing bars: `missing` of them, the first opening at `ts_first`."""

    symbol: str
    ts_first: int
    missing: int


@dataclass(frozen=True, slots=True)
class BarSeries:
    """Bars of one symbol as columns, each of shape (n,), oldest first."""

    symbol: str
    interval: int
    ts_open: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    @classmethod
    def from_bars(cls, bars: list[Bar]) -> Self:
        """Columns of a non-empty list of bars of one symbol and interval."""
        if not bars:
            raise ConfigError("no bars: a series needs at least one")
        columns = {name: np.array([getattr(bar, name) for bar in bars], dtype=np.float64) for name in FIELDS}
        ts_open = np.array([bar.ts_open for bar in bars], dtype=np.int64)
        return cls(symbol=bars[0].symbol, interval=bars[0].interval, ts_open=ts_open, **columns)

    def __len__(self) -> int:
        return len(self.ts_open)

    def __iter__(self) -> Iterator[Bar]:
        columns = zip(*(getattr(self, name).tolist() for name in FIELDS), strict=True)
        for ts_open, values in zip(self.ts_open.tolist(), columns, strict=True):
            yield Bar(self.symbol, ts_open, self.interval, *values)

    def bar(self, index: int) -> Bar:
        """One row."""
        values = (float(getattr(self, name)[index]) for name in FIELDS)
        return Bar(self.symbol, int(self.ts_open[index]), self.interval, *values)

    def slice(self, start: int, stop: int) -> Self:
        """Rows start to stop (exclusive), as views."""
        columns = {name: getattr(self, name)[start:stop] for name in FIELDS}
        return type(self)(self.symbol, self.interval, self.ts_open[start:stop], **columns)

    def between(self, ts_from: int, ts_to: int) -> Self:
        """Bars that open in [ts_from, ts_to), milliseconds since the epoch."""
        start, stop = np.searchsorted(self.ts_open, [ts_from, ts_to])
        return self.slice(int(start), int(stop))

    def matrix(self) -> FloatArray:
        """Open, high, low, close, volume stacked to shape (5, n), C-contiguous."""
        return np.stack([getattr(self, name) for name in FIELDS])

    def check(self, now_ms: int | None = None) -> None:
        """Refuse the series at its first bar that breaks a rule.

        Raises:
            BarError: naming symbol, time and rule.
        """
        top, bottom = np.maximum(self.open, self.close), np.minimum(self.open, self.close)
        columns = np.stack([self.open, self.high, self.low, self.close])
        good = np.isfinite(columns).all(axis=0) & np.isfinite(self.volume) & (columns > 0).all(axis=0)
        good &= (self.volume >= 0) & (self.high >= top) & (self.low <= bottom) & (self.ts_open % self.interval == 0)
        if now_ms is not None:
            good &= self.ts_open + self.interval <= now_ms
        steps = np.diff(self.ts_open, prepend=self.ts_open[:1] - self.interval)
        sound = good & (steps > 0)
        if not sound.all():
            first = int(np.argmin(sound))
            check_bar(self.bar(first), now_ms)
            same = steps[first] == 0
            rule = "duplicate: the bar before it opens at the same time" if same else "out of order"
            raise BarError(self.symbol, int(self.ts_open[first]), rule)

    def gaps(self) -> list[Gap]:
        """Every hole in the series, oldest first."""
        steps = np.diff(self.ts_open)
        return [
            Gap(self.symbol, int(self.ts_open[i]) + self.interval, int(steps[i] // self.interval) - 1)
            for i in np.flatnonzero(steps != self.interval).tolist()
        ]

    def window_ends(self, window: int = WINDOW) -> IntArray:
        """Indices i at which bars i-window+1 to i exist without a gap between them."""
        run_start = np.zeros(len(self), dtype=np.int64)
        breaks = np.flatnonzero(np.diff(self.ts_open) != self.interval) + 1
        run_start[breaks] = breaks
        run_start = np.maximum.accumulate(run_start)
        index = np.arange(len(self))
        return index[index - run_start >= window - 1]


class Arrival(StrEnum):
    """What a window did with a bar."""

    APPENDED = "appended"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"


class BarWindow:
    """The last closed bars of one symbol without a gap; `ready` once there are `size` of them.

    Columns live in a buffer of twice the size, so that a window is always one contiguous slice and an append is O(1).
    """

    def __init__(self, symbol: str, interval: int, size: int = WINDOW) -> None:
        self.symbol, self.interval, self.size = symbol, interval, size
        self._buffer = np.empty((len(FIELDS), 2 * size), dtype=np.float64)
        self._end = 0
        self._count = 0
        self.last_ts_open: int | None = None

    def push(self, bar: Bar) -> tuple[Arrival, Gap | None]:
        """Append a checked bar; a bar not newer than the last changes nothing, a gap empties the window first."""
        gap = None
        if self.last_ts_open is not None:
            if bar.ts_open == self.last_ts_open:
                return Arrival.DUPLICATE, None
            if bar.ts_open < self.last_ts_open:
                return Arrival.OUT_OF_ORDER, None
            missing = (bar.ts_open - self.last_ts_open) // self.interval - 1
            if missing:
                gap = Gap(self.symbol, self.last_ts_open + self.interval, missing)
                self._end = self._count = 0
        if self._end == self._buffer.shape[1]:
            self._buffer[:, : self.size] = self._buffer[:, self.size :]
            self._end = self.size
        self._buffer[:, self._end] = (bar.open, bar.high, bar.low, bar.close, bar.volume)
        self._end += 1
        self._count = min(self._count + 1, self.size)
        self.last_ts_open = bar.ts_open
        return Arrival.APPENDED, gap

    @property
    def count(self) -> int:
        """Bars since the last gap, at most `size`."""
        return self._count

    @property
    def ready(self) -> bool:
        """Whether the window is whole."""
        return self._count == self.size

    def matrix(self) -> FloatArray:
        """Open, high, low, close, volume of the window, shape (5, count); a copy that later pushes do not change."""
        return np.ascontiguousarray(self._buffer[:, self._end - self._count : self._end])

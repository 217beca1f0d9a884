"""Ranges of time as users write them (`--timerange 20260101-20260201`), and timeframes as the files name them."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from quantum_trader.core.bars import BarSeries
from quantum_trader.core.errors import ConfigError, format_ms

_FORM = re.compile(r"(\d{8}|\d{10}|\d{13})?-(\d{8}|\d{10}|\d{13})?", flags=re.ASCII)
_DISTANT_FUTURE = 2**62


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Bars that open at or after `start_ms` and before `stop_ms`; None leaves that end open. Milliseconds, UTC."""

    start_ms: int | None = None
    stop_ms: int | None = None

    def cut(self, series: BarSeries) -> BarSeries:
        """The bars of a series that open within the range, as views; possibly none."""
        start = 0 if self.start_ms is None else self.start_ms
        stop = _DISTANT_FUTURE if self.stop_ms is None else self.stop_ms
        return series.between(start, stop)

    def __str__(self) -> str:
        start = "the beginning" if self.start_ms is None else format_ms(self.start_ms)
        stop = "the end" if self.stop_ms is None else format_ms(self.stop_ms)
        return f"{start} to {stop}"


def parse_timerange(text: str) -> TimeRange:
    """A range in freqtrade's notation: days in UTC, or seconds or milliseconds since the epoch; either end may be open.

    The end is exclusive: ``20260101-20260201`` is January, without the bar that opens as February begins.

    Raises:
        ConfigError: if the text has another form, names no real day, or ends before it starts.

    >>> parse_timerange("20260101-").start_ms
    1767225600000
    """
    match = _FORM.fullmatch(text)
    if match is None or text == "-":
        raise ConfigError(f"timerange {text!r}: expected START-STOP such as 20260101-20260201, 20260101- or -20260201")
    start, stop = (_stamp(part, text) for part in match.groups())
    if start is not None and stop is not None and stop <= start:
        raise ConfigError(f"timerange {text!r}: it ends before it starts")
    return TimeRange(start, stop)


def _stamp(digits: str | None, text: str) -> int | None:
    if digits is None:
        return None
    if len(digits) == 13:
        return int(digits)
    if len(digits) == 10:
        return int(digits) * 1000
    try:
        day = datetime(int(digits[:4]), int(digits[4:6]), int(digits[6:]), tzinfo=UTC)
    except ValueError:
        raise ConfigError(f"timerange {text!r}: {digits} is no day (expected YYYYMMDD)") from None
    return int(day.timestamp()) * 1000

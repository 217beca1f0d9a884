"""Binance's candles as bytes on the wire: websocket kline frames and REST klines, into closed bars."""

from collections.abc import Sequence
from typing import Any

import msgspec

from quantum_trader.core.bars import Bar, check_bar, interval_ms
from quantum_trader.core.errors import ConfigError, WireError


class _Candle(msgspec.Struct):
    """The `k` object of a kline frame, as far as a bar needs it; prices and volume are strings on the wire."""

    t: int
    T: int
    s: str
    i: str
    o: str
    h: str
    l: str  # noqa: E741 - the wire's name
    c: str
    v: str
    x: bool


def parse_frame(frame: bytes | str) -> Bar | None:
    """The closed bar that a frame carries, None where it carries none (an unfinished candle, a trade, a reply).

    Frames may be raw, inside a combined stream's ``{"stream", "data"}``, and inside a recording's ``{"recv", "msg"}``.

    Raises:
        WireError: if the frame is no JSON object or array, or a kline frame of another shape.
        BarError: if the closed bar breaks a rule.
    """
    try:
        content = msgspec.json.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"market frame {_short(frame)}: no JSON ({error})") from None
    if not isinstance(content, dict | list):
        raise WireError(f"market frame {_short(frame)}: expected an object")
    event = _event(content)
    if event is None:
        return None
    try:
        candle = msgspec.convert(event.get("k"), _Candle)
        return _bar(candle) if candle.x else None
    except (msgspec.ValidationError, ConfigError) as error:
        raise WireError(f"kline frame {_short(frame)}: {error}") from None


def _event(content: Any) -> dict[str, Any] | None:
    """The kline event inside its wrappers, or None."""
    if isinstance(content, dict) and "recv" in content and "msg" in content:
        content = content["msg"]
    if isinstance(content, dict) and "stream" in content and "data" in content:
        content = content["data"]
    return content if isinstance(content, dict) and content.get("e") == "kline" else None


def _bar(candle: _Candle) -> Bar:
    interval = interval_ms(candle.i)
    if candle.t + interval - 1 != candle.T:
        raise ConfigError(f"a {candle.i} candle from {candle.t} does not end at {candle.T}")
    prices = (_number(text) for text in (candle.o, candle.h, candle.l, candle.c, candle.v))
    bar = Bar(candle.s, candle.t, interval, *prices)
    check_bar(bar)
    return bar


def _number(text: Any) -> float:
    # msgspec rather than float(): the latter takes "1_000" and surrounding blanks.
    return msgspec.convert(text, float, strict=False)


def parse_klines(symbol: str, timeframe: str, rows: Sequence[Any], now_ms: int) -> list[Bar]:
    """Closed bars of a REST klines reply; those that close after `now_ms` are left out.

    Args:
        symbol: The venue's name, which the reply does not carry.
        timeframe: What was asked for.
        rows: ``[open time, open, high, low, close, volume, close time, ...]`` each.
        now_ms: The time of looking, milliseconds.

    Raises:
        WireError: if a row has another shape.
        BarError: if a closed bar breaks a rule.
    """
    interval = interval_ms(timeframe)
    bars = []
    for row in rows:
        try:
            ts_open = msgspec.convert(row[0], int)
            bar = Bar(symbol, ts_open, interval, *(_number(row[column]) for column in range(1, 6)))
        except (msgspec.ValidationError, IndexError, KeyError, TypeError) as error:
            raise WireError(f"kline of {symbol} {_short(str(row))}: {error}") from None
        if bar.ts_close > now_ms:
            continue
        check_bar(bar)
        bars.append(bar)
    return bars


def _short(frame: bytes | str) -> str:
    text = frame.decode(errors="replace") if isinstance(frame, bytes) else frame
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."

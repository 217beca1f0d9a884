"""Stream entries as bytes: every field of every event, strict in both directions.

Every entry has the fields ``event_type``, ``payload`` (JSON), ``trace_id``, ``correlation_id`` (UUID),
``timestamp`` (ISO 8601) and ``source``. The correlation id of a bar, its decision and its intent is the decision's
name, so one search finds all three. Floats are written in their shortest exact form and read back to the same bits.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from quantum_trader.bus.names import BAR, DECISION, INTENT, LIFECYCLE
from quantum_trader.core.bars import Bar, broken_rule, interval_ms
from quantum_trader.core.chain import link
from quantum_trader.core.decision import DecisionRecord, decision_id
from quantum_trader.core.errors import BarError, ConfigError, WireError
from quantum_trader.core.intent import encode_payload, iso_micros

Fields = dict[bytes, bytes]
T = TypeVar("T")

ENGINE = "ai-engine"


class BarPayload(msgspec.Struct, frozen=True):
    """The JSON of a bar. Times are milliseconds since the epoch, UTC; the close time is exclusive."""

    symbol: str
    timeframe: str
    ts_open: int
    ts_close: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class LifecycleEvent(msgspec.Struct, frozen=True):
    """The JSON of a lifecycle event: a promotion, a rollback, an alarm."""

    kind: str
    detail: dict[str, Any]


_encode = msgspec.json.Encoder().encode
_decode_bar = msgspec.json.Decoder(BarPayload).decode
_decode_record = msgspec.json.Decoder(DecisionRecord).decode
_decode_lifecycle = msgspec.json.Decoder(LifecycleEvent).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def encode_bar(bar: Bar, timeframe: str, now_us: int, source: str = "market") -> Fields:
    """A closed bar as an entry.

    Raises:
        BarError: if the bar breaks a rule of `core.bars`.
        WireError: if the timeframe is not the bar's interval.
    """
    rule = broken_rule(bar)
    if rule is not None:
        raise BarError(bar.symbol, bar.ts_open, rule)
    if _interval(timeframe) != bar.interval:
        raise WireError(f"bar of {bar.symbol}: {bar.interval} ms long, so not of timeframe {timeframe}")
    payload = BarPayload(
        bar.symbol, timeframe, bar.ts_open, bar.ts_close, bar.open, bar.high, bar.low, bar.close, bar.volume
    )
    name = decision_id(bar.symbol, timeframe, bar.ts_open)
    return _fields(BAR, _json("bar", payload), name, now_us, source)


def decode_bar(fields: Mapping[bytes, bytes]) -> tuple[Bar, str]:
    """The bar of an entry and its timeframe.

    Raises:
        WireError: naming the field, key or rule that is wrong.
    """
    read = _payload(fields, BAR, _decode_bar)
    if not read.symbol:
        raise WireError(f"{BAR}: empty symbol")
    interval = _interval(read.timeframe)
    if read.ts_close - read.ts_open != interval:
        raise WireError(
            f"{BAR} {read.symbol}: ts_close {read.ts_close} is not ts_open {read.ts_open} and one {read.timeframe}"
        )
    bar = Bar(read.symbol, read.ts_open, interval, read.open, read.high, read.low, read.close, read.volume)
    rule = broken_rule(bar)
    if rule is not None:
        raise WireError(f"{BAR}: {BarError(bar.symbol, bar.ts_open, rule)}")
    return bar, read.timeframe


def encode_record(record: DecisionRecord) -> Fields:
    """A decision with its shadows and reasons as an entry.

    Raises:
        WireError: if it holds what JSON cannot say (NaN, infinity), so that reading it back would fail.
    """
    name = record.decision.decision_id
    payload = _json(f"{DECISION} {name}", record)
    # msgspec writes NaN and infinity as null. The word may also stand in a string, so only then is it read back.
    if b"null" in payload:
        _parse(payload, DECISION, _decode_record)
    return _fields(DECISION, payload, name, record.ts_decision * 1000, ENGINE)


def behind(fields: Fields, prev: str) -> tuple[Fields, str]:
    """The entry of a record without links, put behind a link of `core.chain`; and its own link."""
    content = fields[b"payload"]
    own = link(prev, content)
    links = b',"chain_prev":"%s","chain":"%s"}' % (prev.encode(), own.encode())
    return {**fields, b"payload": content[:-1] + links}, own


def decode_record(fields: Mapping[bytes, bytes]) -> DecisionRecord:
    """The record of an entry; its decision has the canonical bytes that it had when written.

    Raises:
        WireError: naming the field or key that is wrong.
    """
    record = _payload(fields, DECISION, _decode_record)
    name = record.decision.decision_id
    if fields.get(b"correlation_id") != name.encode():
        raise WireError(f"{DECISION} {name}: correlation_id is {fields.get(b'correlation_id')!r}")
    return record


def encode_intent(payload: Mapping[str, Any], decision_id: str, now_us: int, event: str = INTENT) -> Fields:
    """The payload of `core.intent.build_intent` as an entry for the consumers.

    Args:
        payload: Keys in wire order.
        decision_id: Name of the decision behind it, a UUID; becomes the correlation id.
        now_us: Microseconds since the epoch.
        event: The event's type.

    Raises:
        WireError: if the payload cannot be written as JSON.
    """
    return _fields(event, _json(f"{event} {decision_id}", payload, encode_payload), decision_id, now_us, ENGINE)


def decode_intent(fields: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The payload of an intent entry.

    Raises:
        WireError: naming the field that is wrong.
    """
    return _payload(fields, INTENT, _decode_object)


def encode_lifecycle(kind: str, detail: Mapping[str, Any], now_us: int, source: str = ENGINE) -> Fields:
    """A lifecycle event as an entry; the same event gives the same correlation id.

    Raises:
        WireError: if the detail cannot be written as JSON.
    """
    payload = _json(f"{LIFECYCLE} {kind}", LifecycleEvent(kind, dict(detail)))
    h = hashlib.sha256(b"%d|%s|%s" % (now_us, source.encode(), payload)).hexdigest()
    # Version 8 of RFC 9562, as decision_id.
    return _fields(LIFECYCLE, payload, f"{h[:8]}-{h[8:12]}-8{h[13:16]}-8{h[17:20]}-{h[20:32]}", now_us, source)


def decode_lifecycle(fields: Mapping[bytes, bytes]) -> LifecycleEvent:
    """The event of an entry.

    Raises:
        WireError: naming the field that is wrong.
    """
    return _payload(fields, LIFECYCLE, _decode_lifecycle)


def pair_up(flat: Sequence[bytes]) -> Fields:
    """Fields as the server sends them (name, value, name, value, ...).

    Raises:
        WireError: if a name occurs twice.
    """
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    if 2 * len(fields) != len(flat):
        raise WireError("a field occurs twice in one entry")
    return fields


def _fields(event: str, payload: bytes, name: str, now_us: int, source: str) -> Fields:
    return {
        b"event_type": event.encode(),
        b"payload": payload,
        b"trace_id": name.replace("-", "").encode(),
        b"correlation_id": name.encode(),
        b"timestamp": iso_micros(now_us).encode(),
        b"source": source.encode(),
    }


def _json(what: str, value: Any, encode: Callable[[Any], bytes] = _encode) -> bytes:
    try:
        return encode(value)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise WireError(f"{what}: cannot be written as JSON: {error}") from error


def _payload(fields: Mapping[bytes, bytes], event: str, decode: Callable[[bytes], T]) -> T:
    kind = fields.get(b"event_type")
    if kind != event.encode():
        raise WireError(f"event_type is {kind!r}: expected {event}")
    payload = fields.get(b"payload")
    if payload is None:
        raise WireError(f"{event}: field payload is missing")
    return _parse(payload, event, decode)


def _parse(payload: bytes, event: str, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"{event}: payload: {error}") from error


def _interval(timeframe: str) -> int:
    try:
        return interval_ms(timeframe)
    except ConfigError as error:
        raise WireError(str(error)) from error

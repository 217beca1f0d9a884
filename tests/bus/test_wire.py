import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.bus.wire import (
    decode_bar,
    decode_intent,
    decode_lifecycle,
    decode_record,
    encode_bar,
    encode_intent,
    encode_lifecycle,
    encode_record,
    pair_up,
)
from quantum_trader.core.bars import Bar, interval_ms
from quantum_trader.core.decision import Decision, DecisionRecord, ModelVote, ShadowVote, canonical, decision_id
from quantum_trader.core.errors import BarError, WireError
from quantum_trader.core.intent import build_intent
from quantum_trader.core.policy import IntentPolicy

NOW_US = 1768012593250080
FINITE = st.floats(allow_nan=False, allow_infinity=False)
INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
WORDS = st.text(max_size=12)
VOTE = {"action": WORDS, "confidence": FINITE, "status": WORDS, "artefact": WORDS}


@st.composite
def bars(draw: st.DrawFn) -> tuple[Bar, str]:
    timeframe = draw(st.sampled_from(["1m", "5m", "1h", "1d", "7m"]))
    positive = st.floats(min_value=5e-324, max_value=1.7e308)
    low, first, second, high = sorted(draw(st.tuples(positive, positive, positive, positive)))
    opened, closed = draw(st.sampled_from([(first, second), (second, first)]))
    interval = interval_ms(timeframe)
    ts_open = draw(st.integers(min_value=0, max_value=2**41 // interval)) * interval
    volume = draw(st.floats(min_value=0.0, max_value=1.7e308))
    symbol = draw(st.sampled_from(["BTCUSDT", "1000PEPEUSDT"]))
    return Bar(symbol, ts_open, interval, opened, high, low, closed, volume), timeframe


def votes(kind: type[ModelVote]) -> st.SearchStrategy[ModelVote]:
    more = {"shadow": st.booleans(), "reason": WORDS} if kind is ShadowVote else {}
    silent = st.builds(kind, **VOTE, **more)
    return st.one_of(silent, st.builds(kind, **VOTE, **more, p_up=FINITE))


DECISIONS = st.builds(
    Decision,
    **{name: INT64 for name in ("schema", "ts_open", "ts_close", "consensus_count", "voters", "min_consensus")},
    **{name: WORDS for name in ("decision_id", "symbol", "timeframe", "action", "features", "input_hash", "policy")},
    **{name: FINITE for name in ("confidence", "entry_price", "atr_value")},
    weights=st.dictionaries(WORDS, FINITE, max_size=4),
    scores=st.dictionaries(WORDS, FINITE, max_size=3),
    votes=st.dictionaries(WORDS, votes(ModelVote), max_size=4),
)
RECORDS = st.builds(
    DecisionRecord,
    decision=DECISIONS,
    shadows=st.dictionaries(WORDS, votes(ShadowVote), max_size=2),
    reasons=st.dictionaries(WORDS, WORDS, max_size=3),
    ts_decision=st.integers(min_value=0, max_value=2**42),
)


def a_decision(action: str = "BUY") -> Decision:
    vote = ModelVote(action=action, confidence=0.75, status="ok", artefact="sha256:1", p_up=0.75)
    return Decision(
        schema=1,
        decision_id=decision_id("BTCUSDT", "5m", 300_000),
        symbol="BTCUSDT",
        timeframe="5m",
        ts_open=300_000,
        ts_close=600_000,
        action=action,
        confidence=0.75,
        consensus_count=2,
        voters=2,
        min_consensus=2,
        weights={"xgb": 0.25, "lgbm": 0.25},
        scores={"SELL": 0.0, "HOLD": 0.0, "BUY": 1.0},
        votes={"xgb": vote, "lgbm": vote},
        entry_price=100.0,
        atr_value=0.02,
        features="f",
        input_hash="i",
        policy="p",
    )


def a_bar() -> tuple[Bar, dict[bytes, bytes]]:
    bar = Bar("BTCUSDT", 300_000, 300_000, 100.0, 101.5, 99.25, 100.1, 12.5)
    return bar, encode_bar(bar, "5m", NOW_US)


@given(bars())
def test_bar_round_trip_is_lossless(drawn: tuple[Bar, str]) -> None:
    bar, timeframe = drawn
    assert decode_bar(encode_bar(bar, timeframe, NOW_US)) == (bar, timeframe)


@given(RECORDS)
def test_record_round_trip_keeps_the_canonical_bytes(record: DecisionRecord) -> None:
    back = decode_record(encode_record(record))
    assert canonical(back.decision) == canonical(record.decision)
    assert back == record
    assert msgspec.json.encode(back) == msgspec.json.encode(record)


@given(st.text(), st.dictionaries(st.text(), st.one_of(FINITE, INT64, st.text(), st.booleans(), st.none())))
def test_lifecycle_round_trip(kind: str, detail: dict[str, object]) -> None:
    event = decode_lifecycle(encode_lifecycle(kind, detail, NOW_US))
    assert (event.kind, event.detail) == (kind, detail)


def test_bar_entry_has_the_fields_of_the_wire() -> None:
    bar, fields = a_bar()
    assert list(fields) == [b"event_type", b"payload", b"trace_id", b"correlation_id", b"timestamp", b"source"]
    assert fields[b"event_type"] == b"market.bar"
    assert fields[b"timestamp"] == b"2026-01-10T02:36:33.250080+00:00"
    assert fields[b"correlation_id"].decode() == decision_id("BTCUSDT", "5m", 300_000)
    payload = json.loads(fields[b"payload"])
    assert list(payload) == ["symbol", "timeframe", "ts_open", "ts_close", "open", "high", "low", "close", "volume"]
    assert payload["ts_close"] == bar.ts_close == 600_000


def test_intent_entry_keeps_order_and_spaces() -> None:
    decision = a_decision()
    shadow = ShadowVote(action="HOLD", confidence=0.0, status="late", artefact="sha256:2")
    payload = build_intent(decision, {"patchtst": shadow}, IntentPolicy(), NOW_US)
    assert payload is not None
    fields = encode_intent(payload, decision.decision_id, NOW_US)
    assert fields[b"payload"].startswith(b'{"symbol": "BTCUSDT", "side": "BUY", "action": "BUY", ')
    assert b'"shadow": true, "status": "late"}' in fields[b"payload"]
    assert b"\n" not in fields[b"payload"]
    assert fields[b"event_type"] == b"trade.intent"
    assert fields[b"source"] == b"ai-engine"
    assert fields[b"correlation_id"].decode() == decision.decision_id
    assert decode_intent(fields) == payload


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"open": "100"}, r"Expected `float`, got `str` - at `\$.open`"),
        ({"open": None}, r"\$.open"),
        ({"ts_open": 300_000.5}, r"\$.ts_open"),
        ({"ts_open": 300_001, "ts_close": 600_001}, "off the 300000 ms grid"),
        ({"ts_close": 600_001}, "ts_close 600001"),
        ({"high": 99.5}, r"BTCUSDT .*high < max\(open, close\)"),
        ({"volume": -1.0}, "volume is negative"),
        ({"close": 0.0}, "a price is not positive"),
        ({"timeframe": "5x"}, "timeframe '5x'"),
        ({"symbol": ""}, "empty symbol"),
        ({"symbol": 7}, r"\$.symbol"),
    ],
)
def test_wrong_bar_is_refused_by_name(change: dict[str, object], says: str) -> None:
    _, fields = a_bar()
    payload = {**json.loads(fields[b"payload"]), **change}
    with pytest.raises(WireError, match=says):
        decode_bar({**fields, b"payload": json.dumps(payload).encode()})


@pytest.mark.parametrize("key", ["symbol", "timeframe", "ts_open", "ts_close", "open", "volume"])
def test_bar_without_a_key_is_refused(key: str) -> None:
    _, fields = a_bar()
    payload = json.loads(fields[b"payload"])
    del payload[key]
    with pytest.raises(WireError, match=f"missing required field `{key}`"):
        decode_bar({**fields, b"payload": json.dumps(payload).encode()})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "event_type is None"),
        ({b"event_type": b"trade.intent"}, "expected market.bar"),
        ({b"event_type": b"market.bar"}, "payload is missing"),
        ({b"event_type": b"market.bar", b"payload": b"\xff"}, "payload"),
        ({b"event_type": b"market.bar", b"payload": b'{"open": NaN}'}, "payload"),
        ({b"event_type": b"market.bar", b"payload": b"[" * 5000}, "payload"),
    ],
)
def test_foreign_entry_is_refused(fields: dict[bytes, bytes], says: str) -> None:
    with pytest.raises(WireError, match=says):
        decode_bar(fields)


@given(st.dictionaries(st.sampled_from([b"event_type", b"payload", b"x"]), st.binary()), st.binary())
def test_any_bytes_are_decoded_or_refused(fields: dict[bytes, bytes], payload: bytes) -> None:
    for event, decode in (
        (b"market.bar", decode_bar),
        (b"ai.decision", decode_record),
        (b"trade.intent", decode_intent),
    ):
        with pytest.raises(WireError):
            decode(fields)
        with pytest.raises(WireError):
            decode({b"event_type": event, b"payload": payload + b"}"})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_cannot_be_read_back_is_not_written(value: float) -> None:
    bar, _ = a_bar()
    broken = Bar(bar.symbol, bar.ts_open, bar.interval, bar.open, bar.high, bar.low, bar.close, value)
    with pytest.raises(BarError, match="not finite"):
        encode_bar(broken, "5m", NOW_US)
    decision = msgspec.structs.replace(a_decision(), confidence=value)
    with pytest.raises(WireError, match=r"\$.decision.confidence"):
        encode_record(DecisionRecord(decision=decision, shadows={}, reasons={}, ts_decision=1))


def test_the_word_null_in_a_reason_is_no_obstacle() -> None:
    record = DecisionRecord(decision=a_decision(), shadows={}, reasons={"xgb": "got null"}, ts_decision=1)
    assert decode_record(encode_record(record)) == record


def test_wrong_timeframe_lone_surrogate_and_foreign_correlation_are_refused() -> None:
    bar, _ = a_bar()
    with pytest.raises(WireError, match="300000 ms long"):
        encode_bar(bar, "1m", NOW_US)
    with pytest.raises(WireError, match="cannot be written"):
        encode_lifecycle("alarm", {"why": "\ud800"}, NOW_US)
    fields = encode_record(DecisionRecord(decision=a_decision(), shadows={}, reasons={}, ts_decision=1))
    with pytest.raises(WireError, match="correlation_id"):
        decode_record({**fields, b"correlation_id": b"other"})
    with pytest.raises(WireError, match="occurs twice"):
        pair_up([b"payload", b"1", b"payload", b"2"])

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.core.bars import Bar
from quantum_trader.core.errors import BarError, QuantumError, WireError
from quantum_trader.market.binance_frames import parse_frame, parse_klines

CANDLE = {
    "t": 1590345900000,
    "T": 1590346199999,
    "s": "BTCUSDT",
    "i": "5m",
    "f": 327367557,
    "L": 327369350,
    "o": "8968.60000000",
    "c": "8948.69000000",
    "h": "8969.40000000",
    "l": "8945.59000000",
    "v": "143.98662800",
    "n": 1794,
    "x": True,
    "q": "1289398.41422702",
}
BAR = Bar("BTCUSDT", 1590345900000, 300_000, 8968.6, 8969.4, 8945.59, 8948.69, 143.986628)


def event(**changes) -> dict:
    return {"e": "kline", "E": 1590346179026, "s": "BTCUSDT", "k": CANDLE | changes}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda frame: frame,
        lambda frame: {"stream": "btcusdt@kline_5m", "data": frame},
        lambda frame: {"recv": 1590346179.1, "msg": frame},
        lambda frame: {"recv": 1590346179.1, "msg": {"stream": "btcusdt@kline_5m", "data": frame}},
    ],
)
def test_a_closed_candle_in_any_wrapper(wrap):
    assert parse_frame(json.dumps(wrap(event()))) == BAR
    assert parse_frame(json.dumps(wrap(event())).encode()) == BAR
    assert parse_frame(json.dumps(wrap(event(x=False)))) is None


@pytest.mark.parametrize(
    "frame",
    [
        {"result": None, "id": 1},
        {"e": "aggTrade", "s": "BTCUSDT"},
        {"stream": "!miniTicker@arr", "data": [{"e": "24hrMiniTicker"}]},
        [],
        {},
    ],
)
def test_other_frames_carry_no_bar(frame):
    assert parse_frame(json.dumps(frame)) is None


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"17",
        b'"kline"',
        json.dumps({"e": "kline"}),
        json.dumps({"e": "kline", "k": []}),
        json.dumps(event(o=8968.6)),
        json.dumps(event(o="1_000")),
        json.dumps(event(o=" 8968.6")),
        json.dumps(event(t="1590345900000")),
        json.dumps(event(x="true")),
        json.dumps(event(i="5x")),
        json.dumps(event(T=1590346199998)),
    ],
)
def test_malformed_frames_are_refused(frame):
    with pytest.raises(WireError, match="frame"):
        parse_frame(frame)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"h": "8900"}, "high < max"),
        ({"c": "nan"}, "not finite"),
        ({"v": "-1"}, "volume is negative"),
        ({"l": "0"}, "not positive"),
        ({"t": 1590345900001, "T": 1590346200000}, "grid"),
    ],
)
def test_closed_candles_that_break_a_rule_are_refused(changes, rule):
    with pytest.raises(BarError, match=f"BTCUSDT .*{rule}"):
        parse_frame(json.dumps(event(**changes)))


def outcome(frame: bytes | str) -> str | None:
    """None for no bar, else the error's text; any other error passes through."""
    try:
        assert parse_frame(frame) is None
    except QuantumError as error:
        return str(error)
    return None


@given(st.binary(max_size=80) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_whatever_arrives_is_a_bar_none_or_an_error_of_ours(frame):
    got = outcome(frame)
    assert got is None or "\n" not in got


def test_every_recorded_frame_parses(shared):
    lines, closed = Counter(), {}
    for entry in json.loads((shared / "feed" / "manifest.json").read_text()):
        name = entry["file"].removeprefix("feed/")
        if not name.startswith("ws_"):
            continue
        frames = (shared / "feed" / name).read_bytes().splitlines()
        assert len(frames) == entry["lines"]
        lines[name] = len(frames)
        closed[name] = [bar for bar in map(parse_frame, frames) if bar is not None]
    assert sum(lines.values()) == 33 + 29 + 49 + 1535 + 265 + 4371
    assert {name: len(bars) for name, bars in closed.items() if bars} == {
        "ws_spot_btcusdt_kline_5m_2020-05-24.jsonl": 1,
        "ws_spot_ethusdt_kline_5m_2021-04-25.jsonl": 1,
        "ws_um_combined_2021-07-22.jsonl": 4,
    }
    futures = closed["ws_um_combined_2021-07-22.jsonl"]
    assert [bar.symbol for bar in futures] == ["SUSHIUSDT", "CTKUSDT", "AKROUSDT", "KEEPUSDT"]
    assert {(bar.ts_open, bar.interval) for bar in futures} == {(1626992700000, 60_000)}
    (bitcoin,) = closed["ws_spot_btcusdt_kline_5m_2020-05-24.jsonl"]
    (ether,) = closed["ws_spot_ethusdt_kline_5m_2021-04-25.jsonl"]
    assert (bitcoin.ts_open, bitcoin.ts_close) == (1590345900000, 1590346200000)
    assert (ether.open, ether.high) == (2220.36, 2223.11)


def test_recorded_klines(shared):
    rows = json.loads((shared / "feed" / "rest_spot_klines_btcusdt_5m_2020-07.json").read_text())
    bars = parse_klines("BTCUSDT", "5m", rows, now_ms=rows[-1][6] + 1)
    assert len(bars) == 1000
    assert bars[0] == Bar("BTCUSDT", 1594125900000, 300_000, 9259.25, 9261.88, 9253.34, 9260.34, 145.727513)
    assert len(parse_klines("BTCUSDT", "5m", rows, now_ms=rows[-1][6])) == 999
    minutes = json.loads((shared / "feed" / "rest_spot_klines_btcusdt_1m_2021-10-22.json").read_text())
    assert len(parse_klines("BTCUSDT", "1m", minutes, now_ms=2**53)) == len(minutes) == 10


@pytest.mark.parametrize("row", [[], [1], ["1594125900000", *["1"] * 5], [0, "1", "1", "1", "1", None], None, {}])
def test_malformed_klines_are_refused(row):
    with pytest.raises(WireError, match="kline of BTCUSDT"):
        parse_klines("BTCUSDT", "5m", [row], now_ms=2**53)

import hashlib
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import feather, parquet

from quantum_trader.core.bars import FIELDS, BarSeries
from quantum_trader.core.errors import BarError, ConfigError
from quantum_trader.market.files import read_bars, read_source, write_bars
from quantum_trader.market.simulator import simulate
from quantum_trader.market.timerange import TimeRange, parse_timerange


@pytest.fixture(scope="module")
def made() -> dict[str, BarSeries]:
    return simulate(300, 9, ["ETH/USDT", "BTC/USDT", "DOGE/USDT"])


def frame(series: BarSeries, time_column: str = "date") -> pd.DataFrame:
    """What freqtrade holds in memory."""
    columns = {name: getattr(series, name) for name in FIELDS}
    return pd.DataFrame({time_column: pd.to_datetime(series.ts_open, unit="ms", utc=True), **columns})


def same(one: BarSeries, other: BarSeries) -> bool:
    equal = one.ts_open.tolist() == other.ts_open.tolist() and np.array_equal(one.matrix(), other.matrix())
    return equal and (one.symbol, one.interval) == (other.symbol, other.interval)


def test_what_is_written_is_read(made, tmp_path):
    path = tmp_path / "new" / "b.parquet"
    write_bars(path, made, "a test")
    held = read_bars(path)
    assert list(held) == ["BTCUSDT", "DOGEUSDT", "ETHUSDT"]
    assert all(same(held[symbol], made[symbol]) for symbol in made)
    assert read_source(path) == "a test"
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask()


def umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def test_the_same_bars_give_the_same_bytes(made, tmp_path):
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    write_bars(paths[0], made)
    write_bars(paths[1], dict(reversed(made.items())))
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in paths}) == 1


def test_symbols_and_range_choose(made, tmp_path):
    path = tmp_path / "b.parquet"
    write_bars(path, made)
    first = int(made["BTCUSDT"].ts_open[0])
    held = read_bars(path, ["ETHUSDT", "BTC/USDT"], TimeRange(first + 1, first + 3 * 300_000))
    assert list(held) == ["ETHUSDT", "BTCUSDT"]
    assert same(held["BTCUSDT"], made["BTCUSDT"].slice(1, 3))


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("BTC_USDT-5m.feather", "BTCUSDT"),
        ("BTC_USDT_USDT-5m-futures.feather", "BTCUSDT"),
        ("1000PEPE_USDT_USDT-5m-futures.feather", "1000PEPEUSDT"),
        ("ETH_BTC-5m.csv", "ETHBTC"),
        ("ETH_BTC-5m.parquet", "ETHBTC"),
    ],
)
def test_freqtrades_files_are_read_as_they_are(made, tmp_path, name, symbol):
    path = tmp_path / name
    data = frame(made["BTCUSDT"])
    {".feather": data.to_feather, ".parquet": data.to_parquet, ".csv": lambda at: data.to_csv(at, index=False)}[
        path.suffix
    ](path)
    held = read_bars(path)
    assert list(held) == [symbol]
    assert np.array_equal(held[symbol].matrix(), made["BTCUSDT"].matrix())
    assert held[symbol].ts_open.tolist() == made["BTCUSDT"].ts_open.tolist()


def test_one_bar_takes_its_timeframe_from_the_name(made, tmp_path):
    path = tmp_path / "BTC_USDT-5m.feather"
    frame(made["BTCUSDT"]).head(1).to_feather(path)
    assert read_bars(path)["BTCUSDT"].interval == 300_000
    alone = tmp_path / "b.parquet"
    write_bars(alone, {"BTCUSDT": made["BTCUSDT"].slice(0, 1)})
    assert read_bars(alone)["BTCUSDT"].interval == 300_000


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_any_unit(made, tmp_path, unit):
    path = tmp_path / "b.parquet"
    data = frame(made["BTCUSDT"], "open_time").assign(symbol="BTCUSDT")
    data["open_time"] = data["open_time"].dt.as_unit(unit)
    data.to_parquet(path)
    assert same(read_bars(path)["BTCUSDT"], made["BTCUSDT"])


def write(path: Path, data: pd.DataFrame) -> Path:
    data.to_parquet(path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.drop(columns=["high", "volume"]), "no column high, volume; there are open_time"),
        (lambda data: data.rename(columns={"open_time": "when"}), "no column open_time or date"),
        (lambda data: data.assign(close="dear"), "column close is .*string, expected numbers"),
        (lambda data: data.assign(open_time=1.5), "column open_time is double, expected a timestamp"),
        (lambda data: data.assign(open_time=data["open_time"].where(data.index != 4)), "open_time has 1 empty"),
        (lambda data: data.assign(symbol=data["symbol"].where(data.index != 4)), "symbol has 1 empty"),
        (lambda data: data.assign(open_time=data["open_time"] + pd.Timedelta("1us")), "finer than milliseconds"),
        (lambda data: data.head(0), "holds no bars"),
        (lambda data: data.drop(columns="symbol"), "the name is not like BTC_USDT-5m"),
    ],
)
def test_a_table_that_is_no_table_of_bars(made, tmp_path, change, message):
    path = write(tmp_path / "b.parquet", change(frame(made["BTCUSDT"], "open_time").assign(symbol="BTCUSDT")))
    with pytest.raises(ConfigError, match=message) as caught:
        read_bars(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.assign(close=data["close"].where(data.index != 4)), r"T00:20:00Z: a value is not finite"),
        (lambda data: pd.concat([data, data.tail(1)]), r"2025-01-02T00:55:00Z: duplicate"),
        (lambda data: data.iloc[[*range(200), 250, *range(200, 250)]], r"T16:40:00Z: out of order"),
        (lambda data: data.assign(high=data["low"] / 2), r"T00:00:00Z: high < max\(open, close\)"),
    ],
)
def test_a_bar_that_breaks_a_rule(made, tmp_path, change, message):
    path = write(tmp_path / "b.parquet", change(frame(made["BTCUSDT"], "open_time").assign(symbol="BTCUSDT")))
    with pytest.raises(BarError, match=f"BTCUSDT.*{message}"):
        read_bars(path)


def test_requests_that_find_nothing(made, tmp_path):
    path = tmp_path / "b.parquet"
    write_bars(path, made)
    with pytest.raises(ConfigError, match="no bars of XRPUSDT; there are BTCUSDT, DOGEUSDT, ETHUSDT"):
        read_bars(path, ["XRP/USDT"])
    with pytest.raises(ConfigError, match=r"no bars of BTCUSDT from .*; there are 2025-01-01T00:00:00Z to 2025-01-02"):
        read_bars(path, ["BTC/USDT"], parse_timerange("20260101-"))
    with pytest.raises(ConfigError, match="most bars are 300000 ms apart, not 1h"):
        read_bars(path, timeframe="1h")


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_bars(tmp_path / "b.parquet")
    for name, kind in (("b.parquet", "parquet"), ("BTC_USDT-5m.feather", "feather")):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(ConfigError, match=f"no readable {kind} file"):
            read_bars(tmp_path / name)
    with pytest.raises(ConfigError, match=r"expected a \.parquet, \.feather or \.csv file"):
        read_bars(tmp_path / "b.json")
    rates = tmp_path / "BTC_USDT_USDT-5m-funding_rate.feather"
    table = {"date": pa.array([0], pa.timestamp("ms", "UTC")), **{name: [1.0] for name in FIELDS}}
    feather.write_feather(pa.table(table), rates)
    with pytest.raises(ConfigError, match="funding_rate candles are not trades"):
        read_bars(rates)


def test_a_refused_write_leaves_the_old_file(made, tmp_path):
    path = tmp_path / "b.parquet"
    write_bars(path, made)
    before = path.read_bytes()
    broken = made["BTCUSDT"].slice(0, 5)
    broken = BarSeries("BTCUSDT", broken.interval, broken.ts_open[::-1], *(getattr(broken, name) for name in FIELDS))
    with pytest.raises(BarError, match="out of order"):
        write_bars(path, {"BTCUSDT": broken})
    with pytest.raises(ConfigError, match="no bars to write"):
        write_bars(path, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


prices = st.floats(1e-6, 1e6)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(prices, prices, st.floats(0, 1e9)), min_size=1, max_size=20), st.integers(1, 2_000_000))
def test_any_series_survives_the_file(tmp_path, rows, start):
    one, other, volume = map(np.array, zip(*rows, strict=True))
    times = (start + np.arange(len(rows))) * 300_000
    series = BarSeries("AUSDT", 300_000, times, one, np.maximum(one, other), np.minimum(one, other), other, volume)
    write_bars(tmp_path / "a.parquet", {"AUSDT": series})
    held = read_bars(tmp_path / "a.parquet")["AUSDT"]
    assert held.interval == series.interval
    assert held.ts_open.tobytes() == series.ts_open.tobytes()
    assert held.matrix().tobytes() == series.matrix().tobytes()


def test_all_real_bars_are_read(shared):
    counts = {}
    for path in sorted((shared / "data").glob("*.parquet")):
        held = read_bars(path)
        counts[path.stem] = sum(len(series) for series in held.values())
        assert sorted(held) == ["BNBUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]
        assert counts[path.stem] == parquet.read_metadata(path).num_rows
    assert counts["bars_5m_um"] == 439_200
    spot = read_bars(shared / "data" / "bars_5m_spot_2023.parquet", ["BTC/USDT"])["BTCUSDT"]
    assert [gap.missing for gap in spot.gaps()] == [16]

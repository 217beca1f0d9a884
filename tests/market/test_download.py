import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.core.bars import BarSeries
from quantum_trader.core.errors import BarError, ConfigError
from quantum_trader.market.download import download, kept_bars, missing_ranges, parts_folder
from quantum_trader.market.exchange import ExchangeError
from quantum_trader.market.files import read_bars, write_bars
from quantum_trader.market.simulator import DEFAULT_START_MS, simulate
from quantum_trader.market.timerange import TimeRange

STEP = 300_000
ALL = TimeRange(DEFAULT_START_MS, None)
BARS = 2_500


NOW = DEFAULT_START_MS + BARS * STEP
"""When all bars of the server are closed."""


def quiet(pair: str, done: int, total: int) -> None:
    """Nobody watches."""


def same(one: BarSeries, other: BarSeries) -> bool:
    return one.ts_open.tolist() == other.ts_open.tolist() and bool((one.matrix() == other.matrix()).all())


@pytest.fixture
def series(binance):
    made = simulate(BARS, 5, ["BTC/USDT", "ETH/USDT"])
    binance.serve(*made.values())
    return made


def end(bars: int) -> int:
    """The instant at which so many bars are closed."""
    return DEFAULT_START_MS + bars * STEP


def fetch(binance, fast, path, pairs=("BTC/USDT",), timerange=ALL, now_ms=NOW, progress=quiet):
    return download(
        "binance", list(pairs), "5m", timerange, path, now_ms, progress, config=binance.config, retries=fast
    )


def test_every_page_arrives_and_nothing_is_left_behind(binance, fast, series, tmp_path):
    told = []
    pairs = ["BTC/USDT", "ETH/USDT"]
    got = fetch(binance, fast, tmp_path / "b.parquet", pairs, progress=lambda *report: told.append(report))
    held = read_bars(tmp_path / "b.parquet")
    assert list(held) == ["BTCUSDT", "ETHUSDT"]
    for symbol in held:
        assert same(held[symbol], series[symbol])
        assert same(got[symbol], series[symbol])
    assert len(binance.starts("BTCUSDT")) == 3
    assert told[0] == ("BTC/USDT", 0, BARS)
    assert told[-1] == ("ETH/USDT", BARS, BARS)
    assert [path.name for path in tmp_path.iterdir()] == ["b.parquet"]


def test_the_unfinished_bar_is_left_out(binance, fast, series, tmp_path):
    got = fetch(binance, fast, tmp_path / "b.parquet", now_ms=end(100) - 1)["BTCUSDT"]
    assert len(got) == 99
    assert same(got, series["BTCUSDT"].slice(0, 99))


def test_the_range_is_exclusive_at_its_end_and_rounded_to_the_grid(binance, fast, series, tmp_path):
    ranged = TimeRange(end(10) - 1, end(20))
    got = fetch(binance, fast, tmp_path / "b.parquet", timerange=ranged)["BTCUSDT"]
    assert same(got, series["BTCUSDT"].slice(10, 20))


def test_a_failure_keeps_what_arrived_and_the_next_run_goes_on(binance, fast, series, tmp_path):
    path = tmp_path / "b.parquet"
    binance.fail_after = 2
    with pytest.raises(ExchangeError, match="no answer in 3 attempts"):
        fetch(binance, fast, path)
    assert not path.exists()
    assert kept_bars(path) == 2_000
    binance.fail_after = None
    binance.asked.clear()
    assert same(fetch(binance, fast, path)["BTCUSDT"], series["BTCUSDT"])
    assert binance.starts("BTCUSDT") == [end(2_000)]
    assert not parts_folder(path).exists()


def test_a_busy_exchange_is_asked_again(binance, fast, series, tmp_path):
    binance.faults = [429, 503]
    assert same(fetch(binance, fast, tmp_path / "b.parquet")["BTCUSDT"], series["BTCUSDT"])


def test_a_file_grows_at_both_ends_without_a_hole(binance, fast, series, tmp_path):
    path = tmp_path / "b.parquet"
    fetch(binance, fast, path, timerange=TimeRange(end(500), end(600)))
    fetch(binance, fast, path, timerange=TimeRange(end(900), end(1_000)))
    binance.asked.clear()
    fetch(binance, fast, path, timerange=TimeRange(end(100), end(200)))
    assert binance.starts("BTCUSDT") == [end(100)]
    assert same(read_bars(path)["BTCUSDT"], series["BTCUSDT"].slice(100, 1_000))
    assert same(fetch(binance, fast, path, timerange=TimeRange())["BTCUSDT"], series["BTCUSDT"].slice(100, BARS))


def test_another_symbol_joins_the_file(binance, fast, series, tmp_path):
    path = tmp_path / "b.parquet"
    fetch(binance, fast, path, timerange=TimeRange(end(0), end(50)))
    got = fetch(binance, fast, path, ["ETH/USDT"], timerange=TimeRange(end(10), end(60)))
    assert list(got) == ["ETHUSDT"]
    held = read_bars(path)
    assert same(held["BTCUSDT"], series["BTCUSDT"].slice(0, 50))
    assert same(held["ETHUSDT"], series["ETHUSDT"].slice(10, 60))


def test_a_late_listing_and_a_halt_are_what_they_are(binance, fast, series, tmp_path):
    rows = binance.rows["BTCUSDT"]
    binance.rows["BTCUSDT"] = rows[300:700] + rows[1_900:]
    got = fetch(binance, fast, tmp_path / "b.parquet")["BTCUSDT"]
    assert len(got) == 400 + 600
    assert [(gap.ts_first, gap.missing) for gap in got.gaps()] == [(end(700), 1_200)]


def test_futures_come_from_the_futures_market(binance, fast, series, tmp_path):
    got = fetch(binance, fast, tmp_path / "b.parquet", ["BTC/USDT:USDT"])
    assert same(got["BTCUSDT"], series["BTCUSDT"])
    with pytest.raises(ConfigError, match="its bars are from binance linear, not binance spot"):
        fetch(binance, fast, tmp_path / "b.parquet", ["BTC/USDT"])


def test_recorded_klines_arrive_unchanged(binance, fast, shared, tmp_path):
    rows = json.loads((shared / "feed" / "rest_spot_klines_btcusdt_5m_2020-07.json").read_text())
    binance.rows["BTCUSDT"] = rows
    ranged = TimeRange(rows[0][0], None)
    got = fetch(binance, fast, tmp_path / "b.parquet", timerange=ranged, now_ms=rows[-1][6] + 1)["BTCUSDT"]
    assert got.ts_open.tolist() == [row[0] for row in rows]
    assert got.close.tolist() == [float(row[4]) for row in rows]
    assert got.volume.tolist() == [float(row[5]) for row in rows]


def test_a_broken_bar_stops_the_download_and_leaves_the_file_alone(binance, fast, series, tmp_path):
    path = tmp_path / "b.parquet"
    fetch(binance, fast, path, timerange=TimeRange(end(0), end(50)))
    before = path.read_bytes()
    binance.rows["BTCUSDT"][70][2] = "0.00000001"
    with pytest.raises(BarError, match=r"BTCUSDT 2025-01-01T05:50:00Z: high < max"):
        fetch(binance, fast, path, timerange=TimeRange(end(0), end(100)))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exchange": "binanse"}, "exchange 'binanse' is unknown to ccxt.pro; near it: binance"),
        ({"pairs": ["BTC/USDC"]}, "binance has no pair BTC/USDC; near it: BTC/USDT"),
        ({"pairs": ["BTCUSDT"]}, "expected BTC/USDT"),
        ({"pairs": ["BTC/USDT", "ETH/USDT:USDT"]}, "linear and spot pairs do not go into one file"),
        ({"pairs": ["BTC/USDT", "BTC/USDT"]}, "a pair is given twice"),
        ({"pairs": []}, "no pairs"),
        ({"timeframe": "7m"}, "binance has no timeframe 7m"),
        ({"timerange": TimeRange()}, "the timerange needs a start"),
        ({"timerange": TimeRange(end(BARS), None)}, "no 5m bar has opened and closed in it"),
        ({"path": Path("b.csv")}, "downloaded into a .parquet file"),
    ],
)
def test_wrong_arguments_are_named(binance, fast, series, tmp_path, change, message):
    arguments = {"exchange": "binance", "pairs": ["BTC/USDT"], "timeframe": "5m", "timerange": ALL}
    arguments |= {"path": tmp_path / "b.parquet", "now_ms": end(BARS), "progress": quiet}
    with pytest.raises(ConfigError, match=message):
        download(**(arguments | change), config=binance.config, retries=fast)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_file_is_not_extended(binance, fast, series, tmp_path):
    path = tmp_path / "b.parquet"
    write_bars(path, {"BTCUSDT": series["BTCUSDT"].slice(0, 10)})
    with pytest.raises(ConfigError, match="from an unknown source, not binance spot"):
        fetch(binance, fast, path)


ranges = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(ranges, st.lists(ranges, max_size=6))
def test_what_is_missing_and_what_is_there_make_one_range(wanted, covered):
    missing = missing_ranges(wanted, wanted[1], covered)
    asked = [moment for start, stop in missing for moment in range(start, stop)]
    there = {moment for start, stop in covered for moment in range(start, stop)}
    assert len(asked) == len(set(asked))
    assert not there & set(asked)
    together = sorted(there | set(asked))
    assert together == list(range(min([wanted[0], *there]), max([wanted[1] - 1, *there]) + 1))


def command(binance, tmp_path: Path) -> list[str]:
    settings = tmp_path / "ccxt.json"
    settings.write_text(json.dumps(binance.config))
    options = ["--pairs", "BTC/USDT", "--timerange", "20250101-20250109", "--out", str(tmp_path / "b.parquet")]
    return [sys.executable, "-m", "quantum_trader.cli.main", "download-data", *options, "--exchange-config", settings]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_killed_command_loses_no_page(binance, series, tmp_path, number, code):
    running = []

    def interrupt() -> None:
        if len(binance.asked) == 3:
            running[0].send_signal(number)

    binance.on_klines = interrupt
    running.append(
        subprocess.Popen(command(binance, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    )
    _, errors = running[0].communicate(timeout=120)
    assert running[0].returncode == code
    assert kept_bars(tmp_path / "b.parquet") == 2_000
    if number == signal.SIGINT:
        assert "2,000 downloaded bars are kept" in errors
    binance.asked.clear()
    binance.on_klines = lambda: None
    done = subprocess.run(command(binance, tmp_path), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "source: binance spot" in done.stdout
    assert binance.starts("BTCUSDT") == [end(2_000)]
    assert np.array_equal(
        read_bars(tmp_path / "b.parquet")["BTCUSDT"].matrix(), series["BTCUSDT"].slice(0, 2_304).matrix()
    )

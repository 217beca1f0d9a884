"""`quantum simulate-data`, `bars` and `download-data` as commands: what they print and how they end."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from quantum_trader.market.files import read_bars, read_source
from quantum_trader.market.simulator import simulate


def quantum(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quantum_trader.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_simulated_bars_say_that_they_are_simulated(tmp_path):
    path = tmp_path / "s.parquet"
    done = quantum("simulate-data", "--bars", 300, "--seed", 4, "--pairs", "BTC/USDT, DOGE/USDT", "--out", path)
    assert done.returncode == 0, done.stderr
    assert "source: simulated seed=4 edge=0.05" in done.stdout
    assert read_source(path) == "simulated seed=4 edge=0.05"
    made = simulate(300, 4, ["BTC/USDT", "DOGE/USDT"])
    held = read_bars(path)
    assert list(held) == ["BTCUSDT", "DOGEUSDT"]
    assert all(held[symbol].matrix().tobytes() == made[symbol].matrix().tobytes() for symbol in made)


@pytest.fixture
def broken(tmp_path) -> Path:
    """A freqtrade file with a hole of two bars and two bars that break a rule."""
    series = simulate(50, 1, ["BTC/USDT"])["BTCUSDT"]
    columns = {name: getattr(series, name) for name in ("open", "high", "low", "close", "volume")}
    data = pd.DataFrame({"date": pd.to_datetime(series.ts_open, unit="ms", utc=True), **columns})
    data.loc[[7, 9], "volume"] = -1.0
    path = tmp_path / "BTC_USDT-5m.feather"
    data.drop(index=[20, 21]).reset_index(drop=True).to_feather(path)
    return path


def test_bars_lists_gaps_and_defects(broken):
    done = quantum("bars", broken)
    assert done.returncode == 1
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "BTCUSDT 48 2025-01-01T00:00:00Z 2025-01-01T04:05:00Z 1 2" in lines
    assert "BTCUSDT 2025-01-01T01:40:00Z 2" in lines
    assert "BTCUSDT volume is negative 2 2025-01-01T00:35:00Z" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bars", "nowhere.parquet"], "quantum: nowhere.parquet: no such file"),
        (["simulate-data", "--bars", "0", "--out", "s.parquet"], "quantum: simulator: 0 bars, expected at least 1"),
        (["download-data", "--timerange", "yesterday"], "quantum: timerange 'yesterday': expected START-STOP"),
        (["download-data", "--exchange-config", "none.json"], "quantum: none.json: no JSON object of ccxt settings"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    done = quantum(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_the_commands_load_no_heavy_library_before_they_run():
    code = (
        "import sys, quantum_trader.cli.market, quantum_trader.cli.lookahead;"
        "print([name for name in ('ccxt', 'pyarrow', 'pandas', 'talib', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"

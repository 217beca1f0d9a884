"""`quantum feed` and `quantum server` as processes: bars arrive once, the server ends when it is told to."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.harness import wait_until

from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.reader import DecisionReader
from quantum_trader.market.files import write_bars
from quantum_trader.market.simulator import simulate

PAIRS = ["BTC/USDT", "ETH/USDT"]


@pytest.fixture
def url(tmp_path: Path):
    with EmbeddedServer(tmp_path / "valkey") as server:
        yield server.url


def feed(url: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess:
    env = {"PATH": "/usr/bin:/bin", "QUANTUM_REDIS_URL": url, "QUANTUM_PAIRS": ",".join(PAIRS), **environ}
    return subprocess.run(
        [sys.executable, "-m", "quantum_trader.cli.main", "feed", *arguments],
        capture_output=True,
        text=True,
        env=env,
        timeout=120,
    )


def test_a_file_is_fed_in_time_order_and_only_once(url: str, tmp_path: Path) -> None:
    series = simulate(300, 2, PAIRS)
    write_bars(tmp_path / "bars.parquet", series)
    first = feed(url, "--bars", str(tmp_path / "bars.parquet"))
    again = feed(url, "--bars", str(tmp_path / "bars.parquet"))
    assert first.returncode == again.returncode == 0, first.stderr
    assert "600 of 600 bars written" in first.stdout
    assert "0 of 600 bars written" in again.stdout
    client = connect(url)
    bars = list(DecisionReader(client, StreamNames()).bars("5m", 0))
    client.close()
    assert len(bars) == 600
    assert [bar.ts_open for bar in bars] == sorted(bar.ts_open for bar in bars)
    assert [bar for bar in bars if bar.symbol == "BTCUSDT"] == list(series["BTCUSDT"])


def test_no_server_is_one_line_that_hides_the_password(tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.parquet", simulate(3, 2, PAIRS))
    result = feed("redis://qt:hunter2@127.0.0.1:1/0", "--bars", str(tmp_path / "bars.parquet"))
    assert result.returncode == 1
    assert "127.0.0.1:1" in result.stderr
    assert "hunter2" not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_the_server_verb_runs_until_sigterm_and_keeps_its_data(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "quantum_trader.cli.main", "server", "--data-dir", str(tmp_path), "--port", "0"]
    for expected in (None, b"kept"):
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None
        line = running.stdout.readline()
        client = connect(line.split()[2].rstrip(";,"))
        wait_until(lambda: client.ping(), 20)  # noqa: B023
        assert client.get("key") == expected
        client.set("key", "kept")
        client.close()
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
        running.stdout.close()

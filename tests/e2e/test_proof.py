"""What the real engine writes is proven, on time or late: every shadow's entry marked, small, and counted nowhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.harness import NAMES, Engine, release, stream_length, wait_until
from tests.e2e.test_service import expected, publish

from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.core.bars import WINDOW
from quantum_trader.market.simulator import simulate

PAIRS = ["BTC/USDT", "ETH/USDT"]


@pytest.mark.slow
@pytest.mark.parametrize("grace_ms", ["2000", "0"])
def test_the_engines_events_are_proven(tmp_path: Path, grace_ms: str) -> None:
    series = simulate(WINDOW + 30, 17, PAIRS)
    env_file = release(tmp_path)
    with EmbeddedServer(tmp_path / "valkey") as server:
        publish(server.url, series)
        engine = Engine(env_file, server.url, PAIRS, SHADOW_GRACE_MS=grace_ms)
        wait_until(lambda: stream_length(server.url, NAMES.decisions) >= expected(series), 120)
        assert engine.stop() == 0, engine.log
        clean = {name: value for name, value in os.environ.items() if not name.startswith("QUANTUM_")}
        command = [sys.executable, "-m", "quantum_trader.cli.main", "proof", "stream", "--json", "--count", "500"]
        done = subprocess.run(
            [*command, "--env-file", str(env_file)],
            env={**clean, "QUANTUM_REDIS_URL": server.url, "QUANTUM_PAIRS": ",".join(PAIRS)},
            capture_output=True,
            text=True,
            check=False,
        )
    document = json.loads(done.stdout)
    assert (done.returncode, document["passed"]) == (0, True), done.stdout
    assert document["intents"] > 0
    assert document["overhead"][0]["largest_bytes"] < 130

"""`quantum gates` on stream and files, and the runbook's old script: one verdict from the same decisions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import ROOT
from tests.e2e.harness import NAMES, Engine, release, stream_length, wait_until
from tests.e2e.test_service import expected, publish

from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.core.bars import WINDOW
from quantum_trader.gates.deployment import DEPLOYMENT
from quantum_trader.gates.judge import SCOPE
from quantum_trader.gates.vetoes import VETOES
from quantum_trader.market.files import write_bars
from quantum_trader.market.simulator import simulate

PAIRS = ["BTC/USDT", "ETH/USDT"]


def run(*command: str, url: str, cwd: Path) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("QUANTUM_")}
    env = {**clean, "QUANTUM_REDIS_URL": url, "QUANTUM_PAIRS": ",".join(PAIRS)}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=env, cwd=cwd, timeout=120)


@pytest.mark.slow
def test_stream_files_and_the_old_script_agree(tmp_path: Path) -> None:
    series = simulate(WINDOW + 49 * 22, 13, PAIRS)
    env_file = release(tmp_path)
    cli = ["-m", "quantum_trader.cli.main"]
    with EmbeddedServer(tmp_path / "valkey") as server:
        engine = Engine(env_file, server.url, PAIRS, SHADOW_GRACE_MS="2000")
        engine.wait_ready()
        wait_until(lambda: "does not vote" in engine.log)
        publish(server.url, series)
        wait_until(lambda: stream_length(server.url, NAMES.decisions) >= expected(series), 120)
        assert engine.stop() == 0, engine.log
        stream = run(*cli, "gates", "--hours", "2", "--json", url=server.url, cwd=tmp_path)
        script = str(ROOT / "ops" / "analysis" / "analyze_shadow_metrics.py")
        old = run(script, "--hours", "2", "--json", url=server.url, cwd=tmp_path)
        people = run(script, "--hours", "2", url=server.url, cwd=tmp_path)
        unknown = run(*cli, "gates", "--hours", "2", "--model", "oracle", url=server.url, cwd=tmp_path)
        nothing = run(*cli, "gates", "--hours", "0.0000001", url=server.url, cwd=tmp_path)
    assert (unknown.returncode, nothing.returncode) == (1, 1)
    assert "oracle" in unknown.stderr
    assert "no decisions in the last" in nothing.stderr
    write_bars(tmp_path / "bars.parquet", series)
    out = ["--out", "decided", "--models", "models"]
    replayed = run(*cli, "replay", "--bars", "bars.parquet", *out, url="", cwd=tmp_path)
    assert replayed.returncode == 0, replayed.stderr
    files = run(*cli, "gates", "--decisions", "decided", "--bars", "bars.parquet", "--json", url="", cwd=tmp_path)
    verdict = json.loads(stream.stdout)
    assert stream.returncode in (2, 3)
    assert stream.returncode == verdict["exit_code"] == old.returncode == people.returncode == files.returncode
    assert verdict["scope"] == SCOPE
    assert verdict["events"]["cycles"] >= 20
    assert stream.stdout == old.stdout
    # The stream's window was registered by nobody either: both say so, and nothing else differs.
    assert verdict == json.loads(files.stdout)
    assert [line["section"] for line in verdict["checks"]] == ["B"] * len(VETOES) + ["C"] + ["D"] * len(DEPLOYMENT)
    assert "REJECT" in people.stdout or "HOLD" in people.stdout
    html = run(
        *cli, "report", "--decisions", "decided", "--bars", "bars.parquet", "--out", "r.html", url="", cwd=tmp_path
    )
    assert html.returncode == 0, html.stderr
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")

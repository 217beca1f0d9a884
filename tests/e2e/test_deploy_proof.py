"""The proof on the stream that ends a deployment: real engine, real server, the command as an operator calls it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.artefacts import make_artefact
from tests.e2e.harness import NAMES, stream_length, wait_until
from tests.e2e.releasing import Vps, environ, vps
from tests.e2e.test_service import publish

from quantum_trader.bus.client import connect
from quantum_trader.core.bars import WINDOW
from quantum_trader.market.simulator import simulate
from quantum_trader.models.artefact import load_artefact

pytestmark = pytest.mark.slow

PAIRS = ["BTC/USDT"]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vps]:
    with vps(tmp_path_factory.mktemp("vps")) as running:
        yield running


def deploy(host: Vps, folder: Path, seconds: float, during: Callable[[int], None]) -> tuple[int, str]:
    """Deploy, and do something while it waits for an intent; exit code and everything it said."""
    where = ["--host", "vps", "--hosts", str(host.hosts), "--stream-proof-s", str(seconds)]
    words = ["deploy", "patchtst", str(folder), "--shadow", "--no-git", "a test", *where]
    said = ""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "quantum_trader.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environ() | {"COLUMNS": "160"},
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            first = "waiting up to" not in said
            said += line
            if first and "waiting up to" in line:
                during(running.pid)
        return running.wait(120), said


def deployed(host: Vps, folder: Path) -> bool:
    return host.values()["PATCHTST_MODEL_PATH"].endswith(folder.name) and host.entries()[-1].kind == "deploy"


def test_the_first_intents_are_proven_or_the_deployment_stands_and_says_so(host: Vps, tmp_path: Path) -> None:
    url = host.values()["QUANTUM_REDIS_URL"]
    first, second, third, fourth = (make_artefact(tmp_path, "patchtst", seed) for seed in (90, 91, 92, 93))

    def bars(_: int) -> None:
        publish(url, simulate(WINDOW + 60, 3, PAIRS))

    code, said = deploy(host, first, 120, bars)
    assert code == 0, said
    assert "PROVEN" in said.splitlines()
    assert "patchtst: its entry has" in said
    assert "shadow entries marked" in said
    wait_until(lambda: stream_length(url, NAMES.decisions) == 61)

    code, said = deploy(host, second, 1, lambda _: None)
    assert code == 0, said
    assert "no intent within 1 s: the deployment stands and is not proven; later, on the host: quantum proof" in said
    assert deployed(host, second)

    code, said = deploy(host, third, 120, stop)
    assert code == 0, said
    assert "not waited for: the deployment stands and is not proven; later, on the host: quantum proof stream" in said
    assert deployed(host, third)

    # An intent of an engine that went on with the artefact before.
    def stale(_: int) -> None:
        with closing(connect(url)) as client:
            ((_, fields),) = client.xrevrange(NAMES.intents, count=1)
            client.xadd(NAMES.intents, fields)

    code, said = deploy(host, fourth, 120, stale)
    assert code == 1
    assert f"deployed is {load_artefact(fourth).digest[:16]}" in said
    assert "quantum: NOT PROVEN: " in said
    assert deployed(host, fourth)


def stop(pid: int) -> None:
    """Ctrl-C, for this command alone."""
    os.kill(pid, signal.SIGINT)

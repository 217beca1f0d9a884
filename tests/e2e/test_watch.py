"""The watch on a real engine and server: a breach demotes by itself, quiet ends with KEEP, blindness says so."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import NAMES, Engine, decisions, stream_length, wait_until
from tests.e2e.test_service import publish
from tests.release.promoting import House

from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.reader import DecisionReader
from quantum_trader.clock import now_ms
from quantum_trader.core.bars import WINDOW
from quantum_trader.market.simulator import simulate
from quantum_trader.release.ledger import read_entries, verify, voting
from quantum_trader.release.ledger_entries import Demote, Watch
from quantum_trader.settings import load_settings

PAIRS = ["BTC/USDT", "ETH/USDT"]
BEFORE = 340
"""Bars in shadow: more than the 24 blocks that a block is measured by."""


class Desk:
    """An engine that decides whatever is published, and an operator beside it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.house, self.url, self.engine = House(folder, now_ms()), url, None
        self.series = simulate(WINDOW + BEFORE + 400, 31, PAIRS)
        self.published = 0
        self.inbox = folder / "alerts.log"
        self.append(f"QUANTUM_REDIS_URL={url}")

    def append(self, line: str) -> None:
        with self.house.env_file.open("a") as file:
            file.write(f"{line}\n")

    def start(self) -> None:
        if self.engine is not None:
            assert self.engine.stop() == 0, self.engine.log
        self.engine = Engine(self.house.env_file, self.url, PAIRS, SHADOW_GRACE_MS="5000")
        self.engine.wait_ready()
        words = f"{sys.executable} -c 'import os; os.kill({self.engine.process.pid}, 1)'"
        text = self.house.env_file.read_text()
        kept = [line for line in text.splitlines() if not line.startswith("QUANTUM_RELOAD_COMMAND=")]
        self.house.env_file.write_text("\n".join([*kept, f"QUANTUM_RELOAD_COMMAND={words}"]) + "\n")

    def bars(self, n: int) -> None:
        """Publish bars, and wait until they are decided."""
        parts = {symbol: bars.slice(self.published, self.published + n) for symbol, bars in self.series.items()}
        publish(self.url, parts)
        self.published += n
        wait_until(lambda: stream_length(self.url, NAMES.decisions) == len(PAIRS) * (self.published - WINDOW + 1), 120)

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("QUANTUM_")}
        return subprocess.run(
            [sys.executable, "-m", "quantum_trader.cli.main", *words, "--env-file", str(self.house.env_file)],
            env=clean | {"COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def promote(self, block_mean: float) -> None:
        """From the shadow to a vote, by a verdict that promises this mean."""
        self.start()
        self.bars(WINDOW)
        wait_until(lambda: "[OK] PatchTST agent loaded" in self.engine.log)
        self.bars(BEFORE)
        self.house.write(block_mean=block_mean)
        done = self.call("promote", "patchtst", "--verdict", str(self.house.verdict))
        assert done.returncode == 0, done.stdout + done.stderr

    def watch(self) -> subprocess.CompletedProcess[str]:
        return self.call("watch", "--once")

    def states(self) -> list[str]:
        entries = read_entries(self.house.ledger)
        return [entry.detail.facts["state"] for entry in entries if isinstance(entry.detail, Watch)]

    def votes(self) -> bool:
        return "patchtst" in voting(read_entries(self.house.ledger))

    def flag(self) -> str | None:
        return load_settings((), self.house.env_file, {}).models["patchtst"].shadow_only

    def lifecycle(self, kind: str) -> list[str]:
        client = connect(self.url)
        try:
            events = [event for _, event in DecisionReader(client, NAMES).lifecycle()]
            return [event.detail.get("state", event.detail.get("change", "")) for event in events if event.kind == kind]
        finally:
            client.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "valkey", appendfsync="no") as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, server: EmbeddedServer) -> Iterator[Desk]:
    desk = Desk(tmp_path / "house", server.url)
    yield desk
    if desk.engine is not None and desk.engine.process.poll() is None:
        desk.engine.kill()


@pytest.mark.slow
def test_a_model_that_is_not_what_it_was_promoted_for_is_demoted_by_itself(desk: Desk) -> None:
    assert "nothing is watched" in desk.watch().stdout
    desk.promote(block_mean=3.0)
    blind = desk.watch()
    assert (blind.returncode, desk.states()) == (5, [])
    assert "INSUFFICIENT: no decision has been taken with its vote" in blind.stdout
    desk.start()
    desk.bars(150)
    last = decisions(desk.url)[-1]
    assert "patchtst" in last.decision.votes
    assert last.decision.weights["patchtst"] == 0.1
    # Nobody can be told: flag, ledger and reload need no stream server and no alert.
    desk.append("QUANTUM_ALERT_URLS=nonsense://secret-password@nowhere")
    done = desk.watch()
    assert done.returncode == 7, done.stdout + done.stderr
    assert "DEMOTE to shadow: The CUSUM rang" in done.stdout
    assert "secret-password" not in done.stdout + done.stderr
    assert (desk.flag(), desk.votes(), desk.states()) == ("true", False, ["DEMOTE"])
    assert isinstance(read_entries(desk.house.ledger)[-1].detail, Demote)
    assert verify(desk.house.ledger) == []
    wait_until(lambda: "patchtst demoted" in desk.engine.log)
    desk.bars(10)
    after = decisions(desk.url)[-1]
    assert "patchtst" not in after.decision.votes
    assert "patchtst" in after.shadows
    assert "DEMOTE" in desk.lifecycle("watch")
    assert desk.lifecycle("recast") == ["demoted"]
    assert "nothing is watched" in desk.watch().stdout
    assert not any("Traceback" in json.loads(line)["message"] for line in desk.engine.log.splitlines())


@pytest.mark.slow
def test_a_quiet_day_ends_with_keep_in_writing(desk: Desk, server: EmbeddedServer) -> None:
    desk.promote(block_mean=0.05)
    desk.start()
    desk.bars(60)
    early = desk.watch()
    assert (early.returncode, desk.states()) == (0, []), early.stdout + early.stderr
    assert "WATCHING: nothing is wrong after 60 bars" in early.stdout
    desk.bars(300)
    done = desk.watch()
    assert (done.returncode, desk.states()) == (0, ["KEEP"]), done.stdout + done.stderr
    assert (desk.flag(), desk.votes()) == ("false", True)
    assert desk.lifecycle("watch") == ["WATCHING", "KEEP"]
    assert "nothing is watched" in desk.watch().stdout
    # The next step opens the next watch; a server that is away lets it conclude nothing.
    assert desk.call("weight", "patchtst", "0.2").returncode == 0
    assert desk.engine.stop() == 0
    server.stop()
    blind = desk.watch()
    assert blind.returncode == 5
    assert "INSUFFICIENT: " in blind.stdout
    assert desk.states() == ["KEEP"]

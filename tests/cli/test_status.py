"""`quantum status` against a real server: what it shows, what it finds, and the exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.contract.test_bus_backends import a_batch, a_record, decide

from quantum_trader.bus.client import Durability, connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.identity import Identity
from quantum_trader.bus.lease import Lease
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.reader import BarReader
from quantum_trader.bus.writer import BarWriter, DecisionWriter, LifecycleWriter
from quantum_trader.core.bars import Bar
from quantum_trader.release.ledger import append_entries
from quantum_trader.release.ledger_entries import Grant, New

NAMES = StreamNames()
STEP = 300_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("status") / "valkey", appendfsync="no") as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with connect(server.url) as connected:
        connected.flushall()
        yield connected


def status(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "COLUMNS": "120", "QUANTUM_REDIS_URL": url, "QUANTUM_PAIRS": "BTC/USDT,ETH/USDT"}
    return subprocess.run(
        [sys.executable, "-m", "quantum_trader.cli.main", "status", *arguments],
        capture_output=True,
        text=True,
        env=env,
        timeout=60,
    )


def running_engine(client: redis.Redis) -> Lease:
    """A lease that is held, bars that are decided, a model in shadow: all is well."""
    lease = Lease(client, NAMES, "ai-engine", Identity.here("engine-1"))
    assert lease.acquire() is None
    bars = [Bar(s, n * STEP, STEP, 100.0, 102.0, 99.0, 100.5, 1.0) for n in range(1, 5) for s in ("BTCUSDT", "ETHUSDT")]
    BarWriter(client, NAMES).publish(bars, "5m", 1)
    reader = BarReader(client, NAMES)
    reader.ensure_group()
    DecisionWriter(client, NAMES, Durability.NONE, lease=lease).commit(decide(reader.read(block_ms=0)))
    return lease


def test_all_is_well(server: EmbeddedServer, client: redis.Redis) -> None:
    running_engine(client)
    found = status(server.url)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.startswith("✓ all is well")
    assert f"engine-1 on {Identity.here('').host}, process {os.getpid()}, since " in found.stdout
    assert "         alive, lease renewed 0 s ago\n" in found.stdout
    assert "Accounting: 8 decisions, 6 intents, since 1970-01-01T00:10:00Z" in found.stdout
    (row,) = [line for line in found.stdout.splitlines() if line.startswith("PatchTST   shadow") and "✓" in line]
    assert row.split() == ["PatchTST", "shadow", "8", "8", "0", "0", "0", "0", "✓"]
    assert "No alarm stands." in found.stdout
    document = json.loads(status(server.url, "--json", "--recount").stdout)
    assert document["well"] is True
    assert document["needs_a_look"] == []
    assert document["holder"]["identity"]["pid"] == os.getpid()
    assert document["accounting"]["decisions"] == document["recount"]["decisions"] == 8
    assert document["accounting"]["models"] == document["recount"]["models"]
    assert document["recount"]["problems"] == []
    assert {model["model"]: model["role"] for model in document["accounting"]["models"]} == {
        **dict.fromkeys(("xgb", "lgbm", "nhits"), "voter"),
        "patchtst": "shadow",
    }
    assert [decision["symbol"] for decision in document["decisions"]] == ["BTCUSDT", "ETHUSDT"]


def test_a_mismatch_is_loud(server: EmbeddedServer, client: redis.Redis) -> None:
    running_engine(client)
    client.hincrby(NAMES.tally, "lgbm:voter:late", 3)
    found = status(server.url)
    assert found.returncode == 5
    assert found.stdout.startswith("! 1 thing needs a look")
    assert "accounting: lgbm as voter: took part in 8 decisions, 11 answers counted" in found.stdout
    assert "✗ MISMATCH: 11\n" in found.stdout
    found = status(server.url, "--recount")
    assert "Counted again from the stream (0 older decisions have left it): 8 decisions, 6 intents" in found.stdout
    assert "accounting, counted again: the tally does not hold what the stream holds" in " ".join(found.stdout.split())


def test_an_engine_that_is_down_is_said_to_be(server: EmbeddedServer, client: redis.Redis) -> None:
    found = status(server.url)
    assert found.returncode == 5
    for words in (
        "no engine holds the lease of group ai-engine",
        "BTCUSDT: no decision in the stream",
        "read by nobody",
    ):
        assert words in found.stdout
    running_engine(client).release()
    assert "! 1 thing needs a look\n  - no engine holds the lease" in status(server.url).stdout
    gone = Identity(Identity.here("").host, 2**22 + 1, 1, Identity.here("").machine, "engine-1")
    Lease(client, NAMES, "ai-engine", gone).acquire()
    assert "the engine has ended without giving its lease back: engine-1 on" in status(server.url).stdout


def test_alarms_stand_until_they_are_cleared_or_their_engine_is_gone(
    server: EmbeddedServer, client: redis.Redis
) -> None:
    lease = running_engine(client)
    writer = LifecycleWriter(client, NAMES, Durability.NONE)

    def tell(name: str, symbol: str, state: str, now_us: int) -> None:
        detail = {"name": name, "model": "patchtst", "symbol": symbol, "detail": "24 equal hashes", "state": state}
        assert writer.publish("alarm", detail, now_us)

    tell("constant-input", "BTCUSDT", "raised", 1)
    tell("constant-input", "ETHUSDT", "raised", 2)
    tell("constant-input", "BTCUSDT", "cleared", 3)
    writer.publish("promoted", {"model": "patchtst"}, 4)
    found = status(server.url)
    assert found.returncode == 5
    assert "alarm constant-input: patchtst, ETHUSDT: 24 equal hashes" in found.stdout
    assert "BTCUSDT: 24" not in found.stdout
    document = json.loads(status(server.url, "--json").stdout)
    assert [(alarm["name"], alarm["symbol"]) for alarm in document["alarms"]] == [("constant-input", "ETHUSDT")]
    lease.release()
    assert Lease(client, NAMES, "ai-engine", Identity.here("engine-2")).acquire() is None
    found = status(server.url)
    assert found.returncode == 0
    assert "No alarm stands. (1 raised before this engine started" in found.stdout


def test_bars_and_decisions_that_wait_too_long(server: EmbeddedServer, client: redis.Redis) -> None:
    running_engine(client)
    client.xgroup_create(NAMES.decisions, "archive", "0")
    client.xadd(NAMES.bars, {"a": "b"})
    assert status(server.url).returncode == 0, "waiting for a moment is no fault"
    # Entries from five hours ago in a stream whose newest are older still.
    seconds, _ = client.time()
    old = (seconds - 5 * 3600) * 1000
    client.delete(NAMES.bars)
    client.xgroup_create(NAMES.bars, "ai-engine", "0", mkstream=True)
    for n in range(3):
        client.xadd(NAMES.bars, {"a": "b"}, id=f"{old + n}-0")
    client.xreadgroup("ai-engine", "engine-1", {NAMES.bars: ">"}, count=1)
    found = status(server.url)
    assert found.returncode == 5
    assert "bars wait for a decision, the oldest for 5.0 h (2 unread, 1 read and not done)" in found.stdout
    assert "Archive  8 unread, 0 read and not acknowledged" in found.stdout


def test_a_symbol_that_fell_silent(server: EmbeddedServer, client: redis.Redis) -> None:
    running_engine(client)
    # The same decisions as if written an hour ago, except BTC's newest.
    entries = client.xrange(NAMES.decisions)
    client.delete(NAMES.decisions)
    hour_ago = int(entries[0][0].partition(b"-")[0]) - 3_600_000
    for n, (_, fields) in enumerate(entries):
        client.xadd(NAMES.decisions, fields, id=f"{hour_ago}-{n + 1}")
    DecisionWriter(client, NAMES, Durability.NONE).commit(a_batch([a_record("BTCUSDT", 9)]))
    found = status(server.url)
    assert found.returncode == 5
    assert "ETHUSDT: no decision for 60.0 min" in found.stdout or "ETHUSDT: no decision for 1.0 h" in found.stdout
    assert "BTCUSDT: no decision" not in found.stdout


def test_bus_down_is_one_line(tmp_path: Path) -> None:
    found = status("redis://127.0.0.1:1/0")
    assert found.returncode == 1
    assert found.stdout == ""
    (line,) = found.stderr.splitlines()
    assert line.startswith("quantum: stream server 127.0.0.1:1: reading the engine's state: ")


def test_a_vote_against_the_rules_is_shown_and_a_ledger_that_cannot_be_read_is_said(
    client: redis.Redis, server: EmbeddedServer, tmp_path: Path
) -> None:
    lease, env_file = running_engine(client), tmp_path / "engine.env"
    ledger = tmp_path / "ledger.jsonl"
    env_file.write_text(f"QUANTUM_LEDGER={ledger}\n")
    grant = Grant(model="nhits", artefact="a" * 64, weight=0.1, override=True)
    new = New(at="2026-01-01T00:00:00+00:00", by="somebody", reason="override: a bet", detail=grant)
    append_entries(ledger, [new])
    shown = status(server.url, "--env-file", str(env_file)).stdout
    assert "OVERRIDE  nhits aaaaaaaaaaaa got its vote" in shown
    (said,) = json.loads(status(server.url, "--env-file", str(env_file), "--json").stdout)["overrides"]
    assert "somebody, override: a bet; it still stands" in said
    ledger.write_bytes(b"{")
    assert "OVERRIDE  unknown: ledger" in status(server.url, "--env-file", str(env_file)).stdout
    lease.release()

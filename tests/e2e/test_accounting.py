"""The real engine, killed, stopped and started twice: every prediction is counted once, and one engine decides."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.archive.many import unbroken
from tests.e2e.harness import NAMES, Engine, decisions, intents, pending, release, stream_length, wait_until
from tests.e2e.test_service import PAIRS, expected, publish

from quantum_trader.archive.columns import to_table
from quantum_trader.archive.integrity import broken
from quantum_trader.bus.books import Books, read_books, recount
from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.session import Session
from quantum_trader.bus.tally import Part
from quantum_trader.core.bars import WINDOW
from quantum_trader.core.predictions import MODELS
from quantum_trader.market.simulator import simulate


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "valkey") as running:
        yield running


def status(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("QUANTUM_")}
    clean |= {"QUANTUM_REDIS_URL": url, "QUANTUM_PAIRS": ",".join(PAIRS)}
    return subprocess.run(
        [sys.executable, "-m", "quantum_trader.cli.main", "status", *arguments],
        capture_output=True,
        text=True,
        env=clean,
        timeout=120,
    )


def assert_exact(url: str, total: int) -> Books:
    """Every decision once, and every prediction of every model counted once: by the tally, the stream and by hand."""
    records = decisions(url)
    keys = [(record.decision.symbol, record.decision.ts_open) for record in records]
    assert len(keys) == len(set(keys)) == total
    assert unbroken(records)
    assert broken(to_table(records)) == ()
    with connect(url) as client:
        session = Session(client)
        books, again = read_books(session, NAMES), recount(session, NAMES)
        session.close()
    assert books.problems() == []
    assert (again.problems, again.trimmed) == ([], 0)
    assert books.tally.decisions == again.tally.decisions == total
    assert books.tally.intents == len(intents(url))
    by_hand: dict[Part, Counter[str]] = {}
    for record in records:
        for name, vote in record.decision.votes.items():
            by_hand.setdefault(Part(name, "voter"), Counter())[vote.status] += 1
        for name, vote in record.shadows.items():
            by_hand.setdefault(Part(name, "shadow"), Counter())[vote.status] += 1
    assert by_hand == books.tally.answers == again.tally.answers
    assert set(by_hand) == {Part(name, "shadow" if name == "patchtst" else "voter") for name in MODELS}
    assert all(counts.total() == total for counts in by_hand.values())
    return books


def life(env_file: Path, url: str, **environ: str) -> Engine:
    return Engine(env_file, url, PAIRS, QUANTUM_HEALTH_ADDRESS="", **environ)


def run_and_kill(url: str, env_file: Path, total: int, kills: int, seed: int) -> None:
    """Let the engine decide everything, killing it at random points on the way, the very beginning included."""
    rng = np.random.default_rng(seed)
    for kill in range(kills):
        before = stream_length(url, NAMES.decisions)
        share = max((total - before) // (kills + 2 - kill), 1)
        target = before + int(rng.integers(0, share + 1)) * int(rng.integers(0, 4) > 0)
        engine = life(env_file, url, SHADOW_GRACE_MS=str(int(rng.integers(0, 2)) * 20))
        wait_until(lambda: stream_length(url, NAMES.decisions) >= target, every_s=0.001)  # noqa: B023
        engine.kill()
    engine = life(env_file, url)
    wait_until(lambda: stream_length(url, NAMES.decisions) >= total)
    assert engine.stop() == 0, engine.log


@pytest.mark.slow
def test_kills_at_random_points_lose_and_double_no_count(server: EmbeddedServer, tmp_path: Path) -> None:
    series = simulate(WINDOW + 900, 21, PAIRS)
    env_file = release(tmp_path)
    publish(server.url, series)
    total = expected(series)
    run_and_kill(server.url, env_file, total, kills=30, seed=20260301)
    books = assert_exact(server.url, total)
    assert pending(server.url) == 0
    # The shadow was killed with its engine again and again: what it then missed is counted under its name.
    shadow = books.tally.answers[Part("patchtst", "shadow")]
    assert set(shadow) - {"ok"}, shadow
    found = status(server.url, "--json", "--recount")
    document: dict[str, Any] = json.loads(found.stdout)
    assert document["accounting"]["problems"] == document["recount"]["problems"] == []
    assert all(model["adds_up"] and model["decisions"] == total for model in document["accounting"]["models"])
    assert document["accounting"]["models"] == document["recount"]["models"]


def test_status_while_the_engine_runs_and_when_it_is_down(server: EmbeddedServer, tmp_path: Path) -> None:
    series = simulate(WINDOW + 20, 5, PAIRS)
    publish(server.url, series)
    engine = life(release(tmp_path), server.url)
    wait_until(lambda: stream_length(server.url, NAMES.decisions) >= expected(series))
    found = json.loads(status(server.url, "--json").stdout)
    assert found["holder"]["identity"]["pid"] == engine.process.pid
    assert found["holder_gone"] is False
    assert found["accounting"]["decisions"] == expected(series)
    assert {answer["model"] for answer in found["answers"]} == set(MODELS)
    assert (found["engine"]["pending"], found["engine"]["unread"]) == (0, 0)
    engine.kill()
    found = json.loads(status(server.url, "--json").stdout)
    assert found["holder_gone"] in (True, None), "a killed process is gone, or its lease has run out already"
    assert any("engine" in line for line in found["needs_a_look"])
    assert found["accounting"]["problems"] == []


def test_a_killed_engine_is_replaced_without_waiting(server: EmbeddedServer, tmp_path: Path) -> None:
    env_file = release(tmp_path)
    first = life(env_file, server.url)
    first.wait_ready()
    first.kill()
    second = life(env_file, server.url, QUANTUM_LEASE_WAIT_S="0")
    second.wait_ready()
    assert "its lease is taken over" in second.log
    assert second.stop() == 0, second.log
    with connect(server.url) as client:
        assert client.get(NAMES.lease("ai-engine")) is None, "given back, so that the next one need not wait"


def test_a_second_engine_by_mistake_is_refused_in_one_line(server: EmbeddedServer, tmp_path: Path) -> None:
    series = simulate(WINDOW + 50, 6, PAIRS)
    env_file = release(tmp_path)
    first = life(env_file, server.url)
    first.wait_ready()
    second = life(env_file, server.url, QUANTUM_LEASE_WAIT_S="1", QUANTUM_CONSUMER="engine-2")
    publish(server.url, series)
    assert second.process.wait(60) == 1
    messages = [json.loads(line)["message"] for line in second.log.splitlines()]
    assert messages[-1].startswith(
        f"group ai-engine has an engine already: engine-1 on {os.uname().nodename}, process "
    )
    assert "Traceback" not in second.log
    wait_until(lambda: stream_length(server.url, NAMES.decisions) >= expected(series))
    assert first.stop() == 0
    assert_exact(server.url, expected(series))


@pytest.mark.slow
@pytest.mark.parametrize("consumer", ["engine-1", "engine-2"])
def test_a_stopped_engine_wakes_up_after_it_was_replaced(server: EmbeddedServer, tmp_path: Path, consumer: str) -> None:
    series = simulate(WINDOW + 800, 8, PAIRS)
    total = expected(series)
    env_file = release(tmp_path)
    first = life(env_file, server.url)
    first.wait_ready()
    publish(server.url, series)
    wait_until(lambda: stream_length(server.url, NAMES.decisions) >= 100, every_s=0.001)
    # In the middle of its work: bars in hand, a batch perhaps half-way to the server.
    first.process.send_signal(signal.SIGSTOP)
    try:
        second = life(env_file, server.url, QUANTUM_LEASE_WAIT_S="60", QUANTUM_CONSUMER=consumer)
        second.wait_ready()
        first.process.send_signal(signal.SIGCONT)
        assert first.process.wait(60) == 1
    finally:
        first.kill()
    assert "was taken by another engine; this engine writes nothing more" in first.log
    assert "Traceback" not in first.log
    wait_until(lambda: stream_length(server.url, NAMES.decisions) >= total)
    assert second.stop() == 0, second.log
    assert "gap" not in second.log
    assert_exact(server.url, total)
    assert pending(server.url) == 0

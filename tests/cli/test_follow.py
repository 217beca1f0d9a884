"""`quantum gates --follow` as a process beside a real server: a line a cycle, and the verdict when it is stopped."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.archive.test_follow import fresh, write
from tests.e2e.harness import wait_until
from tests.report.conftest import START, World, make_world

from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.gates.sample import CYCLE
from quantum_trader.gates.whole_policy import WHOLE
from quantum_trader.release.ledger import append_entries
from quantum_trader.release.ledger_entries import Electorate, New, Registration
from quantum_trader.release.observed import observed


class Following:
    """One life of the command; its output goes to a file."""

    def __init__(self, folder: Path, url: str, *options: str) -> None:
        self.out, self.err = folder / "out.txt", folder / "err.txt"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("QUANTUM_")}
        command = [sys.executable, "-m", "quantum_trader.cli.main", "gates", "--follow", "--since", "2020-01-01"]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [*command, *options],
                cwd=folder,
                env={**clean, "QUANTUM_REDIS_URL": url, "QUANTUM_LEDGER": str(folder / "ledger.jsonl")},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def wait(self, condition: Callable[[str], bool]) -> str:
        wait_until(lambda: condition(self.out.read_text()) or self.process.poll() is not None)
        assert self.process.poll() is None, self.err.read_text()
        return self.out.read_text()

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def small_world() -> World:
    return make_world({"BTCUSDT": 91_000.0, "ETHUSDT": 3_100.0}, decisions=3 * CYCLE + 3)


def test_a_line_for_every_cycle_and_the_verdict_at_ctrl_c(tmp_path: Path) -> None:
    world = small_world()
    with EmbeddedServer(tmp_path / "valkey", appendfsync="no") as server:
        client = connect(server.url)
        following = Following(tmp_path, server.url)
        write(client, world, 0, CYCLE + 3)
        following.wait(lambda text: " cycle 1, " in text)
        write(client, world, CYCLE + 3, 2 * CYCLE + 3)
        following.wait(lambda text: " cycle 2, " in text)
        ended = following.stop(signal.SIGINT)
        client.close()
    last = fresh(world, 2)
    shown = following.out.read_text()
    assert ended == last.exit_code
    assert " ".join(shown.split()).count(last.summary) == 2
    assert all(line.name in shown for line in (*last.gates, *last.whole.checks))
    assert following.err.read_text().startswith("following patchtst: ")


def test_what_comes_late_begins_anew_and_sigterm_ends_it(tmp_path: Path) -> None:
    world = small_world()
    with EmbeddedServer(tmp_path / "valkey", appendfsync="no") as server:
        client = connect(server.url)
        write(client, world, 0, CYCLE)
        write(client, world, CYCLE, 2 * CYCLE + 3, ("BTCUSDT",))
        following = Following(tmp_path, server.url, "--json")
        following.wait(lambda text: text.count("\n") == 2)
        write(client, world, CYCLE, 2 * CYCLE + 3, ("ETHUSDT",))
        following.wait(lambda text: text.count("\n") == 4)
        ended = following.stop(signal.SIGTERM)
        client.close()
    lines = [json.loads(line) for line in following.out.read_text().splitlines()]
    assert [line["events"]["cycles"] for line in lines] == [1, 2, 1, 2]
    last = fresh(world, 2).to_dict()
    assert {key: lines[-1][key] for key in last} == json.loads(json.dumps(last))
    assert ended == last["exit_code"]


def test_stopped_before_the_first_cycle_it_holds(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "valkey", appendfsync="no") as server:
        client = connect(server.url)
        write(client, small_world(), 0, 20)
        following = Following(tmp_path, server.url)
        wait_until(lambda: "following patchtst" in following.err.read_text() or following.process.poll() is not None)
        ended = following.stop(signal.SIGTERM)
        client.close()
    assert (ended, following.out.read_text()) == (3, "")
    assert "no cycle was complete" in following.err.read_text()


@pytest.mark.parametrize("policy", [WHOLE.digest, "f" * 64])
def test_what_departs_from_its_registration_ends_it_as_invalid(tmp_path: Path, policy: str) -> None:
    world = small_world()
    said = observed(world.table, "patchtst")
    registration = Registration(
        model="patchtst",
        artefact=said.artefact,
        lineage="patchtst",
        version=1,
        policy=policy,
        electorate=Electorate(
            weights=said.weights, artefacts=said.artefacts, shadow_weight=0.2, min_consensus=said.min_consensus
        ),
        features=said.features,
        symbols=said.symbols,
        timeframe=said.timeframe,
        window_start=said.window_start,
    )
    at = datetime.fromtimestamp(START / 1000, UTC).isoformat(timespec="milliseconds")
    append_entries(tmp_path / "ledger.jsonl", [New(at=at, by="tests", reason="a test", detail=registration)])
    with EmbeddedServer(tmp_path / "valkey", appendfsync="no") as server:
        client = connect(server.url)
        write(client, world, 0, 2 * CYCLE + 3)
        following = Following(tmp_path, server.url, "--json")
        if policy == WHOLE.digest:
            following.wait(lambda text: text.count("\n") == 2)
            following.stop(signal.SIGTERM)
        else:
            assert following.process.wait(60) == 4
        client.close()
    lines = [json.loads(line) for line in following.out.read_text().splitlines()]
    assert "Registered at" in following.err.read_text()
    if policy == WHOLE.digest:
        assert [line["faults"] for line in lines] == [[], []]
    else:
        wanted = f"registered policy {policy[:16]}, judged {WHOLE.digest[:16]}"
        assert [(line["state"], line["faults"]) for line in lines] == [("INVALID", [wanted])]

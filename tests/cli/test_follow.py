"""`quantum gates --follow` as a process beside a real server: a line a cycle, and the verdict when it is stopped."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.archive.test_follow import fresh, write
from tests.e2e.harness import wait_until
from tests.report.conftest import World, make_world

from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.gates.sample import CYCLE


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
                env={**clean, "QUANTUM_REDIS_URL": url},
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

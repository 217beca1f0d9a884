"""What the tests of the night share: an engine as it looks during a fault, and what must be true after it."""

import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from tests.conftest import ROOT
from tests.e2e.harness import Engine, decisions, intents, pending, wait_until
from tests.e2e.stepping_engine import OFFSET
from tests.e2e.test_accounting import assert_exact
from tests.e2e.test_service import PAIRS, expected, in_order, replayed

from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.reader import DecisionReader
from quantum_trader.core.bars import BarSeries
from quantum_trader.core.decision import canonical

NAMES = StreamNames()
AGAIN = "trying again until it works"


class Watched(Engine):
    """An engine that is asked for its health; all of them are in `lives`."""

    lives: ClassVar[list["Watched"]] = []

    def __init__(self, env_file: Path, url: str, pairs: list[str] = PAIRS, **environ: str) -> None:
        super().__init__(env_file, url, pairs, **{"QUANTUM_HEALTH_ADDRESS": "127.0.0.1:0", **environ})
        self.lives.append(self)

    @property
    def messages(self) -> list[str]:
        """The text of every whole line of its log."""
        return [json.loads(line)["message"] for line in self.log.splitlines(keepends=True) if line.endswith("\n")]

    def says(self, words: str) -> bool:
        return any(words in message for message in self.messages)

    def health(self, word: str) -> list[str]:
        """Why it is not `word` ("ready" or "live"); empty if it is."""
        where = next(m.rpartition("/")[2] for m in self.messages if m.startswith("health and metrics on "))
        return health(where, word)


class Stepping(Watched):
    """An engine whose wall clock a test steps; the monotonic one goes on."""

    MODULE = "tests.e2e.stepping_engine"

    def __init__(self, env_file: Path, url: str, step_s: int = 0, **environ: str) -> None:
        self._offset = env_file.parent / "clock-offset"
        self.step(step_s)
        super().__init__(env_file, url, **{OFFSET: str(self._offset), "PYTHONPATH": str(ROOT), **environ})

    def step(self, step_s: int) -> None:
        """Set the clock so many seconds from the right time."""
        fresh = self._offset.with_suffix(".new")
        fresh.write_text(str(step_s))
        fresh.replace(self._offset)


def health(where: str, word: str) -> list[str]:
    """Why the engine whose health server is at HOST:PORT is not `word`; empty if it is."""
    host, _, port = where.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", f"/health/{word}")
        answer = connection.getresponse()
        document = json.loads(answer.read())
    finally:
        connection.close()
    assert (answer.status == 200) == document[word] == (not document["reasons"])
    reasons: list[str] = document["reasons"]
    return reasons


def assert_complete(url: str, series: dict[str, BarSeries], models: Path) -> None:
    """Every decision of a replay of the same bars, once and byte for byte; all counts add up; nothing is pending."""
    records = decisions(url)
    offline = replayed(series, models)
    assert len(offline) == expected(series)
    assert [canonical(r.decision) for r in in_order(records)] == [canonical(r.decision) for r in offline]
    assert_exact(url, len(offline))
    wanted = [r.decision.decision_id for r in records if r.decision.action != "HOLD"]
    assert [payload["decision_id"] for payload in intents(url)] == wanted
    times = [r.ts_decision for r in records]
    assert times == sorted(times), "the record's times never go back"
    assert pending(url) == 0


def alarms(url: str, name: str) -> list[str]:
    """What happened to an alarm, oldest first: "raised" and "cleared"."""
    with connect(url) as client:
        found = [event.detail for _, event in DecisionReader(client, NAMES).lifecycle()]
    return [str(detail["state"]) for detail in found if detail["name"] == name]


def start_again(server: EmbeddedServer) -> None:
    """Start a server that was killed, once its process is gone."""
    wait_until(lambda: server.pid is None)
    server.start()


class SmallDisk:
    """A file system of a few megabytes that can be filled to the last byte and emptied again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._ballast = folder, folder / "ballast"

    def fill(self) -> None:
        """Take all the space that is left."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (1 << 16, 1 << 9, 1):
                try:
                    while True:
                        ballast.write(b"x" * size)
                except OSError:
                    continue

    def make_space(self) -> None:
        """Give it back."""
        self._ballast.unlink()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk | None]:
    """A tmpfs on `folder`; None where this process may not mount one."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    folder.mkdir()
    command = [str(mount), "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)]
    if mount is None or umount is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        yield None
        return
    try:
        yield SmallDisk(folder)
    finally:
        # Whatever still holds a file open must not keep the folder.
        subprocess.run([umount, "-l", str(folder)], check=True)

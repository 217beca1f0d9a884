"""A rollback whose near side or agent is killed at a random moment is finished by the next call, never half done."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.harness import wait_until
from tests.e2e.releasing import Vps, environ, vps
from tests.e2e.test_deploy import grant, info, quantum, says, voter

from quantum_trader.models.artefact import Artefact
from quantum_trader.release.env_file import plan_env
from quantum_trader.release.ledger import verify, voting

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NEAR, FAR = 20, 10


class Ground:
    """A host on which a model votes with a new artefact, again and again, and the old one is its baseline."""

    def __init__(self, host: Vps, folder: Path) -> None:
        self.host = host
        self.old, self.new = voter(host, 90, folder)
        self.env = host.env.read_bytes()

    def again(self) -> None:
        """As at first: the new artefact votes, both hold a grant."""
        self.host.env.write_bytes(self.env)
        for artefact in (self.old, self.new):
            if artefact.digest not in voting(self.host.entries()).get("patchtst", set()):
                grant(self.host, artefact.digest)
        subprocess.run(self.host.service("restart"), check=True, timeout=60)
        wait_until(lambda: says(self.host, f"{self.new.digest} voter"))

    def start(self, way: str) -> "subprocess.Popen[bytes]":
        argv = [sys.executable, "-m", "quantum_trader.cli.main", "rollback", "patchtst", f"--{way}", "--host", "vps"]
        return subprocess.Popen(
            [*argv, "--hosts", str(self.host.hosts)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environ(),
            start_new_session=True,
        )

    def agents(self) -> list[int]:
        """Agents of this host's folder that run a transaction now."""
        state, found = str(self.host.folder / "state").encode(), []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if b"run" in words and state in words:
                    found.append(int(path.parent.name))
        return found

    def assert_new(self, way: str) -> None:
        """Wholly where this way leads: env file, ledger, engine; nothing is left over and no transaction open."""
        assert verify(self.host.folder / "ledger.jsonl") == []
        stands: tuple[Artefact, str] = (self.new, "shadow") if way == "fast" else (self.old, "voter")
        grants = voting(self.host.entries()).get("patchtst", set())
        if way == "fast":
            assert self.host.env.read_bytes() == plan_env(self.env, {"PATCHTST_SHADOW_ONLY": "true"}, "e").after
        else:
            assert self.host.values()["PATCHTST_MODEL_PATH"].endswith(self.old.folder.name)
            assert self.host.values()["PATCHTST_SHADOW_ONLY"] == "false"
        assert self.new.digest not in grants
        assert self.old.digest in grants
        assert info(self.host) == f"{stands[0].digest} {stands[1]}"
        left = [*self.host.folder.iterdir(), *(self.host.folder / "models").iterdir()]
        assert [path.name for path in left if path.name.startswith(".")] == []
        for journal in (self.host.folder / "state" / "transactions").glob("*/journal.jsonl"):
            assert json.loads(journal.read_bytes().splitlines()[-1])["result"] == "done", journal


def test_the_near_side_is_killed(tmp_path: Path) -> None:
    draws = np.random.default_rng(5)
    with vps(tmp_path / "own") as host:
        ground = Ground(host, tmp_path)
        for number in range(NEAR):
            way = ("fast", "full")[number % 2]
            ground.again()
            running = ground.start(way)
            time.sleep(float(draws.uniform(0.1, 3.0)))
            running.kill()
            running.wait(60)
            # Whatever stands there at this very moment, the ledger is whole.
            assert verify(host.folder / "ledger.jsonl") == []
            done = quantum(host, "rollback", "patchtst", f"--{way}")
            # The agent may have ended it by itself meanwhile: then there is no further baseline to go to.
            assert done.returncode == 0 or (way == "full" and "no other artefact holds a grant" in done.stderr), (
                number,
                done.stdout + done.stderr,
            )
            ground.assert_new(way)


def test_the_agent_is_killed(tmp_path: Path) -> None:
    draws, killed = np.random.default_rng(6), 0
    with vps(tmp_path / "own") as host:
        ground = Ground(host, tmp_path)
        for number in range(FAR):
            way = ("fast", "full")[number % 2]
            ground.again()
            running = ground.start(way)
            wait_until(lambda running=running: bool(ground.agents()) or running.poll() is not None)
            time.sleep(float(draws.uniform(0.0, 1.2)))
            for pid in ground.agents():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            # Whoever listens starts it again, and it goes on where its journal ends.
            assert running.wait(120) == 0, number
            ground.assert_new(way)
    assert killed > FAR // 3

"""A deployment of a shadow on the test host: a plan, carried out there by the agent under real systemd.

It has the steps that change a host: backup, artefact, flip, restart. The way back is one plan too.
"""

import itertools
import json
import time
from pathlib import PurePosixPath
from typing import Any

from tests.artefacts import make_artefact
from tests.conftest import ROOT
from tests.host.guest import ENGINE, ENV_FILE, Guest

from quantum_trader.release.env_file import plan_env, sha256

AGENT = PurePosixPath("/var/lib/quantum/deploy/agent.py")
STATE = AGENT.parent
MODELS = PurePosixPath("/var/lib/quantum/models")
ENV = PurePosixPath(ENV_FILE)

NEVER_READY = ["sh", "-c", "echo it never gets ready; exit 1"]


class Deployment:
    """Deployments of one host, one after another."""

    def __init__(self, guest: Guest) -> None:
        self.guest, self.host = guest, guest.connect()
        self.host.put(ROOT / "src/quantum_trader/release/agent.py", AGENT, 0o700, "root")
        self.old = self.new = self.host.read(ENV)
        self.target = self.backup = PurePosixPath("/")
        self._numbers = itertools.count()
        self.name = ""

    def deploy(self, seed: int, *, never_ready: bool = False, wait: bool = True, damage: bool = False) -> str:
        """Bring an artefact, flip the env file, restart; returns how it ended.

        Args:
            seed: Of the artefact.
            never_ready: The engine is never found ready, so that the agent has to come back.
            wait: Follow it to its end.
            damage: The artefact arrives with another byte.
        """
        folder = make_artefact(self.guest.folder / "new", "patchtst", seed)
        self.name = f"20260101_{next(self._numbers):06d}-{seed:08x}"
        self.old, self.target = self.host.read(ENV), MODELS / folder.name
        self.backup = ENV.with_name(f"{ENV.name}.bak.{self.name}")
        staged = MODELS / f".{folder.name}.{self.name}.sent"
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.host.run(["install", "-d", "-m", "755", str(staged)])
        for name, content in files.items():
            self.host.put(content + b"x" if damage else content, staged / name, 0o644, "qt")
        env = plan_env(self.old, {"PATCHTST_MODEL_PATH": str(self.target), "PATCHTST_SHADOW_ONLY": "true"}, ENV_FILE)
        self.new = env.after
        entries = {name: {"sha256": sha256(each), "bytes": len(each)} for name, each in files.items()}
        whole = {"from": str(self.backup), "parts": [[0, 1_000_000]], "sha256": sha256(self.old)}
        steps = [
            {"kind": "backup", "path": ENV_FILE, "to": str(self.backup), "sha256": sha256(self.old)},
            {"kind": "artefact", "staged": str(staged), "target": str(self.target), "files": entries, "owner": "qt"},
            self._env(self.old, env.after, list(env.parts), ENV_FILE, whole),
            restart(never_ready=never_ready),
        ]
        return self._carry_out("deploy", steps, wait=wait)

    def back(self) -> str:
        """The env file as it was backed up, and the artefact gone again."""
        self.name = f"20260101_{next(self._numbers):06d}-ffffffff"
        backup = str(self.backup)
        now = {"from": ENV_FILE, "parts": [[0, 1_000_000]], "sha256": sha256(self.new)}
        steps = [
            self._env(self.new, self.old, [[0, 1_000_000]], backup, now),
            restart(),
            {"kind": "remove", "target": str(self.target)},
        ]
        return self._carry_out("rollback", steps)

    def result(self, timeout_s: float = 120.0) -> str:
        """How the last one ended, waited for."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            said = self.host.run(["python3", "-I", str(AGENT), "status", str(STATE)]).out
            found = next(each for each in json.loads(said)["transactions"] if each["id"] == self.name)
            if found["result"] is not None:
                return str(found["result"])
            time.sleep(0.05)
        raise AssertionError(f"{self.name} never ended")

    def journal(self) -> list[dict[str, Any]]:
        """What the agent wrote down of the last one."""
        said = self.host.run(["python3", "-I", str(AGENT), "journal", str(STATE), self.name, "0", "0"]).out
        return [json.loads(line) for line in said.splitlines()]

    def assert_old(self) -> None:
        """Wholly old: env file byte for byte, no artefact and no draft more, the engine on it."""
        assert self.host.read(ENV) == self.old
        assert not self.host.exists(self.target)
        self._assert_settled()

    def assert_new(self) -> None:
        """Wholly new: env file, artefact verified, the engine on it."""
        assert self.host.read(ENV) == self.new
        assert self.host.exists(self.target)
        self._assert_settled()

    def _assert_settled(self) -> None:
        assert [name for name in self.host.names(MODELS) if name.startswith(".")] == []
        assert [name for name in self.host.names(ENV.parent) if name.startswith(".")] == []
        assert self.guest.show(ENGINE, "ActiveState") == ["active"]
        wanted = next(line for line in self.host.read(ENV).decode().splitlines() if line.startswith("PATCHTST_MODEL"))
        worker = self.host.run(["pgrep", "-a", "-f", "shadow_worker"]).out.decode()
        assert wanted.partition("=")[2] in worker

    def _env(self, before: bytes, after: bytes, parts: list[Any], source: str, undo: dict[str, Any]) -> dict[str, Any]:
        digests = {"before": sha256(before), "after": sha256(after)}
        return {"kind": "env", "path": ENV_FILE, "from": source, "parts": parts, "undo": undo, **digests}

    def _carry_out(self, kind: str, steps: list[dict[str, Any]], *, wait: bool = True) -> str:
        plan = {"format": 1, "id": self.name, "kind": kind, "model": "patchtst", "steps": steps}
        folder = STATE / "transactions" / self.name
        self.host.run(["install", "-d", "-m", "700", str(folder)])
        self.host.put(json.dumps(plan).encode(), folder / "plan.json", 0o600, "root")
        self.host.run(["python3", "-I", str(AGENT), "start", str(STATE), self.name])
        return self.result() if wait else ""


def restart(*, never_ready: bool = False) -> dict[str, Any]:
    """The engine restarted and found active and ready."""
    ready: list[dict[str, Any]] = [
        {"argv": ["systemctl", "is-active", "--quiet", ENGINE]},
        {"address": "127.0.0.1:9464", "path": "/health/ready"},
    ]
    expect = [{"argv": NEVER_READY}] if never_ready else []
    return {
        "kind": "restart",
        "argv": ["systemctl", "restart", ENGINE],
        "probes": ready,
        "expect": expect,
        # Of the way back too, so it has to be enough for a restart on a busy machine.
        "timeout_s": 20.0 if never_ready else 60.0,
        "settle_s": 0.3,
    }

"""A host for deployments without systemd: this machine, a real engine that a small program starts and stops."""

import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.harness import release

from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.release.ledger import read_entries
from quantum_trader.release.ledger_entries import Entry

_INFO = re.compile(r'quantum_model_info\{artefact="(\w*)",model="(\w+)",role="(\w+)"\} 1\.0')

SERVICE = """
import os, pathlib, signal, subprocess, sys, time
verb, folder = sys.argv[1], pathlib.Path(sys.argv[2])
pid_file = folder / "pid"
def running():
    try:
        pid = int(pid_file.read_text())
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return pid if stat != "Z" else None
    except (OSError, ValueError):
        return None
if verb in ("restart", "stop"):
    pid = running()
    if pid:
        os.kill(pid, signal.SIGTERM)
        while running():
            time.sleep(0.02)
if verb == "restart":
    (folder / "restarts").open("a").write("x")
    clean = {n: v for n, v in os.environ.items() if not n.startswith("QUANTUM_")}
    if (folder / "ledger-by-unit").exists():
        clean["QUANTUM_LEDGER"] = str(folder / "ledger.jsonl")
    log = (folder / "engine.log").open("ab")
    argv = [sys.executable, "-m", "quantum_trader.cli.main", "run", "--env-file", str(folder / "ai-engine.env")]
    new = subprocess.Popen(argv, env=clean, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    pid_file.write_text(str(new.pid))
if verb == "reload":
    os.kill(running() or sys.exit(1), signal.SIGHUP)
if verb == "active":
    sys.exit(running() is None)
"""


class Vps:
    """A folder as a host."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.env = release(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        lines = f"QUANTUM_REDIS_URL={url}\nQUANTUM_PAIRS=BTC/USDT\nQUANTUM_HEALTH_ADDRESS=127.0.0.1:{port}\n"
        self.env.write_bytes(self.env.read_bytes() + lines.encode() + b"# the end, without a newline")
        (folder / "service.py").write_text(SERVICE)
        self.hosts = folder / "hosts.toml"
        self.write_hosts()

    def write_hosts(self, **changes: object) -> None:
        settings: dict[str, object] = {
            "python": sys.executable,
            "engine_python": sys.executable,
            "env_file": str(self.env),
            "models": str(self.folder / "models"),
            "state": str(self.folder / "state"),
            "owner": "",
            "restart": self.service("restart"),
            "reload": self.service("reload"),
            "active": self.service("active"),
            "ready_timeout_s": 60.0,
            "settle_s": 0.2,
            **changes,
        }
        self.hosts.write_text("[vps]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))

    def service(self, verb: str) -> list[str]:
        return [sys.executable, str(self.folder / "service.py"), verb, str(self.folder)]

    def entries(self) -> list[Entry]:
        return read_entries(self.folder / "ledger.jsonl")

    def names(self) -> list[str]:
        """What lies where the operator looks: beside the env file and among the models."""
        seen = [path for path in self.folder.iterdir() if "env" in path.name]
        return sorted(path.name for path in (*seen, *(self.folder / "models").iterdir()))

    def values(self) -> dict[str, str]:
        lines = self.env.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def model_infos(metrics: str) -> list[tuple[str, str, str]]:
    """Model, role and artefact, line by line, in the engine's own words on its page of metrics."""
    return [(model, role, artefact) for artefact, model, role in _INFO.findall(metrics)]


@contextmanager
def vps(folder: Path) -> Iterator[Vps]:
    """A host with a running engine, ended when the block does."""
    import subprocess

    with EmbeddedServer(folder / "valkey") as server:
        host = Vps(folder, server.url)
        try:
            subprocess.run(host.service("restart"), check=True, timeout=60)
            yield host
        finally:
            subprocess.run(host.service("stop"), check=True, timeout=60)


def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("QUANTUM_")}

"""A real Debian host for tests: booted by ops/test-host, made ready by `quantum host init`."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.artefacts import make_artefact
from tests.conftest import ROOT

from quantum_trader.core.predictions import MODELS
from quantum_trader.release.host import Host
from quantum_trader.release.host_settings import load_host

SCRIPT = ROOT / "ops" / "test-host" / "test-host"
ENV_FILE = "/etc/quantum/ai-engine.env"
ENGINE = "quantum-ai-engine.service"
SHADOW = "patchtst"
NAME = f"qt{os.getpid() % 1_000_000}"


def why_not() -> str:
    """Why no host can be booted here; empty if one can."""
    if os.geteuid() != 0:
        return "a test host needs root"
    tools = [tool for tool in ("systemd-nspawn", "mmdebstrap", "ssh", "ip") if shutil.which(tool) is None]
    return f"a test host needs {', '.join(tools)} (sh ops/install-system-parts.sh)" if tools else ""


class Guest:
    """A host that is up."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.hosts = folder, folder / "hosts.toml"
        self.hosts.write_text(script("hosts").stdout)
        self.models, self.bundle = folder / "models", folder / "bundle"
        self.times: list[tuple[str, float]] = []

    def prepare(self) -> None:
        """Make what is brought to it: four tiny artefacts and the bundle."""
        for seed, model in enumerate(MODELS):
            make_artefact(self.models, model, seed)
        command = ["sh", "ops/make-bundle.sh", str(self.bundle), sys.executable]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)

    def init(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """`quantum host init`, as an operator calls it."""
        where = ["--host", NAME, "--hosts", str(self.hosts), "--bundle", str(self.bundle)]
        return self.quantum("host", "init", *where, "--models", str(self.models), *options)

    def quantum(self, *words: str, timeout_s: float = 400.0) -> "subprocess.CompletedProcess[str]":
        """A verb here."""
        argv = [sys.executable, "-m", "quantum_trader.cli.main", *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)

    def connect(self) -> Host:
        """The host, as releasing reaches it."""
        return load_host(NAME, self.hosts).connect()

    def run(self, *words: str, timeout_s: float = 120.0, check: bool = True) -> str:
        """A command on the host; what it printed."""
        done = script("ssh", shlex.join(words), check=False, timeout_s=timeout_s)
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def show(self, unit: str, *names: str) -> list[str]:
        """Properties of a unit, in the order they were asked for."""
        said = dict(
            line.split("=", 1) for line in self.run("systemctl", "show", f"-p{','.join(names)}", unit).split("\n")
        )
        return [said[name] for name in names]

    def status(self) -> dict[str, Any]:
        """`quantum status --json` there."""
        document: dict[str, Any] = json.loads(
            self.run("quantum", "status", "--json", "--env-file", ENV_FILE, check=False)
        )
        return document

    def journal(self, unit: str) -> str:
        """All that a unit logged."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit)

    def until(self, words: Sequence[str], timeout_s: float = 60.0) -> None:
        """Wait until a command on the host ends well."""
        end = time.monotonic() + timeout_s
        while script("ssh", *words, check=False).returncode:
            assert time.monotonic() < end, f"{' '.join(words)} never ended well"
            time.sleep(0.2)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Note how long something took."""
        began = time.monotonic()
        yield
        self.times.append((what, time.monotonic() - began))


def script(*words: str, check: bool = True, timeout_s: float = 400.0) -> "subprocess.CompletedProcess[str]":
    """A verb of ops/test-host."""
    environ = {**os.environ, "QUANTUM_TEST_HOST_NAME": NAME}
    return subprocess.run(
        [SCRIPT, *words],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=check,
        env=environ,
        stdin=subprocess.DEVNULL,
    )


@contextmanager
def booted(folder: Path) -> Iterator[Guest]:
    """A fresh host, removed at the end whatever happens."""
    began = time.monotonic()
    script("build")
    built = time.monotonic()
    try:
        script("up")
        guest = Guest(folder)
        guest.times += [("the Debian root, built or found in the cache", built - began)]
        guest.times += [("boot, until systemd says running", time.monotonic() - built)]
        yield guest
    finally:
        script("down", check=False)
        assert script("left", check=False).stdout == ""

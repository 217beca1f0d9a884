"""The engine as an operator runs it: a process, an env file, a ledger, a real stream server."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.artefacts import make_artefact

from quantum_trader.bus.client import connect
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.reader import DecisionReader
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.predictions import MODELS
from quantum_trader.release.init import initialise

NAMES = StreamNames()


def release(folder: Path, shadows: frozenset[str] = frozenset({"patchtst"})) -> Path:
    """Four tiny artefacts, a ledger and an env file; returns the env file."""
    paths = {model: make_artefact(folder / "models", model, seed) for seed, model in enumerate(MODELS)}
    env_file = folder / "ai-engine.env"
    initialise(paths, shadows, folder / "ledger.jsonl", env_file, by="tests", at="2026-01-01T00:00:00+00:00")
    return env_file


class Engine:
    """One life of the engine process."""

    MODULE = "quantum_trader.cli.main"

    def __init__(self, env_file: Path, url: str, pairs: list[str], **environ: str) -> None:
        self.log_path = env_file.parent / f"engine-{time.monotonic_ns()}.log"
        self.ready_file = env_file.parent / f"ready-{time.monotonic_ns()}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("QUANTUM_")}
        clean |= {
            "QUANTUM_REDIS_URL": url,
            "QUANTUM_PAIRS": ",".join(pairs),
            "QUANTUM_READY_FILE": str(self.ready_file),
            "QUANTUM_HEALTH_ADDRESS": "",
            **environ,
        }
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.MODULE, "run", "--env-file", str(env_file)],
                env=clean,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        wait_until(lambda: self.ready_file.exists() or self.process.poll() is not None, timeout_s)
        assert self.process.poll() is None, self.log

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout_s: float = 30.0) -> int:
        self.process.terminate()
        return self.process.wait(timeout_s)

    @property
    def log(self) -> str:
        return self.log_path.read_text()


def wait_until(condition, timeout_s: float = 60.0, every_s: float = 0.01) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(every_s)


def decisions(url: str) -> list[DecisionRecord]:
    client = connect(url)
    try:
        return list(DecisionReader(client, NAMES).since(0))
    finally:
        client.close()


def intents(url: str) -> list[Mapping[str, object]]:
    client = connect(url)
    try:
        return [entry.payload for entry in DecisionReader(client, NAMES).intents(100_000)]
    finally:
        client.close()


def stream_length(url: str, key: str) -> int:
    client = connect(url)
    try:
        return int(client.xlen(key))
    finally:
        client.close()


def pending(url: str) -> int:
    client = connect(url)
    try:
        return int(client.xpending(NAMES.bars, "ai-engine")["pending"])
    finally:
        client.close()

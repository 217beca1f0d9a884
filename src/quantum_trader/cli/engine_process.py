"""The engine as a process, for verbs that run one: started, waited for, ended by SIGTERM as systemd would."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from quantum_trader.core.errors import QuantumError

STOP_TIMEOUT_S = 30.0
_POLL_S = 0.02


def without_settings(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment without what a user's own shell would tell an engine."""
    return {name: value for name, value in environ.items() if not _is_setting(name)}


def _is_setting(name: str) -> bool:
    return name.startswith("QUANTUM_") or name == "SHADOW_GRACE_MS" or name.endswith(("_MODEL_PATH", "_SHADOW_ONLY"))


@contextlib.contextmanager
def engine_process(
    arguments: Sequence[str], environ: Mapping[str, str], log: Path
) -> "Iterator[subprocess.Popen[bytes]]":
    """An engine that runs while the block does.

    Args:
        arguments: For the interpreter: a module that runs an engine, with its arguments.
        environ: All of its environment.
        log: File for what it says.
    """
    with log.open("wb") as output:
        engine = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            [sys.executable, *arguments],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield engine
    finally:
        engine.terminate()
        try:
            engine.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            engine.kill()
            engine.wait()


def wait_for(
    engine: "subprocess.Popen[bytes]", there: Callable[[], bool], timeout_s: float, problem: str, log: Path
) -> None:
    """Wait until an engine has come to something.

    Raises:
        QuantumError: if it ends before, or does not come to it in time; the message names its log.
    """
    end = time.monotonic() + timeout_s
    while not there():
        if engine.poll() is not None or time.monotonic() > end:
            raise QuantumError(f"the engine {problem}; see {log}")
        time.sleep(_POLL_S)

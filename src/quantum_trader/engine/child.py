"""One life of a shadow's process: started with nothing of the engine's but a socket, limited at once, ended for sure.

Its environment is its own, its standard streams lead nowhere (a shadow that prints without end must not fill the
engine's log), and it leads a session of its own, so that what it may have started ends with it.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from quantum_trader.engine.cgroup import Group
from quantum_trader.engine.frames import OUT_OF_MEMORY
from quantum_trader.engine.limits import Limits, confine, seal

WORKER = ("quantum_trader.engine.shadow_worker",)
"""What runs a shadow: a module, then arguments behind its own."""


class Child:
    """A running process and the engine's end of its socket.

    Args:
        program: Module and extra arguments.
        folder: Of the artefact.
        limits: What it may use.
        group: Its control group, where there is one.

    Raises:
        OSError: if it cannot be started.
    """

    def __init__(self, program: Sequence[str], folder: Path, limits: Limits, group: Group | None) -> None:
        self.connection, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _spawn(program, folder, theirs)
        except OSError:
            self.connection.close()
            raise
        self.held = confine(self._process.pid, limits, group)

    @property
    def pid(self) -> int:
        """Its number, which is no other's until `exit_words` or `end`."""
        return self._process.pid

    def computed_s(self) -> float:
        """The processor's time that it has taken, its threads together, in seconds (hundredths are told)."""
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.Error:
            # It has ended, which its socket tells.
            return 0.0
        return float(times.user + times.system)

    def seal(self) -> None:
        """Take the rest away, now that it has loaded all it needs."""
        self.held += seal(self._process.pid)

    def hang_up(self) -> None:
        """Close the conversation from another thread: whoever reads or writes it gets an end of file."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def exit_words(self) -> str:
        """How it ended by itself."""
        # Its socket closes a moment before it can be waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            return _words(self._process.wait(0.2))
        return "it closed its socket"

    def end(self) -> None:
        """Kill it and what it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.connection.close()


def _words(status: int) -> str:
    if status == OUT_OF_MEMORY:
        return "out of memory"
    if status < 0:
        try:
            return f"killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"killed by signal {-status}"
    return f"exit status {status}"


def _spawn(program: Sequence[str], folder: Path, theirs: socket.socket) -> subprocess.Popen[bytes]:
    module, *extra = program
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
        # -P: nothing in the folder where the engine was started takes a library's place.
        [sys.executable, "-P", "-m", module, str(theirs.fileno()), str(folder), *extra],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """No bus address and no secret of the engine's environment reaches a shadow."""
    return {
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        # The runtime would start a thread of its own, a database below the home folder, and uploads.
        "ORT_DISABLE_TELEMETRY": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }

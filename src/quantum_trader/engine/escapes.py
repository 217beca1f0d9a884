"""Ways out of the cage, tried for real: each is a thing that a shadow must not be able to do.

Only the fault ``escaping`` runs them. None does harm where it succeeds: files are opened and not written, a signal is
the empty one, a connection goes to a port of this machine.
"""

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_PORTS = (6379, 9)
"""The usual one of a stream server, and one where nobody listens: being turned away there is an escape too."""


def escaped(folder: Path) -> list[str]:
    """What succeeded, in words; empty where the cage holds.

    Args:
        folder: Of the shadow's artefact.
    """
    return [word for word, attempt in _attempts(folder).items() if _succeeds(attempt)]


def _attempts(folder: Path) -> dict[str, Callable[[], object]]:
    engine = os.getppid()
    return {
        "opened its artefact for writing": lambda: _open(folder / "manifest.json", os.O_WRONLY),
        "made a file beside its artefact": lambda: _make(folder / "escaped"),
        "made a temporary file": lambda: _make(Path("/tmp") / f"escaped-{os.getpid()}"),  # noqa: S108 - that is the point
        "read its artefact again": lambda: _open(folder / "manifest.json", os.O_RDONLY),
        "read the engine's environment": lambda: _open(Path(f"/proc/{engine}/environ"), os.O_RDONLY),
        "opened the engine's memory": lambda: _open(Path(f"/proc/{engine}/mem"), os.O_RDONLY),
        "sent the engine a signal": lambda: os.kill(engine, 0),
        "made a socket": lambda: socket.socket().close(),
        "connected to a port": _connect,
        "started a program": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        "raised its limits": _raise_limits,
        "raised its priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, 0),
    }


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, ValueError, subprocess.SubprocessError):
        return False
    return True


def _open(path: Path, flags: int) -> None:
    os.close(os.open(path, flags | os.O_CLOEXEC))


def _make(path: Path) -> None:
    _open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    path.unlink()


def _connect() -> None:
    for port in _PORTS:
        with socket.socket() as connection:
            try:
                connection.connect(("127.0.0.1", port))
            except ConnectionRefusedError:
                return
    # Connected, then.


def _raise_limits() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most + 64, most + 64))

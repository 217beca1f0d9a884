"""What a process can no longer do once it gave it up, tried in real processes, with nothing else held."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from quantum_trader.engine import landlock

NETWORK_ABI, SIGNAL_ABI = 4, 6

needs_landlock = pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")

PRELUDE = """
import ctypes, os, signal, socket, sys
from quantum_trader.engine import landlock
def tried(attempt):
    try:
        attempt()
    except PermissionError:
        return "denied"
    return "done"
folder, port = sys.argv[1], int(sys.argv[2])
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0
"""

ATTEMPTS = {
    "write": "lambda: open(folder + '/file', 'a').close()",
    "make": "lambda: open(folder + '/new', 'x').close()",
    "truncate": "lambda: os.truncate(folder + '/file', 0)",
    "link": "lambda: os.symlink('x', folder + '/link')",
    "execute": "lambda: os.posix_spawn('/bin/true', ['true'], {})",
    "read": "lambda: open(folder + '/file').close()",
    "list": "lambda: os.listdir(folder)",
    "engine's environment": "lambda: open(f'/proc/{os.getppid()}/environ').close()",
    "connect": "lambda: socket.create_connection(('127.0.0.1', port)).close()",
    "bind": "lambda: socket.create_server(('127.0.0.1', 0)).close()",
    "signal": "lambda: os.kill(os.getppid(), 0)",
    "remove": "lambda: os.remove(folder + '/file')",
}


def outcomes(folder: Path, give_up: str) -> dict[str, str]:
    """What becomes of every attempt in a process that first runs `give_up`."""
    (folder / "file").write_text("content")
    lines = "\n".join(f"print({name!r}, tried({attempt}), sep='=')" for name, attempt in ATTEMPTS.items())
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = subprocess.run(
            [sys.executable, "-c", f"{PRELUDE}\n{give_up}\n{lines}", str(folder), str(server.getsockname()[1])],
            capture_output=True,
            text=True,
            check=True,
        )
    return dict(line.split("=") for line in done.stdout.splitlines())


def test_without_it_all_of_that_works(tmp_path: Path) -> None:
    assert outcomes(tmp_path, "pass") == dict.fromkeys(ATTEMPTS, "done")


@needs_landlock
def test_at_first_everything_but_reading_is_denied(tmp_path: Path) -> None:
    found = outcomes(tmp_path, "assert landlock.give_up(reading=False) == landlock.abi()")
    denied = {name for name, outcome in found.items() if outcome == "denied"}
    assert denied >= {"write", "make", "link", "execute"}
    assert not denied & {"read", "list"}
    assert ("connect" in denied) == ("bind" in denied) == (landlock.abi() >= NETWORK_ABI)
    assert ("signal" in denied) == (landlock.abi() >= SIGNAL_ABI)
    assert (tmp_path / "file").read_text() == "content"
    assert not (tmp_path / "new").exists()


@needs_landlock
def test_then_reading_as_well(tmp_path: Path) -> None:
    twice = "landlock.give_up(reading=False); landlock.give_up(reading=True)"
    found = outcomes(tmp_path, twice)
    assert {"read", "list", "write", "engine's environment"} <= {
        name for name, outcome in found.items() if outcome == "denied"
    }


@needs_landlock
def test_a_thread_that_starts_afterwards_inherits_it(tmp_path: Path) -> None:
    script = (
        f"{PRELUDE}\nimport threading\nlandlock.give_up(reading=False)\n"
        "found = []\nthread = threading.Thread(target=lambda: found.append(tried(lambda: open(folder + '/n', 'x'))))\n"
        "thread.start(); thread.join(); print(found[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), "0"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "denied\n"


@pytest.mark.parametrize(("known", "size"), [(1, 8), (3, 8), (4, 16), (5, 16), (6, 24), (9, 24)])
def test_an_older_kernel_is_told_no_more_than_it_knows(known: int, size: int) -> None:
    assert landlock._size(known) == size

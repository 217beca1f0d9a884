"""Processes, kernel locks and ports, as the embedded server's supervisor needs them."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

HOST = "127.0.0.1"
_POLL_S = 0.005


@contextlib.contextmanager
def locked(path: Path, wait_s: float) -> Iterator[int]:
    """An exclusive kernel lock on a file; gone when every process that holds the descriptor is.

    Raises:
        BlockingIOError: if somebody else still holds it after `wait_s` seconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise
                time.sleep(_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


def alive(process: psutil.Process) -> bool:
    """Whether a process runs and is no zombie."""
    # An adopted server's zombie may stay for ever where process 1 reaps nothing; it is dead all the same.
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_gone(process: psutil.Process, seconds: float) -> bool:
    """Wait for the end of any process, our child or not; False if it still runs after `seconds`."""
    until = time.monotonic() + seconds
    while alive(process):
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_S)
    return True


def port_free(port: int) -> bool:
    """Whether a server could bind a port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def any_port() -> int:
    """A port of 127.0.0.1 that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])

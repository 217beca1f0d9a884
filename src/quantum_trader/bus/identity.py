"""Which process on which machine somebody is, and whether a process of this machine still lives."""

import os
import socket
from pathlib import Path
from typing import Self

import msgspec

_PROC = Path("/proc")


class Identity(msgspec.Struct, frozen=True):
    """A process that cannot be mistaken for another one, not even when its number is used again.

    Attributes:
        host: Name of the machine, for people.
        pid: Number of the process.
        started: When it started, in clock ticks since the machine did; a clock that is set does not change it.
        machine: One start of one machine's kernel and one space of process numbers; empty where that is unknown.
        consumer: Name in the consumer group.
    """

    host: str
    pid: int
    started: int
    machine: str
    consumer: str

    @classmethod
    def here(cls, consumer: str) -> Self:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()) or 0, _machine(), consumer)

    def gone(self) -> bool | None:
        """Whether the process has ended; None where that cannot be known from here.

        Only a process of this very machine and number space can be looked up: that of another container is as far
        away as one of another machine.
        """
        if not self.machine or self.machine != _machine():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OverflowError:
            return None
        except PermissionError:
            # There is such a process, of another user; what /proc says below decides whether it is the same.
            pass
        started = _started(self.pid)
        # Of a process that /proc hides nothing is known, so it counts as alive.
        return started is not None and started != self.started

    def __str__(self) -> str:
        return f"{self.consumer} on {self.host}, process {self.pid}"


def _machine() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """Start of a process in ticks; -1 for a zombie, which is nobody's process any more; None where it is hidden."""
    try:
        # The program's name stands in brackets and may hold anything, brackets too.
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return -1 if fields[0] in (b"Z", b"X") else int(fields[19])

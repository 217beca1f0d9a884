"""The half of the cage that only the shadow's process itself can build; the engine builds the other half (limits).

- `enter` comes first, before any library is loaded: it dies with its engine, gains no rights by executing anything, has
  no capability, and gives up writing files, TCP and signals to others. Threads of libraries inherit all of it.
- `lock` comes when the artefact's bytes are read and verified, before the runtime parses them: files are not read any
  more either, and no file, socket, process or thread is opened. From then on it has its socket and its memory.

Nothing here may end the start: a kernel that lacks one of these leaves the others. What holds is told to the engine.
"""

import ctypes
import resource
import signal

from quantum_trader.engine import landlock

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CAPABILITY_VERSION_3 = 0x20080522


def enter() -> tuple[str, ...]:
    """Give up what a process needs neither for loading a model nor for answering; returns what holds."""
    # Ctrl-C in a terminal reaches the whole group; the engine decides when its shadow ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    held = {
        "ends with the engine": libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0,
        "no new privileges": libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0,
        "no capabilities": _drop_capabilities(libc),
    }
    known = landlock.give_up(reading=False)
    words = [word for word, holds in held.items() if holds]
    return (*words, f"Landlock {known}: no file is written, no TCP" if known else "no Landlock")


def lock() -> tuple[str, ...]:
    """Give up everything but the socket and the memory it has; returns what holds."""
    # A set of rules is a file descriptor for a moment, so it comes first.
    held = ("no file is read",) if landlock.give_up(reading=True) else ()
    for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC):
        resource.setrlimit(kind, (0, 0))
    return held


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _drop_capabilities(libc: ctypes.CDLL) -> bool:
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    nothing = (_CapabilityData * 2)()
    return bool(libc.capset(ctypes.byref(header), ctypes.byref(nothing)) == 0)

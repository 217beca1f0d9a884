"""Landlock, the kernel's way for a process to give up rights for good: files, TCP, signals and abstract sockets.

A process can only give up more, never get anything back, and whatever it starts inherits the loss. A rule set without
a single rule forbids all that it handles. Kernels before 5.13 have no Landlock, later ones learnt more of it step by
step (the ABI); what a kernel does not know is simply not given up.
"""

import ctypes
import os

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
"""System calls; the same numbers on every architecture that Linux gained since 2011, x86 included."""

_VERSION = 1

_READ = (1 << 2) | (1 << 3)
"""Reading a file, listing a folder."""

_FILE_RIGHTS = ((1, (1 << 13) - 1), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15))
"""By ABI, what became known: everything from executing to making links, then renaming across folders, truncating,
device controls."""

_NET_RIGHTS, _NET_ABI = 0b11, 4
"""Binding and connecting TCP sockets."""

_SCOPES, _SCOPE_ABI = 0b11, 6
"""Abstract Unix sockets of others, signals to others."""


class _Attributes(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


def abi() -> int:
    """What this kernel knows of Landlock; 0 where it is absent or switched off."""
    return max(_call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)), 0)


def give_up(*, reading: bool) -> int:
    """Give up writing, making, removing and executing files, TCP, and signals to others, for the calling thread.

    Threads that it starts later inherit this; those that run already do not. It needs ``no_new_privs``.

    Args:
        reading: Give up reading files and listing folders as well.

    Returns:
        The kernel's ABI; 0 where nothing could be given up.
    """
    known = abi()
    if known == 0:
        return 0
    files = sum(rights for since, rights in _FILE_RIGHTS if known >= since)
    attributes = _Attributes(
        files if reading else files & ~_READ,
        _NET_RIGHTS if known >= _NET_ABI else 0,
        _SCOPES if known >= _SCOPE_ABI else 0,
    )
    descriptor = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(_size(known)), ctypes.c_uint32(0))
    if descriptor < 0:
        return 0
    try:
        held = _call(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint32(0)) == 0
    finally:
        os.close(descriptor)
    return known if held else 0


def _size(known: int) -> int:
    """Bytes of the attributes that a kernel of this ABI understands."""
    if known >= _SCOPE_ABI:
        return 24
    return 16 if known >= _NET_ABI else 8


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(ctypes.c_long(number), *arguments))

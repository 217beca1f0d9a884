"""On which processors shadows run: on every one that the engine may use, except the one on which bars are decided.

A scheduler likes to put a process that was woken beside the thread that woke it. So a shadow would often start on the
very processor that computes the votes: it waits for them there, or they for it, until the next tick, while another
processor stands idle.
"""

import ctypes
import os
import threading

# Asked at every bar and answered without a system call: giving up the interpreter for it would cost more.
_current = ctypes.PyDLL(None).sched_getcpu


class Processors:
    """The processors of an engine's shadows. With a single processor, everything runs there.

    Args:
        allowed: What the engine may use; None for what it may use now.
    """

    def __init__(self, allowed: frozenset[int] | None = None) -> None:
        self._allowed = frozenset(os.sched_getaffinity(0)) if allowed is None else allowed
        self._changing = threading.Lock()
        self._pids: set[int] = set()
        self._taken = -1

    def take_this(self) -> None:
        """Keep every shadow off the processor on which the caller runs; for the deciding thread, before it wakes one.

        The caller may be moved later; then the next call lets the shadows make room again.
        """
        here = _current()
        if here == self._taken:
            return
        with self._changing:
            self._taken = here
            for pid in self._pids:
                self._place(pid)

    def add(self, pid: int) -> bool:
        """Place a shadow's process, before it starts a thread; False where it runs anywhere."""
        with self._changing:
            self._pids.add(pid)
            return self._place(pid)

    def remove(self, pid: int) -> None:
        """Forget a process; call it before its end is waited for, so that its number is not yet another's."""
        with self._changing:
            self._pids.discard(pid)

    def _place(self, pid: int) -> bool:
        if len(self._allowed) < 2:
            return False
        try:
            os.sched_setaffinity(pid, self._allowed - {self._taken})
        except OSError:
            # A process that is gone, or a host that forbids it: then it is slower, and no less caged.
            return False
        return True

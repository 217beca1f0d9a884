"""A request to stop that a signal handler may make while the thread that it interrupts waits for it."""

import queue


class Stop:
    """What threading.Event is for threads.

    An Event takes a lock in `set` and in `wait`: a handler that runs between two lines of `wait` waits for itself for
    ever. A SimpleQueue's `put` may interrupt its `get` (Python's documentation of `queue`).
    """

    def __init__(self) -> None:
        self._asked = False
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Ask; safe in a signal handler and from any thread."""
        self._asked = True
        self._wakes.put(None)

    def is_set(self) -> bool:
        """Whether somebody asked."""
        return self._asked

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until somebody asks, at most so many seconds; whether somebody did."""
        if not self._asked:
            try:
                self._wakes.get(timeout=timeout_s)
            except queue.Empty:
                return self._asked
            # For the next one that waits.
            self._wakes.put(None)
        return self._asked

"""How long to wait for a shadow: its grace, or nothing once it has missed too often.

- Closed: every batch may wait its grace. A miss (late, failed, missing) is counted; an answer on time sets the count
  back to zero.
- `misses` misses one after the other open it: from then on nobody waits for this shadow.
- Open: an answer that arrives within what the grace would have been closes it, although nobody waited for it. A later
  one changes nothing.

It reads no clock: who calls says how long after the votes an answer arrived.
"""


class Breaker:
    """The breaker of one shadow; not safe to share between threads without a lock.

    Args:
        misses: So many misses one after the other open it; at least 1.
        grace_s: Longest wait for an answer once the votes are in, in seconds.
    """

    def __init__(self, misses: int, grace_s: float) -> None:
        if misses < 1:
            raise ValueError(f"misses {misses}: a breaker opens after one miss at the earliest")
        self._limit, self._grace_s = misses, grace_s
        self._misses = 0
        self._open = False

    @property
    def open(self) -> bool:
        """Whether nobody waits."""
        return self._open

    @property
    def misses(self) -> int:
        """Misses since the last answer on time."""
        return self._misses

    @property
    def wait_s(self) -> float:
        """Longest wait for the next answer, in seconds."""
        return 0.0 if self._open else self._grace_s

    def missed(self) -> None:
        """A batch ended without an answer."""
        self._misses += 1
        self._open = self._open or self._misses >= self._limit

    def answered(self, after_s: float) -> bool:
        """An answer arrived so many seconds after the votes (below zero: before them); whether that was on time."""
        on_time = after_s <= self._grace_s
        if on_time:
            self._misses, self._open = 0, False
        return on_time

"""How long to wait before an ended process is started again: twice as long every time, until it has proved itself.

- The first pause is half a second; every further end doubles it, up to a minute.
- A process that has answered on time for a minute, without a miss in between, has proved itself: the next pause is the
  first one again. Merely staying alive proves nothing: what crashes at every bar lives until the next bar.
"""

FIRST_S = 0.5
LONGEST_S = 60.0
PROVED_S = 60.0


class Backoff:
    """The pauses of one shadow. Times are seconds of a clock that only goes forward."""

    def __init__(self) -> None:
        self._pause_s = FIRST_S
        self._since: float | None = None

    def on_time(self, now: float) -> None:
        """It answered on time."""
        if self._since is None:
            self._since = now
        elif now - self._since >= PROVED_S:
            self._pause_s = FIRST_S

    def missed(self) -> None:
        """It did not."""
        self._since = None

    def ended(self) -> float:
        """Its process ended: how long to wait before the next start, in seconds."""
        pause, self._since = self._pause_s, None
        self._pause_s = min(2.0 * pause, LONGEST_S)
        return pause

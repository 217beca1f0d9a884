"""The loop's signs of life, told once and heard by health checks and the service manager alike."""

import time
from collections.abc import Callable

from quantum_trader.engine.health import Vitals
from quantum_trader.engine.notify import Notifier


class Pulse:
    """What the deciding loop says of itself. For one thread.

    Args:
        vitals: What `/health/...` reads.
        notifier: The service manager's socket.
        now: The clock of both, seconds; it only goes forward.
    """

    def __init__(self, vitals: Vitals, notifier: Notifier, now: Callable[[], float] = time.monotonic) -> None:
        self._vitals, self._notifier, self._now = vitals, notifier, now
        self._told = ""

    def turned(self) -> None:
        """The loop turned, whether or not there was anything to do."""
        now = self._now()
        self._vitals.turned(now)
        self._notifier.turned(now)

    def bus_answered(self) -> None:
        """The stream server answered; whatever hindered the engine is over."""
        self._vitals.bus_answered(self._now())
        if self._told:
            self._told = ""
            self._vitals.ready()
            self._notifier.status("deciding")

    def ready(self) -> None:
        """Recovered; from now on bars are decided."""
        self.bus_answered()
        self._vitals.ready()
        self._notifier.ready("deciding")

    def reloading(self) -> None:
        """The engine begins to read its settings again, and goes on deciding."""
        self._notifier.reloading(self._now())

    def reloaded(self) -> None:
        """Whatever the reload led to, it is over."""
        self._notifier.ready(self._told or "deciding")

    def hindered(self, reason: str) -> None:
        """The engine cannot decide until the stream server answers again, or until it is ready."""
        self._told = reason
        self._vitals.not_ready(reason)
        self._notifier.status(reason)

    def stopping(self) -> None:
        """The loop ends."""
        self._vitals.not_ready("stopping")
        self._notifier.stopping()

"""Reading settings, ledger and artefacts again, in a thread of its own: whoever decides need not wait for it.

Asking is all that a signal handler does. However often it is asked while it reads, it reads once more, not once for
each. What cannot be read is an error in the log and nothing else.
"""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import NamedTuple

from quantum_trader.core.errors import QuantumError
from quantum_trader.engine.reload import Reload, Standing, plan_reload
from quantum_trader.engine.shadow import Shadow, ShadowRing

log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """A reload that needs only be carried out: the plan, what is wanted, the new shadows, when it was begun."""

    plan: Reload
    wanted: Standing
    shadows: Mapping[str, Shadow]
    began: float


@dataclass
class Asked:
    """How often a reload was asked for. A number and no lock: a signal handler may interrupt whoever holds one."""

    times: int = 0

    def __call__(self, *_: object) -> None:
        """Ask; for a signal handler."""
        self.times += 1


class Reloader:
    """Prepares reloads.

    Args:
        asked: Who asks.
        read: Reads everything again; told what runs.
        ring: Builds the new shadows.
    """

    def __init__(self, asked: Asked, read: Callable[[Standing], Standing], ring: ShadowRing) -> None:
        self._asked, self._read, self._ring = asked, read, ring
        self._seen = 0
        self._pool = ThreadPoolExecutor(1, "reload")
        self._work: Future[Prepared] | None = None

    def begin(self, running: Standing) -> bool:
        """Begin to read if somebody asked and nothing is being read; says whether it was begun."""
        if self._work is not None or self._seen == self._asked.times:
            return False
        self._seen = self._asked.times
        self._work = self._pool.submit(self._prepare, running, time.monotonic())
        return True

    def result(self, wait_s: float) -> tuple[bool, Prepared | None]:
        """Whether a reading has ended, and what it led to; None where nothing may be changed.

        Args:
            wait_s: Longest wait for a reading that was begun, seconds.
        """
        if self._work is None or not wait((self._work,), wait_s).done:
            return False, None
        prepared: Prepared | None = None
        try:
            prepared = self._work.result()
        except (QuantumError, OSError) as error:
            log.error("reload refused, nothing is changed: %s", error)
        except Exception:
            # Not expected; whoever decides goes on as it was.
            log.exception("reload refused, nothing is changed")
        self._work = None
        return True, prepared

    def close(self) -> None:
        """Give the thread back."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, running: Standing, began: float) -> Prepared:
        wanted = self._read(running)
        plan = plan_reload(running, wanted)
        shadows = {model: self._ring.prepare(wanted.parts[model].as_shadow(model)) for model in plan.started}
        return Prepared(plan, wanted, shadows, began)

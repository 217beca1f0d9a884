"""A shadow's own thread in the engine: starts its process, carries batches and answers, ends it, starts it again.

- Nothing but its greeting is waited for in a read or a write; the conversation that follows cannot block (`line`).
- A process that ends is noticed at once, between bars too, and started again after a pause (`backoff`).
- A batch unanswered for too long (`Patience`): the process is killed, and the batch LATE (hung) if it is still awaited.
- A frame that is too large, or is no reply to what was asked, is REFUSED and ends the process too: nothing behind it
  can be trusted.
- Before its first batch the process must report the digest of the artefact that it really loaded.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import msgspec

from quantum_trader.core.predictions import Cause, Status, because
from quantum_trader.engine import frames
from quantum_trader.engine.cgroup import Group
from quantum_trader.engine.child import Child
from quantum_trader.engine.limits import Limits
from quantum_trader.engine.line import Line
from quantum_trader.engine.loglines import loaded_line
from quantum_trader.engine.mailbox import Mailbox
from quantum_trader.engine.processors import Processors
from quantum_trader.engine.replies import Expected, Miss

log = logging.getLogger(__name__)

START_S = 120.0
"""Longest time to load an artefact; a large model on a busy machine takes seconds."""

LOOK_S = 0.05
"""How soon a process that is close to what it may compute is looked at again."""


@dataclass(frozen=True)
class Patience:
    """How long a batch may go unanswered before it ends the process.

    Attributes:
        hang_s: By the clock, in seconds.
        computing_s: By the processor's time that the process has taken for it, in seconds. One that only waits costs
            nobody anything; one that computes takes a processor from those who decide. So it ends sooner.
    """

    hang_s: float = 5.0
    computing_s: float = 1.0

    def at_least(self, grace_s: float) -> "Patience":
        """The same, and at least two graces: nobody who is still waited for is ended."""
        return Patience(max(self.hang_s, 2.0 * grace_s), max(self.computing_s, 2.0 * grace_s))


PATIENCE = Patience()


@dataclass(frozen=True)
class RunAs:
    """How a shadow is run.

    Attributes:
        limits: What its process may use.
        patience: How long a batch may go unanswered.
        program: Module that runs it, with extra arguments.
        processors: Where it may run.
    """

    limits: Limits
    patience: Patience
    program: Sequence[str]
    processors: Processors


@dataclass(frozen=True, slots=True)
class Job:
    """Whom a supervisor runs: the model, its artefact, and its weight if it voted (for the log)."""

    model: str
    folder: Path
    expected: Expected
    weight: float


class _Over(Exception):
    """A life is over.

    Attributes:
        later: What later batches are.
        in_hand: What becomes of the batch in hand.
        by_itself: The process ended, or closed its socket; otherwise the engine ends it.
    """

    def __init__(self, later: Miss, in_hand: Miss | None = None, *, by_itself: bool = False) -> None:
        super().__init__(later.reason)
        self.later, self.in_hand, self.by_itself = later, in_hand, by_itself

    def with_status(self, status: str) -> "_Over":
        """The same with the words of how the process ended."""
        later, in_hand = (
            miss and Miss(miss.status, f"{miss.reason} ({status})") for miss in (self.later, self.in_hand)
        )
        return _Over(later or self.later, in_hand)


class Supervisor:
    """The thread of one shadow."""

    def __init__(self, job: Job, mailbox: Mailbox, run_as: RunAs) -> None:
        self._job, self._mailbox, self._run_as = job, mailbox, run_as
        self._group: Group | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._child: Child | None = None
        self.starts = 0
        self._thread = threading.Thread(target=self._run, name=f"shadow-{job.model}", daemon=True)

    def start(self, group: Group | None) -> None:
        """Start the thread; its processes run in this control group, where there is one. Returns at once."""
        self._group = group
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end its process and itself; returns at once."""
        with self._lock:
            self._closing.set()
            if self._child is not None:
                self._child.hang_up()
        self._mailbox.wake()

    @property
    def running(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def join(self) -> bool:
        """Wait until both have ended; `stop` comes first. False if they have not within ten seconds."""
        if self._thread.ident is not None:
            self._thread.join(timeout=10.0)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closing.is_set():
            why = self._live()
            if self._closing.is_set():
                break
            pause_s = self._mailbox.pause_s()
            log.warning("shadow %s is down: %s; next start in %.1f s", self._job.model, why, pause_s)
            self._closing.wait(pause_s)
        if self._group is not None:
            self._group.remove()

    def _live(self) -> str:
        """One life of the process; returns why it ended."""
        self.starts += 1
        try:
            child = Child(self._run_as.program, self._job.folder, self._run_as.limits, self._group)
        except OSError as error:
            why = because(Cause.STOPPED, f"its process cannot be started ({error.strerror})")
            self._mailbox.down(Miss(Status.MISSING, why))
            return why
        with self._lock:
            self._child = child
            if self._closing.is_set():
                child.hang_up()
        processors = self._run_as.processors
        if processors.add(child.pid):
            child.held.append("not on the deciding processor")
        with contextlib.ExitStack() as held:
            over = self._talk(child, held)
            processors.remove(child.pid)
            if over.by_itself:
                over = over.with_status(child.exit_words())
            # Only then may the line go: until then the deciding thread may use it.
            self._mailbox.down(over.later, over.in_hand)
        with self._lock:
            self._child = None
        child.end()
        return over.later.reason

    def _talk(self, child: Child, held: contextlib.ExitStack) -> _Over:
        """Greet, then carry batches until something ends it."""
        try:
            self._greet(child)
            line = Line(child.connection, self._job.expected, self._mailbox.wake_fd)
            held.callback(line.close)
            self._mailbox.up(line)
            self._attend(child, line)
        except _Over as over:
            return over
        except Exception as error:
            # Not expected, and still no reason to leave a shadow without its thread.
            log.exception("shadow %s: its thread met an error", self._job.model)
            return _stopped(f"{type(error).__name__}: {error}")

    def _greet(self, child: Child) -> None:
        self._mailbox.down(Miss(Status.MISSING, because(Cause.STARTING, "its process is loading")))
        try:
            body = frames.receive(child.connection, frames.GREETING_LIMIT, START_S)
            greeting = msgspec.msgpack.decode(body, type=frames.Greeting)
        except TimeoutError:
            raise _stopped(f"it did not load its artefact within {START_S:.0f} s") from None
        except (EOFError, OSError):
            raise _stopped("its process ended while it loaded", by_itself=True) from None
        except (frames.FrameError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _stopped(f"its greeting is none ({frames.one_line(str(error))})") from None
        if greeting.error:
            raise _Over(Miss(Status.FAILED, because(Cause.LOAD, frames.one_line(greeting.error))))
        if greeting.digest != self._job.expected.digest:
            found = frames.one_line(greeting.digest)[:16]
            raise _Over(Miss(Status.REFUSED, because(Cause.DIGEST, f"it loaded artefact {found}")))
        child.seal()
        log.info(loaded_line(self._job.model, self._job.weight, shadow=True))
        told = [frames.one_line(word) for word in greeting.cage]
        log.info("cage of shadow %s: %s; by itself: %s", self._job.model, ", ".join(child.held), ", ".join(told))

    def _attend(self, child: Child, line: Line) -> NoReturn:
        """Be there for whatever the deciding thread leaves, until something ends it."""
        debt = _Debt(child, self._run_as.patience)
        while True:
            line.wait(debt.check())
            try:
                debt.owed(self._mailbox.attend())
            except frames.TooLargeError as error:
                raise _refused(Cause.TOO_LARGE, str(error)) from None
            except frames.FrameError as error:
                raise (_refused(Cause.SHAPE, str(error)) if line.given else _stopped(str(error))) from None
            except (EOFError, OSError):
                if line.given is None:
                    raise _stopped("its process ended between two batches", by_itself=True) from None
                raise _Over(
                    Miss(Status.MISSING, because(Cause.STOPPED, "its process ended over a batch")),
                    Miss(Status.FAILED, because(Cause.CRASHED, "its process ended over this batch")),
                    by_itself=True,
                ) from None


class _Debt:
    """An answer that a process owes, by the clock and by what it computes meanwhile."""

    def __init__(self, child: Child, patience: Patience) -> None:
        self._child, self._patience = child, patience
        self._since: float | None = None
        self._computed_before = 0.0

    def owed(self, since: float | None) -> None:
        """Since when (time.monotonic) an answer is owed; None if none is."""
        if since is not None and since != self._since:
            self._computed_before = self._child.computed_s()
        self._since = since

    def check(self) -> float | None:
        """How long it may be waited for before the next look, in seconds; None where nothing is owed.

        Raises:
            _Over: if that was long enough.
        """
        if self._since is None:
            return None
        left = self._since + self._patience.hang_s - time.monotonic()
        if left <= 0.0:
            raise _hung(f"in {self._patience.hang_s:g} s")
        computing = self._computed_before + self._patience.computing_s - self._child.computed_s()
        if computing <= 0.0:
            raise _hung(f"after {self._patience.computing_s:g} s of computing")
        return min(left, max(computing, LOOK_S))


def _hung(how_long: str) -> _Over:
    why = because(Cause.HUNG, f"no answer {how_long}, its process was ended")
    return _Over(Miss(Status.MISSING, why), Miss(Status.LATE, why))


def _stopped(detail: str, *, by_itself: bool = False) -> _Over:
    return _Over(Miss(Status.MISSING, because(Cause.STOPPED, detail)), by_itself=by_itself)


def _refused(cause: Cause, detail: str) -> _Over:
    later = Miss(Status.MISSING, because(Cause.STOPPED, f"its process was ended: {detail}"))
    return _Over(later, Miss(Status.REFUSED, because(cause, detail)))

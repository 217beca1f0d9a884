"""A shadow's own thread in the engine: starts its process, carries batches and answers, ends it, starts it again.

- Only this thread touches the shadow's socket, so a shadow that hangs can block only this thread.
- A process that ends is noticed at once, between bars too, and started again after a pause (`backoff`).
- A batch unanswered for `hang_s`: the process is killed, and the batch LATE (hung) if it is still awaited.
- A frame that is too large, or is no reply to what was asked, is REFUSED and ends the process too: nothing behind it
  can be trusted.
- Before its first batch the process must report the digest of the artefact that it really loaded.
"""

import logging
import select
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from quantum_trader.core.features import input_hashes
from quantum_trader.core.predictions import Cause, Status, because
from quantum_trader.engine import frames
from quantum_trader.engine.cgroup import Group
from quantum_trader.engine.child import Child
from quantum_trader.engine.limits import Limits
from quantum_trader.engine.loglines import loaded_line
from quantum_trader.engine.mailbox import Batch, Mailbox
from quantum_trader.engine.replies import Asked, Expected, Miss, read_reply

log = logging.getLogger(__name__)

START_S = 120.0
"""Longest time to load an artefact; a large model on a busy machine takes seconds."""


@dataclass(frozen=True)
class RunAs:
    """How a shadow is run.

    Attributes:
        limits: What its process may use.
        hang_s: A batch unanswered for so long ends the process, in seconds.
        program: Module that runs it, with extra arguments.
    """

    limits: Limits
    hang_s: float
    program: Sequence[str]


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
        self._in_hand: Batch | None = None
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
        self._in_hand = None
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
        over = self._talk(child)
        if over.by_itself:
            over = over.with_status(child.exit_words())
        self._mailbox.down(over.later, lost=self._in_hand, ending=over.in_hand)
        with self._lock:
            self._child = None
        child.end()
        return over.later.reason

    def _talk(self, child: Child) -> _Over:
        """Greet, then carry batches until something ends it."""
        try:
            self._greet(child)
            while True:
                self._wait(child)
                self._in_hand = self._mailbox.fetch()
                if self._in_hand is not None:
                    self._carry(child, self._in_hand)
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
        self._mailbox.up()

    def _wait(self, child: Child) -> None:
        """Until there is a batch; whatever the process does meanwhile is its end."""
        poll = select.poll()
        poll.register(child.connection, select.POLLIN)
        poll.register(self._mailbox.wake_fd, select.POLLIN)
        if child.connection.fileno() not in dict(poll.poll()):
            return
        try:
            child.connection.settimeout(0.0)
            spoke = child.connection.recv(1)
        except OSError:
            spoke = b""
        if spoke:
            raise _stopped("it spoke without being asked")
        raise _stopped("its process ended between two batches", by_itself=True)

    def _carry(self, child: Child, batch: Batch) -> None:
        end = time.monotonic() + self._run_as.hang_s
        request = frames.Request(batch.number, batch.inputs.shape, batch.inputs.tobytes())
        try:
            frames.send(child.connection, msgspec.msgpack.encode(request), self._run_as.hang_s)
            # Hashed while the shadow works, and never by the deciding thread.
            asked = Asked(batch.number, input_hashes(batch.inputs))
            limit = frames.reply_limit(len(batch.inputs))
            body = frames.receive(child.connection, limit, max(end - time.monotonic(), 0.0))
            at = time.monotonic()
            self._mailbox.deliver(batch, read_reply(body, asked, self._job.expected), at)
        except TimeoutError:
            why = because(Cause.HUNG, f"no answer in {self._run_as.hang_s:g} s, its process was ended")
            raise _Over(Miss(Status.MISSING, why), Miss(Status.LATE, why)) from None
        except frames.TooLargeError as error:
            raise _refused(Cause.TOO_LARGE, str(error)) from None
        except frames.FrameError as error:
            raise _refused(Cause.SHAPE, str(error)) from None
        except (EOFError, OSError):
            raise _Over(
                Miss(Status.MISSING, because(Cause.STOPPED, "its process ended over a batch")),
                Miss(Status.FAILED, because(Cause.CRASHED, "its process ended over this batch")),
                by_itself=True,
            ) from None
        self._in_hand = None


def _stopped(detail: str, *, by_itself: bool = False) -> _Over:
    return _Over(Miss(Status.MISSING, because(Cause.STOPPED, detail)), by_itself=by_itself)


def _refused(cause: Cause, detail: str) -> _Over:
    later = Miss(Status.MISSING, because(Cause.STOPPED, f"its process was ended: {detail}"))
    return _Over(later, Miss(Status.REFUSED, because(cause, detail)))

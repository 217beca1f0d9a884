"""Where the deciding thread and a shadow's own thread meet: one batch in, one answer out, nobody waits past the grace.

- The deciding thread leaves a batch (`submit`) and takes what there is of it (`collect`). A shadow that owes nothing is
  given the batch at once, and its answer is read where it is needed: no thread stands between them. Every such read
  and write is one that cannot block; waited is at most the grace, not at all while the breaker is open.
- Whatever does not go smoothly is left to the shadow's thread (`attend`): a batch too large for one write, an answer
  that is late or none, an end. While it is busy with one batch, only the latest of the others is kept.
- No process to give a batch to: MISSING, at once, with the reason why it is down (FAILED or REFUSED where its artefact
  could not be loaded or is another one).
- No answer by the end of the wait: LATE (grace, or breaker where nobody waited). What comes later is dropped.
- The process ends while the batch is awaited: FAILED (crashed) if it was given the batch, MISSING (stopped) if the
  batch still lay here. One that had died unnoticed a moment before counts as given it. Later batches are MISSING.
- Every batch ends in exactly one of these, or in values.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable

from quantum_trader.core.decision import ShadowVote
from quantum_trader.core.features import Float32Array
from quantum_trader.core.predictions import Cause, Status, because
from quantum_trader.engine.backoff import Backoff
from quantum_trader.engine.breaker import Breaker
from quantum_trader.engine.frames import FrameError
from quantum_trader.engine.line import Batch, Line
from quantum_trader.engine.replies import Miss

_NOT_STARTED = Miss(Status.MISSING, because(Cause.STARTING, "its process has not started yet"))
_LATE = Miss(Status.LATE, because(Cause.GRACE, "no answer within the grace"))
_NOT_AWAITED = Miss(Status.LATE, because(Cause.BREAKER, "no answer yet, and after too many misses nobody waits"))


class Mailbox:
    """The mailbox of one shadow.

    Args:
        digest: Of the configured artefact; stands in every output.
        breaker: How long to wait.
        backoff: Is told what was on time.
        down: Why nothing can be asked yet.
        make_room: Called by the deciding thread at every batch for which there is a process.
    """

    def __init__(
        self,
        digest: str,
        breaker: Breaker,
        backoff: Backoff,
        down: Miss = _NOT_STARTED,
        make_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._digest, self._breaker, self._backoff = digest, breaker, backoff
        self._make_room = make_room
        # Entered at every bar: a condition's own way in costs more than its lock's.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._down: Miss | None = down
        self._line: Line | None = None
        self._number = -1
        self._waiting: Batch | None = None
        self._outcome: list[ShadowVote] | Miss | None = None
        self._votes_in: float | None = None
        self._latency_ms: float | None = None
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    # The deciding thread.

    def submit(self, number: int, inputs: Float32Array) -> None:
        """Leave a batch of inputs that nobody writes any more; one that was not given yet is replaced. Never blocks."""
        with self._lock:
            self._number, self._votes_in = number, None
            self._outcome = self._down
            if self._line is None:
                return
            # Before it is woken, and also where it is still busy with another batch.
            self._make_room()
            batch = Batch(number, inputs, time.monotonic())
            if self._line.given is None:
                self._line.give(batch, claim=True)
                return
            # It owes an answer still.
            self._waiting = batch
            self._leave(self._line)

    def collect(self, number: int, hashes: tuple[str, ...], votes_in: float) -> list[ShadowVote]:
        """What there is of a batch, or why nothing.

        Args:
            number: Of the batch.
            hashes: Of each of its n inputs.
            votes_in: When its votes were in, seconds of time.monotonic.
        """
        n = len(hashes)
        with self._lock:
            if self._number != number:
                raise ValueError(f"batch {number} was never submitted; the last one is {self._number}")
            line = self._line
            if self._outcome is None and line is not None and line.claimed:
                line.expect(hashes)
                self._try(line)
            if self._outcome is not None:
                return self._end(self._outcome, n, votes_in)
            late = _NOT_AWAITED if self._breaker.open else _LATE
            until = votes_in + self._breaker.wait_s
        if line is not None:
            self._take(line, until)
        with self._lock:
            wait_s = until - time.monotonic()
            if self._outcome is None and wait_s > 0:
                self._changed.wait_for(lambda: self._outcome is not None, wait_s)
            return self._end(late if self._outcome is None else self._outcome, n, votes_in)

    def _end(self, outcome: list[ShadowVote] | Miss, n: int, votes_in: float) -> list[ShadowVote]:
        """This is what has become of the batch."""
        self._votes_in = votes_in
        self._count(outcome)
        return outcome.votes(n, self._digest) if isinstance(outcome, Miss) else outcome

    def look(self) -> None:
        """Between two batches: leave a shadow that speaks unasked to its thread. Never blocks."""
        with self._lock:
            if self._line is not None and self._line.spoken_unasked():
                self.wake()

    def _take(self, line: Line, until: float) -> None:
        """Wait for the answer as long as the line is claimed, then leave it to the shadow's thread."""
        while self._worth_waiting(line, until):
            line.wait_claimed(until - time.monotonic())
            with self._lock:
                if line is self._line and line.claimed:
                    self._try(line)

    def _worth_waiting(self, line: Line, until: float) -> bool:
        with self._lock:
            if line is not self._line or not line.claimed:
                return False
            # Waiting counts whole milliseconds; what is left of the last one is waited for without the line.
            if until - time.monotonic() < 0.001:
                self._leave(line)
            return line.claimed

    def _try(self, line: Line) -> None:
        """Read what is there of the answer; what is no answer is left to the shadow's thread."""
        try:
            self._read(line)
        except (EOFError, OSError, FrameError):
            self._leave(line)

    def _leave(self, line: Line) -> None:
        if line.claimed:
            line.leave()
            # It has to think of when this batch is too old.
            self.wake()

    def _count(self, outcome: list[ShadowVote] | Miss) -> None:
        if isinstance(outcome, Miss) and outcome.status is not Status.REFUSED:
            self._breaker.missed()
            self._backoff.missed()
        else:
            self._on_time(0.0)

    def _on_time(self, after_s: float) -> None:
        if self._breaker.answered(after_s):
            self._backoff.on_time(time.monotonic())

    # The shadow's thread.

    @property
    def wake_fd(self) -> int:
        """Readable while there may be something for the shadow's thread to do."""
        return self._wake_fd

    def wake(self) -> None:
        """Make `wake_fd` readable."""
        with self._lock:
            # A closed mailbox has nobody to wake; a full counter is readable already.
            if self._wake_fd >= 0:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_write(self._wake_fd, 1)

    def up(self, line: Line) -> None:
        """From now on the process takes batches."""
        with self._lock:
            self._down, self._line = None, line
            self._changed.notify_all()

    def attend(self) -> float | None:
        """Carry the conversation on as far as it goes; since when an answer is owed (time.monotonic), if one is.

        Raises:
            EOFError, OSError: if the process is gone.
            FrameError: if it sent what is no answer, or spoke without being asked.
        """
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        with self._lock:
            line = self._line
            if line is None:
                return None
            if line.given is not None and not line.claimed:
                line.flush()
            self._read(line)
            # The deciding thread may wait for it without the line.
            self._changed.notify_all()
            if line.given is None and self._waiting is not None:
                batch, self._waiting = self._waiting, None
                line.give(batch, claim=False)
            return None if line.given is None else line.given.at

    def down(self, why: Miss, ending: Miss | None = None) -> None:
        """From now on it does not.

        Args:
            why: What later batches are.
            ending: What becomes of the batch that it was given and did not answer.
        """
        with self._lock:
            given = None if self._line is None else self._line.given
            self._down, self._line, self._waiting = why, None, None
            if self._outcome is None:
                ours = given is not None and given.number == self._number
                self._outcome = ending if ours and ending is not None else why
            self._changed.notify_all()

    def _read(self, line: Line) -> None:
        batch = line.given
        outcome = line.take()
        if outcome is None or batch is None:
            return
        at = time.monotonic()
        self._latency_ms = 1000.0 * (at - batch.at)
        if batch.number != self._number:
            return
        if self._votes_in is None:
            self._outcome = outcome
        elif self._outcome is None and not (isinstance(outcome, Miss) and outcome.status is Status.FAILED):
            # Nobody waited any more; it may still have been in time to be waited for again.
            self._on_time(at - self._votes_in)

    def pause_s(self) -> float:
        """How long to wait before the next start, in seconds."""
        with self._lock:
            return self._backoff.ended()

    def close(self) -> None:
        """Give the descriptor back, once the shadow's thread has ended; safe to call twice."""
        with self._lock:
            if self._wake_fd >= 0:
                os.close(self._wake_fd)
                self._wake_fd = -1

    # Anybody.

    def wait_up(self, timeout_s: float) -> bool:
        """Wait until the process takes batches; never on the deciding path."""
        with self._lock:
            return self._changed.wait_for(lambda: self._down is None, timeout_s)

    def standing(self) -> tuple[bool, bool, int, float | None]:
        """Whether it takes batches, whether the breaker is open, misses, the last answer's latency in ms."""
        with self._lock:
            return self._down is None, self._breaker.open, self._breaker.misses, self._latency_ms

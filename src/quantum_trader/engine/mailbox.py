"""Where the deciding thread and a shadow's own thread meet: one batch in, one answer out, nobody waits past the grace.

- The deciding thread leaves a batch (`submit`) and takes what there is of it (`collect`). It holds a lock for
  moments and waits for nothing but a condition, at most the grace, not at all while the breaker is open.
- The shadow's thread fetches the batch (`fetch`) and leaves the answer (`deliver`). Only the latest batch is kept.
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
from dataclasses import dataclass

from quantum_trader.core.features import Float32Array
from quantum_trader.core.predictions import Cause, ModelOutput, Status, because
from quantum_trader.engine.backoff import Backoff
from quantum_trader.engine.breaker import Breaker
from quantum_trader.engine.replies import Miss

_NOT_STARTED = Miss(Status.MISSING, because(Cause.STARTING, "its process has not started yet"))
_LATE = Miss(Status.LATE, because(Cause.GRACE, "no answer within the grace"))
_NOT_AWAITED = Miss(Status.LATE, because(Cause.BREAKER, "no answer yet, and after too many misses nobody waits"))


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch on its way: the inputs are a copy of the shadow's own.

    Attributes:
        number: Of the batch, increasing.
        inputs: float32, shape (n, ...).
        at: When it was left, seconds of time.monotonic.
    """

    number: int
    inputs: Float32Array
    at: float


class Mailbox:
    """The mailbox of one shadow.

    Args:
        digest: Of the configured artefact; stands in every output.
        breaker: How long to wait.
        backoff: Is told what was on time.
        down: Why nothing can be asked yet.
    """

    def __init__(self, digest: str, breaker: Breaker, backoff: Backoff, down: Miss = _NOT_STARTED) -> None:
        self._digest, self._breaker, self._backoff = digest, breaker, backoff
        self._changed = threading.Condition()
        self._down: Miss | None = down
        self._number = -1
        self._waiting: Batch | None = None
        self._outcome: ModelOutput | Miss | None = None
        self._votes_in: float | None = None
        self._latency_ms: float | None = None
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    # The deciding thread.

    def submit(self, number: int, inputs: Float32Array) -> None:
        """Leave a batch; one that was not fetched yet is replaced. Never blocks."""
        with self._changed:
            self._number, self._votes_in = number, None
            self._outcome = self._down
            if self._down is None:
                # The copy is the shadow's own: nothing it does can reach the voters' inputs.
                self._waiting = Batch(number, inputs.copy(), time.monotonic())
                self.wake()

    def collect(self, number: int, n: int, votes_in: float) -> ModelOutput:
        """What there is of a batch of n rows whose votes were in at `votes_in` (time.monotonic), or why nothing."""
        with self._changed:
            if self._number != number:
                raise ValueError(f"batch {number} was never submitted; the last one is {self._number}")
            late = _NOT_AWAITED if self._breaker.open else _LATE
            wait_s = votes_in + self._breaker.wait_s - time.monotonic()
            if self._outcome is None and wait_s > 0:
                self._changed.wait_for(lambda: self._outcome is not None, wait_s)
            outcome = late if self._outcome is None else self._outcome
            self._votes_in = votes_in
            self._count(outcome)
        return outcome.output(n, self._digest) if isinstance(outcome, Miss) else outcome

    def _count(self, outcome: ModelOutput | Miss) -> None:
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
        with self._changed:
            # A closed mailbox has nobody to wake; a full counter is readable already.
            if self._wake_fd >= 0:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_write(self._wake_fd, 1)

    def fetch(self) -> Batch | None:
        """The batch to be sent, if there is one."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        with self._changed:
            batch, self._waiting = self._waiting, None
            return batch

    def up(self) -> None:
        """From now on the process takes batches."""
        with self._changed:
            self._down = None
            self._changed.notify_all()

    def down(self, why: Miss, *, lost: Batch | None = None, ending: Miss | None = None) -> None:
        """From now on it does not.

        Args:
            why: What later batches are.
            lost: The batch that the process was given and did not answer.
            ending: What that one is.
        """
        with self._changed:
            self._down = why
            self._waiting = None
            if self._outcome is None:
                given = lost is not None and lost.number == self._number
                self._outcome = ending if given and ending is not None else why
            self._changed.notify_all()

    def deliver(self, batch: Batch, outcome: ModelOutput | Miss, at: float) -> None:
        """The answer to a batch, arrived at `at` (time.monotonic)."""
        with self._changed:
            self._latency_ms = 1000.0 * (at - batch.at)
            if batch.number != self._number:
                return
            if self._votes_in is None:
                self._outcome = outcome
                self._changed.notify_all()
            elif self._outcome is None and not (isinstance(outcome, Miss) and outcome.status is Status.FAILED):
                # Nobody waited any more; it may still have been in time to be waited for again.
                self._on_time(at - self._votes_in)

    def pause_s(self) -> float:
        """How long to wait before the next start, in seconds."""
        with self._changed:
            return self._backoff.ended()

    def close(self) -> None:
        """Give the descriptor back, once the shadow's thread has ended; safe to call twice."""
        with self._changed:
            if self._wake_fd >= 0:
                os.close(self._wake_fd)
                self._wake_fd = -1

    # Anybody.

    def wait_up(self, timeout_s: float) -> bool:
        """Wait until the process takes batches; never on the deciding path."""
        with self._changed:
            return self._changed.wait_for(lambda: self._down is None, timeout_s)

    def standing(self) -> tuple[bool, bool, int, float | None]:
        """Whether it takes batches, whether the breaker is open, misses, the last answer's latency in ms."""
        with self._changed:
            return self._down is None, self._breaker.open, self._breaker.misses, self._latency_ms

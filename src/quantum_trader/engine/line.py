"""The engine's end of a shadow's socket: one batch out, one answer in, and no call ever blocks.

- A batch is given in one write; what the socket does not take at once (a large batch, a shadow that stands still) is
  kept and sent on by `flush`.
- An answer is taken as far as it is there; `take` returns it once it is whole, judged by `replies`.
- One batch at a time: a shadow answers before it is asked again, and whatever it says unasked ends it.

Not safe to share between threads without a lock.
"""

import contextlib
import select
import socket

import msgspec

from quantum_trader.core.decision import ShadowVote
from quantum_trader.core.features import Float32Array
from quantum_trader.core.hashes import input_hashes
from quantum_trader.engine import frames
from quantum_trader.engine.replies import Asked, Expected, Miss, read_reply


class Batch(msgspec.Struct, frozen=True, eq=False):
    """A batch on its way.

    Attributes:
        number: Of the batch, increasing.
        inputs: float32, shape (n, ...); nobody writes it any more, and the shadow sees a copy of its bytes.
        at: When it was left, seconds of time.monotonic.
    """

    number: int
    inputs: Float32Array
    at: float


class Line:
    """A conversation with a shadow that has greeted.

    Two may wait for the answer: the deciding thread, while it has claimed the line, or the shadow's own thread. While
    there is nothing for it to do, that one hears of nothing but the other end's hanging up: the kernel has to be told
    whom to wake, and a bar that goes smoothly should not pay for that.

    Args:
        connection: The engine's end; from now on it does not block.
        expected: Whose answers are awaited.
        wake_fd: Also ends the waiting of the shadow's thread, when it is readable.

    Attributes:
        given: The batch that is not answered yet.
        claimed: The deciding thread takes the answer.
    """

    def __init__(self, connection: socket.socket, expected: Expected, wake_fd: int) -> None:
        connection.setblocking(False)
        self._connection, self._expected = connection, expected
        self._claim = select.poll()
        self._claim.register(connection, select.POLLIN)
        self._epoll = select.epoll()
        self._epoll.register(connection, 0)
        self._epoll.register(wake_fd, select.EPOLLIN)
        self._wanted = 0
        self._rest = memoryview(b"")
        self._reader = frames.Reader(0)
        self._hashes: tuple[str, ...] | None = None
        self.given: Batch | None = None
        self.claimed = False

    def give(self, batch: Batch, *, claim: bool) -> None:
        """Send a batch, as far as the socket takes it.

        Args:
            batch: The batch; there must be none that is not answered.
            claim: The deciding thread takes the answer. Where not all could be sent, it does not.
        """
        parts = frames.request(batch.number, batch.inputs)
        self._reader.begin(frames.reply_limit(len(batch.inputs)))
        self._hashes, self.given = None, batch
        try:
            sent = self._connection.sendmsg(parts)
        except OSError:
            # Either it takes nothing now, or it is gone: that shows when it is read from, and to its thread at once.
            sent = 0
        whole = len(parts[0]) + batch.inputs.nbytes
        self._rest = memoryview(b"" if sent == whole else b"".join(parts)[sent:])
        self._listen(claimed=claim and not self._rest)

    def flush(self) -> None:
        """Send more of the batch, as far as the socket takes it.

        Raises:
            OSError: if the shadow is gone.
        """
        try:
            while self._rest:
                self._rest = self._rest[self._connection.send(self._rest) :]
        except BlockingIOError:
            pass
        self._listen(claimed=self.claimed)

    def expect(self, hashes: tuple[str, ...]) -> None:
        """These are the hashes of the batch's inputs; where nobody says so, `take` computes them."""
        self._hashes = hashes

    def take(self) -> list[ShadowVote] | Miss | None:
        """The answer to the batch, or None while it is not whole.

        Raises:
            EOFError: if the shadow is gone.
            OSError: likewise.
            FrameError: if it sent what is no answer, or spoke without being asked.
        """
        if self.given is None:
            self._nothing()
            return None
        body = self._reader.read(self._connection)
        if body is None:
            return None
        hashes = input_hashes(self.given.inputs) if self._hashes is None else self._hashes
        outcome = read_reply(body, Asked(self.given.number, hashes), self._expected)
        self.given = None
        self._listen(claimed=False)
        return outcome

    def leave(self) -> None:
        """From now on the shadow's thread takes the answer."""
        self._listen(claimed=False)

    def spoken_unasked(self) -> bool:
        """Whether something is there although nothing was asked."""
        try:
            return self.given is None and bool(self._connection.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def wait_claimed(self, timeout_s: float) -> None:
        """For the deciding thread: until there may be something to take, and at most so long, in whole milliseconds."""
        self._claim.poll(int(1000.0 * max(timeout_s, 0.0)))

    def wait(self, timeout_s: float | None) -> None:
        """For the shadow's thread: until there is something to do, at most so long; None for ever."""
        self._epoll.poll(timeout_s)

    def close(self) -> None:
        """Give back what waiting took; the connection stays as it is."""
        self._epoll.close()

    def _listen(self, *, claimed: bool) -> None:
        self.claimed = claimed
        idle = claimed or self.given is None
        wanted = 0 if idle else select.EPOLLIN | (select.EPOLLOUT if self._rest else 0)
        if wanted != self._wanted:
            self._epoll.modify(self._connection, wanted)
            self._wanted = wanted

    def _nothing(self) -> None:
        """Nothing was asked, so nothing may be there."""
        with contextlib.suppress(BlockingIOError):
            if self._connection.recv(1):
                raise frames.FrameError("it spoke without being asked")
            raise EOFError("it closed the connection")

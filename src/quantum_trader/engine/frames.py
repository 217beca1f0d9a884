"""Messages between the engine and a shadow process: numbers, names and raw arrays, nothing else.

- A batch is a head of fixed length, which says its number and shape, and the inputs' bytes as they lie in memory.
- Whatever a shadow says is a frame: four bytes of big-endian length and a msgpack body. One over its limit is refused
  before it is read; what a shadow may send follows from what it was asked: a few bytes a row.

Nothing is unpickled. Code that runs once a bar finds its caches cold: the usual case is one system call and few lines.
"""

import math
import socket
import struct
import time

import msgspec
import numpy as np

from quantum_trader.core.features import Float32Array

REQUEST_LIMIT = 2**30
"""What a shadow accepts from its engine: a quarter of a million sequences."""

GREETING_LIMIT = 4096
ROW_BYTES = 64
"""Of a reply, at most: a probability takes 8, an input hash 17."""

ERROR_CHARACTERS = 200
OUT_OF_MEMORY = 71
"""Exit status of a shadow that met its memory limit."""

_HEAD = struct.Struct(">I")
_REQUEST = struct.Struct(">Q3I")
_ROOM = 1 << 20


class FrameError(Exception):
    """What the peer sent is no frame that was asked for."""


class TooLargeError(FrameError):
    """A frame is longer than its limit. It was not read, so nothing more can be read from this peer."""


class Request(msgspec.Struct, frozen=True, eq=False):
    """A batch for the shadow: its number and the inputs, float32, shape (n, F) or (n, 128, 8)."""

    batch: int
    inputs: Float32Array


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """The shadow's answer: a probability for every input and that input's hash, or an error."""

    batch: int
    p_up: tuple[float, ...]
    input_hashes: tuple[str, ...]
    error: str
    digest: str


class Greeting(msgspec.Struct, frozen=True, array_like=True):
    """A shadow's first message: the digest of what it loaded or why it could not, and what it gave up by itself."""

    digest: str
    error: str
    cage: tuple[str, ...]


def reply_limit(n: int) -> int:
    """Most bytes of a reply about n rows; an error text fits too."""
    return GREETING_LIMIT + ROW_BYTES * n


def request(batch: int, inputs: Float32Array) -> tuple[bytes, memoryview]:
    """A batch as it is sent, in two parts: its head, and its inputs' bytes, which are not copied.

    Args:
        batch: Its number, not below 0.
        inputs: float32, contiguous, of two or three dimensions, none of them 0.
    """
    # A dimension that is not there is a 0.
    return _REQUEST.pack(batch, *inputs.shape, *(0,) * (3 - inputs.ndim)), inputs.data


class Requests:
    """Batches off a connection, one after the other; there is never a second one before the first is answered.

    Args:
        connection: The shadow's end of a socket pair.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._head = bytearray(_REQUEST.size)
        # Kept: fresh pages for every batch cost more than reading it.
        self._room = bytearray(_ROOM)

    def next(self) -> Request:
        """Wait for a batch; its inputs are read-only, and stand until the next one is read.

        Raises:
            EOFError: if the engine is gone.
            TooLargeError: if it is more than `REQUEST_LIMIT`.
            FrameError: if more came than one batch.
        """
        got = self._connection.recvmsg_into([self._head, self._room])[0]
        if not got:
            raise EOFError("it closed the connection")
        while got < _REQUEST.size:
            got += self._more(memoryview(self._head)[got:])
        batch, *dimensions = _REQUEST.unpack(self._head)
        shape = tuple(filter(None, dimensions))
        size = 4 * math.prod(shape)
        if size > REQUEST_LIMIT:
            raise TooLargeError(f"a batch of {size} bytes, the limit is {REQUEST_LIMIT}")
        got -= _REQUEST.size
        if size > len(self._room):
            self._room = self._room[:got] + bytearray(size - got)
        while got < size:
            got += self._more(memoryview(self._room)[got:size])
        if got > size:
            raise FrameError("a batch came before the last one was answered")
        inputs = np.frombuffer(self._room, dtype=np.float32, count=size // 4).reshape(shape)
        inputs.flags.writeable = False
        return Request(batch, inputs)

    def _more(self, into: memoryview) -> int:
        got = self._connection.recv_into(into)
        if not got:
            raise EOFError("it closed the connection")
        return got


def send(connection: socket.socket, body: bytes) -> None:
    """Write one frame, in the time that the connection allows.

    Raises:
        TimeoutError: if the peer does not take it in time.
        OSError: if the peer is gone.
    """
    connection.sendall(framed(body))


def framed(body: bytes) -> bytes:
    """A body with its length before it."""
    return _HEAD.pack(len(body)) + body


def receive(connection: socket.socket, limit: int, timeout_s: float) -> bytes:
    """Read one frame.

    Args:
        connection: One end of a socket pair.
        limit: Most bytes of the body.
        timeout_s: Longest time for all of it.

    Raises:
        EOFError: if the peer is gone.
        TimeoutError: if it is not there in time.
        TooLargeError: if the frame is over the limit.
    """
    deadline = time.monotonic() + timeout_s
    return _exactly(connection, _length(_exactly(connection, _HEAD.size, deadline), limit), deadline)


class Reader:
    """One frame off a connection that does not block, as it comes; nothing may come behind it.

    Args:
        limit: Most bytes of the body.
    """

    def __init__(self, limit: int) -> None:
        self.begin(limit)

    def begin(self, limit: int) -> None:
        """Begin anew with another frame, of at most so many bytes."""
        self._limit = limit
        self._read = b""

    def read(self, connection: socket.socket) -> bytes | None:
        """The frame's body if it is whole; None if more has to come.

        Raises:
            EOFError: if the peer is gone.
            TooLargeError: if the frame is over the limit.
            FrameError: if more came than one frame.
        """
        while True:
            read = self._read
            if len(read) >= _HEAD.size:
                missing = _HEAD.size + _length(read, self._limit) - len(read)
                if missing < 0:
                    raise FrameError("it said more than it was asked for")
                if not missing:
                    return read[_HEAD.size :]
            try:
                # As a rule all of it at once; one byte more shows that something lies behind the longest frame.
                chunk = connection.recv(_HEAD.size + self._limit + 1 - len(read))
            except BlockingIOError:
                return None
            if not chunk:
                raise EOFError("it closed the connection")
            self._read = read + chunk


def _length(head: bytes, limit: int) -> int:
    (length,) = _HEAD.unpack_from(head)
    if length > limit:
        raise TooLargeError(f"a frame of {length} bytes, the limit is {limit}")
    return int(length)


def _exactly(connection: socket.socket, size: int, deadline: float) -> bytes:
    chunks = bytearray()
    while len(chunks) < size:
        # Zero would make the socket non-blocking, which is another error.
        connection.settimeout(max(deadline - time.monotonic(), 1e-6))
        chunk = connection.recv(size - len(chunks))
        if not chunk:
            raise EOFError("it closed the connection")
        chunks += chunk
    return bytes(chunks)


def one_line(text: str) -> str:
    """The first line of a text, cut: what a shadow says of itself ends up in records and logs."""
    first = text.strip().split("\n", maxsplit=1)[0][:ERROR_CHARACTERS]
    return "".join(character if character.isprintable() else "?" for character in first)

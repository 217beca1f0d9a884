"""Length-prefixed messages between the engine and a shadow process: numbers, names and raw arrays, nothing else.

A frame is four bytes of big-endian length and a msgpack body. Nothing is unpickled; a frame over its limit is refused
before it is read. What a shadow may send follows from what it was asked: a few bytes a row.
"""

import socket
import struct
import time

import msgspec

REQUEST_LIMIT = 2**30
"""What a shadow accepts from its engine: a quarter of a million sequences."""

GREETING_LIMIT = 4096
ROW_BYTES = 64
"""Of a reply, at most: a probability takes 8, an input hash 17."""

ERROR_CHARACTERS = 200
OUT_OF_MEMORY = 71
"""Exit status of a shadow that met its memory limit."""

_HEAD = struct.Struct(">I")
_CHUNK = 1 << 20


class FrameError(Exception):
    """What the peer sent is no frame that was asked for."""


class TooLargeError(FrameError):
    """A frame is longer than its limit. It was not read, so nothing more can be read from this peer."""


class Request(msgspec.Struct, frozen=True, array_like=True):
    """A batch for the shadow: float32 inputs of this shape as raw bytes."""

    batch: int
    shape: tuple[int, ...]
    inputs: bytes


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """The shadow's answer: float64 probabilities as raw bytes with the hash of every input, or an error."""

    batch: int
    p_up: bytes
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


def send(connection: socket.socket, body: bytes, timeout_s: float | None = None) -> None:
    """Write one frame.

    Args:
        connection: One end of a socket pair.
        body: The message.
        timeout_s: Longest time for all of it; None waits for ever.

    Raises:
        TimeoutError: if the peer does not take it in time.
        OSError: if the peer is gone.
    """
    connection.settimeout(timeout_s)
    connection.sendall(framed(body))


def framed(body: bytes) -> bytes:
    """A body with its length before it."""
    return _HEAD.pack(len(body)) + body


def receive(connection: socket.socket, limit: int, timeout_s: float | None = None) -> bytes:
    """Read one frame.

    Args:
        connection: One end of a socket pair.
        limit: Most bytes of the body.
        timeout_s: Longest time for all of it; None waits for ever.

    Raises:
        EOFError: if the peer is gone.
        TimeoutError: if it is not there in time.
        TooLargeError: if the frame is over the limit.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
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
        self._read = bytearray()
        self._size: int | None = None

    def read(self, connection: socket.socket) -> bytes | None:
        """The frame's body if it is whole; None if more has to come.

        Raises:
            EOFError: if the peer is gone.
            TooLargeError: if the frame is over the limit.
            FrameError: if more came than one frame.
        """
        while True:
            if self._size is None and len(self._read) >= _HEAD.size:
                self._size = _HEAD.size + _length(self._read[: _HEAD.size], self._limit)
            if self._size is not None and len(self._read) >= self._size:
                if len(self._read) > self._size:
                    raise FrameError("it said more than it was asked for")
                return bytes(self._read[_HEAD.size :])
            try:
                # As a rule all of it at once; one byte more shows that something lies behind the longest frame.
                chunk = connection.recv(_HEAD.size + self._limit + 1 - len(self._read))
            except BlockingIOError:
                return None
            if not chunk:
                raise EOFError("it closed the connection")
            self._read += chunk


def _length(head: bytes | bytearray, limit: int) -> int:
    (length,) = _HEAD.unpack(head)
    if length > limit:
        raise TooLargeError(f"a frame of {length} bytes, the limit is {limit}")
    return int(length)


def _exactly(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    chunks = bytearray()
    while len(chunks) < size:
        if deadline is not None:
            # Zero would make the socket non-blocking, which is another error.
            connection.settimeout(max(deadline - time.monotonic(), 1e-6))
        chunk = connection.recv(min(size - len(chunks), _CHUNK))
        if not chunk:
            raise EOFError("it closed the connection")
        chunks += chunk
    return bytes(chunks)


def one_line(text: str) -> str:
    """The first line of a text, cut: what a shadow says of itself ends up in records and logs."""
    first = text.strip().split("\n", maxsplit=1)[0][:ERROR_CHARACTERS]
    return "".join(character if character.isprintable() else "?" for character in first)

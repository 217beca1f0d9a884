"""Length-prefixed messages between the engine and a shadow process: a number, a name and raw arrays, nothing else.

A frame is four bytes of big-endian length and a msgpack body. Nothing is unpickled; a frame over the limit is refused
before it is read.
"""

import socket
import struct

import msgspec
import numpy as np
from numpy.typing import NDArray

LIMIT = 64 * 2**20
_HEAD = struct.Struct(">I")


class Request(msgspec.Struct, frozen=True, array_like=True):
    """A batch for the shadow: float32 inputs of this shape as raw bytes."""

    batch: int
    shape: tuple[int, ...]
    inputs: bytes


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """The shadow's answer: float64 probabilities as raw bytes, or an error. Batch -1 is the greeting."""

    batch: int
    p_up: bytes
    error: str
    digest: str


GREETING = -1


def request_of(batch: int, inputs: NDArray[np.float32]) -> bytes:
    """A batch as a frame's body."""
    return msgspec.msgpack.encode(Request(batch, inputs.shape, inputs.tobytes()))


def send(connection: socket.socket, body: bytes) -> None:
    """Write one frame."""
    connection.sendall(_HEAD.pack(len(body)) + body)


def receive(connection: socket.socket) -> bytes:
    """Read one frame.

    Raises:
        EOFError: if the peer is gone.
        ValueError: if the frame is over the limit.
    """
    (length,) = _HEAD.unpack(_exactly(connection, _HEAD.size))
    if length > LIMIT:
        raise ValueError(f"frame of {length} bytes is over the limit of {LIMIT}")
    return _exactly(connection, length)


def _exactly(connection: socket.socket, size: int) -> bytes:
    chunks = bytearray()
    while len(chunks) < size:
        chunk = connection.recv(min(size - len(chunks), 1 << 20))
        if not chunk:
            raise EOFError("the peer closed the connection")
        chunks += chunk
    return bytes(chunks)

"""Frames over a real socket pair: whole or refused, and never past their limit or their time."""

import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.engine.frames import (
    ERROR_CHARACTERS,
    FrameError,
    Reader,
    TooLargeError,
    framed,
    one_line,
    receive,
    reply_limit,
    send,
)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@given(bodies=st.lists(st.binary(max_size=4000), max_size=5))
def test_frames_arrive_as_they_were_sent(bodies: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for body in bodies:
            send(theirs, body)
        assert [receive(ours, 4000) for _ in bodies] == bodies


def test_a_large_frame_arrives_in_pieces(pair: Pair) -> None:
    body = bytes(range(256)) * 20_000
    sender = threading.Thread(target=send, args=(pair[1], body))
    sender.start()
    assert receive(pair[0], len(body), 10.0) == body
    sender.join()


def test_a_frame_over_its_limit_is_not_read(pair: Pair) -> None:
    pair[1].sendall((10 * 2**20).to_bytes(4, "big") + b"beginning")
    with pytest.raises(TooLargeError, match="a frame of 10485760 bytes, the limit is 4416"):
        receive(pair[0], reply_limit(5))
    assert pair[0].recv(100) == b"beginning"


def test_an_end_in_the_middle_is_an_end_of_file(pair: Pair) -> None:
    pair[1].sendall((100).to_bytes(4, "big") + b"half")
    pair[1].close()
    with pytest.raises(EOFError):
        receive(pair[0], 1000)


@pytest.mark.parametrize("sent", [b"", b"\x00", (100).to_bytes(4, "big") + b"half"])
def test_what_does_not_come_whole_in_time_is_a_timeout(pair: Pair, sent: bytes) -> None:
    pair[1].sendall(sent)
    with pytest.raises(TimeoutError):
        receive(pair[0], 1000, 0.05)
    with pytest.raises(TimeoutError):
        receive(pair[0], 1000, 0.0)


def test_a_peer_that_takes_nothing_is_a_timeout(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        send(pair[0], b"x" * 2**24, 0.05)


@given(text=st.text(max_size=600))
def test_what_a_shadow_says_is_one_short_printable_line(text: str) -> None:
    line = one_line(text)
    assert len(line) <= ERROR_CHARACTERS
    assert line.isprintable()


@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(1, 200), max_size=5))
def test_a_reader_gives_a_frame_once_it_is_whole(body: bytes, cuts: list[int]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        rest, reader = framed(body), Reader(300)
        while rest:
            assert reader.read(ours) is None
            cut = cuts.pop() if cuts else len(rest)
            theirs.sendall(rest[:cut])
            rest = rest[cut:]
        assert reader.read(ours) == body


@given(body=st.binary(max_size=300), behind=st.binary(min_size=1, max_size=5000))
def test_a_reader_refuses_a_frame_with_anything_behind_it(body: bytes, behind: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(framed(body) + behind)
        with pytest.raises(FrameError, match="said more than it was asked for"):
            Reader(300).read(ours)


def test_a_reader_refuses_a_frame_over_its_limit_and_says_when_the_peer_is_gone(pair: Pair) -> None:
    pair[0].setblocking(False)
    pair[1].sendall((301).to_bytes(4, "big") + b"x")
    with pytest.raises(TooLargeError, match="a frame of 301 bytes, the limit is 300"):
        Reader(300).read(pair[0])
    pair[1].close()
    reader = Reader(300)
    with pytest.raises(EOFError):
        reader.read(pair[0])


def test_a_reader_begins_anew_with_nothing_left_of_the_frame_before(pair: Pair) -> None:
    pair[0].setblocking(False)
    reader = Reader(10)
    for limit, body in ((10, b"ten bytes."), (300, b"x" * 300), (4, b"four")):
        reader.begin(limit)
        pair[1].sendall(framed(body))
        assert reader.read(pair[0]) == body

"""Frames over a real socket pair: whole or refused, and never past their limit or their time."""

import socket
import struct
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.engine.frames import (
    ERROR_CHARACTERS,
    FrameError,
    Reader,
    Requests,
    TooLargeError,
    framed,
    one_line,
    receive,
    reply_limit,
    request,
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
        assert [receive(ours, 4000, 10.0) for _ in bodies] == bodies


def test_a_large_frame_arrives_in_pieces(pair: Pair) -> None:
    body = bytes(range(256)) * 20_000
    sender = threading.Thread(target=send, args=(pair[1], body))
    sender.start()
    assert receive(pair[0], len(body), 10.0) == body
    sender.join()


def test_a_frame_over_its_limit_is_not_read(pair: Pair) -> None:
    pair[1].sendall((10 * 2**20).to_bytes(4, "big") + b"beginning")
    with pytest.raises(TooLargeError, match="a frame of 10485760 bytes, the limit is 4416"):
        receive(pair[0], reply_limit(5), 10.0)
    assert pair[0].recv(100) == b"beginning"


def test_an_end_in_the_middle_is_an_end_of_file(pair: Pair) -> None:
    pair[1].sendall((100).to_bytes(4, "big") + b"half")
    pair[1].close()
    with pytest.raises(EOFError):
        receive(pair[0], 1000, 10.0)


@pytest.mark.parametrize("sent", [b"", b"\x00", (100).to_bytes(4, "big") + b"half"])
def test_what_does_not_come_whole_in_time_is_a_timeout(pair: Pair, sent: bytes) -> None:
    pair[1].sendall(sent)
    with pytest.raises(TimeoutError):
        receive(pair[0], 1000, 0.05)
    with pytest.raises(TimeoutError):
        receive(pair[0], 1000, 0.0)


def test_a_peer_that_takes_nothing_is_a_timeout(pair: Pair) -> None:
    pair[0].settimeout(0.05)
    with pytest.raises(TimeoutError):
        send(pair[0], b"x" * 2**24)


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


shapes = st.tuples(st.integers(1, 9), st.integers(1, 50)) | st.tuples(
    st.integers(1, 9), st.integers(1, 128), st.just(8)
)


@given(batches=st.lists(st.tuples(st.integers(0, 2**63), shapes), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_batches_arrive_as_they_were_left(batches: list[tuple[int, tuple[int, ...]]], seed: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        requests, random = Requests(theirs), np.random.default_rng(seed)
        for number, shape in batches:
            # Any bits: what a model is shown is what the engine computed, NaN included.
            inputs = random.integers(0, 2**32, shape, dtype=np.uint32).view(np.float32)
            ours.sendmsg(request(number, inputs))
            read = requests.next()
            assert read.batch == number
            assert read.inputs.shape == shape
            assert read.inputs.tobytes() == inputs.tobytes()
            assert not read.inputs.flags.writeable


@pytest.mark.parametrize("cut", [1, 7, 19, 20, 21, 1_000_000])
def test_a_batch_arrives_in_pieces(pair: Pair, cut: int) -> None:
    inputs = np.arange(2_000_000, dtype=np.float32).reshape(2, 1_000_000)
    whole = b"".join(request(3, inputs))

    def drip() -> None:
        pair[0].sendall(whole[:cut])
        threading.Event().wait(0.05)
        pair[0].sendall(whole[cut:])

    sender = threading.Thread(target=drip)
    sender.start()
    requests = Requests(pair[1])
    large = requests.next()
    sender.join()
    assert large.batch == 3
    assert np.array_equal(large.inputs, inputs)
    pair[0].sendmsg(request(4, inputs[:, :5].copy()))
    assert np.array_equal(requests.next().inputs, inputs[:, :5])


@pytest.mark.parametrize("sent", [0, 1, 19, 20, 30])
def test_an_engine_that_goes_in_the_middle_of_a_batch_is_an_end_of_file(pair: Pair, sent: int) -> None:
    pair[0].sendall(b"".join(request(1, np.zeros((2, 3), dtype=np.float32)))[:sent])
    pair[0].close()
    with pytest.raises(EOFError):
        Requests(pair[1]).next()


def test_two_batches_at_once_are_refused(pair: Pair) -> None:
    for number in (1, 2):
        pair[0].sendmsg(request(number, np.zeros((2, 3), dtype=np.float32)))
    with pytest.raises(FrameError, match="before the last one was answered"):
        Requests(pair[1]).next()


def test_a_batch_over_the_limit_is_not_read(pair: Pair) -> None:
    pair[0].sendall(struct.pack(">Q3I", 1, 2**28 + 1, 1, 1) + b"beginning")
    with pytest.raises(TooLargeError, match="a batch of 1073741828 bytes, the limit is 1073741824"):
        Requests(pair[1]).next()

"""The mailbox over a real socket pair: every batch ends in one way, and nobody waits past the grace."""

import os
import socket
import threading
import time
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.said import Said

from quantum_trader.core.hashes import input_hashes
from quantum_trader.core.predictions import Status, Thresholds
from quantum_trader.engine import frames
from quantum_trader.engine.backoff import Backoff
from quantum_trader.engine.breaker import Breaker
from quantum_trader.engine.line import Batch, Line
from quantum_trader.engine.mailbox import Mailbox
from quantum_trader.engine.replies import Expected, Miss

DIGEST = "d" * 64
INPUTS = np.arange(6, dtype=np.float32).reshape(2, 3)
HASHES = input_hashes(INPUTS)
CRASHED = Miss(Status.FAILED, "crashed: x")
STOPPED = Miss(Status.MISSING, "stopped: x")
P_UP = np.array([0.2, 0.9])
GOOD = (Status.OK, "")


class Box:
    """A mailbox and the shadow's end of its socket; `attend` is what the shadow's thread does when it wakes."""

    def __init__(self, grace_s: float = 0.05, misses: int = 3) -> None:
        self.rooms = 0
        self.mailbox = Mailbox(DIGEST, Breaker(misses, grace_s), Backoff(), make_room=self.make_room)
        self.ends: list[socket.socket] = []
        self.lines: list[Line] = []

    def make_room(self) -> None:
        self.rooms += 1

    def up(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.ends += [ours, self.theirs]
        self.line = Line(ours, Expected(DIGEST, Thresholds(0.5, 0.5)), self.mailbox.wake_fd)
        self.lines.append(self.line)
        self.mailbox.up(self.line)

    def close(self) -> None:
        for line in self.lines:
            line.close()
        for end in self.ends:
            end.close()
        self.mailbox.close()

    def submit(self, number: int, inputs: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]" = INPUTS) -> None:
        self.mailbox.submit(number, inputs)

    def asked(self) -> frames.Request:
        """The batch that the shadow is given next."""
        self.theirs.settimeout(10.0)
        return frames.Requests(self.theirs).next()

    def reply(
        self, request: frames.Request, error: str = "", p_up: "np.ndarray[tuple[int], np.dtype[np.float64]]" = P_UP
    ) -> None:
        said = frames.Reply(request.batch, tuple(p_up.tolist()), input_hashes(request.inputs), error, DIGEST)
        frames.send(self.theirs, msgspec.msgpack.encode(said))

    def answer(self) -> None:
        self.reply(self.asked())

    def collect(self, number: int, votes_in: float | None = None) -> Said:
        return Said.of(self.mailbox.collect(number, HASHES, time.monotonic() if votes_in is None else votes_in))

    def collected(self, number: int, votes_in: float | None = None) -> tuple[Status, str]:
        output = self.collect(number, votes_in)
        assert len(set(output.statuses)) == len(set(output.reasons)) == 1
        return output.statuses[0], output.reasons[0]


@pytest.fixture
def boxes() -> Iterator[list[Box]]:
    made: list[Box] = []
    yield made
    for box in made:
        box.close()


def ready(boxes: list[Box], grace_s: float = 0.05, misses: int = 3) -> Box:
    box = Box(grace_s, misses)
    boxes.append(box)
    box.up()
    return box


def test_before_its_start_it_is_missing_at_once(boxes: list[Box]) -> None:
    box = Box(grace_s=30.0)
    boxes.append(box)
    box.submit(1)
    assert box.mailbox.attend() is None
    assert box.collected(1) == (Status.MISSING, "starting: its process has not started yet")


def test_an_answer_is_there_at_once_and_no_thread_was_needed(boxes: list[Box]) -> None:
    box = ready(boxes)
    for number in range(3):
        box.submit(number)
        box.answer()
        output = box.collect(number)
        assert output.p_up == tuple(P_UP.tolist())
        assert output.input_hashes == input_hashes(INPUTS)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(box.mailbox.wake_fd)


def test_room_is_made_at_every_batch_while_there_is_a_process(boxes: list[Box]) -> None:
    box = Box()
    boxes.append(box)
    box.submit(1)
    assert box.rooms == 0
    box.up()
    box.submit(2)
    assert box.rooms == 1
    # It owes an answer, and may be computing.
    box.submit(3)
    assert box.rooms == 2
    box.mailbox.down(STOPPED)
    box.submit(4)
    assert box.rooms == 2


def test_an_answer_within_the_grace_is_waited_for(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=10.0)
    box.submit(1)
    timer = threading.Timer(0.05, box.answer)
    timer.start()
    assert box.collected(1) == GOOD
    timer.join()


def test_an_answer_in_pieces_is_put_together(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=10.0)
    box.submit(1)
    request = box.asked()
    said = frames.Reply(1, tuple(P_UP.tolist()), input_hashes(INPUTS), "", DIGEST)
    whole = frames.framed(msgspec.msgpack.encode(said))
    assert request.batch == 1

    def drip() -> None:
        for i in range(0, len(whole), 7):
            box.theirs.sendall(whole[i : i + 7])
            time.sleep(0.001)

    sender = threading.Thread(target=drip)
    sender.start()
    assert box.collected(1) == GOOD
    sender.join()


def test_no_answer_costs_the_grace_and_no_more(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=0.0305)
    box.submit(1)
    began = time.monotonic()
    assert box.collected(1, began) == (Status.LATE, "grace: no answer within the grace")
    assert time.monotonic() - began >= 0.0305


def test_a_batch_larger_than_the_socket_takes_is_sent_on_by_the_shadows_thread(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=10.0)
    many = np.zeros((2, 1_000_000), dtype=np.float32)
    began = time.monotonic()
    box.submit(1, many)
    assert time.monotonic() - began < 5.0
    assert not box.line.claimed
    asker = threading.Thread(target=box.answer)
    asker.start()
    while asker.is_alive():
        box.line.wait(0.01)
        box.mailbox.attend()
    while box.mailbox.attend() is not None:
        box.line.wait(0.01)
    assert box.collected(1) == GOOD


def test_one_that_reads_no_more_is_gone_for_its_thread_at_once(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=0.01)
    box.theirs.shutdown(socket.SHUT_RD)
    box.submit(1)
    assert box.collected(1) == (Status.LATE, "grace: no answer within the grace")
    box.line.wait(10.0)
    # Its end stands open, so nothing else would say so: the thread would be woken to write again and again.
    with pytest.raises(BrokenPipeError):
        box.mailbox.attend()


def test_only_the_latest_batch_is_kept_while_it_owes_an_answer(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=0.0)
    for number in (1, 2, 3):
        box.submit(number)
        assert box.collected(number) == (Status.LATE, "grace: no answer within the grace")
    assert box.asked().batch == 1
    box.reply(frames.Request(1, INPUTS))
    assert box.mailbox.attend() is not None
    assert box.asked().batch == 3


def test_the_answer_to_an_old_batch_is_none_to_the_new_one(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=0.0)
    box.submit(1)
    box.collect(1)
    box.submit(2)
    box.answer()
    box.mailbox.attend()
    assert box.collected(2) == (Status.LATE, "grace: no answer within the grace")


def test_a_batch_that_is_never_collected_leaves_its_answer_to_the_shadows_thread(boxes: list[Box]) -> None:
    box = ready(boxes)
    box.submit(1)
    box.submit(2)
    box.answer()
    box.mailbox.attend()
    box.answer()
    box.mailbox.attend()
    assert box.collected(2) == GOOD


def test_a_death_over_the_batch_is_failed_and_every_later_one_missing(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=30.0)
    box.submit(1)
    box.mailbox.down(STOPPED, CRASHED)
    assert box.collected(1) == (Status.FAILED, "crashed: x")
    box.submit(2)
    assert box.collected(2) == (Status.MISSING, "stopped: x")


def test_a_death_before_the_batch_was_given_is_missing(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=30.0)
    box.submit(1)
    box.submit(2)
    box.mailbox.down(STOPPED, CRASHED)
    assert box.collected(2) == (Status.MISSING, "stopped: x")
    assert box.mailbox.attend() is None


def test_a_death_wakes_who_waits(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=60.0)
    box.submit(1)

    def die() -> None:
        box.theirs.shutdown(socket.SHUT_RDWR)
        # What its thread does: it hears of the end although the line is claimed.
        box.line.wait(None)
        with pytest.raises(EOFError):
            box.mailbox.attend()
        box.mailbox.down(STOPPED, CRASHED)

    timer = threading.Timer(0.05, die)
    timer.start()
    assert box.collected(1) == (Status.FAILED, "crashed: x")
    timer.join()


def test_an_answer_before_a_death_counts(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=30.0)
    box.submit(1)
    box.answer()
    box.theirs.close()
    box.mailbox.attend()
    box.mailbox.down(STOPPED, CRASHED)
    assert box.collected(1) == GOOD


def test_junk_is_left_to_the_shadows_thread(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=0.01)
    box.submit(1)
    frames.send(box.theirs, b"\xc1 junk")
    assert box.collected(1) == (Status.LATE, "grace: no answer within the grace")
    assert not box.line.claimed


def test_once_a_large_batch_is_written_the_shadows_thread_sleeps_until_the_answer(boxes: list[Box]) -> None:
    box = ready(boxes)
    box.submit(1, np.zeros((2, 2**20), dtype=np.float32))
    assert not box.line.claimed
    reader = threading.Thread(target=box.asked)
    reader.start()
    while reader.is_alive():
        box.line.wait(0.01)
        box.mailbox.attend()
    began = time.monotonic()
    box.line.wait(0.2)
    assert time.monotonic() - began > 0.15


def test_speaking_unasked_is_noticed_between_two_batches(boxes: list[Box]) -> None:
    box = ready(boxes)
    box.mailbox.look()
    with pytest.raises(BlockingIOError):
        os.eventfd_read(box.mailbox.wake_fd)
    box.theirs.sendall(b"hello")
    box.mailbox.look()
    box.line.wait(None)
    with pytest.raises(frames.FrameError, match="spoke without being asked"):
        box.mailbox.attend()


def test_after_too_many_misses_nobody_waits_until_an_answer_would_have_been_in_time(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=30.0, misses=2)
    for number in (1, 2):
        box.submit(number)
        # Votes that were in long ago leave no grace: the wait is over at once.
        assert box.collect(number, time.monotonic() - 31.0).statuses == (Status.LATE,) * 2
    box.answer()
    box.mailbox.attend()
    box.answer()
    # 31 s after its votes, so too late to be waited for again.
    box.mailbox.attend()
    assert box.mailbox.standing()[1]
    box.submit(3)
    votes_in = time.monotonic()
    late = box.collect(3, votes_in)
    assert time.monotonic() - votes_in < 15.0
    assert late.reasons[0].startswith("breaker: ")
    box.answer()
    box.mailbox.attend()
    assert not box.mailbox.standing()[1]


def test_an_error_does_not_close_the_breaker(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=0.5, misses=1)
    box.submit(1)
    box.reply(box.asked(), error="x")
    assert box.collected(1) == (Status.FAILED, "error: x")
    assert box.mailbox.standing()[1:3] == (True, 1)


def test_a_refused_answer_on_time_is_no_miss(boxes: list[Box]) -> None:
    box = ready(boxes, grace_s=0.5, misses=1)
    box.submit(1)
    box.reply(box.asked(), p_up=np.array([0.5, 0.5, 0.5]))
    assert box.collected(1)[0] is Status.REFUSED
    assert not box.mailbox.standing()[1]


def test_a_batch_that_was_never_submitted_cannot_be_collected(boxes: list[Box]) -> None:
    with pytest.raises(ValueError, match="batch 5 was never submitted"):
        ready(boxes).collect(5)


def test_closing_twice_is_harmless_and_waking_afterwards_too() -> None:
    box = Box()
    box.mailbox.close()
    box.mailbox.close()
    box.mailbox.wake()
    box.submit(1)


steps = st.lists(
    st.sampled_from(["submit", "collect", "read", "reply", "error", "refuse", "attend", "down", "up"]), max_size=40
)


@settings(max_examples=300, deadline=None)
@given(happenings=steps, grace_ms=st.sampled_from([0.0, 0.1]))
def test_in_any_order_of_events_every_batch_has_exactly_one_end(happenings: list[str], grace_ms: float) -> None:
    box = Box(grace_ms / 1000.0)
    number, open_, alive = 0, False, False
    read: Batch | None = None
    hand: frames.Request | None = None
    try:
        for what in happenings:
            if what == "submit":
                number, open_ = number + 1, True
                box.submit(number)
            elif what == "collect" and open_:
                output = box.collect(number)
                open_ = False
                assert len(output.statuses) == len(output.reasons) == 2
                assert (output.reasons[0] == "") == (output.statuses[0] is Status.OK)
            elif what == "read" and alive and box.line.given not in (None, read):
                read = box.line.given
                hand = box.asked()
            elif what in ("reply", "error", "refuse") and hand is not None:
                p_up = np.array([0.5]) if what == "refuse" else P_UP
                box.reply(hand, error="x" if what == "error" else "", p_up=p_up)
                hand = None
            elif what == "attend":
                box.mailbox.attend()
            elif what == "down":
                box.mailbox.down(STOPPED, CRASHED)
                alive, hand = False, None
            elif what == "up" and not alive:
                box.up()
                alive = True
    finally:
        box.close()

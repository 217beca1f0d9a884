"""The mailbox with real threads: every batch ends in one way, and nobody waits past the grace."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_trader.core.predictions import ModelOutput, Status, Thresholds
from quantum_trader.engine.backoff import Backoff
from quantum_trader.engine.breaker import Breaker
from quantum_trader.engine.mailbox import Batch, Mailbox
from quantum_trader.engine.replies import Miss

INPUTS = np.arange(6, dtype=np.float32).reshape(2, 3)
CRASHED = Miss(Status.FAILED, "crashed: x")
STOPPED = Miss(Status.MISSING, "stopped: x")
GOOD = ModelOutput.of(np.array([0.2, 0.9]), Thresholds(0.5, 0.5), "d" * 64)


def mailbox(grace_s: float = 0.05, misses: int = 3) -> Mailbox:
    return Mailbox("d" * 64, Breaker(misses, grace_s), Backoff())


def ready(grace_s: float = 0.05, misses: int = 3) -> Mailbox:
    box = mailbox(grace_s, misses)
    box.up()
    return box


def fetched(box: Mailbox) -> Batch:
    batch = box.fetch()
    assert batch is not None
    return batch


def collected(box: Mailbox, number: int) -> tuple[Status, str]:
    output = box.collect(number, 2, time.monotonic())
    assert len(set(output.statuses)) == len(set(output.reasons)) == 1
    return output.statuses[0], output.reasons[0]


def test_before_its_start_it_is_missing_at_once() -> None:
    box = mailbox(grace_s=30.0)
    box.submit(1, INPUTS)
    assert box.fetch() is None
    assert collected(box, 1) == (Status.MISSING, "starting: its process has not started yet")


def test_an_answer_is_there_at_once() -> None:
    box = ready()
    box.submit(1, INPUTS)
    box.deliver(fetched(box), GOOD, time.monotonic())
    assert box.collect(1, 2, time.monotonic()) is GOOD


def test_an_answer_within_the_grace_is_waited_for() -> None:
    box = ready(grace_s=10.0)
    box.submit(1, INPUTS)
    batch = fetched(box)
    timer = threading.Timer(0.05, lambda: box.deliver(batch, GOOD, time.monotonic()))
    timer.start()
    assert box.collect(1, 2, time.monotonic()) is GOOD
    timer.join()


def test_the_shadow_gets_a_copy() -> None:
    box = ready()
    inputs = INPUTS.copy()
    box.submit(1, inputs)
    theirs = fetched(box).inputs
    theirs[...] = -1.0
    assert (inputs == INPUTS).all()


def test_only_the_latest_batch_is_kept() -> None:
    box = ready()
    box.submit(1, INPUTS)
    box.submit(2, INPUTS)
    assert fetched(box).number == 2
    assert box.fetch() is None


def test_the_answer_to_an_old_batch_is_none_to_the_new_one() -> None:
    box = ready(grace_s=0.0)
    box.submit(1, INPUTS)
    old = fetched(box)
    box.submit(2, INPUTS)
    box.deliver(old, GOOD, time.monotonic())
    assert collected(box, 2) == (Status.LATE, "grace: no answer within the grace")


def test_a_death_over_the_batch_is_failed_and_every_later_one_missing() -> None:
    box = ready(grace_s=30.0)
    box.submit(1, INPUTS)
    box.down(STOPPED, lost=fetched(box), ending=CRASHED)
    assert collected(box, 1) == (Status.FAILED, "crashed: x")
    box.submit(2, INPUTS)
    assert collected(box, 2) == (Status.MISSING, "stopped: x")


def test_a_death_before_the_batch_was_fetched_is_missing() -> None:
    box = ready(grace_s=30.0)
    box.submit(1, INPUTS)
    old = fetched(box)
    box.submit(2, INPUTS)
    box.down(STOPPED, lost=old, ending=CRASHED)
    assert collected(box, 2) == (Status.MISSING, "stopped: x")
    assert box.fetch() is None


def test_a_death_wakes_who_waits() -> None:
    box = ready(grace_s=60.0)
    box.submit(1, INPUTS)
    batch = fetched(box)
    timer = threading.Timer(0.05, lambda: box.down(STOPPED, lost=batch, ending=CRASHED))
    timer.start()
    assert collected(box, 1) == (Status.FAILED, "crashed: x")
    timer.join()


def test_after_too_many_misses_nobody_waits_until_an_answer_would_have_been_in_time() -> None:
    box = ready(grace_s=30.0, misses=2)
    for number in (1, 2):
        box.submit(number, INPUTS)
        # Votes that were in long ago leave no grace: the wait is over at once.
        assert box.collect(number, 2, time.monotonic() - 31.0).statuses == (Status.LATE,) * 2
    box.submit(3, INPUTS)
    batch, votes_in = fetched(box), time.monotonic()
    late = box.collect(3, 2, votes_in)
    assert time.monotonic() - votes_in < 15.0
    assert late.reasons[0].startswith("breaker: ")
    box.deliver(batch, GOOD, votes_in + 30.5)
    assert box.standing()[1]
    box.submit(4, INPUTS)
    batch, votes_in = fetched(box), time.monotonic()
    box.collect(4, 2, votes_in)
    box.deliver(batch, GOOD, votes_in + 29.5)
    assert not box.standing()[1]


def test_an_error_does_not_close_the_breaker() -> None:
    box = ready(grace_s=0.0, misses=1)
    box.submit(1, INPUTS)
    box.deliver(fetched(box), Miss(Status.FAILED, "error: x"), time.monotonic())
    assert collected(box, 1) == (Status.FAILED, "error: x")
    assert box.standing()[1:3] == (True, 1)


def test_a_refused_answer_on_time_is_no_miss() -> None:
    box = ready(grace_s=0.0, misses=1)
    box.submit(1, INPUTS)
    box.deliver(fetched(box), Miss(Status.REFUSED, "shape: x"), time.monotonic())
    assert collected(box, 1) == (Status.REFUSED, "shape: x")
    assert not box.standing()[1]


def test_a_batch_that_was_never_submitted_cannot_be_collected() -> None:
    with pytest.raises(ValueError, match="batch 5 was never submitted"):
        ready().collect(5, 2, time.monotonic())


def test_closing_twice_is_harmless_and_waking_afterwards_too() -> None:
    box = ready()
    box.close()
    box.close()
    box.wake()
    box.submit(1, INPUTS)


steps = st.lists(
    st.sampled_from(["submit", "collect", "fetch", "deliver", "error", "refuse", "down", "up"]), max_size=40
)


@settings(max_examples=300)
@given(happenings=steps, grace_ms=st.sampled_from([0.0, 0.1]))
def test_in_any_order_of_events_every_batch_has_exactly_one_end(happenings: list[str], grace_ms: float) -> None:
    box = mailbox(grace_ms / 1000.0)
    number, open_, in_hand = 0, False, None
    for what in happenings:
        if what == "submit":
            number, open_ = number + 1, True
            box.submit(number, INPUTS)
        elif what == "collect" and open_:
            output = box.collect(number, 2, time.monotonic())
            open_ = False
            assert len(output.statuses) == len(output.reasons) == 2
            assert (output.reasons[0] == "") == (output.statuses[0] is Status.OK)
        elif what == "fetch":
            in_hand = box.fetch() or in_hand
        elif what in ("deliver", "error", "refuse") and in_hand is not None:
            outcome = {"deliver": GOOD, "error": CRASHED, "refuse": Miss(Status.REFUSED, "shape: x")}[what]
            box.deliver(in_hand, outcome, time.monotonic())
            in_hand = None
        elif what == "down":
            box.down(STOPPED, lost=in_hand, ending=CRASHED)
            in_hand = None
        elif what == "up":
            box.up()
    box.close()

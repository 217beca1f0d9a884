"""The breaker's rules as properties, and as a state machine beside a plain model of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.engine.breaker import Breaker

GRACE_S = 0.02

after = st.floats(-1.0, 1.0, allow_nan=False)
events = st.lists(st.none() | after, max_size=60)
"""None is a miss, a number an answer so long after the votes."""


def fed(breaker: Breaker, happenings: list[float | None]) -> Breaker:
    for happening in happenings:
        if happening is None:
            breaker.missed()
        else:
            breaker.answered(happening)
    return breaker


@given(misses=st.integers(1, 6), happenings=events)
def test_it_is_open_exactly_after_so_many_misses_without_an_answer_on_time(
    misses: int, happenings: list[float | None]
) -> None:
    since = 0
    for happening in happenings:
        since = since + 1 if happening is None else 0 if happening <= GRACE_S else since
    breaker = fed(Breaker(misses, GRACE_S), happenings)
    assert breaker.open == (since >= misses)
    assert breaker.misses == since
    assert breaker.wait_s == (0.0 if since >= misses else GRACE_S)


@given(misses=st.integers(1, 6), happenings=events, late=st.floats(GRACE_S, 10.0, exclude_min=True))
def test_a_late_answer_changes_nothing(misses: int, happenings: list[float | None], late: float) -> None:
    breaker = fed(Breaker(misses, GRACE_S), happenings)
    before = (breaker.open, breaker.misses)
    assert not breaker.answered(late)
    assert (breaker.open, breaker.misses) == before


@given(happenings=events, early=st.floats(-10.0, GRACE_S))
def test_an_answer_within_the_grace_closes_it_whatever_was_before(happenings: list[float | None], early: float) -> None:
    breaker = fed(Breaker(3, GRACE_S), happenings)
    assert breaker.answered(early)
    assert not breaker.open
    assert breaker.wait_s == GRACE_S


@given(misses=st.integers(1, 6), happenings=events)
def test_silence_costs_a_bounded_time_however_long_it_lasts(misses: int, happenings: list[float | None]) -> None:
    breaker = fed(Breaker(misses, GRACE_S), happenings)
    waited = 0.0
    for _ in range(100):
        waited += breaker.wait_s
        breaker.missed()
    assert waited <= misses * GRACE_S + 1e-9


def test_with_a_grace_of_zero_only_what_is_there_with_the_votes_is_on_time() -> None:
    breaker = Breaker(2, 0.0)
    assert breaker.answered(0.0)
    assert not breaker.answered(1e-9)
    assert breaker.wait_s == 0.0


def test_it_needs_at_least_one_miss() -> None:
    with pytest.raises(ValueError, match="misses 0"):
        Breaker(0, GRACE_S)

from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.engine.steady_clock import SteadyClock

SECOND = 1_000_000


class Hands:
    """A wall clock that an administrator turns, and a monotonic one that nobody can."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_000 * SECOND, 0

    def pass_(self, us: int, step_us: int = 0) -> None:
        self.wall += us + step_us
        self.monotonic += us


def steady(hands: Hands) -> SteadyClock:
    return SteadyClock(lambda: hands.wall, lambda: hands.monotonic)


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(-(10**9), 10**9)), max_size=30))
def test_time_never_runs_backwards_and_never_stands_still(steps: list[tuple[int, int]]) -> None:
    hands = Hands()
    clock = steady(hands)
    last = clock.now_us()
    for passed, step in steps:
        hands.pass_(passed, step)
        now = clock.now_us()
        assert now >= last + (passed if step <= 0 and now != hands.wall else 0)
        assert now >= hands.wall
        assert clock.behind_us == now - hands.wall
        last = now


def test_a_clock_that_goes_forward_is_the_time() -> None:
    hands = Hands()
    clock = steady(hands)
    hands.pass_(SECOND, step_us=3600 * SECOND)
    assert clock.now_us() == hands.wall
    assert not clock.stepped_back


def test_after_a_step_back_time_goes_on_until_the_clock_has_caught_up(caplog) -> None:
    hands = Hands()
    clock = steady(hands)
    before = clock.now_us()
    hands.pass_(SECOND, step_us=-60 * SECOND)
    assert clock.now_us() == before + SECOND
    assert clock.stepped_back
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "stepped back by 60.0 s" in caplog.text
    hands.pass_(10 * SECOND)
    assert clock.now_us() == before + 11 * SECOND
    assert len(caplog.records) == 1
    hands.pass_(5 * SECOND, step_us=60 * SECOND)
    assert clock.now_us() == hands.wall
    assert not clock.stepped_back
    assert "caught up" in caplog.text


def test_slewing_is_not_told(caplog) -> None:
    hands = Hands()
    clock = steady(hands)
    hands.pass_(100, step_us=-5000)
    clock.now_us()
    assert clock.behind_us == 5000
    assert not clock.stepped_back
    assert not caplog.records

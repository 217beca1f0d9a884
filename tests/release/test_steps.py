"""A host made ready step by step: whatever was cut off is finished by the next run, and nothing is made twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.core.errors import HostError
from quantum_trader.release.steps import Step, carry_out


class World:
    """Things that hold, and a run that is cut off after so many changes."""

    def __init__(self, holds: set[int], lives: int) -> None:
        self.holds, self.lives, self.made = set(holds), lives, []

    def steps(self, count: int) -> list[Step]:
        return [Step(f"thing {number}", self._asked(number), self._maker(number)) for number in range(count)]

    def _asked(self, number: int):
        return lambda: number in self.holds

    def _maker(self, number: int):
        def make() -> None:
            if self.lives == 0:
                raise HostError("the connection was lost")
            self.lives -= 1
            self.made.append(number)
            self.holds.add(number)

        return make


@given(st.sets(st.integers(0, 9)), st.integers(0, 10))
def test_a_run_that_was_cut_off_is_finished_by_the_next(before: set[int], lives: int) -> None:
    world = World(before, lives)
    missing = 10 - len(before)
    if lives < missing:
        with pytest.raises(HostError):
            carry_out(world.steps(10), lambda _: None, dry_run=False)
        world.lives = 10
    left = missing - lives if lives < missing else missing
    assert carry_out(world.steps(10), lambda _: None, dry_run=False) == left
    assert world.holds == set(range(10))
    assert sorted(world.made) == sorted(set(range(10)) - before)
    assert carry_out(world.steps(10), lambda _: None, dry_run=False) == 0


def test_looking_changes_nothing_and_says_what_is_to_do() -> None:
    world, said = World({1}, 10), []
    assert carry_out(world.steps(3), said.append, dry_run=True) == 2
    assert said == ["to do    thing 0", "holds    thing 1", "to do    thing 2"]
    assert world.made == []


def test_a_step_that_does_not_hold_after_it_was_made_is_an_error() -> None:
    with pytest.raises(HostError, match="unit is active: was made, and yet does not hold"):
        carry_out([Step("unit is active", lambda: False, lambda: None)], lambda _: None, dry_run=False)

"""What a host must have, one step after another: each looks first, changes only what does not hold, and looks again.

So a run that was cut off at any point is finished by the next, and a run on a finished host changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quantum_trader.core.errors import HostError


@dataclass(frozen=True)
class Step:
    """One thing that a host must have.

    Attributes:
        what: Said of it, as it is when it holds.
        holds: Whether it does; it changes nothing, and does not need what earlier steps make.
        make: Makes it so.
    """

    what: str
    holds: Callable[[], bool]
    make: Callable[[], None]


def carry_out(steps: Sequence[Step], tell: Callable[[str], None], *, dry_run: bool) -> int:
    """Make every step hold, in order.

    Args:
        steps: In the order in which they need each other.
        tell: Given one line for each step, as it is done.
        dry_run: Look only.

    Returns:
        How many did not hold before.

    Raises:
        HostError: if one cannot be made; those before it stay made.
    """
    changed = 0
    for step in steps:
        if step.holds():
            tell(f"holds    {step.what}")
            continue
        changed += 1
        if dry_run:
            tell(f"to do    {step.what}")
            continue
        step.make()
        if not step.holds():
            raise HostError(f"{step.what}: was made, and yet does not hold")
        tell(f"made     {step.what}")
    return changed

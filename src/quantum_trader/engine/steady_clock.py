"""Wall time that never runs backwards: what was decided later is stamped later, and no bar is suddenly in the future.

- While the wall clock goes forward, it is the time; a step forward is taken over at once.
- When it steps back, time goes on from the last reading at the pace of the monotonic clock, until the wall clock has
  caught up. How far it is behind is there to be told and alarmed.
"""

import logging
from collections.abc import Callable

from quantum_trader.core.errors import format_ms

log = logging.getLogger(__name__)

TOLD_FROM_US = 1_000_000
"""A step back of less is a clock being slewed; larger ones are told."""


class SteadyClock:
    """Reads a wall clock for one thread.

    Args:
        wall_us: Wall clock, microseconds since the epoch.
        monotonic_us: A clock that never steps, microseconds since whenever.

    Attributes:
        behind_us: How far the wall clock was behind the time that was last told; 0 where it was not.
    """

    def __init__(self, wall_us: Callable[[], int], monotonic_us: Callable[[], int]) -> None:
        self._wall_us, self._monotonic_us = wall_us, monotonic_us
        self._told_us, self._at_us = wall_us(), monotonic_us()
        self.behind_us = 0

    def now_us(self) -> int:
        """Microseconds since the epoch; never less than before."""
        wall_us, at_us = self._wall_us(), self._monotonic_us()
        going_on_us = self._told_us + max(at_us - self._at_us, 0)
        stepped = wall_us < self._told_us
        if stepped and self.behind_us < TOLD_FROM_US <= going_on_us - wall_us:
            log.error(
                "the clock stepped back by %.1f s to %s: times go on from %s until it has caught up; "
                "if the new time is the right one, restart the engine",
                *((going_on_us - wall_us) / 1e6, format_ms(wall_us // 1000), format_ms(self._told_us // 1000)),
            )
        elif not stepped and self.behind_us >= TOLD_FROM_US:
            log.warning("the clock has caught up: times are the clock's again")
        self.behind_us = going_on_us - wall_us if stepped else 0
        self._told_us, self._at_us = going_on_us if stepped else wall_us, at_us
        return self._told_us

    def now_ms(self) -> int:
        """Milliseconds since the epoch; never less than before."""
        return self.now_us() // 1000

    @property
    def stepped_back(self) -> bool:
        """Whether the wall clock is behind by more than slewing explains."""
        return self.behind_us >= TOLD_FROM_US

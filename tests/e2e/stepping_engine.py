"""`quantum` with a wall clock that a test can set: the real one plus the seconds that a file holds."""

import os
from pathlib import Path

from quantum_trader import clock

OFFSET = "NIGHT_CLOCK_OFFSET"
"""Environment variable: the file."""

_now_us = clock.now_us


def stepped_us() -> int:
    """Microseconds since the epoch, by the clock of the test."""
    return _now_us() + int(Path(os.environ[OFFSET]).read_text()) * 1_000_000


if __name__ == "__main__":
    # Whoever imports the clock from now on gets this one; the verb imports its modules when it is called.
    clock.now_us = stepped_us
    from quantum_trader.cli.main import main

    main()

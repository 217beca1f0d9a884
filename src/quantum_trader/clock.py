"""The one place that reads the wall clock; everybody else is told the time."""

import time
from datetime import UTC, datetime


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def now_utc() -> datetime:
    """The time as a datetime in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is the place

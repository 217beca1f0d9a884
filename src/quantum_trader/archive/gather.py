"""Decisions that were read and are not written yet, by day, and the rule that says when a day is written.

- A day is written when the oldest of its decisions has waited long enough, when a decision of a later day has come, or
  when as many decisions wait as may wait: then every day is.
- What waits is counted against that number, so that memory has a limit however much there is to catch up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.errors import format_ms

DAY_MS = 86_400_000


class Entry(Protocol):
    """An entry of the decision stream, as `bus.tail.TailEntry`."""

    @property
    def entry_id(self) -> str:
        """Its id: the milliseconds of its writing and a number."""

    @property
    def fields(self) -> Sequence[bytes]:
        """Names and values in turn; empty if it has left the stream."""

    @property
    def record(self) -> DecisionRecord | None:
        """What it says; None if it cannot be read."""

    @property
    def error(self) -> str:
        """Why it cannot be read."""


def day_of(record: DecisionRecord) -> str:
    """The UTC day, such as ``2026-01-10``, in which the decision's bar closed.

    The close is exclusive: the bar from 23:55 to 00:00 belongs to the day that begins, as its decision does.
    """
    return format_ms(record.decision.ts_close // DAY_MS * DAY_MS)[:10]


@dataclass
class Day:
    """What waits for one day's file.

    Attributes:
        since: When the first of it came, seconds of a monotonic clock.
        entries: The entries, in the order in which they came.
        records: What they say, one each.
    """

    since: float
    entries: list[Entry] = field(default_factory=list)
    records: list[DecisionRecord] = field(default_factory=list)


class Gathering:
    """What waits, and what is due.

    Args:
        every_s: Longest wait, seconds.
        rows: Most decisions that wait.
    """

    def __init__(self, every_s: float, rows: int) -> None:
        self._every_s, self._rows = every_s, rows
        self._days: dict[str, Day] = {}

    def __len__(self) -> int:
        return sum(len(day.entries) for day in self._days.values())

    def add(self, entry: Entry, record: DecisionRecord, now_s: float) -> None:
        """Take in an entry and its record."""
        day = self._days.setdefault(day_of(record), Day(now_s))
        day.entries.append(entry)
        day.records.append(record)

    def due(self, now_s: float) -> list[str]:
        """The days to write now, oldest first."""
        newest = max(self._days, default="")
        full = len(self) >= self._rows
        return sorted(
            name for name, day in self._days.items() if full or name < newest or now_s - day.since >= self._every_s
        )

    def all(self) -> list[str]:
        """Every day for which something waits, oldest first."""
        return sorted(self._days)

    def of(self, day: str) -> Day:
        """What waits for a day."""
        return self._days[day]

    def drop(self, day: str) -> None:
        """The day's decisions are on disk."""
        del self._days[day]

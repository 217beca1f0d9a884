"""Bars of one time are decided together: collect them, wait for stragglers at most a linger, release in time order.

- A group holds the bars that open at one time; it is complete when every expected symbol is there.
- A group is released when it is complete, or when its linger since the first arrival is over.
- Groups are released oldest first; a younger group waits until every older one is released.
- A straggler that comes after its group was released makes a group of its own and is released at once.
"""

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass
class Group(Generic[Item]):
    """Items of one time, by symbol."""

    ts_open: int
    since_ms: int
    items: dict[Hashable, Item] = field(default_factory=dict)


class Assembler(Generic[Item]):
    """Groups of items by opening time. Pure: the clock is an argument."""

    def __init__(self, symbols: Collection[str], linger_ms: int) -> None:
        self._expected = frozenset(symbols)
        self._linger_ms = linger_ms
        self._open: dict[int, Group[Item]] = {}
        self._released: int | None = None

    def add(self, symbol: str, ts_open: int, item: Item, now_ms: int) -> bool:
        """Take an item; False if one of the same symbol and time is waiting already (a duplicate)."""
        group = self._open.setdefault(ts_open, Group(ts_open, now_ms))
        if symbol in group.items:
            return False
        group.items[symbol] = item
        return True

    def release(self, now_ms: int) -> list[Group[Item]]:
        """Groups that are due, oldest first; they are forgotten here."""
        due = []
        for ts_open in sorted(self._open):
            group = self._open[ts_open]
            if not self._is_due(group, now_ms):
                break
            due.append(self._open.pop(ts_open))
            self._released = max(ts_open, self._released or ts_open)
        return due

    def wait_ms(self, now_ms: int, longest_ms: int) -> int:
        """Milliseconds until the oldest group's linger is over, 0 to `longest_ms`; `longest_ms` with none open."""
        if not self._open:
            return longest_ms
        oldest = self._open[min(self._open)]
        return min(max(oldest.since_ms + self._linger_ms - now_ms, 0), longest_ms)

    @property
    def waiting(self) -> int:
        """Items in groups that are not released."""
        return sum(len(group.items) for group in self._open.values())

    def _is_due(self, group: Group[Item], now_ms: int) -> bool:
        straggler = self._released is not None and group.ts_open <= self._released
        complete = self._expected <= group.items.keys()
        return straggler or complete or now_ms - group.since_ms >= self._linger_ms

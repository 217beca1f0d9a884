"""Alarms: named conditions that stand until they are gone, each raised once and cleared once.

- An alarm is known by its name, its model and its symbol; what its detail says may change while it stands.
- Whoever watches something tells the board all of its conditions that stand now; the board says what is new and what
  is over. Watchers are independent: one watcher's word clears only its own alarms.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import msgspec


class AlarmName(StrEnum):
    """What is wrong."""

    CONSTANT_INPUT = "constant-input"
    """A model is fed the same input at bar after bar, or for symbol after symbol."""
    SHADOW_INPUT = "shadow-input"
    """A shadow predicts on another input than it was given."""
    FROZEN_OUTPUT = "frozen-output"
    """A model answers the same probability at bar after bar, or for symbol after symbol."""
    VOTER_ABSTAINS = "voter-abstains"
    """A voter does not answer."""
    SHADOW_SILENT = "shadow-silent"
    """A shadow does not answer."""
    INPUT_DRIFT = "input-drift"
    """A symbol's features are not distributed as in training."""
    CLOCK_STEP = "clock-step"
    """This machine's clock stepped back."""
    LEASE_LOST = "lease-lost"
    """Another engine took over this one's group."""


class Key(NamedTuple):
    """What makes two alarms the same; model or symbol is empty where the alarm concerns all."""

    name: AlarmName
    model: str
    symbol: str


class Alarm(msgspec.Struct, frozen=True):
    """A condition that stands."""

    name: AlarmName
    model: str = ""
    symbol: str = ""
    detail: str = ""

    @property
    def key(self) -> Key:
        """What makes two alarms the same."""
        return Key(self.name, self.model, self.symbol)

    def __str__(self) -> str:
        where = " | ".join(part for part in (self.model, self.symbol) if part)
        return f"{self.name} | {where or 'engine'} | {self.detail}"


class Changes(NamedTuple):
    """Alarms that are new, and alarms that are over."""

    raised: tuple[Alarm, ...] = ()
    cleared: tuple[Alarm, ...] = ()


class Board:
    """Which alarms stand. Pure: it has no clock and tells nobody."""

    def __init__(self) -> None:
        self._standing: dict[str, dict[Key, Alarm]] = {}

    @property
    def standing(self) -> tuple[Alarm, ...]:
        """Every alarm that stands, as it was when it was raised."""
        return tuple(alarm for own in self._standing.values() for alarm in own.values())

    def update(self, watcher: str, conditions: Iterable[Alarm]) -> Changes:
        """Take a watcher's word.

        Args:
            watcher: Who speaks.
            conditions: Everything that stands now as far as this watcher knows; what it does not name is over.
        """
        now = {alarm.key: alarm for alarm in conditions}
        before = self._standing.get(watcher, {})
        raised = tuple(alarm for key, alarm in now.items() if key not in before)
        cleared = tuple(alarm for key, alarm in before.items() if key not in now)
        if raised or cleared:
            self._standing[watcher] = {key: before.get(key, alarm) for key, alarm in now.items()}
        return Changes(raised, cleared)

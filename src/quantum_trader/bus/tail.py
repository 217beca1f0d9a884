"""Reading every decision as a consumer group of its own, for whoever keeps them for good.

- An entry is handed out until it is acknowledged, at least once in every life of the process and never twice in one.
- What this consumer owns and nobody saw (a former life, a reply that was lost) comes before anything new.
- An entry that cannot be read is handed out with its raw fields and the reason: never skipped.
- What left the stream before the group was given it is counted and named by its span, before anything behind it is
  read: reading would move the group past the gap, and a crash would then forget it. It is measured once more in the
  transaction that reads, so nothing can leave in between unseen.
- A group belongs to one consumer. Two consumers would get half of the decisions each and neither would notice, so
  whoever meets another consumer in its group refuses to read.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import redis

from quantum_trader.bus.entries import DELETED
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.session import Command, Session, require_stream
from quantum_trader.bus.wire import decode_record, pair_up
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.errors import ConfigError, WireError

log = logging.getLogger(__name__)

_PAGE = 1000
NOTHING = "0-0"
"""The id before every entry: nothing was ever delivered."""


@dataclass(frozen=True, slots=True)
class TailEntry:
    """An entry of the decision stream.

    Attributes:
        entry_id: Its id.
        fields: Names and values in turn, as the server holds them; empty if it left the stream while it was owned.
        record: What it says; None if it cannot be read.
        error: Why it cannot be read; empty if it can.
    """

    entry_id: str
    fields: tuple[bytes, ...]
    record: DecisionRecord | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Trimmed:
    """Entries that left the stream before the group was given them.

    Attributes:
        after: Id of the last entry that the group was given; `NOTHING` if there was none.
        before: Id of the oldest entry that is left; empty if none is.
        entries: How many went; None where the server has lost count of what the group read.
    """

    after: str
    before: str
    entries: int | None


@dataclass(frozen=True, slots=True)
class TailPage:
    """One reading: entries, oldest first, and what is missing before them."""

    entries: tuple[TailEntry, ...]
    trimmed: Trimmed | None = None


class DecisionTail:
    """The one consumer of a group on the decision stream. Not for use by two threads at once.

    Args:
        client: From `client.connect`.
        names: Keys.
        group: Consumer group.
        consumer: Name that stays the same over restarts, and that nobody else uses.
    """

    def __init__(self, client: redis.Redis, names: StreamNames, group: str, consumer: str) -> None:
        self._key, self._group, self._consumer = names.decisions, group, consumer
        self._session = Session(client)
        # A group gives its entries in the order of their ids, and to nobody else: one id says what was handed out.
        self._last = NOTHING
        # True while this consumer may own entries behind it that it never saw.
        self._unseen = True
        self._told: Trimmed | None = None

    def open(self) -> None:
        """Create the group, from the beginning of the stream, if there is none, and join it.

        Raises:
            ConfigError: if the group belongs to another consumer.
            BusError: if the server stays away or refuses.
        """
        self._session.persist(f"joining group {self._group} on {self._key}", self._join)

    def read(self, count: int = _PAGE) -> TailPage:
        """The next entries, at once: what is owned and was never seen, otherwise at most `count` new ones.

        Where entries are missing before the new ones, the page says so and holds none; the next one goes on.

        Raises:
            BusError: if the server stays away or refuses, or the group is gone (`open` makes it anew).
        """
        return self._session.persist(f"reading {self._key}", lambda: self._read(count))

    def acknowledge(self, entry_ids: Sequence[str]) -> None:
        """Say that these entries are kept and never needed again.

        Raises:
            BusError: if the server stays away or refuses; repeating the call is safe.
        """
        for start in range(0, len(entry_ids), _PAGE):
            part = entry_ids[start : start + _PAGE]
            command = ("XACK", self._key, self._group, *part)
            self._session.persist(f"acknowledging entries of {self._key}", partial(self._session.one, *command))

    def close(self) -> None:
        """Give the connection back."""
        self._session.close(broken=True)

    def _join(self) -> None:
        require_stream(self._session, self._key)
        try:
            self._session.one("XGROUP", "CREATE", self._key, self._group, "0", "MKSTREAM")
            log.info("group %s on %s is new: it begins with the oldest decision there", self._group, self._key)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        made, rows = self._session.call(
            ("XGROUP", "CREATECONSUMER", self._key, self._group, self._consumer),
            ("XINFO", "CONSUMERS", self._key, self._group),
        )
        others = sorted({_pairs(row)[b"name"].decode() for row in rows} - {self._consumer})
        if others:
            if made:
                self._session.one("XGROUP", "DELCONSUMER", self._key, self._group, self._consumer)
            raise ConfigError(
                f"group {self._group} on {self._key} belongs to another reader ({others[0]}): each needs its own group"
            )

    def _read(self, count: int) -> TailPage:
        if self._unseen:
            reply = self._session.one(*self._command(count, self._last))
            if reply and reply[0][1]:
                return TailPage(self._hand_out(reply))
            self._unseen = False
        look = (("XINFO", "STREAM", self._key), ("XINFO", "GROUPS", self._key))
        stream, groups = self._session.call(*look)
        new = self._news(stream, groups)
        if new is not None:
            return TailPage((), new)
        if _order(self._group_row(groups)[b"last-delivered-id"].decode()) < _order(self._last):
            # The group was made anew: it gives everything again.
            self._last = NOTHING
        self._unseen = True
        stream, groups, reply = self._transaction(*look, self._command(count, ">"))
        self._unseen = False
        return TailPage(self._hand_out(reply), self._news(stream, groups))

    def _command(self, count: int, after: str) -> Command:
        return ("XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", count, "STREAMS", self._key, after)

    def _news(self, stream: Sequence[Any], groups: Iterable[Any]) -> Trimmed | None:
        """What is missing and was not told yet."""
        found = self._trimmed(_pairs(stream), groups)
        new = found if found != self._told else None
        self._told = found
        return new

    def _transaction(self, *commands: Command) -> list[Any]:
        done: list[Any] = self._session.call(("MULTI",), *commands, ("EXEC",))[-1]
        for reply in done:
            if isinstance(reply, redis.ResponseError):
                raise reply
        return done

    def _hand_out(self, reply: Any) -> tuple[TailEntry, ...]:
        entries = tuple(_entry(entry_id.decode(), flat) for entry_id, flat in (reply[0][1] if reply else ()))
        if entries:
            self._last = entries[-1].entry_id
        return entries

    def _group_row(self, groups: Iterable[Any]) -> dict[bytes, Any]:
        for row in map(_pairs, groups):
            if row[b"name"] == self._group.encode():
                return row
        raise redis.ResponseError(f"NOGROUP {self._key} has no group {self._group} (was the server emptied?)")

    def _trimmed(self, stream: dict[bytes, Any], groups: Iterable[Any]) -> Trimmed | None:
        group = self._group_row(groups)
        after = group[b"last-delivered-id"].decode()
        before = stream[b"first-entry"][0].decode() if stream[b"first-entry"] else ""
        gone = stream[b"entries-added"] - stream[b"length"]
        if not gone or (before and _order(before) <= _order(after)):
            return None
        given = 0 if after == NOTHING else group[b"entries-read"]
        if given is None:
            return Trimmed(after, before, None)
        return Trimmed(after, before, gone - given) if gone > given else None


def _entry(entry_id: str, flat: Sequence[bytes] | None) -> TailEntry:
    if not flat:
        return TailEntry(entry_id, (), None, DELETED)
    try:
        return TailEntry(entry_id, tuple(flat), decode_record(pair_up(flat)))
    except WireError as error:
        return TailEntry(entry_id, tuple(flat), None, str(error))


def _pairs(flat: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _order(entry_id: str) -> tuple[int, int]:
    millis, _, sequence = entry_id.partition("-")
    return int(millis), int(sequence)

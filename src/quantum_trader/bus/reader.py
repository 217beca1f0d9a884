"""Reading bars as a consumer group, and decisions and intents as a spectator.

Rules of the group:

- An entry is handed out until it is acknowledged, at least once in every life of the process and never twice in one.
- Whatever this consumer owns and nobody saw (a former life, a reply that was lost) comes before anything new.
- An entry that cannot be read is handed out as a `BadEntry`: it is alarmed and acknowledged, never skipped.
- History is what was delivered *and* acknowledged: what is still pending will be handed out, so it is not history.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from quantum_trader.bus.entries import DELETED, BadEntry, BarEntry, bar_entry
from quantum_trader.bus.history import handled_bars, pending_ids
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.session import Session, require_stream
from quantum_trader.bus.wire import LifecycleEvent, decode_intent, decode_lifecycle, decode_record, pair_up
from quantum_trader.core.bars import WINDOW, Bar
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.errors import WireError

_PAGE = 1000
_PRUNE_AT = 10_000


@dataclass(frozen=True, slots=True)
class IntentEntry:
    """A published intent: the entry's id, its ISO time and its payload."""

    entry_id: str
    timestamp: str
    payload: dict[str, Any]


class BarReader:
    """One consumer of the bar stream. Not for use by two threads at once."""

    def __init__(
        self, client: redis.Redis, names: StreamNames, group: str = "ai-engine", consumer: str = "engine-1"
    ) -> None:
        self.group, self.consumer = group, consumer
        self._key = names.bars
        self._session = Session(client)
        self._handed: set[str] = set()
        self._prune_at = _PRUNE_AT
        # True while this consumer may own entries that it never saw.
        self._unseen = True

    def ensure_group(self) -> None:
        """Create the group, from the beginning of the stream, if there is none.

        Raises:
            BusError: if the server stays away or refuses.
        """

        def attempt() -> None:
            require_stream(self._session, self._key)
            try:
                self._session.one("XGROUP", "CREATE", self._key, self.group, "0", "MKSTREAM")
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

        self._session.persist(f"creating group {self.group} on {self._key}", attempt)

    def claim(self, min_idle_ms: int) -> list[BarEntry | BadEntry]:
        """Take over what other consumers have left lying, and return everything owned and not handed out yet.

        Args:
            min_idle_ms: Entries that another consumer took longer ago than this are taken over, milliseconds.

        Raises:
            BusError: if the server stays away or refuses.
        """

        def attempt() -> list[BarEntry | BadEntry]:
            self._unseen = True
            cursor, deleted = "0-0", list[BadEntry]()
            while True:
                # JUSTID: only the owner changes; the entries themselves come by the one way below.
                reply = self._session.one(
                    "XAUTOCLAIM", self._key, self.group, self.consumer, min_idle_ms, cursor, "COUNT", _PAGE, "JUSTID"
                )
                cursor = reply[0].decode()
                deleted += [BadEntry(entry_id.decode(), DELETED) for entry_id in reply[2]]
                if cursor == "0-0":
                    return [*deleted, *self._owned_unseen()]

        return self._session.persist(f"claiming entries of {self._key}", attempt)

    def read(self, count: int = 500, block_ms: int = 1000) -> list[BarEntry | BadEntry]:
        """The next entries: first what is owned and was never seen, then at most `count` new ones.

        Args:
            count: Most new entries to return.
            block_ms: How long to wait for the first new one, milliseconds; 0 does not wait.

        Returns:
            Oldest first; empty if nothing came.

        Raises:
            BusError: if the server stays away or refuses.
        """
        return self._session.persist(f"reading {self._key}", lambda: self._read(count, block_ms))

    def history(
        self, per_symbol: int = WINDOW, *, symbols: Collection[str] | None = None, before: str | None = None
    ) -> list[BarEntry]:
        """The newest bars that the group has handled: delivered and acknowledged.

        Args:
            per_symbol: How many of each symbol and timeframe at most.
            symbols: Only these, and no further back than they need; None for every symbol that is met.
            before: Only entries with a smaller id than this one.

        Returns:
            Oldest entry first.

        Raises:
            BusError: if the server stays away or refuses, or the group does not exist.
        """
        return self._session.persist(
            f"reading the history of {self._key}",
            lambda: handled_bars(self._session, self._key, self.group, per_symbol, symbols, before),
        )

    def backlog(self) -> tuple[int | None, int]:
        """Entries that the group has not read (None where the server cannot tell), and those read but pending.

        Raises:
            BusError: if the server stays away or refuses.
        """

        def attempt() -> tuple[int | None, int]:
            for flat in self._session.one("XINFO", "GROUPS", self._key):
                found = dict(zip(flat[::2], flat[1::2], strict=True))
                if found[b"name"] == self.group.encode():
                    return found.get(b"lag"), int(found[b"pending"])
            return None, 0

        return self._session.persist(f"asking for the backlog of {self._key}", attempt)

    def close(self) -> None:
        """Give the connection back."""
        self._session.close(broken=True)

    def _read(self, count: int, block_ms: int) -> list[BarEntry | BadEntry]:
        if self._unseen:
            found = self._owned_unseen()
            if found:
                return found
        if len(self._handed) > self._prune_at:
            self._handed &= pending_ids(self._session, self._key, self.group, self.consumer)
            self._prune_at = max(_PRUNE_AT, 2 * len(self._handed))
        self._unseen = True
        wait = ("BLOCK", block_ms) if block_ms > 0 else ()
        reply = self._session.one(
            *("XREADGROUP", "GROUP", self.group, self.consumer, "COUNT", count, *wait, "STREAMS", self._key, ">"),
            wait_s=block_ms / 1000,
        )
        self._unseen = False
        return self._hand_out(reply[0][1] if reply else [])

    def _owned_unseen(self) -> list[BarEntry | BadEntry]:
        owned: list[Any] = []
        cursor = b"0-0"
        while True:
            reply = self._session.one(
                *("XREADGROUP", "GROUP", self.group, self.consumer, "COUNT", _PAGE, "STREAMS", self._key, cursor)
            )
            page = reply[0][1] if reply else []
            if not page:
                break
            owned += page
            cursor = page[-1][0]
        # What was handed out and is owned no longer was acknowledged: it need not be remembered.
        self._handed &= {entry_id.decode() for entry_id, _ in owned}
        self._unseen = False
        return self._hand_out([entry for entry in owned if entry[0].decode() not in self._handed])

    def _hand_out(self, raw: list[Any]) -> list[BarEntry | BadEntry]:
        entries = [bar_entry(entry_id.decode(), flat) for entry_id, flat in raw]
        self._handed.update(entry.entry_id for entry in entries)
        return entries


class DecisionReader:
    """Reads decisions and intents without being part of any group."""

    def __init__(self, client: redis.Redis, names: StreamNames, page: int = _PAGE) -> None:
        self._names, self._page = names, page
        self._session = Session(client)

    def since(self, ts_ms: int, until_ms: int | None = None) -> Iterator[DecisionRecord]:
        """Decisions written from `ts_ms` on, before `until_ms`, oldest first; read page by page.

        Args:
            ts_ms: By the server's clock, milliseconds since the epoch.
            until_ms: Exclusive; None for no end.

        Raises:
            WireError: at an entry that is no decision, naming its id.
            BusError: if the server stays away or refuses.
        """
        start, end = f"{max(ts_ms, 0)}-0", "+"
        if until_ms is not None:
            if until_ms <= 0:
                return
            end = f"({until_ms}-0"
        while True:
            page = self._range("XRANGE", self._names.decisions, start, end, self._page)
            for entry_id, flat in page:
                with _named(entry_id):
                    record = decode_record(pair_up(flat))
                yield record
            if len(page) < self._page:
                return
            start = f"({page[-1][0].decode()}"

    def count(self) -> int:
        """Decisions in the stream.

        Raises:
            BusError: if the server stays away or refuses.
        """
        key = self._names.decisions
        return int(self._session.persist(f"counting {key}", lambda: self._session.one("XLEN", key)))

    def bars(self, timeframe: str, first_open_ms: int) -> Iterator[Bar]:
        """Bars of a timeframe that open at `first_open_ms` or later, in the order of their publication.

        Entries that are no bar are passed over: whoever decides has refused and alarmed them.

        Raises:
            BusError: if the server stays away or refuses.
        """
        # A bar is published after it closed, so no entry before this id can hold one that opened later.
        start = f"{max(first_open_ms, 0)}-0"
        while True:
            page = self._range("XRANGE", self._names.bars, start, "+", self._page)
            for entry in (bar_entry(entry_id.decode(), flat) for entry_id, flat in page):
                if isinstance(entry, BarEntry) and entry.timeframe == timeframe and entry.bar.ts_open >= first_open_ms:
                    yield entry.bar
            if len(page) < self._page:
                return
            start = f"({page[-1][0].decode()}"

    def intents(self, last: int) -> list[IntentEntry]:
        """The newest intents, at most `last` of them, oldest first.

        Raises:
            WireError: at an entry that is no intent, naming its id.
            BusError: if the server stays away or refuses.
        """
        if last <= 0:
            return []
        found = []
        for entry_id, flat in reversed(self._range("XREVRANGE", self._names.intents, "+", "-", last)):
            with _named(entry_id):
                fields = pair_up(flat)
                timestamp = fields.get(b"timestamp", b"").decode()
                found.append(IntentEntry(entry_id.decode(), timestamp, decode_intent(fields)))
        return found

    def lifecycle(self) -> Iterator[tuple[int, LifecycleEvent]]:
        """Lifecycle events, oldest first, each with the time when it reached the stream, milliseconds.

        Raises:
            WireError: at an entry that is none, naming its id.
            BusError: if the server stays away or refuses.
        """
        start = "-"
        while True:
            page = self._range("XRANGE", self._names.lifecycle, start, "+", self._page)
            for entry_id, flat in page:
                with _named(entry_id):
                    event = decode_lifecycle(pair_up(flat))
                yield int(entry_id.partition(b"-")[0]), event
            if len(page) < self._page:
                return
            start = f"({page[-1][0].decode()}"

    def close(self) -> None:
        """Give the connection back."""
        self._session.close(broken=True)

    def _range(self, command: str, key: str, start: str, end: str, count: int) -> list[Any]:
        page: list[Any] = self._session.persist(
            f"reading {key}", lambda: self._session.one(command, key, start, end, "COUNT", count)
        )
        return page


@contextmanager
def _named(entry_id: bytes) -> Iterator[None]:
    try:
        yield
    except WireError as error:
        raise WireError(f"entry {entry_id.decode()}: {error}") from error

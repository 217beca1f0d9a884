"""The tally beside the streams: what was counted, what the server says was added, what can be counted again.

- The tally remembers where the streams stood when it began. What it has counted since is what the server, by its own
  count, says was added since: two counts that nobody keeps together.
- What the stream still holds can be counted again, decision by decision. Where nothing has left the stream, that gives
  the tally; where decisions have left it by age, the rest of the tally must add up by itself.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import redis

from quantum_trader.bus.client import address
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.session import Command, Session
from quantum_trader.bus.tally import BASE_DECISIONS, BASE_ID, BASE_INTENTS, DECISIONS, INTENTS, SINCE, Tally
from quantum_trader.bus.wire import decode_record, pair_up
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.errors import BusError, WireError

_PAGE = 1000
_TRIES = 5


class Added(msgspec.Struct, frozen=True):
    """What the server says of a stream: entries ever added, entries it holds, ids of the first and the last one."""

    ever: int = 0
    held: int = 0
    first: str = "0-0"
    last: str = "0-0"


class Books(msgspec.Struct, frozen=True):
    """Tally and streams at one moment."""

    tally: Tally
    decisions: Added
    intents: Added

    def problems(self) -> list[str]:
        """Where the tally contradicts itself or what the server says was added; empty where everything adds up."""
        base, found = self.tally.base, self.tally.problems()
        for name, counted_, added, before in (
            (DECISIONS, self.tally.decisions, self.decisions.ever, base.decisions),
            (INTENTS, self.tally.intents, self.intents.ever, base.intents),
        ):
            if counted_ != added - before:
                found.append(f"{counted_:,} {name} were counted, but {added - before:,} were added to the stream")
        return found


class Recount(msgspec.Struct, frozen=True):
    """The decisions that the stream still holds, counted again.

    Attributes:
        tally: Of those decisions.
        trimmed: How many were counted and have left the stream since, by age.
        problems: Where recount and tally differ.
    """

    tally: Tally
    trimmed: int
    problems: Sequence[str]


def begin(session: Session, names: StreamNames, now_ms: int) -> None:
    """Remember where the streams stand, before the first decision is counted; repeating it changes nothing.

    Errors of the session pass through.

    Raises:
        BusError: if the tally's key holds something else, or a field that is no count: to be known before it is moved.
    """
    books = _books(session, names)
    if books.tally.since is not None:
        return
    base: dict[str, str | int] = {
        SINCE: now_ms,
        BASE_ID: books.decisions.last,
        BASE_DECISIONS: books.decisions.ever,
        BASE_INTENTS: books.intents.ever,
    }
    # Whoever is first remembers all four: another engine's decision counts after its own base only.
    sets: list[Command] = [("HSETNX", names.tally, field, value) for field, value in base.items()]
    session.call(("MULTI",), *sets, ("EXEC",))


def read_books(session: Session, names: StreamNames) -> Books:
    """The tally and the streams, at one moment.

    Raises:
        BusError: if the server stays away or refuses, or the tally cannot be read.
    """
    return session.persist(f"reading {names.tally}", lambda: _books(session, names))


def recount(session: Session, names: StreamNames) -> Recount:
    """Count every decision that the stream still holds since the tally began, and compare.

    Decisions that are written meanwhile are left out on both sides.

    Raises:
        WireError: at an entry that is no decision, naming its id.
        BusError: if the server stays away or refuses, or trims the stream faster than it can be counted.
    """
    for _ in range(_TRIES):
        books = read_books(session, names)
        found = Tally.of(_records(session, names.decisions, books.tally.base.after, books.decisions.last))
        before = _length(session, names.decisions, "-", books.tally.base.after)
        if read_books(session, names).decisions.first == books.decisions.first:
            return _compared(books, found, books.decisions.held - before)
    raise BusError(f"stream server {address(session.client)}: {names.decisions} is trimmed faster than it is counted")


def _compared(books: Books, found: Tally, held: int) -> Recount:
    problems = found.problems()
    if found.decisions != held:
        problems.append(f"{found.decisions:,} decisions were read, but the stream holds {held:,}")
    # What left the stream was counted as well: it must add up by itself, and be nothing where nothing left.
    rest = books.tally.minus(found)
    if rest.problems():
        problems.append(f"the tally does not hold what the stream holds: {'; '.join(rest.problems())}")
    return Recount(found, rest.decisions, problems)


def _records(session: Session, key: str, after: str, last: str) -> Iterable[DecisionRecord]:
    start = f"({after}"
    while True:
        page: list[Any] = session.persist(
            f"reading {key}",
            lambda: session.one("XRANGE", key, start, last, "COUNT", _PAGE),  # noqa: B023
        )
        for entry_id, flat in page:
            try:
                yield decode_record(pair_up(flat))
            except WireError as error:
                raise WireError(f"entry {entry_id.decode()}: {error}") from error
        if len(page) < _PAGE:
            return
        start = f"({page[-1][0].decode()}"


def _length(session: Session, key: str, start: str, end: str) -> int:
    """Entries of a stream up to an id; almost always none."""
    found = 0
    while end != "0-0":
        page: list[Any] = session.persist(
            f"reading {key}",
            lambda: session.one("XRANGE", key, start, end, "COUNT", _PAGE),  # noqa: B023
        )
        found += len(page)
        if len(page) < _PAGE:
            break
        start = f"({page[-1][0].decode()}"
    return found


def _books(session: Session, names: StreamNames) -> Books:
    raw, decisions, intents = session.call(
        ("MULTI",),
        ("HGETALL", names.tally),
        ("XINFO", "STREAM", names.decisions),
        ("XINFO", "STREAM", names.intents),
        ("EXEC",),
    )[-1]
    if isinstance(raw, redis.ResponseError):
        raise raw
    fields = {name.decode(): value.decode() for name, value in zip(raw[::2], raw[1::2], strict=True)}
    try:
        tally = Tally.from_fields(fields)
    except ValueError as error:
        raise BusError(f"tally key {names.tally}: {error}") from None
    return Books(tally, _added(decisions), _added(intents))


def _added(reply: Any) -> Added:
    if isinstance(reply, redis.ResponseError):
        if "no such key" in str(reply):
            return Added()
        raise reply
    found = dict(zip(reply[::2], reply[1::2], strict=True))
    first = found[b"first-entry"]
    return Added(
        int(found[b"entries-added"]),
        int(found[b"length"]),
        first[0].decode() if first else "0-0",
        found[b"last-generated-id"].decode(),
    )

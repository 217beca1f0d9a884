"""What the stream server alone can say of the engine, at one look: who runs, what was decided, what waits, what alarms.

Nothing is written, no group is joined and no clock but the server's is read, so it works while the engine is down.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import redis

from quantum_trader.bus.books import Books, read_books
from quantum_trader.bus.lease import Holder, read_holder
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.session import Session
from quantum_trader.bus.wire import decode_lifecycle, decode_record, pair_up
from quantum_trader.core.decision import DecisionRecord, ModelVote, ShadowVote
from quantum_trader.core.errors import WireError
from quantum_trader.core.predictions import MODELS, Role

ARCHIVE_GROUP = "archive"

_PAGE = 1000
_MOST_PAGES = 10


class GroupState(msgspec.Struct, frozen=True):
    """How far a consumer group is behind its stream.

    Attributes:
        name: Of the group.
        pending: Entries read and not acknowledged.
        unread: Entries not read yet; None where the server cannot tell.
        oldest_ms: Age of the oldest entry that is not acknowledged, read or not, milliseconds; None if there is none.
    """

    name: str
    pending: int
    unread: int | None
    oldest_ms: int | None


class LastDecision(msgspec.Struct, frozen=True):
    """A symbol's newest decision; `written_ms` is when it reached the stream, milliseconds since the epoch."""

    symbol: str
    timeframe: str
    ts_close: int
    written_ms: int
    action: str
    confidence: float
    consensus_count: int
    voters: int


class LastAnswer(msgspec.Struct, frozen=True):
    """What a model said, and as what, when it was last asked."""

    model: str
    role: str
    artefact: str
    symbol: str
    written_ms: int
    status: str
    reason: str
    action: str
    confidence: float


class RaisedAlarm(msgspec.Struct, frozen=True):
    """An alarm that was raised and not cleared since."""

    name: str
    model: str
    symbol: str
    detail: str
    raised_ms: int


class Overview(msgspec.Struct, frozen=True):
    """All of it. Times are milliseconds since the epoch by the server's clock.

    Attributes:
        now_ms: When it was read.
        group: Consumer group of the engine.
        holder: Who holds the engine's lease; None if nobody does.
        holder_gone: Whether that process has ended; None where that cannot be known from here.
        engine: How far the engine is behind the bars; None if it never read any.
        archive: How far the archive is behind the decisions; None if there is none.
        books: The tally beside what the server says was added.
        decisions: Newest decision of each symbol.
        answers: Newest answer of each model.
        alarms: Raised and not cleared, oldest first.
    """

    now_ms: int
    group: str
    holder: Holder | None
    holder_gone: bool | None
    engine: GroupState | None
    archive: GroupState | None
    books: Books
    decisions: Sequence[LastDecision]
    answers: Sequence[LastAnswer]
    alarms: Sequence[RaisedAlarm]


def read_overview(client: redis.Redis, names: StreamNames, group: str, symbols: Sequence[str]) -> Overview:
    """Look once.

    Args:
        client: From `client.connect`.
        names: Keys.
        group: Consumer group of the engine.
        symbols: Whose newest decisions are looked for; those of others are shown where they are met.

    Raises:
        WireError: at an entry that is none of ours, naming its id.
        BusError: if the server stays away or refuses.
    """
    session = Session(client)
    try:
        return session.persist("reading the engine's state", lambda: _look(session, names, group, symbols))
    finally:
        session.close()


def _look(session: Session, names: StreamNames, group: str, symbols: Sequence[str]) -> Overview:
    seconds, micros = session.one("TIME")
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    holder = read_holder(session, names, group)
    decisions, answers = _newest(session, names.decisions, symbols)
    return Overview(
        now_ms=now_ms,
        group=group,
        holder=holder,
        holder_gone=None if holder is None else holder.identity.gone(),
        engine=_group(session, names.bars, group, now_ms),
        archive=_group(session, names.decisions, ARCHIVE_GROUP, now_ms),
        books=read_books(session, names),
        decisions=decisions,
        answers=answers,
        alarms=_alarms(session, names.lifecycle),
    )


def _group(session: Session, key: str, group: str, now_ms: int) -> GroupState | None:
    try:
        rows = session.one("XINFO", "GROUPS", key)
    except redis.ResponseError as error:
        if "no such key" in str(error):
            return None
        raise
    for row in rows:
        found = dict(zip(row[::2], row[1::2], strict=True))
        if found[b"name"] == group.encode():
            break
    else:
        return None
    first_pending, unread = session.call(
        ("XPENDING", key, group, "-", "+", 1),
        ("XRANGE", key, b"(" + found[b"last-delivered-id"], "+", "COUNT", 1),
    )
    waiting = [_millis(row[0]) for row in (*first_pending, *unread)]
    lag = found.get(b"lag")
    return GroupState(
        name=group,
        pending=int(found[b"pending"]),
        # The server loses count where entries behind the group were deleted; that nothing waits can still be seen.
        unread=(None if unread else 0) if lag is None else int(lag),
        oldest_ms=max(now_ms - min(waiting), 0) if waiting else None,
    )


def _newest(
    session: Session, key: str, symbols: Sequence[str]
) -> tuple[tuple[LastDecision, ...], tuple[LastAnswer, ...]]:
    """Newest decision of each symbol, newest answer of each model that took part in the newest one."""
    missing = set(symbols)
    decisions: dict[str, LastDecision] = {}
    answers: dict[str, LastAnswer] = {}
    for entry_id, fields in _backwards(session, key, _MOST_PAGES):
        record = _named(entry_id, decode_record, fields)
        if not answers:
            answers = _answers(record, _millis(entry_id))
        symbol = record.decision.symbol
        if symbol not in decisions:
            decisions[symbol] = _decision(record, _millis(entry_id))
            missing.discard(symbol)
        if not missing:
            break
    order = [*symbols, *sorted(set(decisions) - set(symbols))]
    return tuple(decisions[symbol] for symbol in order if symbol in decisions), tuple(
        answers[model] for model in (*MODELS, *sorted(set(answers) - set(MODELS))) if model in answers
    )


def _decision(record: DecisionRecord, written_ms: int) -> LastDecision:
    decision = record.decision
    return LastDecision(
        decision.symbol,
        decision.timeframe,
        decision.ts_close,
        written_ms,
        decision.action,
        decision.confidence,
        decision.consensus_count,
        decision.voters,
    )


def _answers(record: DecisionRecord, written_ms: int) -> dict[str, LastAnswer]:
    said: list[tuple[str, ModelVote | ShadowVote, Role, str]] = [
        (name, vote, Role.VOTER, record.reasons.get(name, "")) for name, vote in record.decision.votes.items()
    ]
    said += [(name, vote, Role.SHADOW, vote.reason) for name, vote in record.shadows.items()]
    return {
        name: LastAnswer(
            *(name, role.value, vote.artefact, record.decision.symbol, written_ms),
            *(vote.status, reason, vote.action, vote.confidence),
        )
        for name, vote, role, reason in said
    }


def _alarms(session: Session, stream: str) -> tuple[RaisedAlarm, ...]:
    """Alarms whose newest word is that they were raised."""
    last: dict[tuple[str, str, str], RaisedAlarm | None] = {}
    for entry_id, fields in _backwards(session, stream):
        event = _named(entry_id, decode_lifecycle, fields)
        detail = {key: value for key, value in event.detail.items() if isinstance(value, str)}
        if event.kind != "alarm" or detail.get("state") not in ("raised", "cleared"):
            continue
        name, model, symbol, said = (detail.get(key, "") for key in ("name", "model", "symbol", "detail"))
        alarm = RaisedAlarm(name, model, symbol, said, _millis(entry_id))
        last.setdefault((name, model, symbol), alarm if detail["state"] == "raised" else None)
    found = [alarm for alarm in last.values() if alarm is not None]
    return tuple(sorted(found, key=lambda alarm: alarm.raised_ms))


def _backwards(session: Session, key: str, most_pages: int | None = None) -> Iterator[tuple[bytes, list[bytes]]]:
    end, pages = "+", 0
    while most_pages is None or pages < most_pages:
        page: list[Any] = session.one("XREVRANGE", key, end, "-", "COUNT", _PAGE)
        pages += 1
        yield from ((entry_id, flat) for entry_id, flat in page)
        if len(page) < _PAGE:
            return
        end = f"({page[-1][0].decode()}"


def _named(entry_id: bytes, decode: Any, flat: list[bytes]) -> Any:
    try:
        return decode(pair_up(flat))
    except WireError as error:
        raise WireError(f"entry {entry_id.decode()}: {error}") from error


def _millis(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])

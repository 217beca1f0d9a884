"""Writing bars, decisions with their intents, and lifecycle events: each exactly once."""

import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from quantum_trader.bus.books import begin
from quantum_trader.bus.client import Durability, bus_errors
from quantum_trader.bus.guarded import GuardedWriter, Write
from quantum_trader.bus.lease import Lease
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.session import Command, Session, require_stream
from quantum_trader.bus.tally import counted
from quantum_trader.bus.wire import Fields, behind, encode_bar, encode_intent, encode_lifecycle, encode_record
from quantum_trader.core.bars import WINDOW, Bar, interval_ms
from quantum_trader.core.chain import GENESIS, unchained
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.errors import BusError

log = logging.getLogger(__name__)

RETENTION_MS = 8 * 86_400_000
"""Eight days: longer than the seven of an observation."""

BARS_PER_MULTI = 500
_TRIM_EVERY_S = 5.0
_EVENT_MEMORY_MS = 3_600_000
_LINK = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitBatch:
    """What one look at the bars led to.

    Attributes:
        entry_ids: Entries of the bar stream to acknowledge; warm-up bars and refused entries too.
        group: Consumer group that read them.
        records: Decisions, per symbol oldest first, each with its intent's payload where it is actionable.
        now_us: When the batch is written, microseconds since the epoch.
    """

    entry_ids: Sequence[str]
    group: str
    records: Sequence[tuple[DecisionRecord, Mapping[str, Any] | None]]
    now_us: int


@dataclass(frozen=True, slots=True)
class CommitResult:
    """Decision ids by fate: written by this call, or refused because the symbol was already decided up to there."""

    written: tuple[str, ...]
    refused: tuple[str, ...]


class _StreamWriter:
    """What every writer has: one session, guarded writes over it, and a trimmer of what is too old."""

    def __init__(
        self,
        client: redis.Redis,
        names: StreamNames,
        durability: Durability,
        retention_ms: int = RETENTION_MS,
    ) -> None:
        self._names, self._retention_ms = names, retention_ms
        self._session = Session(client)
        self._writer = GuardedWriter(self._session, durability, names.fence, names.tally)
        self._trimmer = _Trimmer(self._session)
        self._checked = False

    def close(self) -> None:
        """Give the connection back."""
        self._session.close(broken=True)


class BarWriter(_StreamWriter):
    """Publishes closed bars; a bar not newer than its symbol's last is never written again.

    Args:
        client: From `client.connect`.
        names: Keys.
        durability: With WAITAOF every batch waits for the disk; bars can be fetched again, so by default none does.
        retention_ms: Age at which bars go, milliseconds; never less than two windows of their timeframe.
    """

    def __init__(
        self,
        client: redis.Redis,
        names: StreamNames,
        durability: Durability = Durability.NONE,
        retention_ms: int = RETENTION_MS,
    ) -> None:
        super().__init__(client, names, durability, retention_ms)

    def publish(self, bars: Sequence[Bar], timeframe: str, now_us: int) -> int:
        """Write bars, per symbol oldest first, and say how many were new.

        Raises:
            BarError: if a bar breaks a rule; nothing is then written.
            BusError: if the server stays away or refuses; repeating the call is safe.
        """
        writes = [self._write(bar, timeframe, now_us) for bar in bars]
        doing = f"publishing {len(bars)} bars"
        if not self._checked:
            self._session.persist(doing, lambda: require_stream(self._session, self._names.bars))
            self._checked = True
        new = 0
        for start in range(0, len(writes), BARS_PER_MULTI):
            new += sum(self._writer.apply(doing, writes[start : start + BARS_PER_MULTI]))
        retention_ms = max(self._retention_ms, 2 * WINDOW * interval_ms(timeframe))
        self._trimmer.trim((self._names.bars,), retention_ms)
        return new

    def last_open_ms(self, symbol: str, timeframe: str) -> int | None:
        """Open time of the last bar that was ever published for a symbol; None if there was none.

        Raises:
            BusError: if the server stays away or refuses.
        """
        return self._writer.position(self._names.bar_guard(symbol, timeframe))

    def _write(self, bar: Bar, timeframe: str, now_us: int) -> Write:
        command = _xadd(self._names.bars, encode_bar(bar, timeframe, now_us))
        return Write(self._names.bar_guard(bar.symbol, timeframe), bar.ts_open, (command,))


class DecisionWriter(_StreamWriter):
    """Commits decisions, their intents, their counts and the acknowledgement of their bars as one MULTI.

    Every decision is put behind the one before it of its symbol and timeframe (`core.chain`). The chain's head stands
    in the guard, so that it goes on over restarts, lost replies and a change of engines.

    Args:
        client: From `client.connect`.
        names: Keys.
        durability: From `client.durability`; with WAITAOF a commit ends when the server's log is on disk.
        retention_ms: Age at which decisions and intents go, milliseconds.
        lease: Must be held for anything to be committed; None where nobody else can write.
    """

    def __init__(
        self,
        client: redis.Redis,
        names: StreamNames,
        durability: Durability,
        retention_ms: int = RETENTION_MS,
        lease: Lease | None = None,
    ) -> None:
        super().__init__(client, names, durability, retention_ms)
        self._lease = lease
        self._begun = False

    def commit(self, batch: CommitBatch) -> CommitResult:
        """Write what was not decided before, and acknowledge.

        A decision not newer than its symbol's last one is refused, whoever wrote that; its bars are acknowledged.

        Raises:
            WireError: if a record or payload cannot be written; nothing is then written.
            LeaseLostError: if another engine took the lease; nothing is then written.
            BusError: if the server stays away or refuses; committing the batch again is safe.
        """
        writes = [self._write(record, payload, batch.now_us) for record, payload in batch.records]
        doing = f"committing {len(writes)} decisions and {len(batch.entry_ids)} acknowledgements"
        fence = None if self._lease is None else self._lease.fence
        self._prepare(doing, batch)
        acks: list[Command] = []
        if batch.entry_ids:
            acks.append(("XACK", self._names.bars, batch.group, *batch.entry_ids))
        made = self._writer.apply(doing, writes, acks, fence)
        self._trimmer.trim((self._names.decisions, self._names.intents), self._retention_ms)
        ids = [record.decision.decision_id for record, _ in batch.records]
        fates = list(zip(ids, made, strict=True))
        return CommitResult(tuple(i for i, ok in fates if ok), tuple(i for i, ok in fates if not ok))

    def look_ahead(self, symbols: Sequence[str], timeframe: str) -> None:
        """Begin the commit of decisions on these symbols, in their order, before they are made; waits for nothing.

        It may fail or be left out: `commit` does whatever is missing, and says what is wrong.
        """
        if self._begun and (self._lease is None or self._lease.held):
            guards = dict.fromkeys(self._names.decision_guard(symbol, timeframe) for symbol in symbols)
            self._writer.look_ahead(list(guards), None if self._lease is None else self._lease.fence)

    def _prepare(self, doing: str, batch: CommitBatch) -> None:
        """Before the first commit: every key is of its kind; before the first decision: the tally knows its begin."""
        names = self._names
        if not self._checked:
            keys = (names.bars, names.decisions, names.intents)
            self._session.persist(doing, lambda: require_stream(self._session, *keys))
            self._session.persist(doing, lambda: require_stream(self._session, names.tally, kind="hash"))
            self._checked = True
        if batch.records and not self._begun:
            first = batch.records[0][0].ts_decision
            self._session.persist(doing, lambda: begin(self._session, names, first))
            self._begun = True

    def _write(self, record: DecisionRecord, payload: Mapping[str, Any] | None, now_us: int) -> Write:
        decision = record.decision
        fields = encode_record(unchained(record))
        guard = self._names.decision_guard(decision.symbol, decision.timeframe)

        def follow(head: bytes) -> tuple[Command, bytes]:
            entry, own = behind(fields, _link(guard, head))
            return _xadd(self._names.decisions, entry), own.encode()

        intents: tuple[Command, ...] = ()
        if payload is not None:
            intents = (_xadd(self._names.intents, encode_intent(payload, decision.decision_id, now_us)),)
        counts = counted(record, intent=payload is not None)
        return Write(guard, decision.ts_open, intents, counts=counts, follow=follow)


class LifecycleWriter(_StreamWriter):
    """Publishes lifecycle events; publishing the very same event again within the hour writes nothing."""

    def publish(self, kind: str, detail: Mapping[str, Any], now_us: int) -> bool:
        """Write one event and say whether it was new.

        Raises:
            WireError: if the detail cannot be written.
            BusError: if the server stays away or refuses; repeating the call with the same `now_us` is safe.
        """
        fields = encode_lifecycle(kind, detail, now_us)
        if not self._checked:
            self._session.persist(f"publishing {kind}", lambda: require_stream(self._session, self._names.lifecycle))
            self._checked = True
        guard = self._names.event_guard(fields[b"correlation_id"].decode())
        write = Write(guard, 1, (_xadd(self._names.lifecycle, fields),), forget_ms=_EVENT_MEMORY_MS)
        new = self._writer.apply(f"publishing {kind}", [write])[0]
        self._trimmer.trim((self._names.lifecycle,), self._retention_ms)
        return new


class _Trimmer:
    """Removes entries by age: at most every few seconds, whole nodes only, by the clock that names the entries."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._due = 0.0

    def trim(self, streams: Iterable[str], retention_ms: int) -> None:
        """Trim if it is time. A failure is logged and left to the next time: what was written stays written."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _TRIM_EVERY_S
        try:
            with bus_errors(self._session.client, "trimming"):
                seconds, micros = self._session.one("TIME")
                oldest = int(seconds) * 1000 + int(micros) // 1000 - retention_ms
                self._session.call(*(("XTRIM", stream, "MINID", "~", oldest) for stream in streams))
        except BusError as error:
            log.warning("%s", error)


def _link(guard: str, head: bytes) -> str:
    """The link that a guard's note names; the chain's beginning where there is no note."""
    if not head:
        return GENESIS
    if not _LINK.fullmatch(head):
        raise BusError(f"guard key {guard} holds {head[:80]!r} as the chain's head: expected a SHA-256")
    return head.decode()


def _xadd(stream: str, fields: Fields) -> Command:
    return ("XADD", stream, "*", *(part for field in fields.items() for part in field))

"""What a consumer group has handled already: delivered and acknowledged, read from the newest entry backwards."""

import logging
from collections.abc import Collection

from quantum_trader.bus.entries import BadEntry, BarEntry, bar_entry
from quantum_trader.bus.session import Session
from quantum_trader.core.errors import BusError

log = logging.getLogger(__name__)

_PAGE = 1000


def handled_bars(
    session: Session,
    key: str,
    group: str,
    per_symbol: int,
    symbols: Collection[str] | None,
    before: str | None,
) -> list[BarEntry]:
    """The newest `per_symbol` bars of each symbol and timeframe that the group has handled, oldest entry first.

    Args:
        session: Connection; its errors pass through.
        key: Bar stream.
        group: Consumer group.
        per_symbol: How many of each at most.
        symbols: Only these, and no further back than they need; None for every symbol that is met.
        before: Only entries with a smaller id.

    Raises:
        BusError: if the group does not exist.
    """
    last = _last_delivered(session, key, group)
    end = last if before is None or _order(before) > _order(last) else f"({before}"
    pending = pending_ids(session, key, group)
    collected = _Collected(per_symbol, symbols)
    while True:
        page = session.one("XREVRANGE", key, end, "-", "COUNT", _PAGE)
        for entry_id, flat in page:
            if entry_id.decode() not in pending:
                collected.add(bar_entry(entry_id.decode(), flat))
        if len(page) < _PAGE or collected.complete():
            break
        end = f"({page[-1][0].decode()}"
    if collected.bad:
        log.warning("history of %s: %d entries are no bars and were left out", key, collected.bad)
    return collected.oldest_first()


def pending_ids(session: Session, key: str, group: str, *consumer: str) -> set[str]:
    """Ids delivered and not acknowledged, of the whole group or of one consumer."""
    found: set[str] = set()
    start = "-"
    while True:
        page = session.one("XPENDING", key, group, start, "+", _PAGE, *consumer)
        found.update(row[0].decode() for row in page)
        if len(page) < _PAGE:
            return found
        start = f"({page[-1][0].decode()}"


def _last_delivered(session: Session, key: str, group: str) -> str:
    for row in session.one("XINFO", "GROUPS", key):
        found = dict(zip(row[::2], row[1::2], strict=True))
        if found[b"name"] == group.encode():
            return str(found[b"last-delivered-id"].decode())
    raise BusError(f"stream {key} has no consumer group {group}")


def _order(entry_id: str) -> tuple[int, int]:
    millis, _, sequence = entry_id.partition("-")
    return int(millis), int(sequence or 0)


class _Collected:
    """The newest bars of each symbol, gathered from the newest entry backwards."""

    def __init__(self, per_symbol: int, symbols: Collection[str] | None) -> None:
        self._per_symbol = per_symbol
        self._symbols = None if symbols is None else set(symbols)
        self._found: dict[tuple[str, str], int] = {}
        self._kept: list[BarEntry] = []
        self.bad = 0

    def add(self, entry: BarEntry | BadEntry) -> None:
        if isinstance(entry, BadEntry):
            self.bad += 1
            return
        if self._symbols is not None and entry.bar.symbol not in self._symbols:
            return
        key = entry.bar.symbol, entry.timeframe
        found = self._found.get(key, 0)
        if found < self._per_symbol:
            self._found[key] = found + 1
            self._kept.append(entry)

    def complete(self) -> bool:
        met = {symbol for symbol, _ in self._found}
        return (self._symbols or set()) <= met and all(n >= self._per_symbol for n in self._found.values())

    def oldest_first(self) -> list[BarEntry]:
        return self._kept[::-1]

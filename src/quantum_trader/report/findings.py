"""What in the engine's state needs a person's look, one sentence each: nobody has to read a table to find it."""

from collections.abc import Sequence

from quantum_trader.bus.books import Recount
from quantum_trader.bus.overview import GroupState, Overview, RaisedAlarm
from quantum_trader.core.bars import interval_ms
from quantum_trader.core.errors import format_ms

BARS_LATE_MS = 60_000
"""A bar waits at most for stragglers and for its batch: seconds."""

ARCHIVE_LATE_MS = 15 * 60_000
"""The archive writes a file a minute; this is many of them."""

SILENT_INTERVALS = 3
"""A symbol is silent when so many of its bars should have been decided since the last one."""


def findings(overview: Overview, symbols: Sequence[str], again: Recount | None = None) -> list[str]:
    """Everything that is not as it should be; empty if all is well.

    Args:
        overview: What the server says.
        symbols: Those that should be decided.
        again: The decisions counted again, if they were.
    """
    found = _engine(overview)
    found += [f"accounting: {problem}" for problem in overview.books.problems()]
    found += [f"accounting, counted again: {problem}" for problem in (again.problems if again else ())]
    found += [f"alarm {alarm.name}: {alarm_text(alarm)}" for alarm in standing(overview)]
    found += _late(overview.engine, "bars wait for a decision", BARS_LATE_MS)
    found += _late(overview.archive, "decisions wait for the archive", ARCHIVE_LATE_MS)
    return found + _silent(overview, symbols)


def standing(overview: Overview) -> list[RaisedAlarm]:
    """Alarms of the running engine; one of a former life stands no more: if it is still true it is raised again."""
    since = overview.holder.since if overview.holder is not None else 0
    return [alarm for alarm in overview.alarms if alarm.raised_ms >= since]


def alarm_text(alarm: RaisedAlarm) -> str:
    """Whom an alarm concerns, and what it says."""
    where = ", ".join(part for part in (alarm.model, alarm.symbol) if part) or "engine"
    return f"{where}: {alarm.detail}" if alarm.detail else where


def age(ms: int) -> str:
    """A time span in the unit that a person would take.

    >>> age(7_400), age(150_000), age(9_000_000), age(400_000_000)
    ('7 s', '2.5 min', '2.5 h', '4.6 days')
    """
    seconds = max(ms, 0) / 1000
    for limit, unit, size in ((60, "s", 1), (3600, "min", 60), (2 * 86_400, "h", 3600)):
        if seconds < limit:
            return f"{int(seconds)} s" if unit == "s" else f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86_400:.1f} days"


def _engine(overview: Overview) -> list[str]:
    if overview.holder is None:
        return [f"no engine holds the lease of group {overview.group}"]
    if overview.holder_gone:
        return [f"the engine has ended without giving its lease back: {overview.holder}"]
    return []


def _late(group: GroupState | None, what: str, limit_ms: int) -> list[str]:
    if group is None or group.oldest_ms is None or group.oldest_ms <= limit_ms:
        return []
    unread = "?" if group.unread is None else f"{group.unread:,}"
    return [f"{what}, the oldest for {age(group.oldest_ms)} ({unread} unread, {group.pending:,} read and not done)"]


def _silent(overview: Overview, symbols: Sequence[str]) -> list[str]:
    last = {decision.symbol: decision for decision in overview.decisions}
    found = []
    for symbol in symbols:
        decision = last.get(symbol)
        if decision is None:
            found.append(f"{symbol}: no decision in the stream")
        elif overview.now_ms - decision.written_ms > SILENT_INTERVALS * interval_ms(decision.timeframe):
            span = age(overview.now_ms - decision.written_ms)
            found.append(f"{symbol}: no decision for {span}, since the bar that closed {format_ms(decision.ts_close)}")
    return found

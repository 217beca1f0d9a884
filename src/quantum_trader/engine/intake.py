"""Bars that came in become groups that are due: checked, put in order, each with its whole window.

- A bar that cannot be decided is refused with its rule; the caller acknowledges it, so nothing stays pending for ever.
- Bars of one time wait for each other at most a linger, by a clock that never runs backwards.
- A bar that is older than its symbol's newest, or there already, is dropped and counted; a gap is counted and warms up.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from quantum_trader.bus.entries import BadEntry, BarEntry
from quantum_trader.core.bars import WINDOW, Arrival, BarWindow, check_bar, interval_ms
from quantum_trader.core.errors import BarError, ClockError, format_ms
from quantum_trader.engine.assembly import Assembler

log = logging.getLogger(__name__)

CLOCK_TOLERANCE_MS = 5_000
"""A bar may close this much after our clock: exchanges and hosts differ, and a refused bar is a hole of 512."""


@dataclass(frozen=True)
class Ready:
    """A bar whose window is whole."""

    entry: BarEntry
    window: BarWindow


@dataclass(frozen=True)
class DueGroup:
    """Bars of one time: all entries to acknowledge, and those of them that can be decided, by symbol.

    Attributes:
        entry_ids: Of every bar of the group.
        ready: Those with a whole window.
        fates: Of the others: how many came to which end (`warming_up` or a word of `core.bars.Arrival`).
        gaps: How many bars each gap misses that these bars showed.
    """

    entry_ids: list[str]
    ready: list[Ready] = field(default_factory=list)
    fates: dict[str, int] = field(default_factory=dict)
    gaps: list[int] = field(default_factory=list)


class Intake:
    """Windows of every symbol and the bars that wait to be pushed into them."""

    def __init__(self, symbols: Sequence[str], timeframe: str, linger_ms: int, now_ms: Callable[[], int]) -> None:
        self._timeframe = timeframe
        self._now_ms = now_ms
        interval = interval_ms(timeframe)
        self._windows = {symbol: BarWindow(symbol, interval) for symbol in symbols}
        self._assembler: Assembler[BarEntry] = Assembler(symbols, linger_ms)

    def rebuild(self, history: Sequence[BarEntry]) -> None:
        """Fill the windows from bars that were handled before, in any order; of two of one time the first counts.

        Raises:
            ClockError: if one of them closes after our clock says it is: then the clock is behind, and every further
                bar would be refused. A bar that was in the future already when it was published was refused then, and
                says nothing of our clock.
        """
        now_ms = self._now_ms()
        ours = [entry for entry in history if entry.timeframe == self._timeframe and entry.bar.symbol in self._windows]
        # Bars that swapped places on their way were decided in time order; a window filled in theirs would be broken.
        for entry in sorted(ours, key=lambda entry: entry.bar.ts_open):
            bar = entry.bar
            if bar.ts_close <= now_ms + CLOCK_TOLERANCE_MS:
                self._windows[bar.symbol].push(bar)
            elif bar.ts_close <= _published_ms(entry) + CLOCK_TOLERANCE_MS:
                raise ClockError(
                    f"this machine's clock says {format_ms(now_ms)}, but a bar of {bar.symbol} was handled "
                    f"that closes {format_ms(bar.ts_close)}: set the clock right and start again"
                )
        counts = ", ".join(f"{symbol} {window.count}" for symbol, window in self._windows.items())
        log.info("windows rebuilt from the stream: %s of %d bars", counts, WINDOW)

    def take(self, entries: Sequence[BarEntry | BadEntry]) -> list[str]:
        """Accept bars; returns the entries that were refused, to be acknowledged."""
        now_ms = self._now_ms()
        refused = []
        for entry in entries:
            rule = self._refusal(entry, now_ms)
            if rule is not None:
                log.error("bar refused, entry %s: %s", entry.entry_id, rule)
                refused.append(entry.entry_id)
        return refused

    def due(self) -> Iterator[DueGroup]:
        """Groups whose time has come, oldest first.

        A group's windows end with its own bars only until the next group is asked for: decide it before that.
        """
        for group in self._assembler.release(self._now_ms()):
            yield self._pushed(list(group.items.values()))

    def wait_ms(self, longest_ms: int) -> int:
        """How long a caller may wait for further bars, at most `longest_ms`."""
        return self._assembler.wait_ms(self._now_ms(), longest_ms)

    @property
    def waiting(self) -> int:
        """Bars that wait for others of their time."""
        return self._assembler.waiting

    def _refusal(self, entry: BarEntry | BadEntry, now_ms: int) -> str | None:
        """Why a bar cannot be decided; None if it was accepted."""
        if isinstance(entry, BadEntry):
            return str(entry.error)
        bar = entry.bar
        if bar.symbol not in self._windows:
            return f"{bar.symbol} is not configured (symbols: {', '.join(self._windows)})"
        if entry.timeframe != self._timeframe:
            return f"{bar.symbol} has timeframe {entry.timeframe}, configured is {self._timeframe}"
        try:
            check_bar(bar, now_ms + CLOCK_TOLERANCE_MS)
        except BarError as error:
            return str(error)
        if not self._assembler.add(bar.symbol, bar.ts_open, entry, now_ms):
            return str(BarError(bar.symbol, bar.ts_open, "duplicate: the same bar is waiting already"))
        return None

    def _pushed(self, entries: Sequence[BarEntry]) -> DueGroup:
        group = DueGroup([entry.entry_id for entry in entries])
        for entry in sorted(entries, key=lambda entry: entry.bar.symbol):
            self._push(entry, group)
        return group

    def _push(self, entry: BarEntry, group: DueGroup) -> None:
        bar = entry.bar
        window = self._windows[bar.symbol]
        arrival, gap = window.push(bar)
        if gap is not None:
            group.gaps.append(gap.missing)
            log.warning(
                "gap: %s misses %d bars from %s; predictions wait for %d whole bars",
                *(bar.symbol, gap.missing, format_ms(gap.ts_first), WINDOW),
            )
        if arrival is not Arrival.APPENDED:
            group.fates[arrival.value] = group.fates.get(arrival.value, 0) + 1
            log.warning("bar dropped: %s", BarError(bar.symbol, bar.ts_open, arrival.value.replace("_", " ")))
        elif not window.ready:
            group.fates["warming_up"] = group.fates.get("warming_up", 0) + 1
        else:
            group.ready.append(Ready(entry, window))


def _published_ms(entry: BarEntry) -> int:
    """When the stream server took the bar, by its clock."""
    return int(entry.entry_id.partition("-")[0])

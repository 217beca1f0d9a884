"""The loop that keeps every decision: read, gather, write whole days, and only then acknowledge.

- Nothing is acknowledged before it is on disk. What is written and not yet acknowledged when the process dies comes
  again, and merging makes it no second row.
- Nothing more is read while as many decisions wait as may wait. So neither a full disk nor a backlog of any length
  costs more memory than that number of decisions and one day's file.
- A full disk and an absent stream server are waited for: one line when it begins, one when it is over.
- What is missing, cannot be read, or contradicts what is kept is written down, counted and said aloud before anything
  behind it is read.
"""

import base64
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from quantum_trader.archive.daily import ArchiveError, DailyArchive, archivable
from quantum_trader.archive.gather import Entry, Gathering
from quantum_trader.core.errors import BusError, format_ms
from quantum_trader.stopping import Stop

log = logging.getLogger(__name__)

PAGE = 1000
POLL_S = 1.0
"""Between two looks at a stream that has nothing new."""


class Trimmed(Protocol):
    """Entries that left the stream unread, as `bus.tail.Trimmed`."""

    @property
    def after(self) -> str:
        """Id of the last entry that was read."""

    @property
    def before(self) -> str:
        """Id of the oldest entry that is left; empty if none is."""

    @property
    def entries(self) -> int | None:
        """How many; None if nobody knows."""


class Page(Protocol):
    """One reading, as `bus.tail.TailPage`."""

    @property
    def entries(self) -> Sequence[Entry]:
        """Oldest first."""

    @property
    def trimmed(self) -> Trimmed | None:
        """What is missing before them."""


class Source(Protocol):
    """Where decisions come from, as `bus.tail.DecisionTail`."""

    def open(self) -> None:
        """Join the group; safe to repeat."""

    def read(self, count: int) -> Page:
        """What comes next, without waiting."""

    def acknowledge(self, entry_ids: Sequence[str]) -> None:
        """These are kept."""


@dataclass(frozen=True)
class KeeperConfig:
    """When to write.

    Attributes:
        every_s: Longest time that a decision waits for being written, seconds.
        rows: Most decisions that wait in memory.
    """

    every_s: float
    rows: int


class Keeper:
    """Moves decisions from a stream into an archive folder."""

    def __init__(self, source: Source, archive: DailyArchive, config: KeeperConfig, stop: Stop) -> None:
        self._source, self._archive, self._config, self._stop = source, archive, config, stop
        self._waiting = Gathering(config.every_s, config.rows)
        self._aside: list[Entry] = []
        self._gaps: list[Trimmed] = []
        self._on_disk: list[str] = []
        self._trouble = ""
        self.files: set[str] = set()
        """Days that were written."""
        self.counts: Counter[str] = Counter()
        """Decisions by fate: kept, repeated, quarantined, missing."""

    @property
    def complete(self) -> bool:
        """Whether all that this life met became rows, and nothing was missing."""
        return not (self.counts["quarantined"] or self.counts["missing"])

    def run(self) -> None:
        """Keep decisions until stopped, through full disks and absent servers; then write what waits.

        Raises:
            QuantumError: if the group belongs to somebody else, a day's file is not ours, the server is not there at
                the start, or the last writing fails. Nothing is lost by it.
        """
        self._source.open()
        while not self._stop.is_set():
            if not self._patiently():
                self._stop.wait(POLL_S)
        self._put_down(self._waiting.all())

    def catch_up(self) -> None:
        """Keep what is in the stream now, or until stopped.

        Raises:
            QuantumError: as `run`, and if the disk is full or the server goes away. Nothing is lost by it.
        """
        self._source.open()
        while self._read() and not self._stop.is_set():
            self._put_down(self._waiting.due(time.monotonic()))
        self._put_down(self._waiting.all())

    def summary(self) -> str:
        """What was done, in one line."""
        words = ", ".join(f"{self.counts[name]} {name}" for name in ("kept", "repeated", "quarantined", "missing"))
        return f"decisions: {words}; {len(self.files)} files written in {self._archive.decisions}"

    def _patiently(self) -> bool:
        """Write what is due and read a page; trouble that may pass is said once and left to the next time.

        Returns:
            Whether there may be more to read at once.
        """
        try:
            self._put_down(self._waiting.due(time.monotonic()))
            if self._trouble:
                # The server may have come back without the group, or with less than it had.
                self._source.open()
            more = self._read()
        except (BusError, ArchiveError) as error:
            self._say_trouble(error)
            if isinstance(error, ArchiveError):
                self._stop.wait(self._config.every_s)
            return False
        if self._trouble:
            self._trouble = ""
            log.info("going on: server and disk are there again; %d decisions wait to be written", len(self._waiting))
        return more

    def _say_trouble(self, error: Exception) -> None:
        kind = type(error).__name__
        if kind != self._trouble:
            self._trouble = kind
            log.error("%s; %d decisions wait, none of them acknowledged; trying again", error, len(self._waiting))

    def _read(self) -> bool:
        """Read a page, as far as there is room; says whether anything came."""
        room = self._config.rows - len(self._waiting) - len(self._aside) - len(self._on_disk)
        if room <= 0:
            return False
        page = self._source.read(min(PAGE, room))
        now_s = time.monotonic()
        for entry in page.entries:
            if entry.record is None:
                self._aside.append(entry)
            else:
                self._waiting.add(entry, entry.record, now_s)
        if page.trimmed is not None:
            self._gaps.append(page.trimmed)
        self._note()
        return bool(page.entries) or page.trimmed is not None

    def _put_down(self, days: Sequence[str]) -> None:
        """Write days and notes, then acknowledge all that is on disk."""
        self._note()
        for day in days:
            self._write(day)
        if self._on_disk:
            self._source.acknowledge(self._on_disk)
            self._on_disk = []

    def _write(self, day: str) -> None:
        waiting = self._waiting.of(day)
        rows, unfit = archivable(waiting.records)
        fit = [entry for at, entry in enumerate(waiting.entries) if at not in unfit]
        merged = self._archive.add(day, rows)
        refused = [(waiting.entries[at], why) for at, why in unfit.items()]
        for at in merged.conflicts:
            name = rows["decision_id"][at].as_py()
            refused.append((fit[at], f"decision {name} is in {day}.parquet already and says something else there"))
        for entry, why in refused:
            self._quarantine(entry, why)
        self._waiting.drop(day)
        self._on_disk += [entry.entry_id for entry in waiting.entries]
        self.counts.update(kept=merged.added, repeated=merged.repeated, quarantined=len(refused))
        self.files.update([day] if merged.added else [])
        log.info(
            "%s.parquet: %d decisions kept, %d were there already; %d in all",
            *(day, merged.added, merged.repeated, len(merged.table)),
        )

    def _note(self) -> None:
        """Write down what cannot become a row."""
        while self._gaps:
            self._note_gap(self._gaps[0])
            del self._gaps[0]
        while self._aside:
            self._set_aside(self._aside[0])
            self._on_disk.append(self._aside.pop(0).entry_id)

    def _set_aside(self, entry: Entry) -> None:
        if entry.fields:
            self._quarantine(entry, entry.error)
            self.counts["quarantined"] += 1
            return
        log.error("decision missing: entry %s (%s): %s", entry.entry_id, _time(entry.entry_id), entry.error)
        self._archive.note_missing({"entry_id": entry.entry_id, "entries": 1, "reason": entry.error})
        self.counts["missing"] += 1

    def _quarantine(self, entry: Entry, why: str) -> None:
        log.error("entry %s is no row and is kept in quarantine.jsonl: %s", entry.entry_id, why)
        self._archive.quarantine({"entry_id": entry.entry_id, "reason": why, **_raw(entry.fields)})

    def _note_gap(self, gap: Trimmed) -> None:
        number = "an unknown number of" if gap.entries is None else str(gap.entries)
        until = f"before {_time(gap.before)}" if gap.before else "up to now"
        if gap.after == "0-0":
            log.warning("the archive begins late: %s decisions written %s have left the stream", number, until)
            return
        log.error(
            "decisions missing: %s, written after %s and %s, left the stream before they were kept",
            *(number, _time(gap.after), until),
        )
        line = {"after": gap.after, "before": gap.before, "entries": gap.entries, "reason": "trimmed from the stream"}
        self._archive.note_missing(line)
        self.counts["missing"] += gap.entries or 1


def _raw(fields: Sequence[bytes]) -> dict[str, Any]:
    """An entry's fields as JSON can hold them, whatever their bytes are."""
    try:
        return {"fields": [part.decode() for part in fields]}
    except UnicodeDecodeError:
        return {"fields_base64": [base64.b64encode(part).decode() for part in fields]}


def _time(entry_id: str) -> str:
    return format_ms(int(entry_id.partition("-")[0]))

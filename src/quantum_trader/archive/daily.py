"""A folder of daily Parquet files of decisions, kept by one process at a time.

```
OUT/decisions/2026-01-10.parquet   every decision on a bar that closed on that day, UTC
OUT/quarantine.jsonl               what could not be kept as a row: the raw entry and the reason
OUT/missing.jsonl                  what left the stream before it was kept
OUT/archive.json                   the folder's name for itself
```

- A day's file is read, merged, written beside itself, flushed to the disk and then put in its place; the folder's own
  entry is flushed too. Whenever the process dies, the file is the old one or the new one.
- Days that are over are written again when a late row comes.
- The kernel's lock on the folder is held as long as the process lives, and no longer.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import msgspec
import pyarrow as pa

from quantum_trader.archive import store
from quantum_trader.archive.columns import SCHEMA, to_records, to_table
from quantum_trader.archive.journal import Journal
from quantum_trader.archive.merge import Merged, merge
from quantum_trader.core.chain import body
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.errors import ConfigError, QuantumError


class ArchiveError(QuantumError):
    """The archive's folder cannot be written now; what was there before is untouched."""


class DailyArchive:
    """One archive folder, locked while the block lasts.

    Args:
        folder: Made where it is missing.

    Raises:
        ConfigError: on entering, if another process keeps the folder, or its `archive.json` is none.
        ArchiveError: on entering, if the folder cannot be made, read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.decisions = folder / "decisions"
        self._lock: int | None = None

    def __enter__(self) -> Self:
        with _disk(self.folder):
            self.decisions.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.folder)
        try:
            with _disk(self.folder):
                for left in self.folder.rglob(".*.new*"):
                    left.unlink()
                self.name = self._named()
                self._quarantine = Journal(self.folder / "quarantine.jsonl")
                self._missing = Journal(self.folder / "missing.jsonl")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def add(self, day: str, rows: pa.Table) -> Merged:
        """Merge rows into a day's file; when this returns they are on disk.

        Args:
            day: From `gather.day_of`, the same for every row.
            rows: In `SCHEMA`.

        Raises:
            ArchiveError: if the file cannot be written; the old one is then as it was.
            WireError: if the file that is there holds no decisions of this version.
        """
        path = self.decisions / f"{day}.parquet"
        with _disk(self.folder):
            held = store.read_file(path) if path.exists() else SCHEMA.empty_table()
            merged = merge(held, rows)
            if merged.added:
                _replace(path, merged.table)
        return merged

    def quarantine(self, line: dict[str, Any]) -> bool:
        """Keep what cannot be a row; says whether it is new there.

        Raises:
            ArchiveError: if it cannot be written.
        """
        with _disk(self.folder):
            return self._quarantine.add(line)

    def note_missing(self, line: dict[str, Any]) -> bool:
        """Keep what is known of decisions that are gone; says whether it is new there.

        Raises:
            ArchiveError: if it cannot be written.
        """
        with _disk(self.folder):
            return self._missing.add(line)

    def _named(self) -> str:
        path = self.folder / "archive.json"
        if not path.exists():
            _write(path, msgspec.json.encode(_Identity(uuid4().hex[:12])))
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Identity).name
        except msgspec.MsgspecError as error:
            raise ConfigError(f"archive {self.folder}: archive.json does not name an archive ({error})") from error


class _Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Every error of the operating system inside becomes one line that names the folder."""
    try:
        yield
    except OSError as error:
        # Arrow's own errors carry the number, and a text that says it twice.
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        raise ArchiveError(f"archive {folder}: not written ({reason})") from error


def archivable(records: Sequence[DecisionRecord]) -> tuple[pa.Table, dict[int, str]]:
    """Records as rows, proved to give the records back, and those that cannot: their index and why.

    The table's rows are those of the other records, in their order.
    """
    try:
        table = to_table(records)
        back = to_records(table)
        # By their bytes too: the links speak for bytes.
        if back == list(records) and [*map(body, back)] == [*map(body, records)]:
            return table, {}
    except _NO_ROW as error:
        if len(records) == 1:
            return SCHEMA.empty_table(), {0: f"no row of the archive: {_line(error)}"}
    if len(records) == 1:
        return SCHEMA.empty_table(), {0: "no row of the archive can hold all that it says"}
    half = len(records) // 2
    left, bad_left = archivable(records[:half])
    right, bad_right = archivable(records[half:])
    return pa.concat_tables([left, right]), bad_left | {half + at: why for at, why in bad_right.items()}


_NO_ROW = (QuantumError, KeyError, TypeError, ValueError, OverflowError, pa.ArrowException)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(f"archive {folder}: another process is keeping it") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _replace(path: Path, table: pa.Table) -> None:
    new = path.with_name(f".{path.name}.new")
    try:
        with store.DecisionFile(new) as file:
            file.write(table)
        _in_place(new, path)
    finally:
        new.unlink(missing_ok=True)


def _write(path: Path, raw: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_bytes(raw)
        _in_place(new, path)
    finally:
        new.unlink(missing_ok=True)


def _in_place(new: Path, path: Path) -> None:
    """Give a finished file its name, so that either name is on disk with its whole content."""
    _flush(new)
    new.replace(path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

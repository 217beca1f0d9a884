"""A folder of Parquet files of decisions: written whole or not at all, read as one table."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from quantum_trader.archive.codes import codes, column
from quantum_trader.archive.columns import LATER, LINKS, SCHEMA, grown
from quantum_trader.core.errors import ConfigError, WireError

_MARK = b"quantum_trader.decisions"


class DecisionFile:
    """One Parquet file, filled table by table and put in place when the block ends without an error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._draft = path.with_name(f".{path.name}.part")
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Digests and hashes do not repeat: a dictionary of them would only cost time.
        plain = ("decision_id", "input_hash", "digest", *LINKS)
        named = [name for name in SCHEMA.names if not name.endswith(plain)]
        try:
            self._writer = pq.ParquetWriter(
                self._draft, SCHEMA, compression="zstd", use_dictionary=named, write_page_checksum=True
            )
        except BaseException:
            self._draft.unlink(missing_ok=True)
            raise
        return self

    def write(self, table: pa.Table) -> None:
        """Append a table in the archive's schema."""
        if self._writer is None:
            raise RuntimeError("DecisionFile.write outside of its with-block")
        self._writer.write_table(table)

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
            if kind is None:
                self._draft.replace(self.path)
        finally:
            # Gone already where it was put in place; left where the block or the last write failed.
            self._draft.unlink(missing_ok=True)


_TEXTS = ("decision_id", "input_hash", "digest", "reason", *LINKS)
NUMBERS = tuple(name for name in SCHEMA.names if not name.endswith(_TEXTS))
"""Columns that gates and reports read; the digests of a million decisions are most of their memory."""


def read_decisions(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Every decision below a folder, sorted by time and symbol.

    Args:
        folder: Of Parquet files.
        columns: Names in the archive's schema; None reads all of them.

    Raises:
        ConfigError: if the folder or any decision in it is missing.
        WireError: if a Parquet file there does not hold decisions.
    """
    if not folder.is_dir():
        raise ConfigError(f"decisions {folder}: no such folder")
    tables = [read_file(path, columns) for path in sorted(folder.glob("*.parquet"))]
    if not tables:
        raise ConfigError(f"decisions {folder}: holds no Parquet file of decisions")
    return in_order(pa.concat_tables(tables).unify_dictionaries())


def in_order(table: pa.Table) -> pa.Table:
    """Decisions sorted by time and symbol; a table that is sorted already is not copied."""
    ts_open, (_, symbol) = column(table, "ts_open"), codes(table, "symbol")
    step, other = np.diff(ts_open), np.diff(symbol)
    if bool(((step > 0) | ((step == 0) & (other >= 0))).all()):
        return table
    return table.take(pa.array(np.lexsort((symbol, ts_open))))


def read_file(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The decisions of one file, in the archive's schema, or of that the columns named.

    Raises:
        WireError: if it is not readable, or does not hold decisions of this version.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            problem = _foreign(schema)
            names = [name for name in columns or SCHEMA.names if name in schema.names]
            table = None if problem else file.read(names)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise WireError(f"decisions {path}: not readable as Parquet ({_line(error)})") from error
    if table is None:
        raise WireError(f"decisions {path}: {problem}")
    wanted = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
    try:
        return grown(table, wanted).cast(wanted)
    except pa.ArrowException as error:
        raise WireError(f"decisions {path}: a column of another type ({_line(error)})") from error


def _foreign(schema: pa.Schema) -> str:
    """Why a Parquet file with this schema holds no decisions of this version; empty if it does."""
    if _MARK not in (schema.metadata or {}):
        return "a Parquet file, but not of decisions"
    there = set(schema.names)
    if schema.names != [name for name in SCHEMA.names if name in there or name not in LATER]:
        differing = sorted(there ^ set(SCHEMA.names)) or ["their order"]
        return f"columns of another version ({', '.join(differing[:3])})"
    return ""


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

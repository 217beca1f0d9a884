"""A folder of Parquet files of decisions: written whole or not at all, read as one table."""

from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from quantum_trader.archive.columns import LINKS, SCHEMA, grown
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


def read_decisions(folder: Path) -> pa.Table:
    """Every decision below a folder, sorted by time and symbol.

    Raises:
        ConfigError: if the folder or any decision in it is missing.
        WireError: if a Parquet file there does not hold decisions.
    """
    if not folder.is_dir():
        raise ConfigError(f"decisions {folder}: no such folder")
    tables = [read_file(path) for path in sorted(folder.glob("*.parquet"))]
    if not tables:
        raise ConfigError(f"decisions {folder}: holds no Parquet file of decisions")
    table = pa.concat_tables(tables).unify_dictionaries()
    # Arrow does not sort by dictionary columns: the keys are sorted as plain text.
    keys = pa.table({"ts_open": table["ts_open"], "symbol": table["symbol"].cast(pa.string())})
    order = pc.sort_indices(keys, sort_keys=[("ts_open", "ascending"), ("symbol", "ascending")])
    return table.take(order)


def read_file(path: Path) -> pa.Table:
    """The decisions of one file, in the archive's schema.

    Raises:
        WireError: if it is not readable, or does not hold decisions of this version.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise WireError(f"decisions {path}: not readable as Parquet ({_line(error)})") from error
    if _MARK not in (table.schema.metadata or {}):
        raise WireError(f"decisions {path}: a Parquet file, but not of decisions")
    table = grown(table)
    if table.schema.names != SCHEMA.names:
        differing = sorted(set(table.schema.names) ^ set(SCHEMA.names)) or ["their order"]
        raise WireError(f"decisions {path}: columns of another version ({', '.join(differing[:3])})")
    try:
        return table.cast(SCHEMA)
    except pa.ArrowException as error:
        raise WireError(f"decisions {path}: a column of another type ({_line(error)})") from error


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

"""A folder of Parquet files of decisions: written whole or not at all, read as one table."""

from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from quantum_trader.archive.columns import SCHEMA
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
        plain = {"decision_id", "input_hash", "digest"}
        named = [name for name in SCHEMA.names if name not in plain]
        self._writer = pq.ParquetWriter(self._draft, SCHEMA, compression="zstd", use_dictionary=named)
        return self

    def write(self, table: pa.Table) -> None:
        """Append a table in the archive's schema."""
        if self._writer is None:
            raise RuntimeError("DecisionFile.write outside of its with-block")
        self._writer.write_table(table)

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()
        if kind is None:
            self._draft.replace(self.path)
        else:
            self._draft.unlink(missing_ok=True)


def read_decisions(folder: Path) -> pa.Table:
    """Every decision below a folder, sorted by time and symbol.

    Raises:
        ConfigError: if the folder or any decision in it is missing.
        WireError: if a Parquet file there does not hold decisions.
    """
    if not folder.is_dir():
        raise ConfigError(f"decisions {folder}: no such folder")
    tables = [_read(path) for path in sorted(folder.glob("*.parquet"))]
    if not tables:
        raise ConfigError(f"decisions {folder}: holds no Parquet file of decisions")
    return pa.concat_tables(tables).unify_dictionaries().sort_by([("ts_open", "ascending"), ("symbol", "ascending")])


def _read(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise WireError(f"decisions {path}: not readable as Parquet ({str(error).splitlines()[0]})") from error
    if _MARK not in (table.schema.metadata or {}):
        raise WireError(f"decisions {path}: a Parquet file, but not of decisions")
    return table.cast(SCHEMA)

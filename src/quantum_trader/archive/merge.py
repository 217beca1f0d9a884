"""Adding rows to a day's table: every decision once, the first of two that differ, one order for ever.

- A decision is known by its `decision_id`. A row that is there already, column for column, is a repetition and changes
  nothing: that is how delivering at least once becomes keeping exactly once.
- A row that has a known id and differs is a conflict: what was kept first stays, and the other is handed back.
- Rows stand in the order of `ts_open`, symbol and timeframe. The bytes of the file do not show in which order, or in
  how many parts, they came.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from quantum_trader.archive.columns import SCHEMA

_ORDER = ("ts_open", "symbol", "timeframe", "decision_id")


@dataclass(frozen=True)
class Merged:
    """What became of the new rows.

    Attributes:
        table: All rows, in `SCHEMA`.
        added: How many of the new ones were not there before.
        repeated: How many were there already.
        conflicts: Which of the new rows have the id of another row and differ from it, by index.
    """

    table: pa.Table
    added: int
    repeated: int
    conflicts: tuple[int, ...]


def merge(held: pa.Table, new: pa.Table) -> Merged:
    """Add rows to those that are held; both in `SCHEMA`."""
    rows = pa.concat_tables([held, new]).unify_dictionaries()
    first: dict[str, int] = {}
    fresh: list[int] = []
    again: list[int] = []
    for at, name in enumerate(rows["decision_id"].to_pylist()):
        known = first.setdefault(name, at)
        if at >= len(held):
            (fresh if known == at else again).append(at)
    names = rows["decision_id"].take(pa.array(again, pa.int64())).to_pylist()
    kept = _values(rows, [first[name] for name in names])
    said = _values(rows, again)
    conflicts = [at - len(held) for at, one, other in zip(again, kept, said, strict=True) if one != other]
    table = ordered(rows.take([*range(len(held)), *fresh])) if fresh else held
    return Merged(table, len(fresh), len(again) - len(conflicts), tuple(conflicts))


def ordered(table: pa.Table) -> pa.Table:
    """The rows in the archive's order, with dictionaries that show nothing but the rows."""
    plain = pa.table({name: _plain(table[name]) for name in table.column_names})
    keys = [(name, "ascending") for name in _ORDER]
    rows = plain.take(pc.sort_indices(plain, sort_keys=keys)).combine_chunks()
    return pa.table([_encoded(rows[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _encoded(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    return column.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else column


def _values(rows: pa.Table, at: Sequence[int]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rows.take(pa.array(at, pa.int64())).to_pylist()
    return found

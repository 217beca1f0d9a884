"""Whether archived decisions are those that were recorded: all of them, in their order, unchanged.

- Every decision's fields give its stored digest, and every record (shadows, reasons and time included) its link.
- Every link follows from the one before it of its symbol and timeframe, so a record that was taken out, put in or moved
  shows at the next one.
- The first record of a table is checked against the predecessor that it names. What was cut off behind the last record
  does not show: whoever needs that keeps the last link elsewhere, or goes on with a `ChainCheck`.
"""

import hashlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quantum_trader.archive.bodies import bodies
from quantum_trader.core.errors import format_ms

CHUNK = 8192
"""Rows whose bytes are in memory at once, in every process: about 30 MB."""

_LINK = 32


class _Last(NamedTuple):
    ts_open: int
    chain: bytes


class ChainCheck:
    """Follows the chains of every symbol through tables that come one after the other, each in any order of rows."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], _Last] = {}

    def add(
        self, table: pa.Table, progress: Callable[[int], None] = lambda _: None, workers: int = 1
    ) -> tuple[str, ...]:
        """What is wrong with the next part, a sentence for each symbol and kind of break; nothing if all is whole.

        Args:
            table: In the archive's schema; later than all that was added before.
            progress: Told how many rows were checked since it was last told.
            workers: Processes that share the work; with 1 it is done in this one.
        """
        if not len(table):
            return ()
        rows = _Rows(table)
        found = _Faults(rows)
        start = 0
        for part, changed in _checked((table.slice(at, CHUNK) for at in range(0, len(table), CHUNK)), workers):
            for row, kind in changed:
                found.add(kind, start + row)
            start += len(part)
            progress(len(part))
        self._follow(rows, found)
        return found.sentences()

    def _follow(self, rows: "_Rows", found: "_Faults") -> None:
        order = np.lexsort((rows.ts_open, rows.keys))
        keys, prev, own = rows.keys[order], rows.prev[order], rows.own[order]
        linked = rows.linked[order]
        first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        before = np.vstack([own[:1], own[:-1]])
        whole = np.r_[True, linked[:-1]]
        for at in first.tolist():
            last = self._last.get(rows.names[keys[at]])
            before[at] = prev[at] if last is None else np.frombuffer(last.chain, np.uint8)
            whole[at] = True
        ends = np.r_[first[1:], len(order)] - 1
        # Behind a record without a link nothing can be followed: that one is told already.
        broken = np.flatnonzero((prev != before).any(axis=1) & linked & whole)
        for at in broken.tolist():
            anew = not prev[at].any()
            found.add("begins a chain anew, behind others" if anew else _NOT_BEHIND, int(order[at]))
        for at in ends.tolist():
            if linked[at]:
                row = int(order[at])
                self._last[rows.names[keys[at]]] = _Last(int(rows.ts_open[row]), own[at].tobytes())


_NOT_BEHIND = "does not follow from the record before it: one was taken out, put in or changed"
_CHANGED = "is not what its link speaks for: it was changed after it was recorded"
_DIGEST = "has fields that do not give its stored digest: it was changed"
_UNLINKED = "carries no link: it was recorded before there was a chain, or stripped of it"


def broken(table: pa.Table, progress: Callable[[int], None] = lambda _: None, workers: int = 1) -> tuple[str, ...]:
    """What is wrong with a table of decisions, a sentence for each symbol and kind of break; nothing if all is whole.

    Args:
        table: In the archive's schema, in any order.
        progress: Told how many rows were checked since it was last told.
        workers: Processes that share the work; with 1 it is done in this one.
    """
    return ChainCheck().add(table, progress, workers)


_Changed = list[tuple[int, str]]


def _checked(parts: Iterable[pa.Table], workers: int) -> Iterator[tuple[pa.Table, _Changed]]:
    """Every part with what is wrong with its rows by themselves, in order."""
    if workers <= 1:
        for part in parts:
            yield part, _changed(part)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    waiting: deque[tuple[pa.Table, Future[_Changed]]] = deque()
    with ProcessPoolExecutor(workers, context) as pool:
        for part in parts:
            # Columns as they are, not a table object: nothing but numbers and texts crosses.
            waiting.append((part, pool.submit(_changed_in, _sent(part))))
            if len(waiting) > 2 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()


def _sent(part: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, part.schema) as writer:
        writer.write_table(part.unify_dictionaries().combine_chunks())
    raw: bytes = sink.getvalue().to_pybytes()
    return raw


def _changed_in(raw: bytes) -> _Changed:
    return _changed(pa.ipc.open_stream(raw).read_all())


def _changed(part: pa.Table) -> _Changed:
    """What is wrong with rows by themselves: their number, and why."""
    digests = part["digest"].to_pylist()
    prev, own = part["chain_prev"].to_pylist(), part["chain"].to_pylist()
    sha256 = hashlib.sha256
    found: _Changed = []
    for row, decision, record in bodies(part):
        if sha256(decision).hexdigest() != digests[row]:
            found.append((row, _DIGEST))
        if own[row] is None or prev[row] is None:
            found.append((row, _UNLINKED))
        elif sha256(prev[row] + record).digest() != own[row]:
            found.append((row, _CHANGED))
    return found


class _Rows:
    """What following the chains needs of a table, as arrays of n rows."""

    def __init__(self, table: pa.Table) -> None:
        self.ts_open: NDArray[np.int64] = table["ts_open"].to_numpy()
        texts = [table[name].cast(pa.string()).combine_chunks().dictionary_encode() for name in ("symbol", "timeframe")]
        symbols, timeframes = (text.dictionary.to_pylist() for text in texts)
        codes = [text.indices.to_numpy(zero_copy_only=False).astype(np.int64) for text in texts]
        self.keys: NDArray[np.int64] = codes[0] * len(timeframes) + codes[1]
        self.names = [(symbol, timeframe) for symbol in symbols for timeframe in timeframes]
        self.prev, self.own = _links(table["chain_prev"]), _links(table["chain"])
        self.linked: NDArray[np.bool_] = ~(_missing(table["chain_prev"]) | _missing(table["chain"]))


class _Faults:
    """Breaks by kind, symbol and timeframe: how many, and the first bar."""

    def __init__(self, rows: _Rows) -> None:
        self._rows = rows
        self._found: dict[tuple[str, str, str], tuple[int, int]] = {}

    def add(self, kind: str, row: int) -> None:
        symbol, timeframe = self._rows.names[self._rows.keys[row]]
        ts_open = int(self._rows.ts_open[row])
        count, first = self._found.get((kind, symbol, timeframe), (0, ts_open))
        self._found[kind, symbol, timeframe] = count + 1, min(first, ts_open)

    def sentences(self) -> tuple[str, ...]:
        """Earliest break first."""
        items = sorted(self._found.items(), key=lambda item: (item[1][1], item[0]))
        return tuple(
            f"{symbol} {timeframe}, bar {format_ms(first)}: the record {kind}"
            + (f" ({count} such records, this is the first)" if count > 1 else "")
            for (kind, symbol, timeframe), (count, first) in items
        )


def _links(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """Shape (n, 32); whatever where there is none."""
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * _LINK, chunk.offset * _LINK)
        for chunk in column.chunks
        if len(chunk)
    ]
    return np.concatenate(parts).reshape(-1, _LINK) if parts else np.empty((0, _LINK), np.uint8)


def _missing(column: pa.ChunkedArray) -> NDArray[Any]:
    missing: NDArray[Any] = column.is_null().to_numpy()
    return missing

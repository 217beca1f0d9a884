"""The training set: every window's features, by the function that serves them, with its label.

A row needs a whole window (512 bars without a gap), finite features and a known outcome; whatever lacks one is left out
as it is in service, and counted. Windows are worked off by several processes where there are many.
"""

import hashlib
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.bars import FIELDS, WINDOW, BarSeries, FloatArray, IntArray, timeframe_name
from quantum_trader.core.errors import TrainingError
from quantum_trader.core.features import SCHEMA, Float32Array, compute_batch
from quantum_trader.core.labels import DELAY, HORIZON, UNKNOWN, labels
from quantum_trader.learn.progress import Progress, silent

_CHUNK = 1024
_TOGETHER = 64
_ALONE = 6 * _CHUNK
"""Up to this many windows one process is done sooner than others have started."""


@dataclass(frozen=True)
class DatasetOptions:
    """Which bars become rows, and with how many processes.

    Attributes:
        stride: Take bars whose number on the timeframe's grid is a multiple of it: the same instants for every symbol.
        max_rows: Widen the stride until at most about this many rows remain; None takes all.
        workers: Processes that compute features.
        horizon: H of the label, in bars.
        delay: D of the label, in bars.
    """

    stride: int = 1
    max_rows: int | None = None
    workers: int = 2
    horizon: int = HORIZON
    delay: int = DELAY

    def __post_init__(self) -> None:
        if min(self.stride, self.workers, self.horizon) < 1 or self.delay < 0:
            raise TrainingError("dataset: stride, workers and horizon must be at least 1, delay not negative")
        if self.max_rows is not None and self.max_rows < 1:
            raise TrainingError(f"dataset: max_rows {self.max_rows} is not at least 1")


@dataclass(frozen=True)
class Dataset:
    """Rows in order of time, then symbol.

    Attributes:
        rows: Shape (n, F), float32, in the order of `SCHEMA.names`.
        sequences: Shape (n, 128, 8), float32.
        y: Shape (n,), 1 where the price rises over the horizon.
        ts: Shape (n,), open time of the row's bar in milliseconds since the epoch, UTC.
        symbol: Shape (n,), index into `symbols`.
        symbols: Venue symbols, sorted.
        interval: Length of a bar in milliseconds.
        horizon: H of the label, in bars.
        delay: D of the label, in bars.
        bars_sha256: Digest of the bars the rows were made from.
        refused: Windows whose features were not finite.
    """

    rows: Float32Array
    sequences: Float32Array
    y: NDArray[np.int8]
    ts: IntArray
    symbol: IntArray
    symbols: tuple[str, ...]
    interval: int
    horizon: int
    delay: int
    bars_sha256: str
    refused: int

    def __len__(self) -> int:
        return len(self.y)

    @property
    def timeframe(self) -> str:
        """The interval's name, such as ``5m``."""
        return timeframe_name(self.interval)


def build_dataset(
    bars: Mapping[str, BarSeries], options: DatasetOptions | None = None, progress: Progress = silent
) -> Dataset:
    """Features and labels of bars.

    Args:
        bars: By symbol, all of one interval, checked.
        options: Which bars become rows.
        progress: Told after every chunk of windows.

    Raises:
        TrainingError: if there are no bars, their intervals differ, or no window has a known outcome.
    """
    options = options or DatasetOptions()
    symbols = tuple(sorted(bars))
    series = [bars[symbol] for symbol in symbols]
    intervals = {one.interval for one in series}
    if len(intervals) != 1:
        raise TrainingError("dataset: no bars" if not series else "dataset: bars of different timeframes")
    known = [labels(one, options.horizon, options.delay) for one in series]
    ends = _ends(series, known, options)
    total = sum(map(len, ends))
    if total == 0:
        raise TrainingError(f"dataset: no window of {WINDOW} bars without a gap has a known outcome: give it more bars")
    y = np.concatenate([label[at] for label, at in zip(known, ends, strict=True)])
    ts = np.concatenate([one.ts_open[at] for one, at in zip(series, ends, strict=True)])
    symbol = np.repeat(np.arange(len(symbols)), [len(at) for at in ends])
    order = np.lexsort((symbol, ts))
    rows, sequences, good = _features(series, ends, order, options.workers, progress)
    if not good.all():
        rows, sequences, order = rows[good], sequences[good], order[good]
    return Dataset(
        rows=rows,
        sequences=sequences,
        y=y[order],
        ts=ts[order],
        symbol=symbol[order],
        symbols=symbols,
        interval=intervals.pop(),
        horizon=options.horizon,
        delay=options.delay,
        bars_sha256=bars_digest(bars),
        refused=int(total - len(order)),
    )


def bars_digest(bars: Mapping[str, BarSeries]) -> str:
    """SHA-256 over symbols, intervals, times and values, symbols sorted: whatever file they came from."""
    digest = hashlib.sha256()
    for symbol in sorted(bars):
        one = bars[symbol]
        digest.update(f"{symbol}|{one.interval}|{len(one)}|".encode())
        digest.update(np.ascontiguousarray(one.ts_open, dtype="<i8").tobytes())
        for name in FIELDS:
            digest.update(np.ascontiguousarray(getattr(one, name), dtype="<f8").tobytes())
    return digest.hexdigest()


def _ends(series: list[BarSeries], known: list[NDArray[np.int8]], options: DatasetOptions) -> list[IntArray]:
    """Of each series, the indices of the bars that become rows."""
    every = []
    for one, label in zip(series, known, strict=True):
        ends = one.window_ends()
        every.append(ends[label[ends] != UNKNOWN])
    stride = options.stride
    if options.max_rows is not None:
        stride = max(stride, -(-sum(map(len, every)) // options.max_rows))
    if stride == 1:
        return every
    return [at[(one.ts_open[at] // one.interval) % stride == 0] for one, at in zip(series, every, strict=True)]


def _features(
    series: list[BarSeries], ends: list[IntArray], order: IntArray, workers: int, progress: Progress
) -> "_Part":
    """Features of all windows, window `order[i]` in place i: put there at once, for they are too large to sort."""
    total = len(order)
    place = np.empty(total, dtype=np.int64)
    place[order] = np.arange(total)
    rows = np.empty((total, len(SCHEMA.names)), dtype=np.float32)
    sequences = np.empty((total, SCHEMA.sequence_length, len(SCHEMA.sequence_names)), dtype=np.float32)
    good = np.empty(total, dtype=np.bool_)
    done = 0
    progress("features", 0, total)
    for start, part in _computed(series, ends, 1 if total <= _ALONE else workers):
        at = place[start : start + len(part[0])]
        rows[at], sequences[at], good[at] = part
        done += len(part[0])
        progress("features", done, total)
    return rows, sequences, good


_Part = tuple[Float32Array, Float32Array, NDArray[np.bool_]]


def _tasks(series: list[BarSeries], ends: list[IntArray]) -> Iterator[tuple[int, FloatArray, list[int]]]:
    """First row of each chunk, the bars it needs, and its windows' ends among them."""
    first_row = 0
    for one, at in zip(series, ends, strict=True):
        matrix = one.matrix()
        for start in range(0, len(at), _CHUNK):
            chunk = at[start : start + _CHUNK]
            first_bar = int(chunk[0]) - WINDOW + 1
            needed = np.ascontiguousarray(matrix[:, first_bar : int(chunk[-1]) + 1])
            yield first_row + start, needed, (chunk - first_bar).tolist()
        first_row += len(at)


def _computed(series: list[BarSeries], ends: list[IntArray], workers: int) -> Iterator[tuple[int, _Part]]:
    if workers == 1:
        for start, matrix, local in _tasks(series, ends):
            yield start, window_features(matrix, local)
        return
    # Spawned, not forked: the parent may already run threads of a numerical library.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_interrupts_to_parent)
    try:
        futures: dict[Future[_Part], int] = {
            pool.submit(window_features, matrix, local): start for start, matrix, local in _tasks(series, ends)
        }
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    except BrokenProcessPool as error:
        raise TrainingError("dataset: a process that computes features died") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def window_features(matrix: FloatArray, ends: list[int]) -> _Part:
    """Rows (k, F), sequences (k, 128, 8) and which are finite (k,), of the windows of `matrix` (5, n) ending at `ends`.

    What is not finite is NaN: service refuses such a window, so no model learns from it.
    """
    rows = np.empty((len(ends), len(SCHEMA.names)), dtype=np.float32)
    sequences = np.empty((len(ends), SCHEMA.sequence_length, len(SCHEMA.sequence_names)), dtype=np.float32)
    good = np.ones(len(ends), dtype=np.bool_)
    for start in range(0, len(ends), _TOGETHER):
        part = ends[start : start + _TOGETHER]
        arrays = compute_batch([matrix[:, end - WINDOW + 1 : end + 1] for end in part])
        rows[start : start + len(part)], sequences[start : start + len(part)] = arrays.rows, arrays.sequences
        good[[start + i for i in arrays.problems]] = False
    return rows, sequences, good

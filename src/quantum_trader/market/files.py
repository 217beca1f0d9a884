"""Bars in files: Parquet in both directions, freqtrade's feather files and CSV read as they are.

A file of ours has the columns symbol, open_time (timestamp[ms, UTC]), open, high, low, close, volume, sorted by
symbol and time. freqtrade's have date instead of open_time and no symbol: the file's name carries it.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.bars import FIELDS, BarSeries, interval_ms, timeframe_name, venue_symbol
from quantum_trader.core.errors import ConfigError, format_ms
from quantum_trader.market.timerange import TimeRange

_TIME_COLUMNS = ("open_time", "date")

# freqtrade: PAIR-TIMEFRAME[-CANDLETYPE].EXT, with "_" for "/" and ":".
_FREQTRADE_NAME = re.compile(r"([A-Za-z0-9]+_[A-Za-z0-9]+(?:_[A-Za-z0-9]+)?)-(\d+[mhd])(?:-(\w+))?")


def read_bars(
    path: Path, symbols: Iterable[str] | None = None, timerange: TimeRange | None = None, timeframe: str | None = None
) -> dict[str, BarSeries]:
    """Read and check bars.

    Args:
        path: A .parquet, .feather or .csv file.
        symbols: Which to read, as pairs (BTC/USDT) or venue symbols; None reads all in the file's order.
        timerange: Which part; None reads all.
        timeframe: What the bars must be; None takes the most common step between them.

    Raises:
        ConfigError: if the file is missing or no table of bars, or holds none of a symbol in the range.
        BarError: at the first bar that breaks a rule.
    """
    held = read_unchecked(path, timeframe)
    wanted = list(held) if symbols is None else list(dict.fromkeys(venue_symbol(symbol) for symbol in symbols))
    for symbol in wanted:
        if symbol not in held:
            raise ConfigError(f"{path}: no bars of {symbol}; there are {', '.join(held)}")
    return {symbol: _checked(path, held[symbol], timerange) for symbol in wanted}


def _checked(path: Path, series: BarSeries, timerange: TimeRange | None) -> BarSeries:
    # The whole series first: a range is cut by binary search, which needs sorted times.
    series.check()
    part = series if timerange is None else timerange.cut(series)
    if not len(part):
        held = f"{format_ms(int(series.ts_open[0]))} to {format_ms(int(series.ts_open[-1]))}"
        raise ConfigError(f"{path}: no bars of {series.symbol} from {timerange}; there are {held}")
    return part


def read_unchecked(path: Path, timeframe: str | None = None) -> dict[str, BarSeries]:
    """All bars of a file as they stand, for a report of their defects; everybody else wants `read_bars`.

    Raises:
        ConfigError: if the file is missing or no table of bars.
    """
    table = _table(path)
    times = _times(path, table)
    columns = {name: _floats(path, table, name) for name in FIELDS}
    names, codes = _symbols(path, table)
    rows = {name: np.flatnonzero(codes == code) for code, name in enumerate(names)}
    rows = {name: index for name, index in rows.items() if len(index)}
    if not rows:
        raise ConfigError(f"{path}: holds no bars")
    interval = _interval(path, table, [times[index] for index in rows.values()], timeframe)
    return {
        name: BarSeries(name, interval, times[index], **{field: columns[field][index] for field in FIELDS})
        for name, index in rows.items()
    }


def _table(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv, feather, parquet

    readers = {".parquet": parquet.read_table, ".feather": feather.read_table, ".csv": csv.read_csv}
    if path.suffix not in readers:
        raise ConfigError(f"{path}: expected a .parquet, .feather or .csv file")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        table = readers[path.suffix](str(path))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: no readable {path.suffix[1:]} file ({reason})") from None
    missing = [name for name in FIELDS if name not in table.column_names]
    if not any(name in table.column_names for name in _TIME_COLUMNS):
        missing.insert(0, "open_time or date")
    if missing:
        raise ConfigError(f"{path}: no column {', '.join(missing)}; there are {', '.join(table.column_names)}")
    return table


def _times(path: Path, table: Any) -> NDArray[np.int64]:
    """Open times in milliseconds; a time without a zone counts as UTC, a whole number as milliseconds."""
    import pyarrow as pa

    name = next(name for name in _TIME_COLUMNS if name in table.column_names)
    column = table.column(name)
    if column.null_count:
        raise ConfigError(f"{path}: column {name} has {column.null_count} empty values")
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    if not (pa.types.is_timestamp(column.type) or pa.types.is_integer(column.type)):
        raise ConfigError(f"{path}: column {name} is {column.type}, expected a timestamp")
    try:
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("ms", tz=column.type.tz))
        return np.asarray(column.cast(pa.int64()).to_numpy())
    except pa.ArrowInvalid:
        raise ConfigError(f"{path}: column {name} is finer than milliseconds") from None


def _floats(path: Path, table: Any, name: str) -> NDArray[np.float64]:
    """A column as float64, empty values as NaN (which the check of the bars refuses by symbol and time)."""
    import pyarrow as pa

    column = table.column(name)
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise ConfigError(f"{path}: column {name} is {column.type}, expected numbers")
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy())


def _symbols(path: Path, table: Any) -> tuple[list[str], NDArray[np.int64]]:
    """Names and, for every row, the index of its name."""
    import pyarrow as pa

    if "symbol" not in table.column_names:
        return [_name_parts(path)[0]], np.zeros(len(table), dtype=np.int64)
    column = table.column("symbol")
    if column.null_count:
        raise ConfigError(f"{path}: column symbol has {column.null_count} empty values")
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries().combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        if not column.num_chunks:
            return [], np.empty(0, dtype=np.int64)
        column = column.chunk(0)
    return [str(name) for name in column.dictionary.to_pylist()], column.indices.to_numpy().astype(np.int64)


def _name_parts(path: Path) -> tuple[str, str]:
    """Venue symbol and timeframe from a name such as ``BTC_USDT_USDT-5m-futures``."""
    match = _FREQTRADE_NAME.fullmatch(path.stem)
    if match is None:
        raise ConfigError(f"{path}: no column symbol, and the name is not like BTC_USDT-5m or BTC_USDT_USDT-5m-futures")
    pair, timeframe, kind = match.groups()
    if kind not in (None, "spot", "futures"):
        raise ConfigError(f"{path}: {kind} candles are not trades; expected spot or futures")
    base, quote = pair.split("_")[:2]
    return venue_symbol(f"{base}/{quote}"), timeframe


def _interval(path: Path, table: Any, times: list[NDArray[np.int64]], timeframe: str | None) -> int:
    """The most common step in milliseconds; where there is no step, what the metadata or the name says."""
    steps = np.concatenate([np.diff(own) for own in times])
    steps = steps[steps > 0]
    if len(steps):
        values, counts = np.unique(steps, return_counts=True)
        found = int(values[counts.argmax()])
        if timeframe is not None and found != interval_ms(timeframe):
            raise ConfigError(f"{path}: most bars are {found} ms apart, not {timeframe}")
        return found
    written = (table.schema.metadata or {}).get(b"interval", b"").decode()
    if timeframe is None and not written:
        timeframe = _name_parts(path)[1]
    return interval_ms(timeframe or written)


def write_bars(path: Path, series: Mapping[str, BarSeries], source: str = "") -> None:
    """Write bars as Parquet, whole or not at all: a temporary file that then takes the name.

    Args:
        path: The file; its folder is made where it is missing.
        series: Bars by symbol, all of one interval; written sorted by symbol.
        source: Where they come from, kept in the file's metadata (`read_source`).

    Raises:
        ConfigError: if there is nothing to write or the intervals differ.
        BarError: at the first bar that breaks a rule.
    """
    import pyarrow as pa
    from pyarrow import parquet

    ordered = [series[symbol] for symbol in sorted(series)]
    intervals = {own.interval for own in ordered}
    if len(intervals) != 1:
        raise ConfigError(f"{path}: {'no bars' if not intervals else 'bars of several intervals'} to write")
    for own in ordered:
        own.check()
    codes = np.repeat(np.arange(len(ordered), dtype=np.int32), [len(own) for own in ordered])
    times = np.concatenate([own.ts_open for own in ordered])
    arrays = {
        "symbol": pa.DictionaryArray.from_arrays(pa.array(codes), pa.array([own.symbol for own in ordered])),
        "open_time": pa.array(times, type=pa.int64()).cast(pa.timestamp("ms", tz="UTC")),
        **{name: pa.array(np.concatenate([getattr(own, name) for own in ordered])) for name in FIELDS},
    }
    metadata = {"interval": timeframe_name(intervals.pop()), "source": source}
    table = pa.table(arrays).replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            parquet.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes it private; a data file follows the umask as any other.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


SIMULATED = "simulated"
"""What the source of simulated bars begins with."""


def is_simulated(path: Path) -> bool:
    """Whether a file says that its bars come from the simulator."""
    return read_source(path).startswith(SIMULATED)


def read_source(path: Path) -> str:
    """What a Parquet file's metadata says of where its bars come from; empty where it says nothing."""
    return (_table(path).schema.metadata or {}).get(b"source", b"").decode() if path.suffix == ".parquet" else ""

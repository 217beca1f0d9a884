"""Historical bars from an exchange into a Parquet file; stop it at any time and start it again.

- Every page that arrives is at once a file of its own in ``FILE.parts``; its name says which time it covers.
- What FILE and the parts cover already is not asked for again; a range beyond FILE extends it, without a hole.
- When everything is there, FILE is replaced in one step and the parts go away; until then FILE is untouched.
"""

import asyncio
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from quantum_trader.core.bars import FIELDS, BarSeries, interval_ms, venue_symbol
from quantum_trader.core.errors import ConfigError
from quantum_trader.market.exchange import Exchange, Retries, market_kind, open_exchange
from quantum_trader.market.files import read_bars, read_source, write_bars
from quantum_trader.market.timerange import TimeRange

Range = tuple[int, int]
"""Open times from the first (inclusive) to the second (exclusive), milliseconds."""

_PART_NAME = re.compile(r"(\w+)-(\d+)-(\d+)\.parquet")


class Progress(Protocol):
    """Called after every page with the pair, the bars asked for so far, and those that there are to ask for."""

    def __call__(self, pair: str, done: int, total: int) -> None:
        """Take note."""


@dataclass(frozen=True, slots=True)
class _Job:
    exchange: Exchange
    path: Path
    source: str
    wanted: Range | None
    stop_ms: int
    progress: Progress


def download(
    exchange: str,
    pairs: Sequence[str],
    timeframe: str,
    timerange: TimeRange,
    path: Path,
    now_ms: int,
    progress: Progress,
    config: Mapping[str, Any] | None = None,
    retries: Retries | None = None,
) -> dict[str, BarSeries]:
    """Download what is missing and return all bars of the pairs that the file then holds.

    Args:
        exchange: ccxt's name, such as binance.
        pairs: BTC/USDT for spot, BTC/USDT:USDT for the perpetual future; not both kinds in one file.
        timeframe: Such as 5m.
        timerange: Its start may be open only where the file exists; an open end means now.
        path: The Parquet file.
        now_ms: The time of looking; a bar that closes later is left out.
        progress: Told after every page.
        config: Merged into ccxt's configuration of the exchange.
        retries: Of every request.

    Raises:
        ConfigError: if an argument is wrong, or the file holds bars of another source or timeframe.
        ExchangeError: if the exchange cannot be reached; what has arrived is kept for the next call.
        BarError: if the exchange sends a bar that breaks a rule.
    """
    if path.suffix != ".parquet":
        raise ConfigError(f"{path}: bars are downloaded into a .parquet file")
    kinds = {market_kind(pair) for pair in pairs}
    if len(kinds) > 1:
        raise ConfigError(f"{path}: {' and '.join(sorted(kinds))} pairs do not go into one file")
    source = f"{exchange} {kinds.pop() if kinds else ''}"
    _held(path, timeframe, source)
    interval = interval_ms(timeframe)
    stop = now_ms if timerange.stop_ms is None else min(timerange.stop_ms, now_ms)
    # Both on the grid: the first bar that opens in the range, and the end of the last that is finished.
    stop = stop // interval * interval
    wanted = None
    if timerange.start_ms is not None:
        wanted = (-(-timerange.start_ms // interval) * interval, stop)
        if wanted[0] >= stop:
            raise ConfigError(f"timerange {timerange}: no {timeframe} bar has opened and closed in it")
    elif not path.is_file():
        raise ConfigError(f"{path}: does not exist yet, so the timerange needs a start")

    async def fetch_all() -> None:
        async with open_exchange(exchange, pairs, timeframe, config, retries) as opened:
            job = _Job(opened, path, source, wanted, stop, progress)
            for pair in pairs:
                await _fetch_pair(job, pair)

    asyncio.run(fetch_all())
    held = _held(path, timeframe, source)
    for pair in pairs:
        if venue_symbol(pair) not in held:
            raise ConfigError(f"{exchange} has no {timeframe} bars of {pair} from {timerange}")
    write_bars(path, held, source)
    shutil.rmtree(parts_folder(path), ignore_errors=True)
    return {venue_symbol(pair): held[venue_symbol(pair)] for pair in pairs}


def parts_folder(path: Path) -> Path:
    """Where the pages of an unfinished download wait."""
    return path.with_name(path.name + ".parts")


def kept_bars(path: Path) -> int:
    """Bars of an unfinished download that the next call will not ask for again."""
    return sum(len(series) for part, *_ in _parts(path) for series in read_bars(part).values())


def missing_ranges(wanted: Range | None, stop_ms: int, covered: Sequence[Range]) -> list[Range]:
    """What has to be asked for, so that one range without a hole holds the covered and the wanted.

    Args:
        wanted: What the user asked for; None means from the covered's beginning to `stop_ms`.
        stop_ms: Where an open range ends.
        covered: What is there; ranges may overlap and come in any order.

    >>> missing_ranges((0, 100), 100, [(20, 30), (50, 70)])
    [(0, 20), (30, 50), (70, 100)]
    >>> missing_ranges((80, 100), 100, [(0, 40)])
    [(40, 100)]
    """
    if wanted is None:
        wanted = (min((start for start, _ in covered), default=stop_ms), stop_ms)
    position = min([wanted[0], *(start for start, _ in covered)])
    end = max([wanted[1], *(stop for _, stop in covered)])
    missing = []
    for start, stop in [*sorted(covered), (end, end)]:
        if start > position:
            missing.append((position, start))
        position = max(position, stop)
    return missing


async def _fetch_pair(job: _Job, pair: str) -> None:
    symbol, interval = venue_symbol(pair), job.exchange.interval
    missing = missing_ranges(job.wanted, job.stop_ms, _covered(job.path, symbol))
    total = sum(stop - start for start, stop in missing) // interval
    done = 0
    job.progress(pair, done, total)
    for start, stop in missing:
        since = start
        while since < stop:
            reached = await _fetch_page(job, pair, since, stop)
            done += (min(reached, stop) - since) // interval
            since = reached
            job.progress(pair, done, total)


async def _fetch_page(job: _Job, pair: str, since: int, stop: int) -> int:
    """Fetch and keep one page; the time up to which it speaks."""
    limit = job.exchange.page_size(pair)
    page = await job.exchange.fetch(pair, since, limit)
    bars = [bar for bar in page if since <= bar.ts_open < stop]
    if not bars:
        # Either the exchange's next bar lies beyond the range, or it looks no further than one page ahead.
        beyond = any(bar.ts_open >= stop for bar in page)
        return stop if beyond else since + limit * job.exchange.interval
    series = BarSeries.from_bars(bars)
    reached = bars[-1].ts_close
    part = parts_folder(job.path) / f"{series.symbol}-{since}-{reached}.parquet"
    write_bars(part, {series.symbol: series}, job.source)
    return reached


def _parts(path: Path) -> list[tuple[Path, str, Range]]:
    """Every kept page with its symbol and what it covers, oldest first."""
    found = []
    for part in parts_folder(path).glob("*.parquet"):
        match = _PART_NAME.fullmatch(part.name)
        if match is not None:
            symbol, start, stop = match.groups()
            found.append((part, symbol, (int(start), int(stop))))
    return sorted(found, key=lambda entry: (entry[1], entry[2]))


def _covered(path: Path, symbol: str) -> list[Range]:
    covered = [ranged for _, own, ranged in _parts(path) if own == symbol]
    if path.is_file():
        series = read_bars(path).get(symbol)
        if series is not None:
            covered.append((int(series.ts_open[0]), int(series.ts_open[-1]) + series.interval))
    return covered


def _held(path: Path, timeframe: str, source: str) -> dict[str, BarSeries]:
    """Bars of the file and of the parts together, checked to be of one source and timeframe."""
    files = [part for part, *_ in _parts(path)]
    if path.is_file():
        files.insert(0, path)
    pieces: dict[str, list[BarSeries]] = {}
    for file in files:
        written = read_source(file)
        if written != source:
            raise ConfigError(f"{file}: its bars are from {written or 'an unknown source'}, not {source}")
        for symbol, series in read_bars(file).items():
            if series.interval != interval_ms(timeframe):
                raise ConfigError(f"{file}: its bars are {series.interval} ms apart, not {timeframe}")
            pieces.setdefault(symbol, []).append(series)
    return {symbol: _merged(own) for symbol, own in pieces.items()}


def _merged(pieces: list[BarSeries]) -> BarSeries:
    """One series in order; of two bars that open together the one of the earlier piece stays."""
    times, index = np.unique(np.concatenate([piece.ts_open for piece in pieces]), return_index=True)
    columns = {name: np.concatenate([getattr(piece, name) for piece in pieces])[index] for name in FIELDS}
    return BarSeries(pieces[0].symbol, pieces[0].interval, times, **columns)

"""Where the verbs that judge take decisions and bars from: a folder and a file, or the stream."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from quantum_trader.core.bars import Bar, BarSeries
    from quantum_trader.core.decision import DecisionRecord
    from quantum_trader.settings import Settings

Decisions = Annotated[Path | None, typer.Option(help="Folder of Parquet decisions; with --bars.")]
Bars = Annotated[Path | None, typer.Option(help="Bars that give the outcomes, with --decisions.")]
Hours = Annotated[float | None, typer.Option(help="Judge the decisions of the last hours in the stream.")]
Since = Annotated[str, typer.Option(help="Only decisions from then on: 2026-01-10 or 2026-01-10T02:30, UTC.")]
Model = Annotated[str, typer.Option(help="Model to judge; the shadow if there is only one.")]

_ROWS = 20_000
"""Decisions of the stream that are held as records at once."""


@dataclass(frozen=True)
class Evidence:
    """What a verdict reads.

    Attributes:
        table: Decisions in the archive's schema.
        bars: By symbol.
        simulated: Whether a simulator made these.
        faults: Where the decisions are not what was recorded, a sentence each.
    """

    table: "pa.Table"
    bars: "dict[str, BarSeries]"
    simulated: bool
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """What the command line says: files, or hours of the stream, or the stream since a time."""

    hours: float | None
    since: str
    decisions: Path | None
    bars: Path | None

    def __post_init__(self) -> None:
        from quantum_trader.core.errors import ConfigError

        files = self.decisions is not None
        if files != (self.bars is not None) or (files and self.hours is not None):
            raise ConfigError(_USAGE)
        if not files and (self.hours is None) == (not self.since):
            raise ConfigError(_USAGE)
        if self.hours is not None and not self.hours > 0:
            raise ConfigError(f"--hours {self.hours:g}: expected a positive number")

    def read(self, settings: "Settings") -> Evidence:
        """The evidence; from the stream as far as it reaches back.

        Raises:
            ConfigError: if there is no decision.
        """
        if self.decisions is not None and self.bars is not None:
            return _from_files(self.decisions, self.bars, parse_since(self.since) if self.since else None)
        return _from_stream(settings, self.since_ms(), self._words())

    def since_ms(self) -> int:
        """Since when the stream's decisions count, by the server's clock; 0 if nothing was said."""
        from quantum_trader.bootstrap import MS_PER_HOUR
        from quantum_trader.clock import now_ms

        if self.hours is not None:
            return now_ms() - int(self.hours * MS_PER_HOUR)
        return parse_since(self.since) if self.since else 0

    def _words(self) -> str:
        return f"in the last {self.hours:g} hours of the stream" if self.hours else f"in the stream since {self.since}"


_USAGE = "give either --hours N or --since T (the stream), or --decisions DIR and --bars FILE (with --since T a part)"


def parse_since(text: str) -> int:
    """A time as users write it, in milliseconds since the epoch; without a zone it is UTC.

    Raises:
        ConfigError: if it is none.

    >>> parse_since("2026-01-10")
    1768003200000
    """
    from quantum_trader.core.errors import ConfigError

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--since {text}: expected a time such as 2026-01-10 or 2026-01-10T02:30") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def judged_model(table: "pa.Table", model: str) -> str:
    """The model to judge: the one that was named, or else the only shadow.

    Raises:
        ConfigError: if it took no part, or none was named and there is not exactly one.
    """
    from quantum_trader.archive.join import roles
    from quantum_trader.core.errors import ConfigError

    found = roles(table)
    if model:
        if model not in found:
            raise ConfigError(f"model {model!r}: it took part in no decision here; those that did: {', '.join(found)}")
        return model
    shadows = [name for name, names in found.items() if "shadow" in names]
    if len(shadows) != 1:
        raise ConfigError(f"{len(shadows)} shadows in these decisions: name the model to judge with --model")
    return shadows[0]


def _from_files(decisions: Path, bars: Path, since: int | None) -> Evidence:
    import pyarrow.compute as pc

    from quantum_trader.archive.codes import codes
    from quantum_trader.archive.store import NUMBERS, read_decisions
    from quantum_trader.core.errors import ConfigError, format_ms
    from quantum_trader.market.files import is_simulated, read_bars

    table = read_decisions(decisions, NUMBERS)
    if since is not None:
        table = table.filter(pc.greater_equal(table["ts_open"], since))
    if not len(table):
        when = "" if since is None else f" since {format_ms(since)}"
        raise ConfigError(f"no decisions in {decisions}{when}: there is nothing to judge")
    faults = _broken_chains(decisions, since or 0)
    return Evidence(table, read_bars(bars, codes(table, "symbol")[0]), is_simulated(bars), faults)


def _broken_chains(decisions: Path, since: int) -> tuple[str, ...]:
    """Where the recorded chains break; file by file, because the links are most of what a file holds."""
    import pyarrow.compute as pc

    from quantum_trader.archive.integrity import ChainCheck
    from quantum_trader.archive.store import read_file

    check = ChainCheck()
    faults: tuple[str, ...] = ()
    for path in sorted(decisions.glob("*.parquet")):
        table = read_file(path)
        faults += check.add(table.filter(pc.greater_equal(table["ts_open"], since)))
    return faults


def _from_stream(settings: "Settings", since_ms: int, words: str) -> Evidence:
    import pyarrow as pa

    from quantum_trader.archive.codes import codes, column
    from quantum_trader.archive.integrity import broken
    from quantum_trader.bootstrap import wire_decision_reader
    from quantum_trader.core.bars import interval_ms
    from quantum_trader.core.errors import ConfigError

    with wire_decision_reader(settings) as reader:
        tables = list(_tables(reader.since(since_ms)))
        if not tables:
            raise ConfigError(f"no decisions {words}: there is nothing to judge")
        table = pa.concat_tables(tables).unify_dictionaries()
        # With the bar before the first decision, which gives its first return.
        first = int(column(table, "ts_open").min()) - interval_ms(settings.timeframe)
        series = bars_of(reader.bars(settings.timeframe, first), codes(table, "symbol")[0])
    return Evidence(table, series, simulated=False, faults=broken(table))


def _tables(records: "Iterable[DecisionRecord]") -> "Iterable[pa.Table]":
    from quantum_trader.archive.columns import to_table

    waiting = iter(records)
    while part := list(islice(waiting, _ROWS)):
        yield to_table(part)


def bars_of(bars: "Iterable[Bar]", symbols: Iterable[str]) -> "dict[str, BarSeries]":
    """Bars of some symbols as series, each bar once, in time order."""
    from quantum_trader.core.bars import BarSeries

    wanted = set(symbols)
    found: dict[str, dict[int, Bar]] = {}
    for bar in bars:
        if bar.symbol in wanted:
            found.setdefault(bar.symbol, {})[bar.ts_open] = bar
    return {symbol: BarSeries.from_bars([held[ts] for ts in sorted(held)]) for symbol, held in found.items()}

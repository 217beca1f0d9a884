"""From a pack's excerpts to the files that `quantum gates` reads: made again by whoever checks the pack.

The stream's entries lie in the pack as the server held them. What the gates judge, a folder of Parquet decisions and a
file of bars, follows from them, so it is not kept: it is derived when the pack is made, and derived again to check it.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from quantum_trader.archive.columns import to_table
from quantum_trader.archive.store import DecisionFile
from quantum_trader.bus.entries import BarEntry, bar_entry
from quantum_trader.bus.excerpt import from_lines
from quantum_trader.bus.wire import decode_record, pair_up
from quantum_trader.core.bars import Bar, BarSeries
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.predictions import MODELS
from quantum_trader.market.files import write_bars

DECISIONS = "decisions"
BARS = "bars.parquet"

_VERDICT = re.compile(rf"verdict-({'|'.join(MODELS)})")


def verdict_name(model: str) -> str:
    """Name of the command that judges a model."""
    return f"verdict-{model}"


def verdict_model(name: str) -> str | None:
    """The model that a command judges; None where it judges none."""
    found = _VERDICT.fullmatch(name)
    return None if found is None else found[1]


def verdict_words(model: str) -> tuple[str, ...]:
    """The verb and its options, for a folder made by `derive`."""
    return ("gates", "--decisions", DECISIONS, "--bars", BARS, "--model", model, "--json")


def read_records(raw: bytes, where: str) -> list[DecisionRecord]:
    """The decisions of an excerpt.

    Raises:
        WireError: naming the first line that is no decision.
    """
    return [decode_record(pair_up(entry.flat)) for entry in from_lines(raw, where)]


def read_series(raw: bytes, where: str, records: Sequence[DecisionRecord]) -> dict[str, BarSeries]:
    """The bars of an excerpt that the decisions are about; entries that are no bar are passed over, as by the engine.

    Raises:
        WireError: naming the first line that is no stream entry.
    """
    symbols = {record.decision.symbol for record in records}
    timeframes = {record.decision.timeframe for record in records}
    first = min((record.decision.ts_open for record in records), default=0)
    found: dict[str, dict[int, Bar]] = {}
    for entry in from_lines(raw, where):
        read = bar_entry(entry.entry_id, entry.flat)
        if not isinstance(read, BarEntry) or read.bar.ts_open < first:
            continue
        if read.timeframe in timeframes and read.bar.symbol in symbols:
            found.setdefault(read.bar.symbol, {})[read.bar.ts_open] = read.bar
    return {symbol: BarSeries.from_bars([held[ts] for ts in sorted(held)]) for symbol, held in found.items()}


def derive(decisions: bytes, bars: bytes, out: Path) -> list[str]:
    """Write what the gates read and name the shadows there are to judge; nothing where there is nothing to judge.

    Args:
        decisions: Excerpt of the decision stream.
        bars: Excerpt of the bar stream.
        out: Folder to write to.

    Raises:
        WireError: if an excerpt is none.
        QuantumError: if the bars break a rule.
    """
    records = read_records(decisions, "decisions")
    series = read_series(bars, "bars", records)
    if not records or not series:
        return []
    with DecisionFile(out / DECISIONS / "excerpt.parquet") as file:
        file.write(to_table(records))
    write_bars(out / BARS, series)
    shadows = {model for record in records for model in record.shadows}
    return [model for model in MODELS if model in shadows]

"""What is read from the bar stream: bars, and entries that are no bars."""

from dataclasses import dataclass

from quantum_trader.bus.wire import decode_bar, pair_up
from quantum_trader.core.bars import Bar
from quantum_trader.core.errors import WireError

DELETED = "deleted from the stream before it was handled"


@dataclass(frozen=True, slots=True)
class BarEntry:
    """A bar and the id of its entry."""

    entry_id: str
    bar: Bar
    timeframe: str


@dataclass(frozen=True, slots=True)
class BadEntry:
    """An entry of the bar stream that is no bar, and why."""

    entry_id: str
    error: str


def bar_entry(entry_id: str, flat: list[bytes] | None) -> BarEntry | BadEntry:
    """An entry as the server sends it; `flat` is None where it was deleted while pending."""
    if flat is None:
        return BadEntry(entry_id, DELETED)
    try:
        bar, timeframe = decode_bar(pair_up(flat))
    except WireError as error:
        return BadEntry(entry_id, str(error))
    return BarEntry(entry_id, bar, timeframe)

"""What is wrong or odd in a series of bars, counted: rules broken, holes, halts, flat bars, jumps."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.bars import BarSeries, Gap, broken_rule


@dataclass(frozen=True, slots=True)
class Defect:
    """A rule that `count` bars break, the first of them opening at `ts_first`."""

    symbol: str
    rule: str
    count: int
    ts_first: int


@dataclass(frozen=True, slots=True)
class Quality:
    """One series in numbers.

    Attributes:
        symbol: Venue symbol.
        bars: How many.
        ts_first: Open of the first bar in the file, milliseconds.
        ts_last: Open of the last.
        gaps: Holes, oldest first; empty where the bars are not in order.
        zero_volume: Bars without a trade: an exchange's halt, usually.
        flat: Bars whose four prices are equal.
        largest_move: Greatest absolute close-to-close return, as a fraction.
        defects: Rules broken, each once with its count.
    """

    symbol: str
    bars: int
    ts_first: int
    ts_last: int
    gaps: list[Gap]
    zero_volume: int
    flat: int
    largest_move: float
    defects: list[Defect]

    @property
    def missing(self) -> int:
        """Bars that the holes would hold."""
        return sum(gap.missing for gap in self.gaps)


def examine(series: BarSeries) -> Quality:
    """Count everything in a series that need not obey the rules."""
    ordered = bool((np.diff(series.ts_open) > 0).all())
    with np.errstate(all="ignore"):
        moves = np.abs(np.diff(series.close) / series.close[:-1])
    finite = moves[np.isfinite(moves)]
    return Quality(
        symbol=series.symbol,
        bars=len(series),
        ts_first=int(series.ts_open[0]),
        ts_last=int(series.ts_open[-1]),
        gaps=series.gaps() if ordered else [],
        zero_volume=int((series.volume == 0).sum()),
        flat=int((series.high == series.low).sum()),
        largest_move=float(finite.max()) if len(finite) else 0.0,
        defects=_defects(series),
    )


def _defects(series: BarSeries) -> list[Defect]:
    found: dict[str, tuple[int, int]] = {}
    for index in np.flatnonzero(_suspects(series)).tolist():
        bar = next(iter(series.slice(index, index + 1)))
        step = bar.ts_open - int(series.ts_open[index - 1]) if index else 1
        rules = [broken_rule(bar), "duplicate" if step == 0 else "out of order" if step < 0 else None]
        for rule in filter(None, rules):
            count, first = found.get(rule, (0, bar.ts_open))
            found[rule] = (count + 1, first)
    return [Defect(series.symbol, rule, count, first) for rule, (count, first) in found.items()]


def _suspects(series: BarSeries) -> NDArray[np.bool_]:
    """Bars that may break a rule, shape (n,): a cheap filter before the rules themselves are asked."""
    prices = np.stack([series.open, series.high, series.low, series.close])
    good = np.isfinite(prices).all(axis=0) & (prices > 0).all(axis=0)
    good &= np.isfinite(series.volume) & (series.volume >= 0) & (series.ts_open % series.interval == 0)
    good &= (series.high == prices.max(axis=0)) & (series.low == prices.min(axis=0))
    good[1:] &= np.diff(series.ts_open) > 0
    return np.asarray(~good)

"""How often each model was promoted, with exact bounds, from the results of many repetitions."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from quantum_trader.gates.rogues.gallery import BY_NAME, Kind, Model
from quantum_trader.gates.rogues.measure import Result
from quantum_trader.gates.sample import CYCLE


@dataclass(frozen=True, slots=True)
class Rate:
    """k of n, with the exact two-sided 95 % interval of Clopper and Pearson (1934)."""

    k: int
    n: int

    @property
    def value(self) -> float:
        """The share; NaN for n = 0."""
        return self.k / self.n if self.n else math.nan

    @property
    def low(self) -> float:
        """Lower bound; 0 where k = 0."""
        return float(beta.ppf(0.025, self.k, self.n - self.k + 1)) if self.k else 0.0

    @property
    def high(self) -> float:
        """Upper bound; 1 where k = n."""
        return float(beta.ppf(0.975, self.k + 1, self.n - self.k)) if self.k < self.n else 1.0

    def __add__(self, other: "Rate") -> "Rate":
        return Rate(self.k + other.k, self.n + other.n)


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One model on one market.

    Attributes:
        market: Name.
        model: Who.
        promoted: By the whole verdict at any cycle's end.
        legacy_once: By the plain rule at its one look.
        legacy_all: Looking every 25 at all so far.
        legacy_last: Looking every 25 at the last 200.
        events: Decisions seen at each promotion, ascending.
        bars: Bars seen at each promotion, ascending.
        after_half: Promoted first in the second half of the decisions.
        accuracy: Share of hits among all settled BUY and SELL; NaN without any.
        open: What did not pass at the end, the most frequent first, with the share of repetitions.
    """

    market: str
    model: Model
    promoted: Rate
    legacy_once: Rate
    legacy_all: Rate
    legacy_last: Rate
    events: NDArray[np.int64]
    bars: NDArray[np.int64]
    after_half: Rate
    accuracy: float
    open: tuple[tuple[str, float], ...]

    @property
    def median_events(self) -> float:
        """Median decisions to promotion of those promoted; NaN for none."""
        return float(np.median(self.events)) if len(self.events) else math.nan

    @property
    def median_bars(self) -> float:
        """The same in bars."""
        return float(np.median(self.bars)) if len(self.bars) else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """Every cell of a run, by market and model in the run's order."""

    cells: tuple[Cell, ...]
    events: int

    @property
    def markets(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(dict.fromkeys(cell.market for cell in self.cells))

    @property
    def models(self) -> tuple[Model, ...]:
        """In order."""
        return tuple({cell.model.name: cell.model for cell in self.cells}.values())

    def of(self, kind: Kind) -> tuple[Cell, ...]:
        """Cells of one kind of model."""
        return tuple(cell for cell in self.cells if cell.model.kind is kind)

    def on(self, market: str) -> tuple[Cell, ...]:
        """Cells of one market."""
        return tuple(cell for cell in self.cells if cell.market == market)

    def by(self, model: str) -> tuple[Cell, ...]:
        """Cells of one model."""
        return tuple(cell for cell in self.cells if cell.model.name == model)


def pooled(rates: Iterable[Rate]) -> Rate:
    """All of them together."""
    return sum(rates, Rate(0, 0))


def rates_of(results: Mapping[str, Sequence[Result]], events: int) -> Rates:
    """Cells of results by market.

    Args:
        results: By market, in any order of repetitions.
        events: Decisions of a repetition.
    """
    cells = []
    for market, rows in results.items():
        by_model: dict[str, list[Result]] = {}
        for row in rows:
            by_model.setdefault(row.model, []).append(row)
        cells += [_cell(market, BY_NAME[name], own, events) for name, own in by_model.items()]
    return Rates(tuple(cells), events)


def _cell(market: str, model: Model, rows: Sequence[Result], events: int) -> Cell:
    n = len(rows)
    promoted = [row for row in rows if row.events]
    settled = sum(row.settled for row in rows)
    waiting = Counter(name for row in rows for name in row.open)
    return Cell(
        market=market,
        model=model,
        promoted=Rate(len(promoted), n),
        legacy_once=Rate(sum(row.legacy_once for row in rows), n),
        legacy_all=Rate(sum(row.legacy_all > 0 for row in rows), n),
        legacy_last=Rate(sum(row.legacy_last > 0 for row in rows), n),
        events=np.sort(np.array([row.events for row in promoted], dtype=np.int64)),
        bars=np.sort(np.array([row.bars for row in promoted], dtype=np.int64)),
        # A cycle that ends just behind the middle has seen almost nothing of the second half.
        after_half=Rate(sum(row.events > events // 2 + CYCLE for row in promoted), n),
        accuracy=sum(row.hits for row in rows) / settled if settled else math.nan,
        open=tuple((name, count / n) for name, count in sorted(waiting.items(), key=lambda item: (-item[1], item[0]))),
    )

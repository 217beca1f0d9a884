"""A window of decisions joined with its bars, portion by portion, and all in which the two contradict each other.

- Voters, weights and quorum are those of the records. They, and the judged artefact, stay the same in a window:
  numbers of two ensembles or of two models are not one record. A change is a fault, named with its bar.
- The entry price of a decision is its bar's close: another one means that a bar was changed after it was decided on.
- A symbol decides every bar from its first decision on, except where bars are missing and for the rest of the window
  of 512 bars after that. A bar without its decision is a fault, and so is a decision without its bar.
- Portions of a window, one after the other, give what the whole gives. No row ever becomes a Python object.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quantum_trader.archive.codes import IntArray, codes, column
from quantum_trader.core.bars import WINDOW, BarSeries
from quantum_trader.core.errors import ConfigError, format_ms
from quantum_trader.core.predictions import MODELS, Role
from quantum_trader.gates.panel import Electorate, Panel
from quantum_trader.gates.sample import Sample

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_NEVER = 1 << 60
"""A bar that never comes."""


@dataclass(frozen=True, slots=True, eq=False)
class Portion:
    """Bars `panel.first` to `sample.bars` - 1 of a window.

    Attributes:
        sample: The judged model's events.
        panel: The voters at these events, and the prices.
        faults: What is wrong with them, a sentence each.
    """

    sample: Sample
    panel: Panel
    faults: tuple[str, ...]


class Join:
    """Joins a window portion by portion; what has to stay the same is remembered from its first decision."""

    def __init__(self, model: str, symbols: Sequence[str], ts_first: int, bar_ms: int, shadow_weight: float) -> None:
        """A window without a past.

        Args:
            model: Short name of the judged model.
            symbols: Names, sorted; decisions lie on these only.
            ts_first: Open of its first bar, milliseconds since the epoch.
            bar_ms: Length of a bar.
            shadow_weight: The weight that the model would have.
        """
        self.model: Final = model
        self.symbols: Final = tuple(symbols)
        self.ts_first: Final = ts_first
        self.bar_ms: Final = bar_ms
        self.artefact = ""
        """Of the judged model, from the first answer on."""
        self._shadow_weight: Final = shadow_weight
        self.voters: tuple[str, ...] = ()
        """From the first decision on, as the two below."""
        self._weights: tuple[float, ...] = ()
        self._quorum = 0
        self._done = 0
        self._first_decided: IntArray = np.full(len(symbols), _NEVER, np.int64)
        self._last_hole: IntArray = np.full(len(symbols), -1, np.int64)

    def bar_of(self, ts_open: int) -> int:
        """Index of the bar that opens then."""
        return (ts_open - self.ts_first) // self.bar_ms

    def decided(self, table: pa.Table, bars: Mapping[str, BarSeries], bar: int) -> bool:
        """Whether a bar is decided by every symbol that has it and has decided one of the two bars before it."""
        ts_open = self.ts_first + bar * self.bar_ms
        opens, at = column(table, "ts_open"), self._symbols_of(table)
        lately = at[(opens < ts_open) & (opens >= ts_open - 2 * self.bar_ms)]
        silent = np.setdiff1d(lately, at[opens == ts_open])
        held = [bars[self.symbols[number]] for number in silent.tolist() if self.symbols[number] in bars]
        return not any(len(series.between(ts_open, ts_open + 1)) for series in held)

    def portion(self, table: pa.Table, bars: Mapping[str, BarSeries], end: int) -> Portion:
        """The bars from the end of the last portion up to `end`, exclusive, with the decisions that lie in them.

        Args:
            table: Decisions; those outside of these bars are not read.
            bars: Bars by symbol, among them those of the portion and the one before it.
            end: Bar.
        """
        start = self._done
        at = column(table, "ts_open")
        lower, upper = (self.ts_first + bar * self.bar_ms for bar in (start, end))
        inside = (at >= lower) & (at < upper)
        rows = table if inside.all() else table.filter(pa.array(inside))
        bar, symbol = (column(rows, "ts_open") - self.ts_first) // self.bar_ms, self._symbols_of(rows)
        if not self.voters and len(rows):
            self._remember(rows, int(bar.argmin()))
        closes = self._closes(bars, start - 1, end)
        faults = (
            *self._changes(rows, bar),
            *self._foreign_bars(rows, bar, symbol, closes[1:], start),
            *self._twice(bar, symbol),
            *self._undecided(bar, symbol, ~np.isnan(closes[1:]), start),
        )
        self._done = end
        return Portion(
            self._sample(rows, bar, symbol, end), self._panel(rows, bar, symbol, np.log(closes), start), faults
        )

    def _remember(self, rows: pa.Table, first: int) -> None:
        """What the first decision says, and has to be so in all others."""
        self.voters = tuple(name for name in MODELS if rows[f"{name}.role"][first].as_py() == Role.VOTER.value)
        self._weights = tuple(rows[f"{name}.weight"][first].as_py() for name in self.voters)
        self._quorum = int(rows["min_consensus"][first].as_py())
        if not self.voters:
            raise ConfigError(f"model {self.model}: the decision at {self._when(0)} has no voter to stand beside it")

    @property
    def electorate(self) -> Electorate:
        """Who votes.

        Raises:
            ConfigError: before the first decision.
        """
        if not self.voters:
            raise ConfigError("no decision yet: nobody knows who votes")
        return Electorate(self._weights, self._shadow_weight, self._quorum)

    def _sample(self, rows: pa.Table, bar: IntArray, symbol: IntArray, end: int) -> Sample:
        # Where the model votes or took no part it is no shadow with an answer.
        watches = plays(rows, self.model, Role.SHADOW)
        p_up = np.where(watches, column(rows, f"{self.model}.p_up"), np.nan)
        return Sample.of(
            bar=bar,
            symbol=symbol,
            p_up=p_up,
            action=column(rows, f"{self.model}.action"),
            ensemble=column(rows, "action"),
            confidence=column(rows, f"{self.model}.confidence"),
            bars=end,
        )

    def _panel(self, rows: pa.Table, bar: IntArray, symbol: IntArray, prices: FloatArray, start: int) -> Panel:
        voter_p = [column(rows, f"{name}.p_up") for name in self.voters]
        actions = [column(rows, f"{name}.action") for name in self.voters]
        return Panel.of(
            bar,
            symbol,
            np.stack(voter_p, axis=1),
            np.stack(actions, axis=1),
            prices[1:],
            before=prices[0],
            first=start,
            electorate=self.electorate,
        )

    def _symbols_of(self, rows: pa.Table) -> IntArray:
        names, index = codes(rows, "symbol")
        unknown = sorted(set(names) - set(self.symbols))
        if unknown:
            raise ConfigError(f"decisions on {unknown[0]}, which is not among {', '.join(self.symbols)}")
        place = np.array([self.symbols.index(name) for name in names], np.int64)
        return place[index] if len(names) else np.empty(0, np.int64)

    def _closes(self, bars: Mapping[str, BarSeries], start: int, end: int) -> FloatArray:
        """Closes of bars start to end - 1, shape (end - start, symbols); NaN where a bar is missing."""
        out = np.full((end - start, len(self.symbols)), np.nan)
        first = self.ts_first + start * self.bar_ms
        for number, name in enumerate(self.symbols):
            if name in bars:
                part = bars[name].between(first, self.ts_first + end * self.bar_ms)
                out[(part.ts_open - first) // self.bar_ms, number] = part.close
        return out

    def _changes(self, rows: pa.Table, bar: IntArray) -> tuple[str, ...]:
        """What did not stay the same."""
        found = []
        for name in MODELS:
            votes = plays(rows, name, Role.VOTER)
            if votes.any() if name not in self.voters else not votes.all():
                other = votes if name not in self.voters else ~votes
                verb = "votes" if name not in self.voters else "does not vote"
                found.append(f"the voters change: {name} {verb} at bar {self._when(bar[other].min())}")
            elif name in self.voters:
                weight, held = column(rows, f"{name}.weight"), self._weights[self.voters.index(name)]
                found += self._changed(f"the weight of {name}", held, weight, weight != held, bar)
        quorum = column(rows, "min_consensus")
        found += self._changed("min_consensus", self._quorum, quorum, quorum != self._quorum, bar)
        return (*found, *self._artefacts(rows, bar))

    def _changed(
        self, what: str, held: float, values: NDArray[np.generic], differs: BoolArray, bar: IntArray
    ) -> list[str]:
        if not differs.any():
            return []
        first = np.flatnonzero(differs)[bar[differs].argmin()]
        return [f"{what} changes from {held:g} to {values[first]:g} at bar {self._when(bar[first])}"]

    def _artefacts(self, rows: pa.Table, bar: IntArray) -> list[str]:
        """A change of the judged artefact; a row without a digest is one that could not be loaded, and no change."""
        names, index = codes(rows, f"{self.model}.artefact")
        named = np.array([bool(name) for name in names] or [False])
        has = (index >= 0) & named[index]
        if not has.any():
            return []
        if not self.artefact:
            self.artefact = names[index[has][bar[has].argmin()]]
        other = has & np.array([name != self.artefact for name in names])[index]
        if not other.any():
            return []
        first = np.flatnonzero(other)[bar[other].argmin()]
        change = f"from {self.artefact[:12]} to {names[index[first]][:12]}"
        return [f"the artefact of {self.model} changes {change} at bar {self._when(bar[first])}"]

    def _foreign_bars(
        self, rows: pa.Table, bar: IntArray, symbol: IntArray, closes: FloatArray, start: int
    ) -> list[str]:
        """Decisions whose bar is not there, or has another close than they were taken at."""
        close = closes[bar - start, symbol]
        absent = np.isnan(close) | ((column(rows, "ts_open") - self.ts_first) % self.bar_ms != 0)
        changed = ~absent & (close != column(rows, "entry_price"))
        return [
            *self._named(absent, bar, symbol, "decisions are on bars that are not there"),
            *self._named(changed, bar, symbol, "bars are changed: the entry price is another than the bar's close"),
        ]

    def _twice(self, bar: IntArray, symbol: IntArray) -> list[str]:
        order = np.lexsort((symbol, bar))
        again = np.zeros(len(bar), np.bool_)
        again[order[1:]] = (np.diff(bar[order]) == 0) & (np.diff(symbol[order]) == 0)
        return self._named(again, bar, symbol, "decisions are there twice")

    def _undecided(self, bar: IntArray, symbol: IntArray, there: BoolArray, start: int) -> list[str]:
        """Bars without their decision; `there` of shape (bars, symbols) says which bars exist."""
        decided = np.zeros(there.shape, np.bool_)
        decided[bar - start, symbol] = True
        at = np.arange(start, start + len(there))[:, None]
        begins = np.where(decided.any(axis=0), start + np.argmax(decided, axis=0), _NEVER)
        self._first_decided = np.minimum(self._first_decided, begins)
        holes = np.maximum.accumulate(np.vstack([self._last_hole[None, :], np.where(there, -1, at)]), axis=0)
        self._last_hole = holes[-1].copy()
        # After a hole the window of bars fills again; a hole before the first decision says nothing.
        whole = (holes[1:] < self._first_decided) | (at - holes[1:] >= WINDOW)
        missing, where = np.nonzero(there & ~decided & whole & (at > self._first_decided))
        return self._named(np.ones(len(missing), np.bool_), missing + start, where, "bars have no decision")

    def _named(self, wrong: BoolArray, bar: IntArray, symbol: IntArray, what: str) -> list[str]:
        if not wrong.any():
            return []
        rows = np.flatnonzero(wrong)
        first = rows[np.lexsort((symbol[rows], bar[rows]))[0]]
        where = f"{self.symbols[symbol[first]]} {self._when(bar[first])}"
        return [f"{len(rows):,} {what}, the first {where}"]

    def _when(self, bar: int) -> str:
        return format_ms(self.ts_first + int(bar) * self.bar_ms)


def plays(table: pa.Table, model: str, role: Role) -> BoolArray:
    """Where a model has a role, shape (n,)."""
    names, index = codes(table, f"{model}.role")
    return np.asarray(index == (names.index(role.value) if role.value in names else -2))

"""A verdict that goes on: decisions and bars as they come, judged at every cycle's end, the past never read again.

- A cycle is judged when its last bar is decided by every symbol that has it, or when a bar two later is decided.
- What cannot go on begins anew: a decision that comes after its cycle was judged, or one on a new symbol. Whoever
  follows then reads the window from its start (`stale`), and gets what a judgement from scratch would give.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from quantum_trader.archive.codes import codes, column
from quantum_trader.archive.integrity import ChainCheck
from quantum_trader.archive.store import in_order
from quantum_trader.archive.window import Join, plays
from quantum_trader.core.bars import Bar, BarSeries
from quantum_trader.core.predictions import DISPLAY_NAMES, Role
from quantum_trader.gates.judge import judge_trial
from quantum_trader.gates.sample import CYCLE
from quantum_trader.gates.trial import Trial
from quantum_trader.gates.verdict import Verdict
from quantum_trader.gates.whole_policy import WHOLE, Policy

_PATIENCE = 2
"""Bars after a cycle's end at which whoever has not decided it is missing."""


class Follower:
    """One model's trial over a window that grows."""

    def __init__(
        self,
        model: str,
        bar_ms: int,
        shadow_weight: float,
        policy: Policy = WHOLE,
        *,
        version: int | None = None,
        symbols: Sequence[str] = (),
        departures: Callable[[pa.Table, str], tuple[str, ...]] = lambda *_: (),
    ) -> None:
        """A window without a past.

        Args:
            model: Short name of the judged model.
            bar_ms: Length of a bar.
            shadow_weight: The weight that the model would have.
            policy: Thresholds.
            version: Of the model in its lineage; None where it is not known.
            symbols: Those that are known to decide; those of the first cycle are found.
            departures: What decisions say that is not as it was registered, a sentence each. Asked once, when the
                judged artefact is known, with the first bar's decisions and the latest, and that artefact's digest.
        """
        self.model: Final = model
        self.symbols: set[str] = set(symbols)
        """Symbols that decided so far, those of a former start among them."""
        self.stale = False
        """Whether it has to begin anew, with these symbols."""
        self._bar_ms, self._weight, self._policy, self._version = bar_ms, shadow_weight, policy, version
        self._waiting: list[pa.Table] = []
        self._bars: dict[str, dict[int, Bar]] = {}
        self._join: Join | None = None
        self._trial: Trial | None = None
        self._done = 0
        self._chains: Final = ChainCheck()
        self._faults: tuple[str, ...] = ()
        self._departures = departures
        self._departed: tuple[str, ...] | None = None
        self._opening: list[pa.Table] = []

    @property
    def bar_ms(self) -> int:
        """Length of a bar."""
        return self._bar_ms

    @property
    def ts_end(self) -> int | None:
        """Close of the last judged bar, milliseconds since the epoch; None before the first cycle's end."""
        return None if self._join is None or not self._done else self._join.ts_first + self._done * self._bar_ms

    def add(self, table: pa.Table, bars: Sequence[Bar]) -> None:
        """Takes decisions in the archive's schema and the bars that have come with them."""
        for bar in bars:
            self._bars.setdefault(bar.symbol, {})[bar.ts_open] = bar
        if len(table):
            self._faults += self._chains.add(table)
            self._waiting.append(table)
            new = set(codes(table, "symbol")[0]) - self.symbols
            self.symbols |= new
            if self._join is not None:
                late = int(column(table, "ts_open").min()) < self._join.ts_first + self._done * self._bar_ms
                self.stale = self.stale or late or bool(new)

    def verdicts(self) -> Iterator[Verdict]:
        """One verdict for each cycle that is complete by now and was not judged before."""
        while not self.stale:
            table = self._table()
            if table is None or not self._begun(table):
                return
            join, end = self._joined(), self._done + CYCLE
            series = self._series()
            last = join.bar_of(int(column(table, "ts_open").max()))
            complete = last >= end - 1 and join.decided(table, series, end - 1)
            if not complete and last < end - 1 + _PATIENCE:
                return
            yield self._judged(join, table, series, end)

    def _judged(self, join: Join, table: pa.Table, series: dict[str, BarSeries], end: int) -> Verdict:
        portion = join.portion(table, series, end)
        if self._trial is None:
            self._trial = Trial(len(join.symbols), join.electorate, self._policy)
        self._trial.extend(portion.sample, portion.panel)
        self._faults += portion.faults
        if self._departed is None and join.artefact:
            self._departed = self._departures(pa.concat_tables([*self._opening, table]), join.artefact)
        self._done = end
        self._forget(join, table)
        return judge_trial(
            self._trial,
            version=self._version,
            symbols=join.symbols,
            voters=[DISPLAY_NAMES[name] for name in join.voters],
            bar_ms=self._bar_ms,
            faults=(*self._faults, *(self._departed or ())),
        )

    def _table(self) -> pa.Table | None:
        if len(self._waiting) > 1:
            self._waiting = [pa.concat_tables(self._waiting).unify_dictionaries()]
        return in_order(self._waiting[0]) if self._waiting and len(self._waiting[0]) else None

    def _begun(self, table: pa.Table) -> bool:
        """Whether a first cycle has passed since the model first took part, which is where the window begins."""
        if self._join is None:
            part = plays(table, self.model, Role.SHADOW) | plays(table, self.model, Role.VOTER)
            if not part.any():
                return False
            opens = column(table, "ts_open")
            first = int(opens[part].min())
            # By the end of the first cycle every symbol has spoken.
            if int(opens.max()) < first + (CYCLE - 1) * self._bar_ms:
                return False
            self._join = Join(self.model, sorted(self.symbols), first, self._bar_ms, self._weight)
            self._opening = [table.filter(pa.array(np.asarray(opens == opens.min())))]
            self._keep(table, first)
        return True

    def _joined(self) -> Join:
        if self._join is None:
            raise RuntimeError("Follower: no window yet")
        return self._join

    def _series(self) -> dict[str, BarSeries]:
        return {
            symbol: BarSeries.from_bars([held[ts] for ts in sorted(held)])
            for symbol, held in self._bars.items()
            if held and symbol in self.symbols
        }

    def _forget(self, join: Join, table: pa.Table) -> None:
        """Decisions of judged bars, and bars before the last judged one, are not needed again."""
        start = join.ts_first + self._done * self._bar_ms
        self._keep(table, start)
        self._bars = {
            symbol: {ts: bar for ts, bar in held.items() if ts >= start - self._bar_ms}
            for symbol, held in self._bars.items()
        }

    def _keep(self, table: pa.Table, ts_open: int) -> None:
        self._waiting = [table.filter(pa.array(np.asarray(column(table, "ts_open") >= ts_open)))]

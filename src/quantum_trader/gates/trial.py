"""One judged model over its cycles: everything that the verdict reads, summed once and continued with new data.

- Events and bars come in any portions; what lies after the last complete cycle waits for the next portion.
- A cycle's outputs are summed when it is complete, its outcomes when their delayed horizon has ended: the last H + D
  bars' outcomes of a cycle become known in the next one.
- However the data are cut into portions, the sums are the same to the last bit; no event is read twice.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.labels import UNKNOWN
from quantum_trader.gates.counterfactual import Counterfactual, FlipCounts, Gains
from quantum_trader.gates.events import Events
from quantum_trader.gates.evidence import Blocks
from quantum_trader.gates.overlay import Overlay
from quantum_trader.gates.panel import SPAN, Electorate, Panel, returns_of
from quantum_trader.gates.sample import CYCLE, LOOKBACK, Sample, SampleError
from quantum_trader.gates.tallies import Outcomes, Outputs, stacked
from quantum_trader.gates.veto_sums import Hits, Moments, Repeats, Repetition
from quantum_trader.gates.volatility import Volatility
from quantum_trader.gates.whole_policy import WHOLE, Policy

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Sums of complete cycles, a row of each for every cycle; outcomes and hits have two parts per cycle but the last.

    Attributes:
        outputs: Section A, what it said.
        outcomes: Section A, how it turned out.
        repeats: Section B, repetition.
        moments: Section B, correlations and spread.
        hits: Section B, the leak alarm.
        gains: Section D.
        flips: Section D.
    """

    outputs: Outputs
    outcomes: Outcomes
    repeats: Repeats
    moments: Moments
    hits: Hits
    gains: Gains
    flips: FlipCounts

    @property
    def cycles(self) -> int:
        """Complete cycles."""
        return len(self.outputs.rows)


class Trial:
    """The sums of one model, continued from call to call."""

    def __init__(self, symbols: int, electorate: Electorate | None = None, policy: Policy = WHOLE) -> None:
        """A start without a past.

        Args:
            symbols: Symbols.
            electorate: Who votes, and what weight the judged model would have.
            policy: Thresholds.
        """
        self.electorate: Final = electorate or Electorate()
        self.policy: Final = policy
        self.symbols: Final = symbols
        self.bars = 0
        """Bars received."""
        self.faults: tuple[str, ...] = ()
        """Broken rules of a portion, a sentence each."""
        self._done = 0
        voters = len(self.electorate.weights)
        self._overlay: Final = Overlay(symbols, voters, policy.evidence)
        self._volatility: Final = Volatility(symbols, policy.evidence)
        self.blocks: Final = Blocks(policy.evidence)
        """Section C: the blocks of all complete cycles' bars."""
        self._repetition: Final = Repetition(symbols, policy.vetoes)
        self._counterfactual: Final = Counterfactual(symbols, policy.deployment)
        self._parts: list[Sums] = []
        self._events = Events.none(symbols, self.electorate)
        # Log closes from bar done - SPAN - 1 on: what returns and outcomes still reach back to.
        self._prices = np.full((SPAN + 1, symbols), np.nan)

    @property
    def cycles(self) -> int:
        """Complete cycles."""
        return self._done // CYCLE

    @property
    def waiting(self) -> Sample:
        """Events whose outputs or outcomes are not summed yet."""
        return self._events.sample

    @property
    def sums(self) -> Sums:
        """Sums of all complete cycles.

        Raises:
            SampleError: before the first cycle's end.
        """
        if not self._parts:
            raise SampleError("trial: no cycle is complete yet")
        if len(self._parts) > 1:
            joined = {item.name: stacked([getattr(part, item.name) for part in self._parts]) for item in fields(Sums)}
            self._parts = [Sums(**joined)]
        return self._parts[0]

    def extend(self, sample: Sample, panel: Panel) -> None:
        """Adds the next bars and all events that lie in them.

        A portion with faults is not summed, and none after it: what was broken once stays so.

        Args:
            sample: Events with bars from `bars` on.
            panel: Its voters and prices, with `first` equal to `bars`.

        Raises:
            SampleError: if the portion does not begin where the last one ended, or is of another shape.
        """
        self._check(sample, panel)
        self.faults += () if self.faults else sample.faults() + panel.faults(sample)
        if self.faults:
            self.bars = sample.bars
            return
        if self.bars == 0:
            self._prices[-1] = panel.before
        self._events = self._events.then(Events.of(sample, panel))
        self._prices = np.vstack([self._prices, panel.log_price[: sample.bars - self.bars]])
        self.bars = sample.bars
        start, end = self._done, self.bars // CYCLE * CYCLE
        if end > start:
            self._parts.append(self._summed(start, end))
            self._done = end
            self._events = self._events.take(self._events.sample.bar >= end - SPAN)
            self._prices = self._prices[end - start :].copy()

    def _check(self, sample: Sample, panel: Panel) -> None:
        wrong = panel.first != self.bars or sample.bars < self.bars or panel.bars < sample.bars
        if wrong or bool((sample.bar < self.bars).any()):
            raise SampleError(
                f"trial: {self.bars} bars were received; the next portion begins with bar {panel.first} "
                f"and ends before bar {sample.bars}"
            )
        if panel.symbols != self.symbols or panel.electorate != self.electorate:
            raise SampleError("trial: the portion has other symbols or voters than the trial")

    def _summed(self, start: int, end: int) -> Sums:
        """Sums of the cycles from bar start to bar end - 1."""
        # Prices begin SPAN + 1 bars before start; a return needs the close before it, an outcome the SPAN after it.
        prices = self._prices[: SPAN + 1 + end - start]
        cycles, before_end = (end - start) // CYCLE, self._events.sample.bar < end
        said = self._events.take(before_end & (self._events.sample.bar >= start))
        cycle = said.sample.cycle - start // CYCLE
        z, sigma = self._volatility.extend(returns_of(prices[SPAN + 1 :], prices[SPAN]))
        _, g = self._overlay.extend(said.sample.bar, said.sample.symbol, said.scores, z)
        self.blocks.extend(g)
        valid = said.sample.valid
        answered = said.take(valid)
        now = cycle[valid]
        ended = self._events.take(before_end & (self._events.sample.bar < end - SPAN))
        outcomes, hits = self._settled(ended, prices[1:], start, cycles)
        ended = ended.resolved_by(prices[1:], start - SPAN)
        known = ended.take(ended.sample.outcome != UNKNOWN)
        return Sums(
            outputs=Outputs.of(said.sample, cycle, cycles),
            outcomes=outcomes,
            repeats=self._repetition.extend(answered.sample.p_up, answered.sample.symbol, now, cycles),
            moments=Moments.of(answered, now, cycles, self.symbols),
            hits=hits,
            gains=self._counterfactual.extend(known, sigma[::CYCLE], start),
            flips=FlipCounts.of(said, cycle, cycles),
        )

    def _settled(self, ended: Events, prices: FloatArray, start: int, cycles: int) -> tuple[Outcomes, Hits]:
        """Outcomes per part of a cycle: the late part of the cycle before `start`, then early and late in turn.

        The late part of the last cycle has not ended; before the first cycle there is no late part.
        """
        delayed = ended.resolved_by(prices, start - SPAN).sample
        at_once = ended.resolved_by(prices, start - SPAN, delay=0).sample
        rows = delayed.settled
        settled = delayed.take(rows)
        part = 2 * (settled.cycle - start // CYCLE) + (settled.bar % CYCLE >= LOOKBACK)
        lead = 1 if start else 0
        parts = 2 * cycles - 1 + lead
        outcomes = Outcomes.of(settled, part + lead, parts, self.policy.contract.bucket_edges)
        return outcomes, Hits.of(settled.hit, at_once.take(rows).hit, part + lead, parts)

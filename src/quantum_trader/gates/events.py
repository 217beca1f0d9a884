"""Events of a judged model with everything that follows from them alone: scores, and the vote with and without it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.labels import DELAY, UNKNOWN
from quantum_trader.gates.logits import Scores, scores_of
from quantum_trader.gates.panel import SPAN, Electorate, Panel, forward
from quantum_trader.gates.sample import Sample
from quantum_trader.gates.tallies import stacked

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """How the vote stands at each event, shape (n,) where not stated.

    Attributes:
        present: Shape (n, voters), which voted.
        after: The decision, had the model voted; without its output the decision as it was.
        consensus_before: Voters whose action is the decision's.
        consensus_after: The same with the model's vote.
    """

    present: BoolArray
    after: NDArray[np.int8]
    consensus_before: IntArray
    consensus_after: IntArray

    @classmethod
    def of(cls, sample: Sample, panel: Panel) -> Self:
        """The votes of a sample's events."""
        present = panel.present
        before = panel.electorate.decide(panel.voter_action, present)
        after = panel.electorate.decide_with(panel.voter_action, present, sample.action, sample.valid)
        return cls(present, after.actions, before.consensus, after.consensus)


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Rows in time order.

    Attributes:
        sample: What the model and the ensemble did.
        scores: Log-odds.
        standing: Votes.
    """

    sample: Sample
    scores: Scores
    standing: Standing

    @classmethod
    def of(cls, sample: Sample, panel: Panel) -> Self:
        """Everything that follows from a sample and its panel."""
        who = panel.electorate
        scores = scores_of(sample.p_up, panel.voter_p, who.weights, who.pool_weight)
        return cls(sample, scores, Standing.of(sample, panel))

    @classmethod
    def none(cls, symbols: int, electorate: Electorate) -> Self:
        """No event yet."""
        empty = np.empty((0, len(electorate.weights)))
        panel = Panel.of([], [], empty, empty, np.empty((0, symbols)), electorate=electorate)
        return cls.of(Sample.of([], [], [], [], [], bars=0), panel)

    def __len__(self) -> int:
        return len(self.sample)

    def take(self, rows: BoolArray) -> Self:
        """The events of a mask of shape (n,)."""
        return replace(
            self,
            sample=self.sample.take(rows),
            scores=_taken(self.scores, rows),
            standing=_taken(self.standing, rows),
        )

    def then(self, later: Self) -> Self:
        """These events and after them later ones."""
        return replace(
            self,
            sample=_joined([self.sample, later.sample]),
            scores=stacked([self.scores, later.scores]),
            standing=stacked([self.standing, later.standing]),
        )

    def resolved_by(self, prices: FloatArray, first: int, delay: int = DELAY) -> Self:
        """These events with the outcomes that prices give.

        Args:
            prices: Shape (bars, symbols), log closes; no event lies before them.
            first: Bar of their first row.
            delay: Of the entry, bars; that the delayed horizon has ended is asked of every event.
        """
        moves = forward(prices, delay)[self.sample.bar - first, self.sample.symbol]
        outcome = np.where(np.isnan(moves), UNKNOWN, moves > 0).astype(np.int8)
        return replace(self, sample=replace(self.sample, outcome=outcome, forward=moves))


def portions(sample: Sample, panel: Panel, events: int) -> Iterator[tuple[Sample, Panel]]:
    """A sound sample and its panel cut at bars, each portion of about so many events; memory then does not grow.

    What cannot be cut (see the faults of both) comes whole.
    """
    n = len(sample)
    if n <= events or n != len(panel.voter_p) or sample.bars > panel.bars or sample.faults():
        yield sample, panel
        return
    ends = np.unique(np.append(sample.bar[events:n:events], sample.bars))
    first, done = panel.first, 0
    for end in ends.tolist():
        upto = int(np.searchsorted(sample.bar, end))
        rows = slice(done, upto)
        columns = {item.name: getattr(sample, item.name)[rows] for item in fields(Sample) if item.name != "bars"}
        yield (
            Sample(**columns, bars=end),
            replace(
                panel,
                voter_p=panel.voter_p[rows],
                voter_action=panel.voter_action[rows],
                # Later prices are not read, but tell whether stated outcomes are theirs.
                log_price=panel.log_price[first - panel.first : end - panel.first + SPAN],
                first=first,
            ),
        )
        first, done = end, upto


def _taken(group: Any, rows: BoolArray) -> Any:
    """A group of arrays, those rows of each."""
    return replace(group, **{item.name: getattr(group, item.name)[rows] for item in fields(group)})


def _joined(samples: Sequence[Sample]) -> Sample:
    columns: dict[str, Any] = {
        item.name: np.concatenate([getattr(sample, item.name) for sample in samples])
        for item in fields(Sample)
        if item.name != "bars"
    }
    return Sample(**columns, bars=samples[-1].bars)

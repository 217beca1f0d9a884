"""What stood around a judged model: what the voters said at its events, and every bar's prices.

A `Sample` says what the model and the ensemble did; vetoes, evidence and deployment checks need these besides.

Rules of a panel (a breach is a *fault*: the verdict is INVALID):

- its rows are the sample's, in the sample's order: `Panel.of` sorts as `Sample.of` does;
- a voter's probability is NaN (it abstained) or within [0, 1], its action -1, 0 or 1;
- prices are finite or NaN (the bar is missing), and cover the bars that the sample says were observed;
- the recorded decisions are the vote of these voters under these weights;
- outcomes that the sample states are those of the prices.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantum_trader.core.labels import DELAY, HORIZON, UNKNOWN
from quantum_trader.core.predictions import valid as is_probability
from quantum_trader.core.vote import Votes, vote
from quantum_trader.gates.sample import Sample, SampleError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SPAN = HORIZON + DELAY
"""Bars from a decision to the end of its delayed horizon."""


@dataclass(frozen=True, slots=True)
class Electorate:
    """Who votes with what weight, and what the judged model would have.

    Attributes:
        weights: Of the voters, positive.
        shadow_weight: Of the judged model, were it a voter.
        min_consensus: Voters that must agree for BUY or SELL.
    """

    weights: tuple[float, ...] = (0.25, 0.25, 0.30)
    shadow_weight: float = 0.20
    min_consensus: int = 1

    def __post_init__(self) -> None:
        weights = np.array([*self.weights, self.shadow_weight])
        if not self.weights or not (np.isfinite(weights) & (weights > 0)).all():
            raise SampleError(f"panel: weights {self.weights} and {self.shadow_weight} must be positive and finite")

    @property
    def pool_weight(self) -> float:
        """The model's share of the pooled score: .2 where the voters' weights sum to .8."""
        return self.shadow_weight / (sum(self.weights) + self.shadow_weight)

    def decide(self, actions: NDArray[np.int8], present: BoolArray) -> Votes:
        """The voters' decisions of n events; actions and present of shape (n, voters)."""
        return vote(actions, present.astype(np.float64), present, np.array(self.weights), self.min_consensus)

    def decide_with(
        self, actions: NDArray[np.int8], present: BoolArray, shadow: NDArray[np.int8], answered: BoolArray
    ) -> Votes:
        """The same, had the model voted too; shadow and answered of shape (n,)."""
        everyone = np.column_stack([actions, shadow]), np.column_stack([present, answered])
        weights = np.array([*self.weights, self.shadow_weight])
        return vote(everyone[0], everyone[1].astype(np.float64), everyone[1], weights, self.min_consensus)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """Voters and prices, its rows in the sample's order; build it with `of`.

    Attributes:
        voter_p: Shape (n, voters), NaN where a voter abstained.
        voter_action: Shape (n, voters), -1, 0 or 1; 0 where it abstained.
        log_price: Shape (bars, symbols), log closes from bar `first` on; NaN where a bar is missing.
        before: Shape (symbols,), log closes of the bar before `first`; NaN where unknown.
        first: Bar of the first row of `log_price`.
        electorate: Who votes.
    """

    voter_p: FloatArray
    voter_action: NDArray[np.int8]
    log_price: FloatArray
    before: FloatArray
    first: int
    electorate: Electorate

    @classmethod
    def of(
        cls,
        bar: ArrayLike,
        symbol: ArrayLike,
        voter_p: ArrayLike,
        voter_action: ArrayLike,
        log_price: ArrayLike,
        *,
        before: ArrayLike | None = None,
        first: int = 0,
        electorate: Electorate | None = None,
    ) -> Self:
        """A panel from plain arrays, its events in the order in which `Sample.of` was given them.

        Raises:
            SampleError: if a shape is wrong.
        """
        p, prices = np.asarray(voter_p, np.float64), np.asarray(log_price, np.float64)
        action = np.asarray(voter_action, np.float64)
        who = electorate or Electorate()
        bars, symbols = np.asarray(bar, np.float64), np.asarray(symbol, np.float64)
        if p.shape != (len(bars), len(who.weights)) or action.shape != p.shape or symbols.shape != bars.shape:
            raise SampleError(
                f"panel: voters' arrays have shapes {p.shape} and {action.shape}, "
                f"expected ({len(bars)}, {len(who.weights)})"
            )
        if prices.ndim != 2:
            raise SampleError(f"panel: log_price has shape {prices.shape}, expected (bars, symbols)")
        opening = np.full(prices.shape[1], np.nan) if before is None else np.asarray(before, np.float64)
        if opening.shape != prices.shape[1:]:
            raise SampleError(f"panel: before has shape {opening.shape}, expected ({prices.shape[1]},)")
        order = np.lexsort((symbols, bars))
        said = np.where(np.isnan(p), 0.0, action)[order]
        small = np.where(np.isin(said, (-1.0, 0.0, 1.0)), said, 2.0).astype(np.int8)
        return cls(np.ascontiguousarray(p[order]), small, prices, opening, first, who)

    @property
    def bars(self) -> int:
        """Bars observed up to its end."""
        return self.first + len(self.log_price)

    @property
    def symbols(self) -> int:
        """Symbols that have prices."""
        return int(self.log_price.shape[1])

    @property
    def present(self) -> BoolArray:
        """Which voters voted, shape (n, voters)."""
        return ~np.isnan(self.voter_p)

    def faults(self, sample: Sample) -> tuple[str, ...]:
        """Every broken rule of this module, a sentence each; empty for a sound pair of sample and panel."""
        if len(sample) != len(self.voter_p):
            return (f"voters have {len(self.voter_p)} rows, the sample has {len(sample)}",)
        if sample.bars > self.bars:
            return (f"prices end with bar {self.bars}, the sample was observed for {sample.bars}",)
        if len(sample) and not 0 <= int(sample.symbol.min()) <= int(sample.symbol.max()) < self.symbols:
            return (f"events lie on symbols without prices ({self.symbols} have some)",)
        present, rows = self.present, sample.bar
        no_action = (np.abs(self.voter_action) > 1).any(axis=1)
        broken = {
            "voters' probabilities are no probability": rows[(present & ~is_probability(self.voter_p)).any(axis=1)],
            "voters' actions are not -1, 0 or 1": rows[no_action],
            "bars have infinite prices": self.first + np.flatnonzero(np.isinf(self.log_price).any(axis=1)),
            "outcomes are not those of the prices": rows[self._contradicts(sample)],
        }
        if not no_action.any():
            decided = self.electorate.decide(self.voter_action, present).actions
            broken["recorded decisions are not the vote of the recorded voters"] = rows[decided != sample.ensemble]
        return tuple(f"{len(at)} {rule}, the first at bar {at[0]}" for rule, at in broken.items() if len(at))

    def _contradicts(self, sample: Sample) -> BoolArray:
        """Where the sample knows an outcome that the prices do not give, or gives another."""
        stated = sample.outcome != UNKNOWN
        inside = (sample.bar >= self.first) & (sample.bar < self.bars)
        moves = np.full(len(sample), np.nan)
        delayed = forward(self.log_price, DELAY)
        moves[inside] = delayed[sample.bar[inside] - self.first, sample.symbol[inside]]
        return np.asarray(stated & ~np.isnan(moves) & ((moves > 0) != (sample.outcome == 1)))


def returns_of(log_price: FloatArray, before: FloatArray) -> FloatArray:
    """Log returns bar by bar, shape (bars, symbols); NaN where this close or the one before it is missing."""
    return np.diff(np.vstack([before[None, :], log_price]), axis=0)


def forward(log_price: FloatArray, delay: int) -> FloatArray:
    """Log return from t + delay to t + delay + H for every bar t, shape (bars, symbols), NaN where unknown.

    Unknown, as for the labels, wherever a bar from t to t + D + H is missing, whatever `delay`.
    """
    out = np.full(log_price.shape, np.nan)
    n = len(log_price) - SPAN
    if n <= 0:
        return out
    holes = np.cumsum(np.vstack([np.zeros((1, log_price.shape[1])), np.isnan(log_price)]), axis=0)
    whole = holes[SPAN + 1 :] == holes[:n]
    moves = log_price[delay + HORIZON : delay + HORIZON + n] - log_price[delay : delay + n]
    out[:n] = np.where(whole, moves, np.nan)
    return out

"""Recorded decisions voted on again: under the recorded rules they come out as they are, under others they may not.

- Answers are the recorded ones, action for action; thresholds of a ballot make actions anew from the recorded p_up.
- A model that a ballot gives a weight votes at it, shadow or not; a weight of 0 takes its vote away. Every other model
  keeps what it had: a voter its recorded weight, a shadow none.
- The vote is `core.vote`, the engine's own. Nothing of it reaches the engine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quantum_trader.archive.codes import column
from quantum_trader.core.errors import ConfigError, format_ms
from quantum_trader.core.predictions import MODELS, Action
from quantum_trader.core.vote import Votes, vote
from quantum_trader.report.frame import Frame, IntArray, ModelColumns

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ballot:
    """Other rules of a vote; what is not named stays as recorded.

    Attributes:
        weights: By model, 0 or more.
        min_consensus: Voters that must agree for BUY or SELL; None keeps the recorded number.
        buy_above: By model, the p_up from which on it says BUY.
        sell_below: By model, the p_up up to which it says SELL.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    min_consensus: int | None = None
    buy_above: Mapping[str, float] = field(default_factory=dict)
    sell_below: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.weights, *self.buy_above, *self.sell_below):
            if name not in MODELS:
                raise ConfigError(f"model {name!r}: unknown, expected one of {', '.join(MODELS)}")
        for name, weight in self.weights.items():
            if not 0.0 <= weight < np.inf:
                raise ConfigError(f"weight of {name}: {weight:g} is not 0 or a positive number")
        for name, bound in (*self.buy_above.items(), *self.sell_below.items()):
            if not 0.0 <= bound <= 1.0:
                raise ConfigError(f"threshold of {name}: {bound:g} is no probability")
        for name in set(self.buy_above) & set(self.sell_below):
            if self.sell_below[name] > self.buy_above[name]:
                raise ConfigError(f"thresholds of {name}: SELL up to {self.sell_below[name]:g} lies above BUY")
        if self.min_consensus is not None and self.min_consensus < 1:
            raise ConfigError(f"min_consensus: {self.min_consensus} is not at least 1")

    def actions(self, name: str, columns: ModelColumns) -> NDArray[np.int8]:
        """Actions of one model under this ballot, shape (n,); read only where it answered."""
        said = columns.action
        if name in self.buy_above:
            said = np.where(columns.p_up >= self.buy_above[name], 1, np.where(said == 1, 0, said))
        if name in self.sell_below:
            # At one threshold for both BUY comes first, as in the engine's own rule their difference is HOLD.
            down = columns.p_up <= self.sell_below[name]
            both = down & (said == 1) & (name in self.buy_above)
            said = np.where(both, 0, np.where(down, -1, np.where(said == -1, 0, said)))
        return said.astype(np.int8)


RECORDED = Ballot()
"""As it was."""


def vote_again(frame: Frame, ballot: Ballot, rows: IntArray | None = None) -> Votes:
    """The votes of the rows of an index (all, if not given) under a ballot.

    Raises:
        ConfigError: if the ballot names a model that took no part.
    """
    absent = [name for name in (*ballot.weights, *ballot.buy_above, *ballot.sell_below) if name not in frame.models]
    if absent:
        raise ConfigError(f"model {absent[0]}: it took part in no decision here")
    at = np.arange(len(frame)) if rows is None else rows
    actions, sure, present, weights = [], [], [], []
    for name, columns in frame.models.items():
        own = ballot.weights.get(name)
        actions.append(ballot.actions(name, columns)[at])
        sure.append(np.nan_to_num(columns.confidence[at]))
        present.append((columns.valid & (columns.voter if own is None else own > 0))[at])
        weights.append(columns.weight[at] if own is None else np.full(len(at), own))
    # Who does not vote weighs nothing; vote() wants a positive number all the same.
    table = np.stack(weights, axis=1)
    table = np.where(table > 0, table, 1.0)
    quorum = frame.min_consensus[at] if ballot.min_consensus is None else np.full(len(at), ballot.min_consensus)
    rules = np.column_stack([table, quorum])
    return _by_rule(np.stack(actions, axis=1), np.stack(sure, axis=1), np.stack(present, axis=1), rules)


def _by_rule(actions: NDArray[np.int8], sure: FloatArray, present: NDArray[np.bool_], rules: FloatArray) -> Votes:
    """Votes of rows, each under its own weights and quorum."""
    n = len(rules)
    kinds, kind = (rules[:1], np.zeros(n, np.int64)) if (rules == rules[:1]).all() else _kinds(rules)
    out = Votes(np.zeros(n, np.int8), np.zeros(n), np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros((n, 3)))
    for k, values in enumerate(kinds):
        at = np.flatnonzero(kind == k)
        found = vote(actions[at], sure[at], present[at], values[:-1].copy(), int(values[-1]))
        for item in fields(Votes):
            getattr(out, item.name)[at] = getattr(found, item.name)
    return out


def _kinds(rules: FloatArray) -> tuple[FloatArray, IntArray]:
    kinds, kind = np.unique(rules, axis=0, return_inverse=True)
    return kinds, kind.ravel()


def differing(table: pa.Table, frame: Frame) -> str | None:
    """The first decision that the recorded rules do not give again, to the last bit; None if there is none.

    Args:
        table: Decisions, in the frame's order.
        frame: The same as arrays.
    """
    again = vote_again(frame, RECORDED)
    wrong = again.actions != frame.action
    wrong |= again.consensus != frame.consensus
    wrong |= again.voters != column(table, "voters")
    wrong |= again.confidences != column(table, "confidence")
    for k, name in enumerate(("sell", "hold", "buy")):
        wrong |= again.scores[:, k] != column(table, f"score_{name}")
    if not wrong.any():
        return None
    first = int(np.argmax(wrong))
    return (
        f"{frame.names[frame.symbol[first]]} {format_ms(int(frame.ts_open[first]))}: recorded is "
        f"{Action(int(frame.action[first])).name} with {frame.consensus[first]} agreeing, the vote again gives "
        f"{Action(int(again.actions[first])).name} with {again.consensus[first]}"
    )

"""One repetition: a market, when decisions fall, and three voters; every model of the gallery is tried on it.

- Each symbol is decided on with probability 1/12 at each bar, independently; the first 5,000 decisions count.
- A voter's log-odds are .79 times a view of variance 1, plus the market's tilt. Its view holds a little insight (alone
  it is right in 51 to 53 % of its decisions), a little momentum, what all voters share (their mutual correlation is
  about .45) and noise of its own. Every part persists from bar to bar as real features do.
- BUY above .55, SELL below .45; the vote is the tested one, weights .25, .25, .30.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from quantum_trader.gates.panel import Electorate, Panel
from quantum_trader.gates.rogues.market import FloatArray, Market, autoregression
from quantum_trader.gates.sample import Sample

IntArray = NDArray[np.int64]

EVENTS: Final = 5_000
"""Decisions of one repetition."""

EVERY: Final = 12
"""Bars between two decisions on one symbol, in the mean."""

MARGIN: Final = 0.05
"""BUY and SELL are said from one half on by this."""

SPREAD: Final = 0.79
"""Standard deviation of log-odds."""

_INSIGHT: Final = (0.033, 0.037, 0.061)
_MOMENTUM: Final = 0.15
_SHARED: Final = 0.65


def bars_for(symbols: int, events: int = EVENTS) -> int:
    """Bars that hold so many decisions with a tenth to spare."""
    return -(-events * EVERY * 11 // (symbols * 10))


def acted(p_up: FloatArray, margin: float = MARGIN) -> NDArray[np.int8]:
    """BUY above .5 + margin, SELL below .5 - margin; 0 where missing."""
    return np.where(p_up > 0.5 + margin, 1, np.where(p_up < 0.5 - margin, -1, 0)).astype(np.int8)


def probability(log_odds: FloatArray) -> FloatArray:
    """1 / (1 + exp(-log-odds)), same shape."""
    return np.asarray(expit(log_odds))


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What a model meets.

    Attributes:
        market: Prices.
        bar: Shape (n,), of the decisions, ascending.
        symbol: Shape (n,), ascending within a bar.
        voter_p: Shape (n, 3).
        panel: The voters and prices as the gates read them.
        ensemble: Shape (n,), the voters' decision.
        insight: Shape (bars, symbols), what there is to know.
        shared: Shape (bars, symbols), what the voters have in common.
    """

    market: Market
    bar: IntArray
    symbol: IntArray
    voter_p: FloatArray
    panel: Panel
    ensemble: NDArray[np.int8]
    insight: FloatArray
    shared: FloatArray

    @classmethod
    def of(cls, market: Market, rng: np.random.Generator, events: int = EVENTS) -> Self:
        """Decisions and voters on a market."""
        at = np.argwhere(rng.random((market.bars, market.symbols)) < 1.0 / EVERY)[:events]
        bar, symbol = at[:, 0].astype(np.int64), at[:, 1].astype(np.int64)
        bars = int(bar.max(initial=-1)) + 1
        insight, momentum = market.insight(), market.momentum()
        shared = view(market, rng)
        logits = np.empty((len(bar), len(_INSIGHT)))
        for voter, knows in enumerate(_INSIGHT):
            own = view(market, rng)
            rest = np.sqrt(1 - knows**2 - _MOMENTUM**2 - _SHARED**2)
            opinion = knows * insight + _MOMENTUM * momentum + _SHARED * shared + rest * own
            logits[:, voter] = SPREAD * opinion[bar, symbol] + market.tilt
        voter_p = probability(logits)
        actions = acted(voter_p)
        ensemble = Electorate().decide(actions, np.ones(actions.shape, dtype=np.bool_)).actions
        panel = Panel.of(bar, symbol, voter_p, actions, market.log_price[:bars], before=market.log_price[0])
        return cls(market, bar, symbol, voter_p, panel, ensemble, insight, shared)

    def __len__(self) -> int:
        return len(self.bar)

    def at(self, grid: FloatArray) -> FloatArray:
        """The values of a grid of shape (bars, symbols) at the decisions, shape (n,)."""
        return grid[self.bar, self.symbol]

    def noise(self, rng: np.random.Generator, persistence: float | None = None) -> FloatArray:
        """A view without any content, variance 1, shape (bars, symbols)."""
        return view(self.market, rng) if persistence is None else view(self.market, rng, persistence)

    def sample(self, p_up: FloatArray, action: NDArray[np.int8]) -> Sample:
        """A model's outputs and actions of shape (n,) as the gates read them; NaN where it gave none."""
        return Sample.of(self.bar, self.symbol, p_up, action, self.ensemble, bars=self.panel.bars)


def view(market: Market, rng: np.random.Generator, persistence: float = 0.96) -> FloatArray:
    """An AR(1) of variance 1 per symbol, correlated between symbols by the market's kinship."""
    both = autoregression(rng, market.bars, market.symbols + 1, persistence)
    return np.asarray(np.sqrt(market.kinship) * both[:, :1] + np.sqrt(1 - market.kinship) * both[:, 1:])

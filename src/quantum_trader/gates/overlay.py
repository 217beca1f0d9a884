"""What the model says beyond the voters, held over its horizon and marked to market bar by bar (GATES.md, C.1 to C.3).

- At bars divisible by `refit_bars` the model's log-odds are refitted on the voters', from earlier events; no outcomes.
- A residual is taken under the coefficients in force when it occurred (zero before the first refit).
- q is the residual over the root mean square that the last refit found of all earlier residuals, clipped; 0 where
  that scale is too small or not known, where q is tiny, or where the output is missing.
- q is held over bars t + D + 1 to t + D + H, in units of that bar's standardised return: g = sum of q z.
- Results do not depend on how the bars are cut into calls: every running sum goes on bar by bar.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.labels import DELAY
from quantum_trader.gates.logits import Scores
from quantum_trader.gates.panel import SPAN
from quantum_trader.gates.tallies import sums
from quantum_trader.gates.whole_policy import EvidencePolicy

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def running(start: FloatArray, added: FloatArray) -> FloatArray:
    """Every running total, `start` first, shape (k + 1, columns), for added of shape (k, columns).

    One addition after the other, so that a total does not depend on where a call ended.
    """
    return np.cumsum(np.vstack([start[None, :], added]), axis=0)


class Overlay:
    """One model's residual position, continued from call to call."""

    def __init__(self, symbols: int, voters: int, policy: EvidencePolicy) -> None:
        """A start without a past.

        Args:
            symbols: Symbols.
            voters: Voters.
            policy: Section C.
        """
        self._policy: Final = policy
        self._symbols: Final = symbols
        self._terms: Final = voters + 1
        self._bar = 0
        # Upper triangle of X'X, X's, sum of squared residuals, their number.
        self._moments = np.zeros(self._terms * (self._terms + 1) // 2 + self._terms)
        self._residuals = np.zeros(2)
        self._coefficients = np.zeros(self._terms)
        self._scale = 0.0
        self._held = np.zeros((SPAN, symbols))

    def extend(self, bar: IntArray, symbol: IntArray, scores: Scores, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Views q of the next events, shape (n,), and g of the next bars, shape (bars,).

        Args:
            bar: Shape (n,), bars of all events that lie in the next bars.
            symbol: Shape (n,).
            scores: Of these events.
            z: Shape (bars, symbols), standardised returns of the next bars.
        """
        bars = len(z)
        local = bar - self._bar
        table, scale = self._refits(local, scores, bars)
        fit = bar // self._policy.refit_bars - self._segment(self._bar - 1)
        residual = _residual(scores, table[fit])
        scale = self._scales(local, residual, scale, bars)
        q = self._standardised(residual, scale[fit])
        self._coefficients, self._scale = table[-1], float(scale[-1])
        self._bar += bars
        return q, self._hold(local, symbol, q, z)

    def _segment(self, bar: int) -> int:
        """The refit that is in force at a bar; -1 before the first bar."""
        return bar // self._policy.refit_bars

    def _refit_bars(self, bars: int) -> IntArray:
        """Bars of the next `bars` at which a refit happens, counted from the first of them."""
        every = self._policy.refit_bars
        return np.arange(-self._bar % every, bars, every, dtype=np.int64)

    def _refits(self, local: IntArray, scores: Scores, bars: int) -> tuple[FloatArray, FloatArray]:
        """Coefficients in force, shape (1 + refits, terms): those of before, then each refit's; room for the scales."""
        present = ~np.isnan(scores.own)
        at, own, voters = local[present], scores.own[present], scores.voters[present]
        design = [np.ones(len(own)), *np.ascontiguousarray(voters.T)]
        pairs = [(i, j) for i in range(self._terms) for j in range(i, self._terms)]
        products = [design[i] * design[j] for i, j in pairs] + [column * own for column in design]
        per_bar = np.stack([sums(at, bars, product) for product in products], axis=1)
        totals = running(self._moments, per_bar)
        self._moments = totals[-1].copy()
        then = totals[self._refit_bars(bars)]
        matrix = np.zeros((len(then), self._terms, self._terms))
        for column, (i, j) in enumerate(pairs):
            matrix[:, i, j] = matrix[:, j, i] = then[:, column]
        matrix[:, range(1, self._terms), range(1, self._terms)] += self._policy.ridge
        # Without an event there is nothing to fit: the identity gives zero.
        matrix[then[:, 0] == 0, 0, 0] = 1.0
        fitted = np.linalg.solve(matrix, then[:, len(pairs) :, None])[:, :, 0]
        return np.vstack([self._coefficients[None, :], fitted]), np.zeros(len(then) + 1)

    def _scales(self, local: IntArray, residual: FloatArray, scale: FloatArray, bars: int) -> FloatArray:
        """Root mean squares in force, shape (1 + refits,); 0 where too few residuals were found."""
        known = ~np.isnan(residual)
        squares = sums(local[known], bars, np.square(residual[known]))
        totals = running(self._residuals, np.stack([squares, sums(local[known], bars)], axis=1))
        self._residuals = totals[-1].copy()
        then = totals[self._refit_bars(bars)]
        found = np.sqrt(then[:, 0] / np.maximum(then[:, 1], 1.0))
        scale[0] = self._scale
        scale[1:] = np.where(then[:, 1] > self._policy.residual_events, found, 0.0)
        return scale

    def _standardised(self, residual: FloatArray, scale: FloatArray) -> FloatArray:
        policy = self._policy
        speaks = (scale >= policy.residual_min) & ~np.isnan(residual)
        q = np.where(speaks, residual, 0.0) / np.where(speaks, scale, 1.0)
        q = np.clip(q, -policy.q_clip, policy.q_clip)
        return np.where(np.abs(q) < policy.q_min, 0.0, q)

    def _hold(self, local: IntArray, symbol: IntArray, q: FloatArray, z: FloatArray) -> FloatArray:
        bars = len(z)
        stated = np.vstack([self._held, np.zeros((bars, self._symbols))])
        stated[local + SPAN, symbol] = q
        self._held = stated[bars:].copy()
        position = np.zeros((bars, self._symbols))
        for age in range(DELAY + 1, SPAN + 1):
            position += stated[SPAN - age : SPAN - age + bars]
        return np.asarray((position * z).sum(axis=1))


def _residual(scores: Scores, coefficients: FloatArray) -> FloatArray:
    """Log-odds less their fit, shape (n,); coefficients of shape (n, terms)."""
    fitted = coefficients[:, 0].copy()
    for voter in range(scores.voters.shape[1]):
        fitted += coefficients[:, voter + 1] * scores.voters[:, voter]
    return np.asarray(scores.own - fitted)

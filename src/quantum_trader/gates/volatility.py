"""Returns in units of their own recent volatility, with exponential weights, continued from call to call.

v and w start at 0; at each bar z uses sqrt(v / w) from before it (0 until w exceeds a minimum), then v = k v + r^2 and
w = k w + 1, k = .5^(1 / half-life). A missing return adds to neither.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_trader.gates.whole_policy import EvidencePolicy

FloatArray = NDArray[np.float64]


class Volatility:
    """The recursion for a fixed number of symbols; equal however the bars are cut into calls."""

    def __init__(self, symbols: int, policy: EvidencePolicy) -> None:
        """A start without a past.

        Args:
            symbols: Symbols.
            policy: Half-life, minimum weight, clip.
        """
        self._decay: Final = 0.5 ** (1.0 / policy.half_life)
        self._policy: Final = policy
        # Sums of squares, then of weights, one after the other.
        self._sums = np.zeros(2 * symbols)

    def extend(self, returns: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Standardised returns and the volatility before each bar, both of shape (bars, symbols).

        A volatility is NaN while it is not known, and z is 0 there.
        """
        known = ~np.isnan(returns)
        added = np.concatenate([np.where(known, np.square(returns), 0.0), known], axis=1)
        squares, weights = np.split(self._before(added), 2, axis=1)
        enough = weights > self._policy.volatility_weight
        sigma = np.sqrt(squares / np.where(enough, weights, 1.0))
        moving = enough & known & (sigma > 0)
        z = np.where(moving, returns, 0.0) / np.where(moving, sigma, 1.0)
        return np.clip(z, -self._policy.z_clip, self._policy.z_clip), np.where(enough, sigma, np.nan)

    def _before(self, added: FloatArray) -> FloatArray:
        """The sums before each bar, same shape; a loop over bars, since each needs the one before it."""
        before = np.empty_like(added)
        sums = self._sums
        for row, new in zip(before, added, strict=True):
            row[:] = sums
            sums *= self._decay
            sums += new
        return before

"""How sure may one be, however often one looks: blocks of the overlay and their e-process (GATES.md, C.4 to C.6).

The e-process is the one-sided normal mixture of Howard, Ramdas, McAuliffe and Sekhon (2021). Where blocks are
conditionally symmetric its supremum passes 1 / alpha with probability at most alpha (Ville's inequality).
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr

from quantum_trader.gates.sample import CYCLE
from quantum_trader.gates.track import Track, states
from quantum_trader.gates.whole_policy import EvidencePolicy

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

EVIDENCE = "Evidence"
"""The name of its line."""

_FAR = 1 << 40
"""Blocks beyond which nobody waits."""


def rho_of(optimal: float, alpha: float) -> float:
    """The mixture's rho with which the boundary is tightest at V = `optimal`."""
    spread = 2.0 * math.log(1.0 / (2.0 * alpha))
    return optimal / (spread + math.log1p(spread))


def log_e(total: FloatArray, variance: FloatArray, rho: float) -> FloatArray:
    """Logarithm of E for running sums S and V, same shape; 0 where nothing has been seen."""
    wide = variance + rho
    mixture = math.log(2.0) + 0.5 * np.log(rho / wide) + np.square(total) / (2.0 * wide)
    return np.asarray(mixture + log_ndtr(total / np.sqrt(wide)))


def boundary(variance: float, rho: float, alpha: float) -> float:
    """The sum S at which log E reaches ln(1 / alpha) for a given V."""
    level = math.log(1.0 / alpha)

    def excess(total: float) -> float:
        return float(log_e(np.array(total), np.array(variance), rho)) - level

    wide = variance + rho
    # At this sum log E is over the level by the ln Phi term alone, which ln 2 outweighs.
    return float(brentq(excess, 0.0, math.sqrt(2.0 * wide * (level + 0.5 * math.log(wide / rho))), xtol=1e-12))


def blocks_needed(mean: float, rho: float, alpha: float) -> int | None:
    """Blocks until S = mean x blocks crosses the boundary at V = blocks; None if it never does.

    Args:
        mean: Standardised mean of a block.
        rho: Of the mixture.
        alpha: Of the decision.

    >>> blocks_needed(0.2, rho_of(200.0, 0.01), 0.01)
    283
    """
    if not mean > 0:
        return None
    low, high = 0, 1
    while mean * high < boundary(float(high), rho, alpha):
        low, high = high, 2 * high
        if high > _FAR:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if mean * middle < boundary(float(middle), rho, alpha):
            low = middle
        else:
            high = middle
    return high


class Blocks:
    """Sums of g over blocks, each in units of the earlier ones, continued from call to call."""

    def __init__(self, policy: EvidencePolicy) -> None:
        """A start without a past.

        Args:
            policy: Section C.
        """
        self._policy: Final = policy
        self._open = np.empty(0)
        self._sums: list[FloatArray] = []
        self._x: list[FloatArray] = []
        # Sum of squares and number of the earlier blocks with a result.
        self._earlier = np.zeros(2)

    @property
    def sums(self) -> FloatArray:
        """G of every complete block, shape (blocks,)."""
        return np.concatenate([np.empty(0), *self._sums])

    @property
    def x(self) -> FloatArray:
        """Standardised G, x, of every complete block, shape (blocks,)."""
        return np.concatenate([np.empty(0), *self._x])

    def extend(self, g: FloatArray) -> None:
        """Adds the next bars' g, shape (bars,); bars of a block that is not complete wait for the next call."""
        waiting = np.concatenate([self._open, g])
        blocks = len(waiting) // self._policy.block_bars
        cut = blocks * self._policy.block_bars
        self._open = waiting[cut:].copy()
        new = waiting[:cut].reshape(blocks, self._policy.block_bars).sum(axis=1)
        found = np.stack([np.square(new), (new != 0).astype(np.float64)], axis=1)
        earlier = np.cumsum(np.vstack([self._earlier[None, :], found]), axis=0)
        self._earlier = earlier[-1].copy()
        squares, number = earlier[:-1, 0], earlier[:-1, 1]
        ready = (number >= self._policy.burn_blocks) & (squares > 0)
        scale = np.sqrt(np.where(ready, squares, 1.0) / np.where(ready, number, 1.0))
        self._sums.append(new)
        self._x.append(np.where(ready, new / scale, 0.0))


def blocks_read(cycles: int, policy: EvidencePolicy) -> IntArray:
    """Blocks that are complete at each cycle's end, shape (cycles,)."""
    return (np.arange(1, cycles + 1) * CYCLE) // policy.block_bars


def evidence_path(x: FloatArray, cycles: int, policy: EvidencePolicy) -> FloatArray:
    """Logarithm of E as the verdict reads it at each cycle's end, shape (cycles,)."""
    steps = np.concatenate([[0.0], log_e(np.cumsum(x), np.cumsum(x * x), rho_of(policy.optimal_blocks, policy.alpha))])
    return steps[blocks_read(cycles, policy)]


def evidence(x: FloatArray, cycles: int, policy: EvidencePolicy, version: int | None) -> Track:
    """Logarithm of E against ln(1 / alpha), alpha being what this version of the lineage may spend."""
    alpha = policy.alpha_of(version)
    level, rho = math.log(1.0 / alpha), rho_of(policy.optimal_blocks, policy.alpha)
    read = blocks_read(cycles, policy)
    spoke = np.concatenate([[0], np.cumsum(x != 0)])[read].astype(np.float64)
    total = np.concatenate([[0.0], np.cumsum(x)])[read]
    variance = np.concatenate([[0.0], np.cumsum(x * x)])[read]
    value = evidence_path(x, cycles, policy)
    holds = value >= level

    def mean(k: int) -> float:
        """Standardised mean of a block that said something."""
        return float(total[k] / math.sqrt(variance[k] * spoke[k])) if spoke[k] else 0.0

    def reason(k: int) -> str:
        odds = f"E = {math.exp(min(value[k], 700.0)):.3g}, {math.exp(level):.4g} is needed"
        if not spoke[k]:
            return f"{odds}: nothing of its own has been held long enough to count."
        return f"{odds}; {spoke[k]:.0f} blocks have a standardised mean of {mean(k):.3f}."

    def more(k: int) -> float:
        needed = blocks_needed(mean(k), rho, alpha)
        return max(needed / spoke[k], 1.0 + 1.0 / (k + 1)) if needed and spoke[k] else np.inf

    return Track(
        name=EVIDENCE,
        section="C",
        rule=f"log E >= ln(1 / alpha), alpha = {alpha:.4g}",
        state=states(holds, np.zeros(cycles, np.bool_)),
        value=value,
        se=np.full(cycles, np.nan),
        n=read.astype(np.float64),
        n_effective=spoke,
        cycles=np.arange(1, cycles + 1, dtype=np.float64),
        threshold=np.full(cycles, level),
        reason=reason,
        more=more,
    )

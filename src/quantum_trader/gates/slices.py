"""Brier gain of every slice, symbols and regimes, at one end: the numbers behind the checks by symbol and by regime."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quantum_trader.gates.counterfactual import REGIMES, Gains
from quantum_trader.gates.deployment import slice_threshold
from quantum_trader.gates.whole_policy import DeploymentPolicy

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SliceGain:
    """One slice.

    Attributes:
        name: Of the symbol or the regime.
        n: Counted decisions: in the first L bars of a cycle, with an outcome.
        gain: Cumulative Brier gain of the pooled score.
        se: Its standard error, the root of the sum of squares of the cycles' gains.
        z: The one over the other; 0 where there is no error.
        threshold: The z under which the slice is surely worse off; NaN where no slice has a decision.
    """

    name: str
    n: int
    gain: float
    se: float
    z: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Slices:
    """Every symbol and every regime, in the order of their indices."""

    symbols: tuple[SliceGain, ...]
    regimes: tuple[SliceGain, ...]

    @classmethod
    def of(cls, gains: Gains, policy: DeploymentPolicy, name_of: Callable[[int], str] = str) -> Self:
        """The slices of all complete cycles; `name_of` names a symbol."""
        return cls(
            _gains(gains.n, gains.gain, policy, name_of),
            _gains(gains.regime_n, gains.regime_gain, policy, REGIMES.__getitem__),
        )


def _gains(
    n: FloatArray, gain: FloatArray, policy: DeploymentPolicy, name_of: Callable[[int], str]
) -> tuple[SliceGain, ...]:
    # Added one cycle after the other, as the checks do it: the same z to the last bit.
    counts = np.cumsum(n, axis=0)[-1]
    total, se = np.cumsum(gain, axis=0)[-1], np.sqrt(np.cumsum(np.square(gain), axis=0)[-1])
    z = total / np.where(se > 0, se, 1.0)
    threshold = float(slice_threshold(np.array([(counts > 0).sum()]), policy.slice_alpha)[0])
    return tuple(
        SliceGain(name_of(k), int(counts[k]), float(total[k]), float(se[k]), float(z[k]), threshold)
        for k in range(len(counts))
    )

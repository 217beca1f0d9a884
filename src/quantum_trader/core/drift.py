"""Input drift: whether a symbol's last 24 rows of features are of the kind that a model was trained on.

- Compared are the last 24 values of each feature and the nine deciles that the model's manifest holds of its training
  part. Features are autocorrelated and regimes change, so single features sit in one tenth of their training values
  for hours; what is looked for is what honest markets were never seen to do.
- The distance of two distributions is Kuiper's form of the Kolmogorov-Smirnov statistic on the decile grid, the
  largest excess plus the largest deficit of the cumulated shares: at most 0.9, and that where all values lie in one
  tenth, wherever it is. (Kolmogorov and Smirnov's own gives a feature that is stuck in the middle of its range 0.5.)
- All features together have drifted where the mean of their distances is at least STUCK: a constant row, a row that is
  shifted as a whole.
- A *quick* feature changes at every bar, so it has drifted alone where its distance is at least STUCK: at least 23 of
  24 values in one tenth.
- A feature is out of range where at least FAR_COUNT of 24 values lie further outside the middle eight tenths of its
  training values than FAR times their width; an oscillator, whose range is closed, further than OSCILLATOR_FAR times.

The bounds are calibrated on real bars; docs/explanation/input-honesty.md says how often they are wrong, and what they
do not see.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.features import SCHEMA, Float32Array

Scalar = TypeVar("Scalar", bound=np.generic)

SPAN = 24
"""Bars of a symbol that are compared with the training part."""

STUCK = 0.85
FAR_COUNT = 6
FAR = 10.0
OSCILLATOR_FAR = 2.0

QUICK = frozenset({"ret_1", "ret_3", "body", "cci_20", "willr_14", "bb_position", "volume_20"})
OSCILLATORS = frozenset(
    {
        *("adx_14", "plus_di_14", "minus_di_14", "aroon_25", "rsi_6", "rsi_14", "cci_20", "willr_14", "stoch_k"),
        *("stoch_d", "ultosc", "bb_position", "volume_20", "volume_96", "mfi_14", "adosc"),
    }
)

_TENTHS = 10
_EXPECTED = np.arange(1, _TENTHS, dtype=np.int16)[:, None] * SPAN
"""Of SPAN values from training, ten times how many do not exceed each decile."""

_NARROWEST = 1e-12
"""Width of a range that has none: whatever differs from a feature that was constant in training is far outside."""


class Statistics(Protocol):
    """What a manifest knows of one feature's training values."""

    @property
    def std(self) -> float:
        """Standard deviation."""

    @property
    def deciles(self) -> Sequence[float]:
        """The nine deciles, ascending."""


Identity = tuple[tuple[str, ...], bytes, bytes]
"""What makes two references equal."""


@dataclass(frozen=True)
class Reference:
    """Training values of the features that a model reads.

    Attributes:
        names: The f features, in the order of the schema.
        deciles: Shape (9, f).
        widths: Shape (f,): from the first decile to the ninth, or the standard deviation where that is 0.
    """

    names: tuple[str, ...]
    deciles: NDArray[np.float64]
    widths: NDArray[np.float64]

    @classmethod
    def of(cls, statistics: Mapping[str, Statistics]) -> "Reference":
        """From a manifest's statistics by feature name; names that the schema does not have are left out.

        Raises:
            ValueError: if a feature has another number of deciles than nine.
        """
        names = tuple(name for name in SCHEMA.names if name in statistics)
        wrong = [name for name in names if len(statistics[name].deciles) != _TENTHS - 1]
        if wrong:
            raise ValueError(f"feature statistics of {wrong[0]}: expected {_TENTHS - 1} deciles")
        deciles = np.array([statistics[name].deciles for name in names], dtype=np.float64).reshape(-1, _TENTHS - 1).T
        std = np.array([statistics[name].std for name in names], dtype=np.float64)
        middle = deciles[-1] - deciles[0]
        return cls(names, deciles, np.maximum(np.where(middle > 0.0, middle, std), _NARROWEST))

    @property
    def identity(self) -> Identity:
        """Equal for models of the same training values: one monitor serves them."""
        return self.names, self.deciles.tobytes(), self.widths.tobytes()


class DriftMonitor:
    """Watches the features of any number of symbols against one reference; each bar costs the same."""

    def __init__(self, reference: Reference) -> None:
        names = reference.names
        self._reference = reference
        self._columns = np.array([SCHEMA.names.index(name) for name in names], dtype=np.int64)
        self._quick = np.array([name in QUICK for name in names], dtype=np.bool_)
        times = np.array([OSCILLATOR_FAR if name in OSCILLATORS else FAR for name in names])
        self._lowest = reference.deciles[0] - times * reference.widths
        self._highest = reference.deciles[-1] + times * reference.widths
        self._slots: dict[str, int] = {}
        # Of every symbol a ring of flags over its last rows, and their counts: for each value which deciles it does not
        # exceed, and whether it is far outside.
        deciles = reference.deciles.shape
        self._seen: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._below: NDArray[np.int8] = np.zeros((0, SPAN, *deciles), dtype=np.int8)
        self._far: NDArray[np.int8] = np.zeros((0, SPAN, len(names)), dtype=np.int8)
        self._below_counts: NDArray[np.int8] = np.zeros((0, *deciles), dtype=np.int8)
        self._far_counts: NDArray[np.int8] = np.zeros((0, len(names)), dtype=np.int8)

    def observe(self, symbols: Sequence[str], rows: Float32Array) -> list[str]:
        """Take the newest row of each of n symbols.

        Args:
            symbols: Each at most once.
            rows: Shape (n, F), finite, in the order of `SCHEMA.names`.

        Returns:
            For each symbol what has drifted; empty where nothing has.
        """
        found = [""] * len(symbols)
        if not len(self._columns) or not symbols:
            return found
        slots = self._slots_of(symbols)
        self._push(slots, rows[:, self._columns].astype(np.float64))
        distances = self._distances(slots)
        stuck = (distances >= STUCK) & self._quick
        far = self._far_counts[slots] >= FAR_COUNT
        together = distances.mean(axis=1)
        for i in np.flatnonzero(stuck.any(axis=1) | far.any(axis=1) | (together >= STUCK)).tolist():
            found[i] = self._describe(self._far_counts[slots[i]], float(together[i]), stuck[i])
        return found

    def _slots_of(self, symbols: Sequence[str]) -> NDArray[np.int64]:
        for symbol in symbols:
            self._slots.setdefault(symbol, len(self._slots))
        new = len(self._slots) - len(self._seen)
        if new:
            self._seen = _grown(self._seen, new)
            self._below, self._far = _grown(self._below, new), _grown(self._far, new)
            self._below_counts, self._far_counts = _grown(self._below_counts, new), _grown(self._far_counts, new)
        return np.array([self._slots[symbol] for symbol in symbols], dtype=np.int64)

    def _push(self, slots: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        below = (values[:, None, :] <= self._reference.deciles).view(np.int8)
        far = ((values < self._lowest) | (values > self._highest)).view(np.int8)
        at = self._seen[slots] % SPAN
        # A ring that is not full yet holds zeros where nothing leaves.
        self._below_counts[slots] += below - self._below[slots, at]
        self._far_counts[slots] += far - self._far[slots, at]
        self._below[slots, at], self._far[slots, at] = below, far
        self._seen[slots] += 1

    def _distances(self, slots: NDArray[np.int64]) -> NDArray[np.float64]:
        """Kuiper's distance of each feature, shape (n, f); 0 for a symbol with fewer than SPAN rows."""
        # Whole numbers, so that a distance that equals its bound does so exactly.
        excess = self._below_counts[slots].astype(np.int16) * _TENTHS - _EXPECTED
        whole = self._seen[slots] >= SPAN
        twofold = np.maximum(excess.max(axis=1), 0) - np.minimum(excess.min(axis=1), 0)
        return np.asarray(twofold * whole[:, None] / (SPAN * _TENTHS))

    def _describe(self, far_counts: NDArray[np.int8], together: float, stuck: NDArray[np.bool_]) -> str:
        names, parts = self._reference.names, []
        far = int((far_counts >= FAR_COUNT).sum())
        if far:
            worst = int(far_counts.argmax())
            which = names[worst] if far == 1 else f"{far} features, most {names[worst]},"
            parts.append(f"{which} far outside the training range, at {far_counts[worst]} of {SPAN} bars")
        if stuck.any():
            listed = ", ".join(names[i] for i in np.flatnonzero(stuck).tolist())
            parts.append(f"{listed} in one tenth of the training values for {SPAN} bars")
        if together >= STUCK:
            parts.append(f"mean distance of {len(names)} features from training is {together:.2f}")
        return "; ".join(parts)


def _grown(array: NDArray[Scalar], more: int) -> NDArray[Scalar]:
    """With room for more symbols."""
    return np.concatenate([array, np.zeros((more, *array.shape[1:]), dtype=array.dtype)])

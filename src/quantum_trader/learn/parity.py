"""The parity proof: the ONNX file answers as the trained model does, on ties and NaN too, or it is not written.

Trees decide at thresholds, so rows are put exactly on them and one float32 beside them. Rows with NaN are compared
wherever the trained model gives a number; service refuses them before any model.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.bars import IntArray
from quantum_trader.core.errors import TrainingError
from quantum_trader.core.features import Float32Array
from quantum_trader.core.predictions import Thresholds
from quantum_trader.models.manifest import Parity

MAX_ABS_DP = 1e-5
MIN_ROWS = 10_000

_TIES_PER_ROW = 4
_NAN_SHARE = 0.1


@dataclass(frozen=True)
class SplitPoints:
    """Where a tree model splits: features (k,) and float64 thresholds (k,), in any order."""

    features: IntArray
    thresholds: NDArray[np.float64]


def tree_rows(rows: Float32Array, points: SplitPoints, count: int, seed: int) -> Float32Array:
    """Rows for the proof of a tree model.

    Args:
        rows: Rows of the data set, (m, F).
        points: Where the model splits.
        count: How many to make: half as drawn from `rows`, two fifths with features on thresholds, the rest with NaN.
        seed: Of what is drawn.

    Returns:
        Shape (count, F).
    """
    rng = np.random.default_rng(seed)
    out = rows[rng.integers(0, len(rows), count)]
    ties, nans = count // 2, count - count // 10
    if len(points.features):
        chosen = rng.integers(0, len(points.features), (nans - ties, _TIES_PER_ROW))
        below = floor32(points.thresholds[chosen])
        above = np.nextafter(below, np.float32(np.inf))
        lines = np.arange(ties, nans)[:, None]
        out[lines, points.features[chosen]] = np.where(rng.random(chosen.shape) < 0.5, below, above)
    tail = out[nans:]
    tail[rng.random(tail.shape) < _NAN_SHARE] = np.nan
    return out


def sequence_rows(sequences: Float32Array, count: int, seed: int) -> Float32Array:
    """Sequences for the proof of a network.

    Args:
        sequences: Of the data set, (m, 128, 8).
        count: How many to make that are finite: drawn from `sequences`, one in ten of them made ten times as large,
            one in a hundred flat at zero.
        seed: Of what is drawn.

    Returns:
        Shape (count + count // 100, 128, 8): those at the end hold NaN.
    """
    rng = np.random.default_rng(seed)
    out = sequences[rng.integers(0, len(sequences), count + count // 100)]
    out[: count // 10] *= np.float32(10.0)
    out[count // 10 : count // 10 + count // 100] = 0.0
    tail = out[count:]
    tail[rng.random(tail.shape) < _NAN_SHARE] = np.nan
    return out


def floor32(values: NDArray[np.float64]) -> Float32Array:
    """Round down to float32: a float32 x is at most the result exactly where it is at most the value."""
    near = values.astype(np.float32)
    return np.where(near.astype(np.float64) > values, np.nextafter(near, np.float32(-np.inf)), near)


def prove(original: NDArray[np.float64], exported: NDArray[np.float64], thresholds: Thresholds, what: str) -> Parity:
    """Compare answers to the same rows, shape (n,) each.

    Raises:
        TrainingError: with fewer than 10,000 rows that can be compared, a difference above 1e-5, or an action flip.
    """
    known = np.isfinite(original)
    a, b = original[known], exported[known]
    rows = int(known.sum())
    if rows < MIN_ROWS:
        raise TrainingError(f"{what}: parity was compared on {rows} rows, at least {MIN_ROWS} are needed")
    if not np.isfinite(b).all():
        raise TrainingError(f"{what}: the ONNX file gives no number where the trained model does")
    parity = Parity(rows, float(np.abs(a - b).max()), int((thresholds.actions(a) != thresholds.actions(b)).sum()))
    if parity.max_abs_dp > MAX_ABS_DP or parity.flips:
        raise TrainingError(
            f"{what}: the ONNX file differs from the trained model by up to {parity.max_abs_dp:.2g} with "
            f"{parity.flips} action flips over {rows} rows (at most {MAX_ABS_DP:g} and none are allowed)"
        )
    return parity

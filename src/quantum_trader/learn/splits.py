"""Time-ordered splits, purged and embargoed.

Lopez de Prado (2018), "Advances in Financial Machine Learning", chapter 7: a row whose outcome reaches into the next
part is purged, and the first rows of the next part, whose outcomes overlap those, are embargoed; both by H + D bars.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.bars import IntArray
from quantum_trader.core.errors import TrainingError

MIN_ROWS = 64
"""A part with fewer rows says nothing."""


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, ascending; every part lies wholly before the next."""

    train: IntArray
    validation: IntArray
    test: IntArray


def time_split(ts: IntArray, y: NDArray[np.int8], span_ms: int, fractions: tuple[float, float] = (0.70, 0.15)) -> Split:
    """Cut rows by time.

    Args:
        ts: Open time of each row's bar, shape (n,), ascending.
        y: Labels, shape (n,).
        span_ms: Length of H + D bars: from a row's bar to its outcome.
        fractions: Of rows for training and validation; the rest is for the test.

    Raises:
        TrainingError: if a part has fewer than 64 rows or lacks a class.
    """
    train_share, validation_share = fractions
    if not (min(fractions) > 0 and train_share + validation_share < 1):
        raise TrainingError(f"split {fractions}: both shares must be positive and leave something for the test")
    first_validation = ts[int(len(ts) * train_share)]
    first_test = ts[int(len(ts) * (train_share + validation_share))]
    split = Split(
        train=np.flatnonzero(ts + span_ms < first_validation),
        validation=np.flatnonzero((ts >= first_validation + span_ms) & (ts + span_ms < first_test)),
        test=np.flatnonzero(ts >= first_test + span_ms),
    )
    for name in ("train", "validation", "test"):
        part = getattr(split, name)
        if len(part) < MIN_ROWS:
            raise TrainingError(f"split: the {name} part has {len(part)} rows, at least {MIN_ROWS} are needed")
        if len(np.unique(y[part])) < 2:
            raise TrainingError(f"split: the {name} part has only one class")
    return split

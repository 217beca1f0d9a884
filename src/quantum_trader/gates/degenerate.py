"""Is an output alive: coverage, distinct values, commonest value, streaks, variance within symbols (golden g08)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

RECENT = 200
"""Valid events that the measures of repetition look back on."""

_GRID = 10_000
"""Outputs closer than one part of this are the same value."""


@dataclass(frozen=True, slots=True)
class OutputMeasures:
    """How varied a model's outputs are.

    Attributes:
        n: Rows, missing ones included.
        coverage: Share of rows with an output; NaN for no rows.
        distinct: Values among the last RECENT outputs, rounded to 1e-4.
        top_share: Share of the commonest of them; NaN for no outputs.
        longest_streak: Longest run of one rounded value on one symbol among them.
        within_symbol_share: Share of the variance of all outputs that lies within symbols; NaN where it is 0.
    """

    n: int
    coverage: float
    distinct: int
    top_share: float
    longest_streak: int
    within_symbol_share: float


def measure_outputs(p_up: FloatArray, symbol: NDArray[np.integer]) -> OutputMeasures:
    """Measures of outputs in time order, both of shape (n,); NaN is a missing output.

    Raises:
        ValueError: if shapes differ.
    """
    if p_up.shape != symbol.shape:
        raise ValueError(f"measure_outputs: shapes {p_up.shape} and {symbol.shape} differ")
    present = ~np.isnan(p_up)
    p, owner = p_up[present], symbol[present]
    coverage = len(p) / len(p_up) if len(p_up) else math.nan
    if not len(p):
        return OutputMeasures(len(p_up), coverage, 0, math.nan, 0, math.nan)
    recent = np.rint(p[-RECENT:] * _GRID).astype(np.int64)
    _, counts = np.unique(recent, return_counts=True)
    return OutputMeasures(
        n=len(p_up),
        coverage=coverage,
        distinct=len(counts),
        top_share=int(counts.max()) / len(recent),
        longest_streak=_longest_streak(recent, owner[-RECENT:]),
        within_symbol_share=_within_share(p, owner),
    )


def _longest_streak(value: NDArray[np.int64], owner: NDArray[np.integer]) -> int:
    order = np.argsort(owner, kind="stable")
    value, owner = value[order], owner[order]
    breaks = np.flatnonzero((np.diff(value) != 0) | (np.diff(owner) != 0)) + 1
    return int(np.diff(np.concatenate([[0], breaks, [len(value)]])).max())


def _within_share(p: FloatArray, owner: NDArray[np.integer]) -> float:
    if float(np.ptp(p)) == 0.0:
        return math.nan
    _, code, sizes = np.unique(owner, return_inverse=True, return_counts=True)
    means = np.bincount(code, p) / sizes
    within = float(np.square(p - means[code]).sum())
    return within / float(np.square(p - p.mean()).sum())

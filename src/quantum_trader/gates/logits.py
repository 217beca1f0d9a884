"""Probabilities as log-odds: the model's, the voters', the ensemble's and the pooled score (GATES.md, Notation)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

FloatArray = NDArray[np.float64]

CLIP = 4.0
"""Largest log-odds of the judged model everywhere but in the pool."""

_POOLED = 1e-6
"""In the pool its probability keeps this distance from 0 and 1."""

_EXACT = 1e-12
"""A voter's log-odds are not clipped; only an exact 0 or 1, which has none, is moved by this."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Log-odds of n events.

    Attributes:
        own: Shape (n,), s, clipped; NaN where the model's output is missing.
        voters: Shape (n, voters), l; 0, which says nothing, where a voter abstained.
        ensemble: Shape (n,), Sb, the weighted mean over the voters present; 0 where there is none.
        pooled: Shape (n,), Sw; Sb where the model's output is missing.
    """

    own: FloatArray
    voters: FloatArray
    ensemble: FloatArray
    pooled: FloatArray


def scores_of(p: FloatArray, voter_p: FloatArray, weights: tuple[float, ...], pool_weight: float) -> Scores:
    """Scores of probabilities p, shape (n,), and voter_p, shape (n, voters); NaN is missing in both.

    >>> scores = scores_of(np.array([0.5, np.nan]), np.array([[0.5], [0.5]]), (1.0,), 0.2)
    >>> scores.own.tolist(), scores.pooled.tolist()
    ([0.0, nan], [0.0, 0.0])
    """
    present = ~np.isnan(voter_p)
    filled = np.where(present, voter_p, 0.5)
    voters = np.asarray(logit(np.clip(filled, _EXACT, 1.0 - _EXACT)), dtype=np.float64)
    # Summed voter by voter in their fixed order: the same bits for one row and for a million.
    total, weight = np.zeros(len(p)), np.zeros(len(p))
    for voter, share in enumerate(weights):
        total += share * voters[:, voter]
        weight += np.where(present[:, voter], share, 0.0)
    ensemble = total / np.where(weight > 0, weight, 1.0)
    raw = np.asarray(logit(np.clip(p, _POOLED, 1.0 - _POOLED)), dtype=np.float64)
    pooled = np.where(np.isnan(raw), ensemble, (1.0 - pool_weight) * ensemble + pool_weight * raw)
    return Scores(np.clip(raw, -CLIP, CLIP), voters, ensemble, pooled)

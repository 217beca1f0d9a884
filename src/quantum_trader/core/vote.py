"""The vote: weighted, of the voters present, with a quorum. Shadows are not among its arguments.

- Each voter present adds its weight to its action's score; scores are renormalised over the voters present.
- The unique highest score wins; a tie is HOLD.
- Fewer than `min_consensus` voters agreeing with a BUY or SELL makes it HOLD.
- Confidence is the weighted mean of the agreeing voters' confidences, 0 where none agrees.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TIE = 1e-9
"""Scores nearer than this share of the best are equal: 0.25 + 0.25 and 0.30 + 0.20 tie, in whatever order or unit."""

_ACTIONS = np.array([-1, 0, 1], dtype=np.int8)


@dataclass(frozen=True, slots=True)
class Votes:
    """Outcome of n votes.

    Attributes:
        actions: Shape (n,), -1 SELL, 0 HOLD, 1 BUY.
        confidences: Shape (n,), 0 to 1.
        consensus: Shape (n,), voters whose action is the decision's.
        voters: Shape (n,), voters present.
        scores: Shape (n, 3), renormalised weight behind SELL, HOLD and BUY; all 0 where nobody voted.
    """

    actions: NDArray[np.int8]
    confidences: NDArray[np.float64]
    consensus: NDArray[np.int64]
    voters: NDArray[np.int64]
    scores: NDArray[np.float64]


def vote(
    actions: NDArray[np.int8],
    confidences: NDArray[np.float64],
    present: NDArray[np.bool_],
    weights: NDArray[np.float64],
    min_consensus: int,
) -> Votes:
    """Decide n votes of m voters.

    Args:
        actions: Shape (n, m), -1, 0 or 1.
        confidences: Shape (n, m); read only where present.
        present: Shape (n, m); an abstaining voter is False and neither counts nor weighs.
        weights: Shape (m,), positive.
        min_consensus: Voters that must agree for BUY or SELL.

    Raises:
        ValueError: if shapes differ or a weight is not positive and finite.
    """
    if actions.shape != present.shape or actions.shape != confidences.shape or actions.shape[1:] != weights.shape:
        raise ValueError(f"vote: shapes {actions.shape}, {confidences.shape}, {present.shape}, {weights.shape} differ")
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError("vote: every weight must be positive and finite")
    weight = np.where(present, weights, 0.0)
    # Summed voter by voter in their fixed order: the same bits for one row and for a million.
    raw = np.zeros((len(actions), 3))
    for voter in range(actions.shape[1]):
        raw += np.where(actions[:, voter, None] == _ACTIONS, weight[:, voter, None], 0.0)
    total = raw[:, 0] + raw[:, 1] + raw[:, 2]
    scores = raw / np.where(total > 0, total, 1.0)[:, None]
    best = raw.max(axis=1)
    unique = (raw >= best[:, None] * (1.0 - _TIE)).sum(axis=1) == 1
    winner = np.where(unique, _ACTIONS[raw.argmax(axis=1)], 0).astype(np.int8)
    winner = _quorum(winner, actions, present, min_consensus)
    return _outcome(winner, actions, confidences, present, weight, scores)


def _quorum(
    winner: NDArray[np.int8], actions: NDArray[np.int8], present: NDArray[np.bool_], min_consensus: int
) -> NDArray[np.int8]:
    agreeing = ((actions == winner[:, None]) & present).sum(axis=1)
    return np.where(agreeing >= min_consensus, winner, 0).astype(np.int8)


def _outcome(
    winner: NDArray[np.int8],
    actions: NDArray[np.int8],
    confidences: NDArray[np.float64],
    present: NDArray[np.bool_],
    weight: NDArray[np.float64],
    scores: NDArray[np.float64],
) -> Votes:
    agrees = (actions == winner[:, None]) & present
    weighted, behind = np.zeros(len(actions)), np.zeros(len(actions))
    for voter in range(actions.shape[1]):
        mine = np.where(agrees[:, voter], weight[:, voter], 0.0)
        behind += mine
        weighted += mine * np.where(agrees[:, voter], confidences[:, voter], 0.0)
    confidence = np.where(behind > 0, weighted / np.where(behind > 0, behind, 1.0), 0.0)
    return Votes(winner, confidence, agrees.sum(axis=1), present.sum(axis=1), scores)

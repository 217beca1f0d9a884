"""What the ONNX file's answers on held-out rows say: thresholds, metrics, and whether the model has collapsed."""

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.errors import TrainingError
from quantum_trader.core.predictions import Thresholds
from quantum_trader.models.manifest import PartMetrics

MIN_STD = 1e-4
MIN_DISTINCT = 10
MAX_SHARE = 0.95
"""A model is collapsed when its answers hardly differ, or when one action or one side of a half has more than this."""

CLEARANCE = 1e-6
"""A threshold keeps at least this far from every known answer, so that rounding cannot flip an action."""


def tercile_thresholds(p_up: NDArray[np.float64], known: NDArray[np.float64]) -> Thresholds:
    """Default thresholds: max(.5, upper tercile) and min(.5, lower tercile) of p_up on validation rows.

    Args:
        p_up: Answers on the validation part, shape (n,).
        known: Every answer whose action must not hang on rounding, shape (m,): thresholds give way outwards
            until none is within `CLEARANCE`.
    """
    lower, upper = np.quantile(p_up, [1 / 3, 2 / 3])
    taken = np.unique(np.concatenate([p_up, known[np.isfinite(known)]]))
    buy = _clear(max(0.5, float(upper)), taken)
    sell = -_clear(-min(0.5, float(lower)), -taken[::-1])
    return Thresholds(min(buy, 1.0), max(sell, 0.0))


def _clear(value: float, taken: NDArray[np.float64]) -> float:
    """The value, or the first place above it that is not within `CLEARANCE` of any of `taken` (ascending)."""
    for answer in taken[np.searchsorted(taken, value - CLEARANCE) :].tolist():
        if answer > value + CLEARANCE:
            break
        value = answer + 1.5 * CLEARANCE
    return value


def part_metrics(y: NDArray[np.int8], p_up: NDArray[np.float64], prior: float) -> PartMetrics:
    """Log-loss, Brier score, area under the ROC curve and accuracy at one half.

    Args:
        y: Outcomes, shape (n,), both classes present.
        p_up: Answers, shape (n,).
        prior: Share of rises in the training part.
    """
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    return PartMetrics(
        log_loss=float(log_loss(y, p_up)),
        brier=float(brier_score_loss(y, p_up)),
        auc=float(roc_auc_score(y, p_up)),
        accuracy=float(((p_up > 0.5) == (y == 1)).mean()),
        prior=prior,
        prior_log_loss=float(log_loss(y, np.full(len(y), prior))),
    )


def refuse_collapsed(p_up: NDArray[np.float64], thresholds: Thresholds, what: str) -> None:
    """Refuse a model whose answers on validation rows, shape (n,), carry no choice.

    Raises:
        TrainingError: if they are nearly constant, or more than 95 % are on one side of a half or of one action,
            or more than 95 % of those that decide decide alike.
    """
    distinct, spread = len(np.unique(p_up)), float(p_up.std())
    if distinct < MIN_DISTINCT or spread < MIN_STD:
        raise TrainingError(
            f"{what}: its output has collapsed ({distinct} different answers, standard deviation {spread:.2g}); "
            "nothing was written"
        )
    actions = thresholds.actions(p_up)
    decided = actions[actions != 0]
    shares = {
        "answers above a half": float((p_up > 0.5).mean()),
        "answers below a half": float((p_up < 0.5).mean()),
        "HOLD": float((actions == 0).mean()),
        "BUY among BUY and SELL": float((decided == 1).mean()) if len(decided) else 1.0,
        "SELL among BUY and SELL": float((decided == -1).mean()) if len(decided) else 1.0,
    }
    side, share = max(shares.items(), key=lambda item: item[1])
    if share > MAX_SHARE:
        raise TrainingError(
            f"{what}: its output has collapsed ({share:.1%} {side} on {len(p_up)} validation rows, at most "
            f"{MAX_SHARE:.0%} are allowed); nothing was written"
        )

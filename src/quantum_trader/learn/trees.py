"""The trees: XGBoost and LightGBM, seeded, stopped early on validation log-loss, cut at their best round."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.features import Float32Array
from quantum_trader.learn.options import TrainOptions
from quantum_trader.learn.progress import Progress

MIN_ROUNDS = 25
"""The best round is sought from here on: fewer trees of a slow learner give a handful of different answers."""

PATIENCE = 50


@dataclass(frozen=True)
class Rows:
    """Training and validation rows for trees: x (n, F), y (n,)."""

    x: Float32Array
    y: NDArray[np.int8]
    x_validation: Float32Array
    y_validation: NDArray[np.int8]


def class_weights(y: NDArray[np.int8], balanced: bool) -> NDArray[np.float32]:
    """Weight of each row, shape (n,): all 1, or such that both classes weigh the same and the mean is 1."""
    if not balanced:
        return np.ones(len(y), dtype=np.float32)
    share = float(y.mean())
    weights: NDArray[np.float32] = np.where(y == 1, 0.5 / share, 0.5 / (1.0 - share)).astype(np.float32)
    return weights


def best_round(log_losses: list[float]) -> int:
    """Number of trees (from 1) with the lowest validation log-loss, the first of equals, from `MIN_ROUNDS` on."""
    start = min(MIN_ROUNDS, len(log_losses)) - 1
    return start + int(np.argmin(log_losses[start:])) + 1


def fit_xgboost(rows: Rows, balanced: bool, options: TrainOptions, progress: Progress) -> Any:
    """A booster of XGBoost, cut at its best round."""
    import xgboost

    class Report(xgboost.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            progress("xgb: trees", epoch + 1, options.max_rounds)
            return False

    names = {"nthread": options.threads}
    weights = class_weights(rows.y, balanced)
    train = xgboost.DMatrix(rows.x, label=rows.y, weight=weights, **names)
    validation = xgboost.DMatrix(rows.x_validation, label=rows.y_validation, **names)
    parameters = {
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "tree_method": "hist",
        "max_depth": 4,
        "eta": 0.05,
        "subsample": 0.7,
        "colsample_bytree": 0.7,
        "min_child_weight": 20,
        "lambda": 5.0,
        "base_score": float(np.average(rows.y, weights=weights)),
        "seed": options.seed,
        **names,
    }
    history: dict[str, dict[str, list[float]]] = {}
    booster = xgboost.train(
        parameters,
        train,
        num_boost_round=options.max_rounds,
        evals=[(validation, "validation")],
        evals_result=history,
        callbacks=[xgboost.callback.EarlyStopping(rounds=PATIENCE), Report()],
        verbose_eval=False,
    )
    rounds = len(history["validation"]["logloss"])
    progress("xgb: trees", rounds, rounds)
    return booster[: best_round(history["validation"]["logloss"])]


def fit_lightgbm(rows: Rows, balanced: bool, options: TrainOptions, progress: Progress) -> Any:
    """A booster of LightGBM, cut at its best round."""
    import lightgbm

    train = lightgbm.Dataset(rows.x, label=rows.y, weight=class_weights(rows.y, balanced))
    validation = lightgbm.Dataset(rows.x_validation, label=rows.y_validation, reference=train)
    parameters = {
        "objective": "binary",
        "metric": "binary_logloss",
        "num_leaves": 15,
        "learning_rate": 0.05,
        "min_data_in_leaf": 50,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        # Features are never missing; without this NaN would follow whichever side each split happened to prefer.
        "use_missing": False,
        "seed": options.seed,
        "num_threads": options.threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    history: dict[str, dict[str, list[float]]] = {}

    def report(environment: Any) -> None:
        progress("lgbm: trees", environment.iteration + 1, options.max_rounds)

    booster = lightgbm.train(
        parameters,
        train,
        num_boost_round=options.max_rounds,
        # Otherwise LightGBM hands back only the trees up to its own idea of the best round.
        keep_training_booster=True,
        valid_sets=[validation],
        valid_names=["validation"],
        callbacks=[
            lightgbm.early_stopping(PATIENCE, verbose=False),
            lightgbm.record_evaluation(history),
            report,
        ],
    )
    losses = history["validation"]["binary_logloss"]
    progress("lgbm: trees", len(losses), len(losses))
    best = best_round(losses)
    return lightgbm.Booster(model_str=booster.model_to_string(num_iteration=best))

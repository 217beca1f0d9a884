"""The usual loop: symbol by symbol, pandas features, then each model asked about one row; the same weights as ours.

XGBoost answers through `XGBClassifier.predict_proba`; LightGBM through `Booster.predict`, which its `predict_proba`
calls after checks of its own (a loaded booster cannot be put under the classifier); the networks run eagerly in torch
under `inference_mode`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import torch
import xgboost

from benchmarks.usual_features import usual_features
from quantum_trader.core.predictions import DEFAULT_WEIGHTS

_THRESHOLD = 0.52


class UsualModels:
    """One row at a time, in the original libraries."""

    def __init__(self, originals: Mapping[str, Any]) -> None:
        self._xgb = xgboost.XGBClassifier(n_jobs=1)
        self._xgb.load_model(originals["xgb"].save_raw("ubj"))
        self._lgbm: lightgbm.Booster = originals["lgbm"]
        self._networks: dict[str, torch.nn.Module] = {name: originals[name].eval() for name in ("nhits", "patchtst")}

    def answer(self, model: str, row: np.ndarray, sequence: np.ndarray) -> float:
        """One model's probability of a rise for one symbol."""
        if model == "xgb":
            return float(self._xgb.predict_proba(row[None])[0, 1])
        if model == "lgbm":
            return float(self._lgbm.predict(row[None], num_threads=1)[0])
        with torch.inference_mode():
            return torch.sigmoid(self._networks[model](torch.from_numpy(sequence[None]))).item()

    def answers(self, row: np.ndarray, sequence: np.ndarray) -> dict[str, float]:
        """Every model's probability of a rise for one symbol."""
        return {model: self.answer(model, row, sequence) for model in DEFAULT_WEIGHTS}


def decide_one(models: UsualModels, bars: pd.DataFrame) -> tuple[str, float]:
    """Action and confidence for one symbol."""
    return _vote(models.answers(*usual_features(bars)))


def decide_all(models: UsualModels, frames: Sequence[pd.DataFrame]) -> list[tuple[str, float]]:
    """Symbol by symbol."""
    return [decide_one(models, bars) for bars in frames]


def answer_all(models: UsualModels, rows: np.ndarray, sequences: np.ndarray) -> list[dict[str, float]]:
    """Symbol by symbol, with features that are there already."""
    return [models.answers(row, sequence) for row, sequence in zip(rows, sequences, strict=True)]


def _vote(answers: Mapping[str, float]) -> tuple[str, float]:
    scores = {"BUY": 0.0, "SELL": 0.0, "HOLD": 0.0}
    for model, p_up in answers.items():
        action = "BUY" if p_up >= _THRESHOLD else "SELL" if p_up <= 1 - _THRESHOLD else "HOLD"
        scores[action] += DEFAULT_WEIGHTS[model]
    action = max(scores, key=lambda name: scores[name])
    return action, scores[action]

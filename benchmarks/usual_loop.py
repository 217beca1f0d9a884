"""The usual loop: symbol by symbol, pandas features, then each model asked about one row; the same weights as ours.

`UsualModels` is the straightforward code: the last row of the frame goes to `predict_proba` of the scikit-learn
interfaces, the networks run eagerly in torch. `LeanModels` is what somebody writes who has profiled that: plain arrays
and the boosters' own calls. Both ask one row at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
import xgboost

from benchmarks.usual_features import usual_features
from quantum_trader.core.features import SCHEMA
from quantum_trader.core.predictions import DEFAULT_WEIGHTS, MODELS

_THRESHOLD = 0.52


@dataclass(frozen=True)
class Inputs:
    """What the models see of one symbol: one row as a frame, and a sequence (128, 8)."""

    row: pd.DataFrame
    sequence: np.ndarray

    @classmethod
    def of(cls, row: np.ndarray, sequence: np.ndarray) -> "Inputs":
        """From a row of features (F,)."""
        return cls(pd.DataFrame([row], columns=list(SCHEMA.names)), sequence.copy())


class OneByOne(Protocol):
    """Models that answer for one symbol at a time."""

    def answer(self, model: str, inputs: Inputs) -> float:
        """One model's probability of a rise."""


class UsualModels:
    """Through scikit-learn's interface and eager torch."""

    def __init__(self, originals: Mapping[str, Any]) -> None:
        self._trees = {"xgb": _classifier(originals["xgb"]), "lgbm": originals["lgbm"]}
        self._networks: dict[str, torch.nn.Module] = {name: originals[name].eval() for name in ("nhits", "patchtst")}

    def answer(self, model: str, inputs: Inputs) -> float:
        """One model's probability of a rise."""
        if model in self._trees:
            return float(self._trees[model].predict_proba(inputs.row)[0, 1])
        return _eager(self._networks[model], inputs.sequence)


class LeanModels:
    """Through the boosters themselves, on arrays, and eager torch."""

    def __init__(self, originals: Mapping[str, Any]) -> None:
        self._xgb: xgboost.Booster = originals["xgb"]
        self._lgbm = originals["lgbm"].booster_
        self._networks: dict[str, torch.nn.Module] = {name: originals[name].eval() for name in ("nhits", "patchtst")}

    def answer(self, model: str, inputs: Inputs) -> float:
        """One model's probability of a rise."""
        if model == "xgb":
            return float(self._xgb.inplace_predict(inputs.row.to_numpy())[0])
        if model == "lgbm":
            return float(self._lgbm.predict(inputs.row.to_numpy(), num_threads=1)[0])
        return _eager(self._networks[model], inputs.sequence)


def _classifier(booster: xgboost.Booster) -> xgboost.XGBClassifier:
    classifier = xgboost.XGBClassifier(n_jobs=1)
    classifier.load_model(booster.save_raw("ubj"))
    return classifier


def _eager(network: torch.nn.Module, sequence: np.ndarray) -> float:
    with torch.inference_mode():
        return torch.sigmoid(network(torch.from_numpy(sequence[None]))).item()


def answer_all(models: OneByOne, inputs: Sequence[Inputs]) -> list[dict[str, float]]:
    """Every model's probability for every symbol, symbol by symbol, with features that are there already."""
    return [{model: models.answer(model, one) for model in MODELS} for one in inputs]


def decide_all(models: OneByOne, frames: Sequence[pd.DataFrame]) -> list[tuple[str, float]]:
    """Action and confidence for every symbol, symbol by symbol, from its bars."""
    decided = []
    for bars in frames:
        inputs = Inputs(*usual_features(bars))
        decided.append(_vote({model: models.answer(model, inputs) for model in MODELS}))
    return decided


def _vote(answers: Mapping[str, float]) -> tuple[str, float]:
    scores = {"BUY": 0.0, "SELL": 0.0, "HOLD": 0.0}
    for model, p_up in answers.items():
        action = "BUY" if p_up >= _THRESHOLD else "SELL" if p_up <= 1 - _THRESHOLD else "HOLD"
        scores[action] += DEFAULT_WEIGHTS[model]
    action = max(scores, key=lambda name: scores[name])
    return action, scores[action]

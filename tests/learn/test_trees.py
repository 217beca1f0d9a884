"""The trees: cut at their best round, weighted, the same twice."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from quantum_trader.learn.dataset import Dataset
from quantum_trader.learn.export_trees import lightgbm_answers, xgboost_answers
from quantum_trader.learn.options import TrainOptions
from quantum_trader.learn.progress import silent
from quantum_trader.learn.splits import time_split
from quantum_trader.learn.trees import MIN_ROUNDS, Rows, best_round, class_weights, fit_lightgbm, fit_xgboost

OPTIONS = TrainOptions(max_rounds=120)
FITS = {"xgb": (fit_xgboost, xgboost_answers), "lgbm": (fit_lightgbm, lightgbm_answers)}


@pytest.fixture(scope="module")
def rows(dataset: Dataset) -> Rows:
    split = time_split(dataset.ts, dataset.y, 13 * dataset.interval)
    return Rows(
        dataset.rows[split.train], dataset.y[split.train], dataset.rows[split.validation], dataset.y[split.validation]
    )


def _size(booster: Any) -> int:
    return booster.num_boosted_rounds() if hasattr(booster, "num_boosted_rounds") else booster.num_trees()


def test_the_best_round_is_the_first_lowest_from_the_minimum_on() -> None:
    falling = [1.0 - i / 100 for i in range(40)]
    assert best_round(falling) == 40
    assert best_round([0.0, *falling]) == 41, "a lucky early round does not count"
    assert best_round([1.0] * 60) == MIN_ROUNDS
    assert best_round([3.0, 2.0, 4.0]) == 3
    assert best_round([1.0] * 30 + [0.5] + [0.9] * 20 + [0.5]) == 31


@pytest.mark.parametrize("model", FITS)
def test_it_is_cut_at_the_round_with_the_lowest_validation_loss(rows: Rows, model: str) -> None:
    fit, answers = FITS[model]
    booster = fit(rows, False, OPTIONS, silent)
    longest = fit(rows, False, TrainOptions(max_rounds=_size(booster) + 10), silent)

    def loss(p: np.ndarray) -> float:
        return float(-np.mean(np.log(np.where(rows.y_validation == 1, p, 1 - p))))

    # The loss of every prefix of the booster, by its own answers.
    losses = [loss(_prefix(model, longest, n, rows.x_validation)) for n in range(1, _size(longest) + 1)]
    assert _size(booster) < OPTIONS.max_rounds
    assert loss(answers(booster, rows.x_validation)) == pytest.approx(min(losses[MIN_ROUNDS - 1 :]), abs=1e-7)


def _prefix(model: str, booster: Any, trees: int, x: np.ndarray) -> np.ndarray:
    if model == "xgb":
        return xgboost_answers(booster[:trees], x)
    return np.asarray(booster.predict(x, num_iteration=trees))


@pytest.mark.parametrize("model", FITS)
def test_the_same_seed_gives_the_same_trees(rows: Rows, model: str) -> None:
    fit, _ = FITS[model]
    first, second = (_text(fit(rows, False, OPTIONS, silent)) for _ in range(2))
    assert first == second
    assert _text(fit(rows, False, TrainOptions(max_rounds=120, seed=4), silent)) != first


def _text(booster: Any) -> str:
    return json.dumps(booster.get_dump()) if hasattr(booster, "get_dump") else booster.model_to_string()


@pytest.mark.parametrize("model", FITS)
def test_it_learns_a_regularity_that_is_there(model: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3_000, 12)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int8)
    fit, answers = FITS[model]
    booster = fit(Rows(x[:2_000], y[:2_000], x[2_000:], y[2_000:]), False, OPTIONS, silent)
    assert ((answers(booster, x[2_000:]) > 0.5) == (y[2_000:] == 1)).mean() > 0.8


@pytest.mark.parametrize("model", FITS)
def test_balance_takes_the_prior_out(model: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3_000, 6)).astype(np.float32)
    y = (rng.random(3_000) < 0.8).astype(np.int8)
    rows = Rows(x[:2_000], y[:2_000], x[2_000:], y[2_000:])
    fit: Callable[..., Any]
    fit, answers = FITS[model]
    means = [answers(fit(rows, balanced, OPTIONS, silent), rows.x).mean() for balanced in (False, True)]
    assert means[0] == pytest.approx(0.8, abs=0.05)
    assert means[1] == pytest.approx(0.5, abs=0.1)


def test_class_weights_balance_the_classes() -> None:
    y = np.array([1, 1, 1, 0], np.int8)
    weights = class_weights(y, balanced=True)
    assert weights[y == 1].sum() == weights[y == 0].sum() == 2
    assert class_weights(y, balanced=False).tolist() == [1, 1, 1, 1]

"""Training from data set to artefact: all four models, once, small."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.learn.conftest import NOW, SMALL

from quantum_trader.core.errors import ArtefactError, TrainingError
from quantum_trader.core.features import SCHEMA, SEQUENCE_NAMES
from quantum_trader.core.predictions import MODELS
from quantum_trader.learn.dataset import Dataset
from quantum_trader.learn.splits import time_split
from quantum_trader.learn.train import USES, train_model
from quantum_trader.models.artefact import Artefact, load_artefact
from quantum_trader.models.inference import OnnxModel

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("model", MODELS)
def test_the_manifest_tells_where_the_model_comes_from(
    trained: dict[str, Artefact], dataset: Dataset, model: str
) -> None:
    manifest = trained[model].manifest
    split = time_split(dataset.ts, dataset.y, 13 * dataset.interval)
    assert manifest.name == f"{model}_v20260110_023633"
    assert manifest.created == "2026-01-10T02:36:33+00:00"
    assert (manifest.lineage, manifest.version) == (f"{model}-5m-h12d1", 1)
    assert manifest.features == SCHEMA.digest
    assert manifest.training is not None
    assert manifest.training.bars_sha256 == dataset.bars_sha256
    assert manifest.training.rows.train == len(split.train)
    assert manifest.training.window_last_ms == dataset.ts[split.train[-1]]
    assert manifest.training.balanced is (model == "patchtst")
    assert manifest.parity.rows >= 10_000
    assert manifest.parity.max_abs_dp <= 1e-5
    assert manifest.parity.flips == 0
    assert tuple(manifest.feature_statistics) == (SCHEMA.names if USES[model] == "row" else SEQUENCE_NAMES)


@pytest.mark.parametrize("model", MODELS)
def test_metrics_thresholds_and_statistics_are_the_served_file_s(
    trained: dict[str, Artefact], dataset: Dataset, model: str
) -> None:
    manifest, served = trained[model].manifest, OnnxModel(trained[model])
    inputs = dataset.rows if USES[model] == "row" else dataset.sequences
    split = time_split(dataset.ts, dataset.y, 13 * dataset.interval)
    p, y = served.predict(inputs[split.validation]), dataset.y[split.validation]
    assert manifest.metrics is not None
    assert manifest.metrics.validation.log_loss == pytest.approx(-np.mean(np.log(np.where(y == 1, p, 1 - p))))
    assert manifest.metrics.validation.prior == pytest.approx(dataset.y[split.train].mean())
    lower, upper = np.quantile(p, [1 / 3, 2 / 3])
    assert manifest.thresholds.buy_above == pytest.approx(max(0.5, upper), abs=1e-3)
    assert manifest.thresholds.sell_below == pytest.approx(min(0.5, lower), abs=1e-3)
    train = inputs[split.train] if USES[model] == "row" else inputs[split.train, -1]
    for column, name in enumerate(manifest.feature_statistics):
        statistics = manifest.feature_statistics[name]
        assert statistics.mean == pytest.approx(train[:, column].mean(dtype=np.float64))
        assert statistics.deciles[4] == pytest.approx(np.median(train[:, column]), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("model", ["xgb", "nhits"])
def test_the_same_seed_gives_the_same_model_file_on_another_day(
    trained: dict[str, Artefact], dataset: Dataset, tmp_path: Path, model: str
) -> None:
    again = load_artefact(train_model(model, dataset, SMALL, tmp_path, NOW + timedelta(days=3)))
    assert again.manifest.files == trained[model].manifest.files
    assert again.manifest.metrics == trained[model].manifest.metrics
    assert again.digest != trained[model].digest, "the date is part of the identity"


def test_a_retraining_counts_up_and_never_overwrites(dataset: Dataset, tmp_path: Path) -> None:
    first = train_model("lgbm", dataset, SMALL, tmp_path, NOW)
    with pytest.raises(ArtefactError, match="never overwritten"):
        train_model("lgbm", dataset, SMALL, tmp_path, NOW)
    second = train_model("lgbm", dataset, replace(SMALL, seed=8), tmp_path, NOW + timedelta(seconds=1))
    assert [load_artefact(folder).manifest.version for folder in (first, second)] == [1, 2]


@pytest.mark.parametrize("model", ["xgb", "lgbm"])
def test_a_model_that_collapsed_is_refused_and_nothing_is_written(dataset: Dataset, tmp_path: Path, model: str) -> None:
    # Nearly everything rises, and nothing says when: the best answer is "up", always.
    rises = (np.random.default_rng(0).random(len(dataset)) < 0.97).astype(np.int8)
    with pytest.raises(TrainingError, match="collapsed"):
        train_model(model, replace(dataset, y=rises), SMALL, tmp_path / "models", NOW)
    assert not (tmp_path / "models").exists()


def test_inputs_without_information_give_a_constant_and_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    blank = replace(dataset, sequences=np.ones_like(dataset.sequences))
    with pytest.raises(TrainingError, match="collapsed"):
        train_model("nhits", blank, SMALL, tmp_path / "models", NOW)
    assert not (tmp_path / "models").exists()


class _Interrupt(Exception):
    """Stands for Ctrl-C at a moment of the test's choosing."""


@pytest.mark.parametrize("stage", ["xgb: trees", "xgb: proof"])
def test_an_interruption_at_any_stage_leaves_nothing(dataset: Dataset, tmp_path: Path, stage: str) -> None:
    def interrupt(now: str, done: int, total: int) -> None:
        if now == stage and done < total:
            raise _Interrupt

    with pytest.raises(_Interrupt):
        train_model("xgb", dataset, SMALL, tmp_path / "models", NOW, interrupt)
    assert not (tmp_path / "models").exists()


def test_an_unknown_model_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="model 'lstm'"):
        train_model("lstm", dataset, SMALL, tmp_path, NOW)

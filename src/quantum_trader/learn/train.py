"""Training of one model, from a data set to an artefact: fit, export, prove, judge and write, or write nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.bars import IntArray
from quantum_trader.core.errors import TrainingError
from quantum_trader.core.features import SCHEMA, SEQUENCE_NAMES, Float32Array
from quantum_trader.core.predictions import MODELS
from quantum_trader.learn.dataset import Dataset
from quantum_trader.learn.evaluate import part_metrics, refuse_collapsed, tercile_thresholds
from quantum_trader.learn.lineage import library_versions, next_version
from quantum_trader.learn.options import TrainOptions
from quantum_trader.learn.parity import prove, sequence_rows, tree_rows
from quantum_trader.learn.progress import Progress, silent
from quantum_trader.learn.splits import Split, time_split
from quantum_trader.models.artefact import file_entries, write_artefact
from quantum_trader.models.inference import OnnxGraph
from quantum_trader.models.manifest import (
    FORMAT,
    MODEL_FILE,
    ActionThresholds,
    FeatureStatistics,
    Label,
    Manifest,
    Metrics,
    SplitRows,
    Training,
    Uses,
)

USES: dict[str, Uses] = {"xgb": "row", "lgbm": "row", "nhits": "sequence", "patchtst": "sequence"}

Answers = Callable[[NDArray[np.float32]], NDArray[np.float64]]


@dataclass(frozen=True)
class Trained:
    """A fitted model on its way out.

    Attributes:
        onnx_bytes: The exported graph.
        answers: The trained model's own probabilities for any inputs.
        proof: Inputs on which the two are compared.
    """

    onnx_bytes: bytes
    answers: Answers
    proof: Float32Array


def train_model(
    name: str, dataset: Dataset, options: TrainOptions, out_dir: Path, now: datetime, progress: Progress = silent
) -> Path:
    """Train one model and write its artefact.

    Args:
        name: Short name, one of `core.predictions.MODELS`.
        dataset: Rows in order of time.
        options: How to train.
        out_dir: Folder of artefacts; made where it does not exist.
        now: Time stamp of the artefact, with a time zone.
        progress: Told how far it is.

    Returns:
        The new folder, ``NAME_vYYYYMMDD_HHMMSS``.

    Raises:
        TrainingError: if the data do not suffice, the export cannot be proven, or the output has collapsed.
        ArtefactError: if the artefact exists already.
    """
    if name not in MODELS:
        raise TrainingError(f"model {name!r}: expected one of {', '.join(MODELS)}")
    split = time_split(dataset.ts, dataset.y, (dataset.horizon + dataset.delay) * dataset.interval)
    inputs = dataset.rows if USES[name] == "row" else dataset.sequences
    fit = _fit_tree if USES[name] == "row" else _fit_network
    trained = fit(name, inputs, dataset.y, split, options, progress)
    progress(f"{name}: proof", 0, 3)
    graph = OnnxGraph(trained.onnx_bytes, USES[name], name)
    p_validation, p_test = (graph.run(inputs[part]) for part in (split.validation, split.test))
    progress(f"{name}: proof", 1, 3)
    original, exported = trained.answers(trained.proof), graph.run(trained.proof)
    thresholds = tercile_thresholds(p_validation, np.concatenate([original, exported]))
    parity = prove(original, exported, thresholds, name)
    progress(f"{name}: proof", 2, 3)
    refuse_collapsed(p_validation, thresholds, name)
    prior = float(dataset.y[split.train].mean())
    stamp = now.astimezone(UTC)
    lineage = options.lineage or f"{name}-{dataset.timeframe}-h{dataset.horizon}d{dataset.delay}"
    files = {MODEL_FILE: trained.onnx_bytes}
    manifest = Manifest(
        format=FORMAT,
        model=name,
        name=f"{name}_v{stamp:%Y%m%d_%H%M%S}",
        created=stamp.isoformat(timespec="seconds"),
        lineage=lineage,
        version=options.version or next_version(out_dir, lineage),
        uses=USES[name],
        features=SCHEMA.digest,
        label=Label(dataset.horizon, dataset.delay),
        thresholds=ActionThresholds(thresholds.buy_above, thresholds.sell_below),
        calibration=None,
        files=file_entries(files),
        training=_training(dataset, split, options, options.balances(name)),
        metrics=Metrics(
            validation=part_metrics(dataset.y[split.validation], p_validation, prior),
            test=part_metrics(dataset.y[split.test], p_test, prior),
        ),
        parity=parity,
        libraries=library_versions(name),
        feature_statistics=feature_statistics(name, inputs, split.train),
    )
    folder = write_artefact(out_dir, manifest, files)
    progress(f"{name}: proof", 3, 3)
    return folder


def _fit_tree(
    name: str, rows: Float32Array, y: NDArray[np.int8], split: Split, options: TrainOptions, progress: Progress
) -> Trained:
    from quantum_trader.learn import export_trees, trees

    fit, export, answers, splits = {
        "xgb": (
            trees.fit_xgboost,
            export_trees.xgboost_bytes,
            export_trees.xgboost_answers,
            export_trees.xgboost_splits,
        ),
        "lgbm": (
            trees.fit_lightgbm,
            export_trees.lightgbm_bytes,
            export_trees.lightgbm_answers,
            export_trees.lightgbm_splits,
        ),
    }[name]
    data = trees.Rows(rows[split.train], y[split.train], rows[split.validation], y[split.validation])
    booster: Any = fit(data, options.balances(name), options, progress)
    proof = tree_rows(rows, splits(booster), options.parity_rows, options.seed)
    return Trained(export(booster), lambda some: answers(booster, some), proof)


def _fit_network(
    name: str, sequences: Float32Array, y: NDArray[np.int8], split: Split, options: TrainOptions, progress: Progress
) -> Trained:
    from quantum_trader.learn import export_networks, fit_networks

    data = fit_networks.Sequences(sequences, y, split.train, split.validation)
    fitted = fit_networks.fit_network(name, data, options.balances(name), options, progress)
    proof = sequence_rows(sequences, options.parity_rows, options.seed)
    return Trained(
        export_networks.network_bytes(fitted.network),
        lambda some: export_networks.network_answers(fitted.network, some, options.threads),
        proof,
    )


def feature_statistics(name: str, inputs: Float32Array, train: IntArray) -> dict[str, FeatureStatistics]:
    """Statistics over the training part of each feature a model reads; of sequences, of their last bar."""
    names = SCHEMA.names if USES[name] == "row" else SEQUENCE_NAMES
    values = (inputs[train] if USES[name] == "row" else inputs[train, -1]).astype(np.float64)
    deciles = np.quantile(values, np.arange(1, 10) / 10, axis=0)
    return {
        feature: FeatureStatistics(float(mean), float(std), tuple(column.tolist()))
        for feature, mean, std, column in zip(names, values.mean(axis=0), values.std(axis=0), deciles.T, strict=True)
    }


def _training(dataset: Dataset, split: Split, options: TrainOptions, balanced: bool) -> Training:
    return Training(
        bars_sha256=dataset.bars_sha256,
        symbols=dataset.symbols,
        timeframe=dataset.timeframe,
        window_first_ms=int(dataset.ts[split.train[0]]),
        window_last_ms=int(dataset.ts[split.train[-1]]),
        rows=SplitRows(len(split.train), len(split.validation), len(split.test)),
        seed=options.seed,
        balanced=balanced,
    )

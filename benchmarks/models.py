"""Four real models with both their forms: what the trainer fitted, and the artefact that is exported from it.

The networks have their full architecture and hardly any training, which is no matter to their speed. The trees are as
many as the demo's trainer allows at most: they are fitted with their own training rows as validation, so that early
stopping, which would leave fewer of them on such data, never does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import simulated
from benchmarks.harness import Progress
from quantum_trader.core.features import SCHEMA
from quantum_trader.core.predictions import MODELS, Thresholds
from quantum_trader.learn import export_networks, export_trees, fit_networks, trees
from quantum_trader.learn.dataset import Dataset, DatasetOptions, build_dataset
from quantum_trader.learn.evaluate import tercile_thresholds
from quantum_trader.learn.lineage import library_versions
from quantum_trader.learn.options import TrainOptions
from quantum_trader.learn.parity import prove
from quantum_trader.learn.progress import silent
from quantum_trader.learn.train import USES
from quantum_trader.models.artefact import file_entries, load_artefact, write_artefact
from quantum_trader.models.inference import OnnxGraph, OnnxModel
from quantum_trader.models.manifest import FORMAT, MODEL_FILE, ActionThresholds, Label, Manifest, Parity

OPTIONS = TrainOptions(
    balanced=True, max_epochs=1, samples_per_epoch=2_048, max_rounds=TrainOptions.demo().max_rounds, parity_rows=10_000
)
_SYMBOLS, _BARS = 5, 2_560
_STAMP, _CREATED = "20260101_000000", "2026-01-01T00:00:00+00:00"


@dataclass(frozen=True)
class RealModels:
    """Both forms of every model.

    Attributes:
        paths: Folder of each artefact, in breakdown order.
        originals: XGBoost's booster, LightGBM's classifier and the torch modules, by model.
        max_abs_dp: Largest difference between the two forms over the proof's rows, by model.
        trees: Trees of each booster.
    """

    paths: Mapping[str, Path]
    originals: Mapping[str, Any]
    max_abs_dp: Mapping[str, float]
    trees: Mapping[str, int]

    def served(self) -> dict[str, OnnxModel]:
        """The artefacts, loaded and warm, in breakdown order."""
        models = {name: OnnxModel(load_artefact(path)) for name, path in self.paths.items()}
        for model in models.values():
            model.warm_up()
        return models

    def described(self) -> str:
        """What the models are, for a note."""
        worst = max(self.max_abs_dp.values())
        return (
            f"models: XGBoost {self.trees['xgb']} trees, LightGBM {self.trees['lgbm']} trees, N-HiTS and PatchTST in "
            f"full size; exported and original answers differ by at most {worst:.1e} over 10,000 rows a model"
        )


def build(folder: Path, progress: Progress) -> RealModels:
    """Fit, export, prove and write the four models below a folder; takes about 20 s of one core."""
    # One process, and a few rows more than a proof needs.
    dataset = build_dataset(simulated(_SYMBOLS, _BARS), DatasetOptions(workers=1))
    paths, originals, differences = {}, {}, {}
    for done, name in enumerate(MODELS):
        progress("fitting and exporting the models", done, len(MODELS))
        originals[name] = _fit(name, dataset)
        paths[name], differences[name] = _export(name, originals[name], dataset, folder)
    progress("fitting and exporting the models", len(MODELS), len(MODELS))
    counts = {"xgb": int(originals["xgb"].num_boosted_rounds()), "lgbm": int(originals["lgbm"].booster_.num_trees())}
    return RealModels(paths, originals, differences, counts)


def _fit(name: str, dataset: Dataset) -> Any:
    if name == "xgb":
        rows = trees.Rows(dataset.rows, dataset.y, dataset.rows, dataset.y)
        return trees.fit_xgboost(rows, OPTIONS.balances(name), OPTIONS, silent)
    if name == "lgbm":
        return _lightgbm_classifier(dataset)
    every = np.arange(len(dataset))
    data = fit_networks.Sequences(dataset.sequences, dataset.y, every, every[-1024:])
    return fit_networks.fit_network(name, data, OPTIONS.balances(name), OPTIONS, silent).network


def _lightgbm_classifier(dataset: Dataset) -> Any:
    """LightGBM under scikit-learn's interface with the trainer's parameters: it cannot take over a booster."""
    import lightgbm
    import pandas as pd

    classifier = lightgbm.LGBMClassifier(
        n_estimators=OPTIONS.max_rounds,
        num_leaves=15,
        learning_rate=0.05,
        min_child_samples=50,
        colsample_bytree=0.7,
        subsample=0.7,
        subsample_freq=1,
        reg_lambda=5.0,
        use_missing=False,
        random_state=OPTIONS.seed,
        n_jobs=1,
        verbosity=-1,
    )
    return classifier.fit(pd.DataFrame(dataset.rows, columns=list(SCHEMA.names)), dataset.y)


_EXPORTS: dict[str, Any] = {
    "xgb": (export_trees.xgboost_bytes, export_trees.xgboost_answers),
    "lgbm": (export_trees.lightgbm_bytes, export_trees.lightgbm_answers),
    "nhits": (export_networks.network_bytes, export_networks.network_answers),
    "patchtst": (export_networks.network_bytes, export_networks.network_answers),
}


def _export(name: str, original: Any, dataset: Dataset, folder: Path) -> tuple[Path, float]:
    export, answers = _EXPORTS[name]
    fitted = original.booster_ if name == "lgbm" else original
    raw = export(fitted)
    inputs = (dataset.rows if USES[name] == "row" else dataset.sequences)[: OPTIONS.parity_rows]
    ours, theirs = OnnxGraph(raw, USES[name], name).run(inputs), answers(fitted, inputs)
    thresholds = tercile_thresholds(ours, np.concatenate([ours, theirs]))
    parity = prove(theirs, ours, thresholds, name)
    files = {MODEL_FILE: raw}
    return write_artefact(folder, _manifest(name, files, thresholds, parity), files), parity.max_abs_dp


def _manifest(name: str, files: Mapping[str, bytes], thresholds: Thresholds, parity: Parity) -> Manifest:
    return Manifest(
        format=FORMAT,
        model=name,
        name=f"{name}_v{_STAMP}",
        created=_CREATED,
        lineage=f"{name}-benchmark",
        version=1,
        uses=USES[name],
        features=SCHEMA.digest,
        label=Label(12, 1),
        thresholds=ActionThresholds(thresholds.buy_above, thresholds.sell_below),
        calibration=None,
        files=file_entries(files),
        training=None,
        metrics=None,
        parity=parity,
        libraries=library_versions(name),
        feature_statistics={},
    )

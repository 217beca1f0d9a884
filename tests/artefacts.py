"""Small real artefacts for tests: a logistic regression on returns as ONNX, written and verified as any other.

`from tests.artefacts import make_artefact` works from every test module.
"""

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantum_trader.core.calibration import Curve, PlattCurve
from quantum_trader.core.features import RETURN_LAGS, SCHEMA, SEQUENCE_LENGTH, SEQUENCE_NAMES
from quantum_trader.core.predictions import MODELS
from quantum_trader.models.artefact import file_entries, load_artefact, write_artefact
from quantum_trader.models.calibration import map_of, parse, write_calibration
from quantum_trader.models.inference import BATCH_ROWS, OUTPUT, input_shape
from quantum_trader.models.manifest import (
    FORMAT,
    MODEL_FILE,
    UNKNOWN_FEATURES,
    ActionThresholds,
    FeatureStatistics,
    Label,
    Manifest,
    Metrics,
    Parity,
    PartMetrics,
    SplitRows,
    Training,
    Uses,
)

GOLDEN = Path(__file__).parent / "golden" / "calibration"

USES: dict[str, Uses] = {"xgb": "row", "lgbm": "row", "nhits": "sequence", "patchtst": "sequence"}

_TYPICAL_RETURN = 0.002
"""Of one 5-minute bar: makes logits of about 1 on real bars, so that all three actions occur."""

_METRICS = PartMetrics(log_loss=0.69, brier=0.249, auc=0.53, accuracy=0.52, prior=0.5, prior_log_loss=0.6931)


def make_artefact(folder: Path, model: str, seed: int = 0, **overrides: Any) -> Path:
    """Write an artefact below `folder` and return its own folder.

    Args:
        folder: Parent; made where it does not exist.
        model: Short name of the model.
        seed: Chooses the weights, the version and the stamp in the name (below 86,400): equal seeds, equal bytes.
        overrides: Manifest fields that differ; `onnx_bytes` replaces the graph.
    """
    raw = overrides.pop("onnx_bytes", None) or onnx_bytes(model, seed)
    manifest = make_manifest(model, raw, seed, **overrides)
    return write_artefact(folder, manifest, {MODEL_FILE: raw})


def make_imported(folder: Path, model: str = "patchtst", seed: int = 0) -> Path:
    """An artefact as `quantum models import` leaves it: nobody knows what it was trained on."""
    return make_artefact(
        folder, model, seed, features=UNKNOWN_FEATURES, training=None, metrics=None, feature_statistics={}
    )


def make_manifest(model: str, raw: bytes, seed: int = 0, **overrides: Any) -> Manifest:
    """A whole manifest around a model file."""
    minutes, seconds = divmod(seed, 60)
    hours, minutes = divmod(minutes, 60)
    manifest = Manifest(
        format=FORMAT,
        model=model,
        name=f"{model}_v20260101_{hours:02d}{minutes:02d}{seconds:02d}",
        created=f"2026-01-01T{hours:02d}:{minutes:02d}:{seconds:02d}Z",
        lineage=model,
        version=seed + 1,
        uses=USES[model],
        features=SCHEMA.digest,
        label=Label(horizon=12, delay=1),
        thresholds=ActionThresholds(buy_above=0.52, sell_below=0.48),
        calibration=None,
        files=file_entries({MODEL_FILE: raw}),
        training=Training(
            bars_sha256="0" * 64,
            symbols=("BTCUSDT",),
            timeframe="5m",
            window_first_ms=0,
            window_last_ms=300_000,
            rows=SplitRows(train=1000, validation=100, test=100),
            seed=seed,
            balanced=False,
        ),
        metrics=Metrics(validation=_METRICS, test=_METRICS),
        parity=Parity(rows=10_000, max_abs_dp=0.0, flips=0),
        libraries={"onnx": onnx.__version__},
        feature_statistics={
            name: FeatureStatistics(mean=0.0, std=1.0, deciles=tuple(np.linspace(-1, 1, 9).tolist()))
            for name in SCHEMA.names
        },
    )
    return msgspec.structs.replace(manifest, **overrides)


def make_calibration(path: Path, artefact: Path, curve: Curve | None = None, model: str = "") -> str:
    """Write a calibration of an artefact and return what a setting says of it, FILE@DIGEST.

    Args:
        path: Of the file.
        artefact: Folder of the artefact.
        curve: The map; one that takes half of all log-odds if not given.
        model: Another model's name than the artefact's.
    """
    owner = load_artefact(artefact)
    golden = parse((GOLDEN / "platt.calibration.json").read_bytes(), "golden")
    content = msgspec.structs.replace(
        golden,
        model=model or owner.manifest.model,
        artefact=owner.digest,
        map=map_of(curve or PlattCurve(0.1, 0.5)),
    )
    return f"{path}@{write_calibration(path, content)}"


@cache
def onnx_bytes(model: str, seed: int = 0) -> bytes:
    """The graph of a model: p_up = sigmoid(returns @ weights), at the fixed shape that is served."""
    weights = _row_weights(model, seed) if USES[model] == "row" else _sequence_weights(model, seed)
    return graph_bytes(weights, USES[model])


def graph_bytes(weights: NDArray[np.float32], uses: Uses, output: str = OUTPUT, rows: int = BATCH_ROWS) -> bytes:
    """A logistic regression over the flattened input; weights of shape (inputs,)."""
    inputs = len(weights)
    nodes = [
        helper.make_node("Reshape", ["x", "flat_shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logit_column"]),
        helper.make_node("Reshape", ["logit_column", "out_shape"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], [output]),
    ]
    constants = {
        "weights": weights.astype(np.float32).reshape(inputs, 1),
        "flat_shape": np.array([rows, inputs], dtype=np.int64),
        "out_shape": np.array([rows], dtype=np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "logistic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape(uses, rows))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [rows])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    raw: bytes = model.SerializeToString(deterministic=True)
    return raw


def _row_weights(model: str, seed: int) -> NDArray[np.float32]:
    draws = _rng(model, seed).standard_normal(len(RETURN_LAGS))
    weights = np.zeros(len(SCHEMA.names), dtype=np.float32)
    for lag, draw in zip(RETURN_LAGS, draws, strict=True):
        weights[SCHEMA.names.index(f"ret_{lag}")] = draw / (_TYPICAL_RETURN * np.sqrt(lag * len(RETURN_LAGS)))
    return weights


def _sequence_weights(model: str, seed: int) -> NDArray[np.float32]:
    weights = np.zeros((SEQUENCE_LENGTH, len(SEQUENCE_NAMES)), dtype=np.float32)
    draws = _rng(model, seed).standard_normal(SEQUENCE_LENGTH)
    weights[:, SEQUENCE_NAMES.index("ret_1")] = draws / (_TYPICAL_RETURN * np.sqrt(SEQUENCE_LENGTH))
    return weights.ravel()


def _rng(model: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([MODELS.index(model), seed])

"""Tree models to ONNX: one TreeEnsembleClassifier, its column of rises, a fixed batch.

LightGBM compares float32 inputs with float64 thresholds, ONNX with float32 ones; rounding a threshold to the nearest
float32 sends rows that lie on it the other way (wrong by up to 0.19 in trials). Floored thresholds decide alike for
every float32 input. And LightGBM reads inputs up to 1e-35 from zero as zero, which ONNX does not: thresholds in that
band move to its edges.
"""

import json
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.errors import TrainingError
from quantum_trader.core.features import SCHEMA, Float32Array
from quantum_trader.learn.parity import SplitPoints, floor32
from quantum_trader.models.inference import BATCH_ROWS, OUTPUT

_OPSET = 17
_ML_OPSET = 1
_IR_VERSION = 8

_ZERO = np.float32(1e-35)
"""kZeroThreshold of LightGBM's include/LightGBM/bin.h: inputs no further from zero are zero to it."""


def xgboost_bytes(booster: Any) -> bytes:
    """ONNX bytes of an XGBoost booster: (`BATCH_ROWS`, F) to p_up (`BATCH_ROWS`,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxmltools import convert_xgboost

        return _fixed_graph(convert_xgboost(booster, initial_types=_initial_types()))


def lightgbm_bytes(booster: Any) -> bytes:
    """ONNX bytes of a LightGBM booster: (`BATCH_ROWS`, F) to p_up (`BATCH_ROWS`,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxmltools import convert_lightgbm

        floored = _with_float32_thresholds(booster)
        converted = convert_lightgbm(floored, initial_types=_initial_types(), zipmap=False)
    _take_nan_as_zero(converted)
    return _fixed_graph(converted)


def xgboost_answers(booster: Any, rows: Float32Array) -> NDArray[np.float64]:
    """Probabilities of a rise by the booster itself, (n, F) to (n,)."""
    import xgboost

    return np.asarray(booster.predict(xgboost.DMatrix(rows, nthread=1)), dtype=np.float64)


def lightgbm_answers(booster: Any, rows: Float32Array) -> NDArray[np.float64]:
    """Probabilities of a rise by the booster itself, (n, F) to (n,)."""
    return np.asarray(booster.predict(rows, num_threads=1), dtype=np.float64)


def xgboost_splits(booster: Any) -> SplitPoints:
    """Where an XGBoost booster splits."""
    found = []
    for tree in booster.get_dump(dump_format="json"):
        for node in _nodes(json.loads(tree), ("children",)):
            if "split" in node:
                found.append((int(node["split"].removeprefix("f")), float(node["split_condition"])))
    return _points(found)


def lightgbm_splits(booster: Any) -> SplitPoints:
    """Where a LightGBM booster splits."""
    found = []
    for tree in booster.dump_model()["tree_info"]:
        for node in _nodes(tree["tree_structure"], ("left_child", "right_child")):
            if "split_feature" in node:
                found.append((int(node["split_feature"]), float(node["threshold"])))
    return _points(found)


def _points(found: list[tuple[int, float]]) -> SplitPoints:
    return SplitPoints(
        np.array([feature for feature, _ in found], dtype=np.int64),
        np.array([threshold for _, threshold in found], dtype=np.float64),
    )


def _nodes(root: dict[str, Any], keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        for key in keys:
            child = node.get(key, [])
            waiting.extend(child if isinstance(child, list) else [child])


def _initial_types() -> list[tuple[str, Any]]:
    from onnxmltools.convert.common.data_types import FloatTensorType

    return [("rows", FloatTensorType([BATCH_ROWS, len(SCHEMA.names)]))]


def float32_thresholds(thresholds: NDArray[np.float64]) -> Float32Array:
    """Thresholds t (k,) for a plain float32 x <= t that decide as LightGBM does with its float64 ones."""
    floored = floor32(thresholds)
    below_zero = (floored >= -_ZERO) & (floored < 0)
    at_zero = (floored >= 0) & (floored <= _ZERO)
    return np.where(below_zero, np.nextafter(-_ZERO, np.float32(-1)), np.where(at_zero, _ZERO, floored))


def _with_float32_thresholds(booster: Any) -> Any:
    import lightgbm

    lines = []
    for line in booster.model_to_string().split("\n"):
        key, _, values = line.partition("=")
        if key == "threshold" and values:
            floored = float32_thresholds(np.array([float(value) for value in values.split(" ")]))
            line = "threshold=" + " ".join(repr(float(value)) for value in floored)
        # The sizes of the trees' texts have changed with them; without this line LightGBM reads tree by tree.
        if key != "tree_sizes":
            lines.append(line)
    return lightgbm.Booster(model_str="\n".join(lines))


def _take_nan_as_zero(converted: Any) -> None:
    """Send NaN where LightGBM does without missing values: where 0 goes. The converter sends it by default_left."""
    attributes = {attribute.name: attribute for node in converted.graph.node for attribute in node.attribute}
    goes_left = [int(threshold >= 0.0) for threshold in attributes["nodes_values"].floats]
    attributes["nodes_missing_value_tracks_true"].ints[:] = goes_left


def _fixed_graph(converted: Any) -> bytes:
    """The converter's tree node alone, in a graph of ours."""
    from onnx import TensorProto, checker, helper, numpy_helper

    trees = [node for node in converted.graph.node if node.op_type == "TreeEnsembleClassifier"]
    if len(trees) != 1:
        raise TrainingError(f"export: the converter made {len(trees)} tree nodes, expected one")
    tree = trees[0]
    tree.input[:], tree.output[:], tree.name = ["rows"], ["label", "probabilities"], "trees"
    nodes = [
        tree,
        helper.make_node("Slice", ["probabilities", "first", "last", "axis"], ["rises"], name="rises"),
        helper.make_node("Reshape", ["rises", "shape"], [OUTPUT], name=OUTPUT),
    ]
    constants = {"first": [1], "last": [2], "axis": [1], "shape": [BATCH_ROWS]}
    graph = helper.make_graph(
        nodes,
        "trees",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [BATCH_ROWS, len(SCHEMA.names)])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH_ROWS])],
        [numpy_helper.from_array(np.array(value, dtype=np.int64), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="quantum-trader", ir_version=_IR_VERSION)
    checker.check_model(model)
    raw: bytes = model.SerializeToString(deterministic=True)
    return raw

"""Trees to ONNX: alike on ordinary rows, on every threshold and beside it, and on NaN."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from quantum_trader.learn import export_trees
from quantum_trader.learn.dataset import Dataset
from quantum_trader.learn.export_trees import (
    float32_thresholds,
    lightgbm_answers,
    lightgbm_bytes,
    lightgbm_splits,
    xgboost_answers,
    xgboost_bytes,
    xgboost_splits,
)
from quantum_trader.learn.options import TrainOptions
from quantum_trader.learn.parity import tree_rows
from quantum_trader.learn.progress import silent
from quantum_trader.learn.trees import Rows, fit_lightgbm, fit_xgboost
from quantum_trader.models.inference import BATCH_ROWS, OnnxGraph

CASES = {
    "xgb": (fit_xgboost, xgboost_bytes, xgboost_answers, xgboost_splits),
    "lgbm": (fit_lightgbm, lightgbm_bytes, lightgbm_answers, lightgbm_splits),
}


@pytest.fixture(scope="module")
def rows(dataset: Dataset) -> Rows:
    # Many exact zeros and a sign split: LightGBM puts thresholds at its own 1e-35 around zero.
    x = dataset.rows.copy()
    x[:, 0] = np.where(np.abs(x[:, 0]) < 0.002, 0.0, x[:, 0])
    y = np.where(x[:, 0] == 0.0, dataset.y, x[:, 0] > 0).astype(np.int8)
    return Rows(x[:1_900], y[:1_900], x[1_900:], y[1_900:])


@pytest.mark.parametrize("model", CASES)
def test_the_onnx_file_answers_as_the_booster_everywhere(rows: Rows, model: str) -> None:
    fit, export, answers, splits = CASES[model]
    booster = fit(rows, False, TrainOptions(max_rounds=60), silent)
    proof = tree_rows(rows.x, splits(booster), 10_000, 1)
    original = answers(booster, proof)
    exported = OnnxGraph(export(booster), "row", model).run(proof)
    assert np.isfinite(original).all()
    assert np.abs(original - exported).max() < 1e-6
    assert len(np.unique(original)) > 500


def test_thresholds_around_zero_are_really_part_of_that_proof(rows: Rows) -> None:
    booster = fit_lightgbm(rows, False, TrainOptions(max_rounds=60), silent)
    assert (np.abs(lightgbm_splits(booster).thresholds) < 1e-34).any()


def test_the_plain_conversion_is_wrong_on_ties_so_the_proof_can_fail(rows: Rows) -> None:
    booster = fit_lightgbm(rows, False, TrainOptions(max_rounds=60), silent)
    proof = tree_rows(rows.x, lightgbm_splits(booster), 10_000, 1)
    types = [("rows", FloatTensorType([BATCH_ROWS, rows.x.shape[1]]))]
    plain = export_trees._fixed_graph(convert_lightgbm(booster, initial_types=types, zipmap=False))
    difference = np.abs(lightgbm_answers(booster, proof) - OnnxGraph(plain, "row", "plain").run(proof))
    assert difference[:5_000].max() < 1e-6
    assert difference[5_000:9_000].max() > 1e-3


@given(
    threshold=st.one_of(st.floats(-1e3, 1e3), st.floats(-3e-35, 3e-35)),
    x=st.one_of(st.floats(-1e3, 1e3, width=32), st.floats(-(2.0**-114), 2.0**-114, width=32)),
)
def test_float32_thresholds_decide_as_lightgbm_does(threshold: float, x: float) -> None:
    seen = 0.0 if abs(x) <= np.float32(1e-35) else x
    exported = float32_thresholds(np.array([threshold]))[0]
    assert (np.float32(x) <= exported) == (seen <= threshold) or abs(threshold) <= 1.0000001e-35
    # LightGBM itself only ever places a threshold at the edges of that band.
    for edge in (-float(np.float32(1e-35)), float(np.float32(1e-35))):
        assert (np.float32(x) <= float32_thresholds(np.array([edge]))[0]) == (seen <= edge)


@pytest.mark.parametrize("model", CASES)
def test_the_graph_is_one_tree_node_and_a_column(rows: Rows, model: str) -> None:
    fit, export, _, _ = CASES[model]
    raw = export(fit(rows, False, TrainOptions(max_rounds=30), silent))
    graph = onnx.load_from_string(raw).graph
    assert [node.op_type for node in graph.node] == ["TreeEnsembleClassifier", "Slice", "Reshape"]

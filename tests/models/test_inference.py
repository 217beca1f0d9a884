"""Inference at one fixed shape: the right shapes only, padding without effect, no answer to what is not finite."""

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.artefacts import USES, graph_bytes, make_artefact, make_imported

from quantum_trader.core.errors import ArtefactError
from quantum_trader.core.features import SCHEMA
from quantum_trader.core.predictions import MODELS
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.inference import BATCH_ROWS, MOST_ROWS, OnnxGraph, OnnxModel, input_shape

F = len(SCHEMA.names)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OnnxModel]:
    folder = tmp_path_factory.mktemp("models")
    return {model: OnnxModel(load_artefact(make_artefact(folder, model))) for model in MODELS}


def _inputs(model: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    return (rng.standard_normal((n, *input_shape(USES[model])[1:])) * 0.01).astype(np.float32)


@pytest.mark.parametrize("model", MODELS)
def test_answers_do_not_depend_on_the_size_of_the_batch(models: dict[str, OnnxModel], model: str) -> None:
    inputs = _inputs(model, 100)
    whole = models[model].predict(inputs)
    assert whole.shape == (100,)
    assert whole.dtype == np.float64
    assert len(np.unique(whole)) > 50
    for n in range(101):
        assert models[model].predict(inputs[:n]).tobytes() == whole[:n].tobytes()


def test_it_answers_what_the_weights_say(models: dict[str, OnnxModel], tmp_path: Path) -> None:
    weights = np.linspace(-1, 1, F, dtype=np.float32)
    raw = graph_bytes(weights, "row")
    model = OnnxModel(load_artefact(make_artefact(tmp_path, "xgb", onnx_bytes=raw)))
    inputs = _inputs("xgb", 40)
    expected = 1 / (1 + np.exp(-(inputs.astype(np.float64) @ weights.astype(np.float64))))
    np.testing.assert_allclose(model.predict(inputs), expected, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(bad=st.sets(st.integers(0, 44), max_size=10), value=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_input_that_is_not_finite_gets_no_answer_and_disturbs_no_other(bad: set[int], value: float) -> None:
    model = _shared_model()
    inputs = _inputs("xgb", 45)
    expected = model.predict(inputs)
    spoilt = inputs.copy()
    for row in bad:
        spoilt[row, row % F] = value
    answers = model.predict(spoilt)
    for row in range(45):
        assert np.isnan(answers[row]) if row in bad else answers[row] == expected[row]


_MODEL: list[OnnxModel] = []


def _shared_model() -> OnnxModel:
    return _MODEL[0]


@pytest.fixture(autouse=True)
def _share(models: dict[str, OnnxModel]) -> None:
    _MODEL[:] = [models["xgb"]]


@pytest.mark.parametrize("shape", [(3, F + 1), (F,), (3, 128, 8), (3,)])
def test_input_of_another_shape_is_refused(models: dict[str, OnnxModel], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected float32"):
        models["xgb"].predict(np.zeros(shape, dtype=np.float32))


def test_input_of_another_type_is_refused(models: dict[str, OnnxModel]) -> None:
    with pytest.raises(ValueError, match="float64"):
        models["xgb"].predict(np.zeros((3, F)))


def test_thresholds_and_identity_are_the_manifest_s(models: dict[str, OnnxModel]) -> None:
    model = models["nhits"]
    assert (model.thresholds.buy_above, model.thresholds.sell_below) == (0.52, 0.48)
    assert model.uses == "sequence"
    assert model.input_shape == (128, 8)
    assert len(model.digest) == 64
    model.warm_up()


def test_a_foreign_feature_schema_is_refused(tmp_path: Path) -> None:
    artefact = load_artefact(make_artefact(tmp_path, "xgb", features="a" * 64))
    with pytest.raises(ArtefactError, match="trained on feature schema aaaaaaaaaaaaaaaa"):
        OnnxModel(artefact, allow_unknown_schema=True)


def test_an_unknown_feature_schema_needs_leave(tmp_path: Path) -> None:
    artefact = load_artefact(make_imported(tmp_path))
    with pytest.raises(ArtefactError, match="may only be a shadow"):
        OnnxModel(artefact)
    model = OnnxModel(artefact, allow_unknown_schema=True)
    assert not model.manifest.schema_known


@pytest.mark.parametrize("features", [F - 1, F + 1])
def test_a_graph_of_another_width_is_refused(features: int) -> None:
    with pytest.raises(ArtefactError, match="input is"):
        OnnxGraph(_any_graph([BATCH_ROWS, features], TensorProto.FLOAT), "row", "here")


def test_a_graph_of_another_batch_is_refused() -> None:
    """Shapes that name no number of rows, none, or more than anybody has symbols for."""
    for batch in (MOST_ROWS + 1, "n"):
        with pytest.raises(ArtefactError, match=f"input is .*, of 1 to {MOST_ROWS} rows"):
            OnnxGraph(_any_graph([batch, F], TensorProto.FLOAT), "row", "here")
    with pytest.raises(ArtefactError, match="input is"):
        OnnxGraph(_any_graph([0, F], TensorProto.FLOAT), "row", "here")
    with pytest.raises(ArtefactError, match="refuses the model file"):
        OnnxGraph(_any_graph([], TensorProto.FLOAT), "row", "here")


@pytest.mark.parametrize("rows", [1, 8, 32, MOST_ROWS])
def test_a_graph_says_how_many_rows_its_batches_have(rows: int) -> None:
    """Artefacts that were exported for 8 or 32 rows stay in service."""
    weights = np.linspace(-1, 1, F, dtype=np.float32)
    graph = OnnxGraph(graph_bytes(weights, "row", rows=rows), "row", "here")
    assert graph.shape == (rows, F)
    inputs = _inputs("xgb", 100)
    whole = graph.run(inputs)
    np.testing.assert_allclose(whole, 1 / (1 + np.exp(-(inputs.astype(np.float64) @ weights))), atol=1e-6)
    for n in (0, 1, 7, 8, 9, 99):
        assert graph.run(inputs[:n]).tobytes() == whole[:n].tobytes()


def test_a_graph_whose_output_has_other_rows_is_refused() -> None:
    with pytest.raises(ArtefactError, match=r"output is .*, expected p_up float32 \[8\]"):
        OnnxGraph(_any_graph([8, F], TensorProto.FLOAT, answers=5), "row", "here")


def test_a_graph_of_another_type_is_refused() -> None:
    with pytest.raises(ArtefactError, match="input is"):
        OnnxGraph(_any_graph([BATCH_ROWS, F], TensorProto.DOUBLE), "row", "here")


def test_a_graph_with_another_output_is_refused() -> None:
    raw = graph_bytes(np.zeros(F, dtype=np.float32), "row", output="probability")
    with pytest.raises(ArtefactError, match="expected p_up float32"):
        OnnxGraph(raw, "row", "here")


def test_sequences_and_rows_are_not_mistaken(tmp_path: Path) -> None:
    artefact = load_artefact(make_artefact(tmp_path, "xgb", uses="sequence"))
    with pytest.raises(ArtefactError, match="input is"):
        OnnxModel(artefact)


def test_bytes_that_are_no_model_are_refused_in_one_line() -> None:
    with pytest.raises(ArtefactError) as caught:
        OnnxGraph(b"not a model", "row", "here")
    assert "\n" not in str(caught.value)


def test_a_model_that_answers_with_no_probability_never_warms_up(tmp_path: Path) -> None:
    raw = _scaled_graph(7.0)
    model = OnnxModel(load_artefact(make_artefact(tmp_path, "xgb", onnx_bytes=raw)))
    with pytest.raises(ArtefactError, match="no probability"):
        model.warm_up()


def _any_graph(shape: list[int | str], kind: int, answers: int | None = None) -> bytes:
    nodes = [helper.make_node("ReduceMean", ["x"], ["p_up"], keepdims=0, axes=[1])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("p_up", kind, shape[:1] if answers is None else [answers])],
    )
    raw: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    return raw


def _scaled_graph(constant: float) -> bytes:
    """Always answers the constant."""
    nodes = [
        helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "constant"], ["p_up"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [BATCH_ROWS, F])],
        [helper.make_tensor_value_info("p_up", TensorProto.FLOAT, [BATCH_ROWS])],
        [
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("constant", TensorProto.FLOAT, [], [constant]),
        ],
    )
    raw: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    return raw


def test_service_needs_no_training_library(models: dict[str, OnnxModel], tmp_path: Path) -> None:
    for name in MODELS:
        make_artefact(tmp_path, name)
    inputs = {"row": _inputs("xgb", 40), "sequence": _inputs("nhits", 40)}
    np.savez(tmp_path / "inputs.npz", **inputs)
    command = [sys.executable, Path(__file__).with_name("serve.py"), tmp_path, tmp_path / "inputs.npz", *MODELS]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    answers = dict(line.split() for line in run.stdout.splitlines())
    assert answers == {name: models[name].predict(inputs[USES[name]]).tobytes().hex() for name in MODELS}


def test_the_manifest_cannot_be_changed_in_service(models: dict[str, OnnxModel]) -> None:
    with pytest.raises(AttributeError):
        models["xgb"].manifest.features = "unknown"  # type: ignore[misc]
    assert msgspec.structs.asdict(models["xgb"].manifest)["features"] == SCHEMA.digest

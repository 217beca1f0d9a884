"""The look through ONNX bytes: external data is found wherever a tensor can stand, garbage never gets through."""

import contextlib
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from tests.artefacts import onnx_bytes

from quantum_trader.core.errors import ArtefactError
from quantum_trader.models.onnx_scan import check_self_contained


def _outside(name: str = "w") -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, dtype=np.float32), name)
    set_external_data(tensor, "elsewhere.bin")
    tensor.ClearField("raw_data")
    return tensor


def _graph(initializers: list[TensorProto], nodes: list[onnx.NodeProto] | None = None) -> onnx.GraphProto:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    return helper.make_graph(nodes or [helper.make_node("Identity", ["x"], ["y"])], "g", [info], [info], initializers)


def _in_initializer() -> onnx.ModelProto:
    return helper.make_model(_graph([_outside()]))


def _in_constant() -> onnx.ModelProto:
    return helper.make_model(_graph([], [helper.make_node("Constant", [], ["y"], value=_outside())]))


def _in_subgraph() -> onnx.ModelProto:
    node = helper.make_node("If", ["x"], ["y"], then_branch=_graph([_outside()]), else_branch=_graph([]))
    return helper.make_model(_graph([], [node]))


def _in_sparse() -> onnx.ModelProto:
    graph = _graph([])
    graph.sparse_initializer.add().values.CopyFrom(_outside())
    return helper.make_model(graph)


def _in_function() -> onnx.ModelProto:
    model = helper.make_model(_graph([]))
    node = helper.make_node("Constant", [], ["y"], value=_outside())
    model.functions.append(helper.make_function("f", "F", [], ["y"], [node], [helper.make_opsetid("", 18)]))
    return model


def _in_training() -> onnx.ModelProto:
    model = helper.make_model(_graph([]))
    model.training_info.add().initialization.CopyFrom(_graph([_outside()]))
    return model


def _by_location_alone() -> onnx.ModelProto:
    tensor = _outside()
    tensor.ClearField("external_data")
    return helper.make_model(_graph([tensor]))


@pytest.mark.parametrize(
    "make",
    [_in_initializer, _in_constant, _in_subgraph, _in_sparse, _in_function, _in_training, _by_location_alone],
)
def test_external_data_is_found_wherever_a_tensor_can_stand(make: Callable[[], onnx.ModelProto]) -> None:
    with pytest.raises(ArtefactError, match="external data"):
        check_self_contained(make().SerializeToString(), "here")


@pytest.mark.parametrize("model", ["xgb", "patchtst"])
def test_a_self_contained_model_passes(model: str) -> None:
    check_self_contained(onnx_bytes(model), "here")


@settings(max_examples=300)
@given(raw=st.binary(max_size=200))
def test_garbage_is_refused_or_harmless_but_never_crashes(raw: bytes) -> None:
    with contextlib.suppress(ArtefactError):
        check_self_contained(raw, "here")


@settings(max_examples=100)
@given(data=st.data())
def test_what_the_scan_lets_through_never_names_another_file(data: st.DataObject) -> None:
    raw = bytearray(_in_initializer().SerializeToString())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    try:
        check_self_contained(bytes(raw), "here")
    except ArtefactError:
        return
    # What the real parser reads in it holds no external tensor either.
    try:
        model = onnx.load_from_string(bytes(raw))
    except Exception:
        return
    assert not any(tensor.external_data or tensor.data_location for tensor in model.graph.initializer)


def test_a_truncated_model_is_refused() -> None:
    with pytest.raises(ArtefactError, match="not well-formed"):
        check_self_contained(onnx_bytes("xgb")[:-7], "here")


def test_a_key_that_only_c_plus_plus_would_read_as_external_data_is_refused() -> None:
    # 0x6a is field 13 as a message; here it has bit 32 set as well, which a 32-bit reader drops.
    key = _varint(0x6A | 1 << 32)
    tensor = key + b"\x00"
    for field in (5, 7):
        tensor = bytes([field << 3 | 2]) + _varint(len(tensor)) + tensor
    with pytest.raises(ArtefactError, match="beyond 29 bits"):
        check_self_contained(tensor, "here")


def test_nesting_without_end_is_refused() -> None:
    raw = b""
    for _ in range(40):
        # A graph's node (1), its attribute (5), its graph (6).
        for field in (6, 5, 1):
            raw = bytes([field << 3 | 2]) + _varint(len(raw)) + raw
    with pytest.raises(ArtefactError, match="nested too deep"):
        check_self_contained(b"\x3a" + _varint(len(raw)) + raw, "here")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])

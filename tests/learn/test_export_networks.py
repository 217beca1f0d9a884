"""Networks to ONNX: alike, reproducible, and without a trace of the machine."""

import numpy as np
import onnx
import pytest
import torch
from tests.conftest import ROOT

from quantum_trader.learn.export_networks import network_answers, network_bytes
from quantum_trader.learn.networks import NETWORKS, Scaled
from quantum_trader.learn.patchtst import LAYERS, PatchTST
from quantum_trader.models.inference import OnnxGraph


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def network(request: pytest.FixtureRequest) -> Scaled:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    return Scaled(NETWORKS[request.param](), rng.standard_normal(8), rng.random(8) + 0.5).eval()


def test_the_onnx_file_answers_as_the_network(network: Scaled) -> None:
    sequences = np.random.default_rng(1).standard_normal((500, 128, 8)).astype(np.float32) * 3
    original = network_answers(network, sequences)
    exported = OnnxGraph(network_bytes(network), "sequence", "here").run(sequences)
    assert np.abs(original - exported).max() < 1e-6
    assert original.std() > 1e-3


def test_the_bytes_are_the_same_twice_and_know_nothing_of_the_machine(network: Scaled) -> None:
    raw = network_bytes(network)
    assert raw == network_bytes(network)
    assert str(ROOT).encode() not in raw
    assert b"site-packages" not in raw
    assert b".py" not in raw
    onnx.checker.check_model(onnx.load_from_string(raw))


def test_the_scaler_is_in_the_graph(network: Scaled) -> None:
    names = [node.op_type for node in onnx.load_from_string(network_bytes(network)).graph.node[:3]]
    assert names == ["Sub", "Mul", "Clip"]


def test_patchtst_turns_its_tokens_round_only_where_they_look_at_each_other() -> None:
    graph = onnx.load_from_string(network_bytes(PatchTST().eval())).graph
    # Queries, keys, values and what was seen, by heads and back: `nn.TransformerEncoder` exports twice as many.
    assert [node.op_type for node in graph.node].count("Transpose") == 4 * LAYERS

"""Networks to ONNX by torch's dynamo exporter (the legacy one went wrong silently), at one batch shape."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from quantum_trader.core.features import Float32Array
from quantum_trader.learn.networks import Probability, logits, torch_threads
from quantum_trader.models.inference import OUTPUT, input_shape

_OPSET = 20


def network_bytes(network: nn.Module) -> bytes:
    """ONNX bytes of a network: (`BATCH_ROWS`, 128, 8) to p_up (`BATCH_ROWS`,)."""
    example = torch.zeros(input_shape("sequence"))
    with _quietly(), torch_threads(1):
        program = torch.onnx.export(
            Probability(network).eval(),
            (example,),
            dynamo=True,
            verbose=False,
            opset_version=_OPSET,
            input_names=["sequences"],
            output_names=[OUTPUT],
        )
    if program is None:
        raise RuntimeError("torch.onnx.export with dynamo returned no program")
    model = program.model_proto
    _forget_origin(model)
    raw: bytes = model.SerializeToString(deterministic=True)
    return raw


def network_answers(network: nn.Module, sequences: Float32Array, threads: int = 1) -> NDArray[np.float64]:
    """Probabilities of a rise by the network itself, (n, 128, 8) to (n,)."""
    with torch_threads(threads):
        return 1.0 / (1.0 + np.exp(-logits(network, sequences)))


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's notes on torchvision, which is not used, and on its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    # The fused path of nn.TransformerEncoder has no ONNX form; the plain one computes the same.
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _forget_origin(model: Any) -> None:
    """Strip the exporter's stack traces: they hold paths of this machine, and the digest would depend on them."""
    del model.metadata_props[:]
    graph = model.graph
    del graph.metadata_props[:]
    model.producer_name, model.producer_version, model.doc_string, graph.doc_string = "quantum-trader", "", "", ""
    del graph.value_info[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output, *model.functions):
        del part.metadata_props[:]
        part.doc_string = ""

"""Inference: an artefact's ONNX graph run on batches of one fixed shape, one thread, nothing left to chance.

At a fixed shape a row's answer depends neither on its place in the batch nor on its neighbours; alone against in a
batch it could differ by 2e-5. So every batch is padded to the rows that the graph was exported for, in service, replay
and training alike.
"""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.errors import ArtefactError
from quantum_trader.core.features import SCHEMA, Float32Array
from quantum_trader.core.predictions import Thresholds, valid
from quantum_trader.models.artefact import Artefact
from quantum_trader.models.manifest import Manifest, Uses

# On import the runtime would start a thread that keeps a database in the home folder and sends it to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

BATCH_ROWS = 5
"""Rows of every batch of a graph that is exported now: as many as there are symbols, as a rule."""

MOST_ROWS = 64
"""Of a graph's batches, at most: rows that nobody asked for cost as much as the others."""

OUTPUT = "p_up"


def input_shape(uses: Uses, rows: int = BATCH_ROWS) -> tuple[int, ...]:
    """Shape of one batch of so many rows: (rows, F), or (rows, 128, 8) where the model sees sequences."""
    if uses == "row":
        return (rows, len(SCHEMA.names))
    return (rows, SCHEMA.sequence_length, len(SCHEMA.sequence_names))


class OnnxGraph:
    """A graph with one input of a batch's shape and one output `p_up` of shape (B,), both float32.

    Attributes:
        shape: Of one batch: (B, F) or (B, 128, 8). The graph says what B is.

    Raises:
        ArtefactError: if the runtime refuses the bytes, or input or output are of another name, shape or type.
    """

    def __init__(self, onnx_bytes: bytes, uses: Uses, where: str) -> None:
        self._where = where
        self._session = _session(onnx_bytes, where)
        self._input, self.shape = self._checked_input(uses)
        # Kept: fresh pages for every short batch cost more than the trees' own work.
        self._padded = np.zeros(self.shape, dtype=np.float32)

    def _checked_input(self, uses: Uses) -> tuple[str, tuple[int, ...]]:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        rows: Any = inputs[0].shape[0] if inputs and inputs[0].shape else None
        if rows not in range(1, MOST_ROWS + 1):
            rows = BATCH_ROWS
        shape = input_shape(uses, rows)
        if [(node.type, tuple(node.shape)) for node in inputs] != [("tensor(float)", shape)]:
            found = ", ".join(f"{node.type}{node.shape}" for node in inputs)
            raise ArtefactError(
                f"artefact {self._where}: input is {found}, expected float32 {list(shape)}, of 1 to {MOST_ROWS} rows"
            )
        if [(node.name, node.type, node.shape) for node in outputs] != [(OUTPUT, "tensor(float)", [rows])]:
            found = ", ".join(f"{node.name} {node.type}{node.shape}" for node in outputs)
            raise ArtefactError(f"artefact {self._where}: output is {found}, expected {OUTPUT} float32 [{rows}]")
        return str(inputs[0].name), shape

    def run(self, rows: Float32Array) -> NDArray[np.float64]:
        """What the graph says of n rows of any content, shape (n, ...) to (n,), in padded batches."""
        if rows.dtype != np.float32 or rows.shape[1:] != self.shape[1:]:
            raise ValueError(f"input {rows.dtype}{rows.shape}: expected float32 (n, {self.shape[1:]})")
        out = np.empty(len(rows), dtype=np.float64)
        size = len(self._padded)
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            out[start : start + size] = self._run_batch(chunk)[: len(chunk)]
        return out

    def _run_batch(self, chunk: Float32Array) -> Float32Array:
        if len(chunk) < len(self._padded):
            self._padded[: len(chunk)] = chunk
            self._padded[len(chunk) :] = 0.0
            chunk = self._padded
        answer: Float32Array = self._session.run([OUTPUT], {self._input: np.ascontiguousarray(chunk)})[0]
        return answer


class OnnxModel:
    """A model in service. Not safe to share between threads.

    Attributes:
        manifest: The artefact's manifest; with `manifest.schema_known` false it may only be a shadow.
        digest: The artefact's digest.
        thresholds: From probability to action.
        uses: ``row`` or ``sequence``.
    """

    def __init__(self, artefact: Artefact, *, allow_unknown_schema: bool = False) -> None:
        """Load a verified artefact.

        Raises:
            ArtefactError: if its feature schema is not this program's (or unknown, where that is not allowed), or
                if its graph is not what its manifest says.
        """
        where = str(artefact.folder)
        _check_schema(artefact.manifest, where, allow_unknown_schema)
        self.manifest, self.digest, self.uses = artefact.manifest, artefact.digest, artefact.manifest.uses
        bounds = artefact.manifest.thresholds
        self.thresholds = Thresholds(bounds.buy_above, bounds.sell_below)
        self._where = where
        self._graph = OnnxGraph(artefact.onnx_bytes, self.uses, where)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: (F,) or (128, 8)."""
        return self._graph.shape[1:]

    def predict(self, batch: Float32Array) -> NDArray[np.float64]:
        """Probability of a rise for n inputs.

        Args:
            batch: float32, shape (n, F) of rows or (n, 128, 8) of sequences; n may be 0.

        Returns:
            Shape (n,). NaN where the input is not finite: trees and networks would answer that with a number that
            looks like a probability.
        """
        finite = np.isfinite(batch).all(axis=tuple(range(1, batch.ndim)))
        if finite.all():
            return self._graph.run(batch)
        clean = np.where(finite.reshape(-1, *(1,) * (batch.ndim - 1)), batch, np.float32(0.0))
        return np.where(finite, self._graph.run(clean), np.nan)

    def warm_up(self) -> None:
        """Predict once, so that the first bar pays for no allocation and a model that cannot answer never gets ready.

        Raises:
            ArtefactError: if it raises, or answers with something that is no probability.
        """
        try:
            answer = self.predict(np.zeros((1, *self.input_shape), dtype=np.float32))
        except Exception as error:  # the runtime's errors share no base class
            raise ArtefactError(f"artefact {self._where}: the warm-up prediction failed ({_line(error)})") from error
        if not valid(answer).all():
            raise ArtefactError(f"artefact {self._where}: the warm-up prediction is {answer[0]}, no probability")


def _check_schema(manifest: Manifest, where: str, allow_unknown: bool) -> None:
    if not manifest.schema_known:
        if not allow_unknown:
            raise ArtefactError(f"artefact {where}: its feature schema is unknown (imported); it may only be a shadow")
    elif manifest.features != SCHEMA.digest:
        raise ArtefactError(
            f"artefact {where}: trained on feature schema {manifest.features[:16]}, this program computes "
            f"{SCHEMA.digest[:16]}"
        )


def _session(onnx_bytes: bytes, where: str) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        # That fused kernel is slower than its parts: PatchTST takes a fifth longer with it.
        return ort.InferenceSession(
            onnx_bytes, options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
        )
    except Exception as error:  # the runtime's errors share no base class
        raise ArtefactError(f"artefact {where}: onnxruntime refuses the model file ({_line(error)})") from error


def _line(error: Exception) -> str:
    """The first line of a message: a user gets one sentence."""
    return str(error).strip().split("\n", maxsplit=1)[0][:200]

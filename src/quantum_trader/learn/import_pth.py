"""Import of an existing PatchTST checkpoint: weights only, every key and shape as expected, into an ONNX artefact.

A checkpoint does not say which features it was trained on, nor how they were scaled. Its artefact says so too: feature
schema ``unknown``, no scaler, no metrics; such an artefact can only ever be a shadow.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quantum_trader.core.errors import ArtefactError
from quantum_trader.core.features import SEQUENCE_LENGTH, SEQUENCE_NAMES
from quantum_trader.core.labels import DELAY, HORIZON
from quantum_trader.core.predictions import Thresholds
from quantum_trader.learn.export_networks import network_answers, network_bytes
from quantum_trader.learn.lineage import library_versions, next_version
from quantum_trader.learn.parity import MIN_ROWS, prove
from quantum_trader.learn.patchtst import PatchTST
from quantum_trader.models.artefact import file_entries, write_artefact
from quantum_trader.models.inference import OnnxGraph
from quantum_trader.models.manifest import (
    FORMAT,
    MODEL_FILE,
    UNKNOWN_FEATURES,
    ActionThresholds,
    Label,
    Manifest,
)

MODEL = "patchtst"
LINEAGE = "patchtst-imported"
DEFAULT_THRESHOLDS = Thresholds(0.55, 0.45)

_WRAPPER = "model_state_dict"
_LIMIT = 64 * 2**20


def import_checkpoint(path: Path, out_dir: Path, now: datetime, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> Path:
    """Turn a ``.pth`` state dict of PatchTST into an artefact.

    Args:
        path: A state dict, bare or under ``model_state_dict``.
        out_dir: Folder of artefacts; made where it does not exist.
        now: Time stamp of the artefact, with a time zone.
        thresholds: From probability to action.

    Returns:
        The new folder, ``patchtst_vYYYYMMDD_HHMMSS``.

    Raises:
        ArtefactError: if the file is no such state dict, or the artefact exists already.
        TrainingError: if the exported file does not answer as the checkpoint does.
    """
    network = PatchTST()
    state, source = _read(path)
    _check(state, network.state_dict(), path)
    network.load_state_dict(state, strict=True)
    network.eval()
    raw = network_bytes(network)
    shape = (MIN_ROWS, SEQUENCE_LENGTH, len(SEQUENCE_NAMES))
    # Nobody knows the inputs' scale; standard normal ones cover what a scaler gives.
    proof = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    parity = prove(network_answers(network, proof), OnnxGraph(raw, "sequence", MODEL).run(proof), thresholds, MODEL)
    stamp = now.astimezone(UTC)
    files = {MODEL_FILE: raw}
    manifest = Manifest(
        format=FORMAT,
        model=MODEL,
        name=f"{MODEL}_v{stamp:%Y%m%d_%H%M%S}",
        created=stamp.isoformat(timespec="seconds"),
        lineage=LINEAGE,
        version=next_version(out_dir, LINEAGE),
        uses="sequence",
        features=UNKNOWN_FEATURES,
        label=Label(HORIZON, DELAY),
        thresholds=ActionThresholds(thresholds.buy_above, thresholds.sell_below),
        calibration=None,
        files=file_entries(files),
        training=None,
        metrics=None,
        parity=parity,
        libraries={**library_versions(MODEL), "checkpoint_sha256": source},
        feature_statistics={},
    )
    return write_artefact(out_dir, manifest, files)


def _read(path: Path) -> tuple[Mapping[str, Any], str]:
    """The state dict and the SHA-256 of its file."""
    try:
        size = path.stat().st_size
        if size > _LIMIT:
            raise ArtefactError(f"checkpoint {path}: {size} bytes, a PatchTST of this layout has about 2.5 million")
        source = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ArtefactError(f"checkpoint {path}: cannot be read ({error.strerror})") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        raise ArtefactError(f"checkpoint {path}: holds more than weights, or is no torch checkpoint") from error
    state = content.get(_WRAPPER, content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise ArtefactError(f"checkpoint {path}: is neither a state dict nor a dict with {_WRAPPER}")
    return state, source


def _check(state: Mapping[str, Any], expected: Mapping[str, Tensor], path: Path) -> None:
    """Refuse the first key that is missing, foreign, of another shape, or not finite."""
    for key in sorted(expected.keys() | state.keys(), key=str):
        if key not in state:
            raise ArtefactError(f"checkpoint {path}: {key} is missing")
        if key not in expected:
            raise ArtefactError(f"checkpoint {path}: {key} does not belong to a PatchTST of this layout")
        value = state[key]
        if not isinstance(value, Tensor) or value.dtype != torch.float32 or value.shape != expected[key].shape:
            found = f"{value.dtype}{list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ArtefactError(
                f"checkpoint {path}: {key} is {found}, expected torch.float32{list(expected[key].shape)}"
            )
        if not torch.isfinite(value).all():
            raise ArtefactError(f"checkpoint {path}: {key} holds a value that is not finite")

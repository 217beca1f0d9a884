"""Where an artefact comes from: its number among its kind, and the versions of all that had a hand in its numbers."""

import platform
from importlib.metadata import version
from pathlib import Path

from quantum_trader.models.store import list_artefacts

_SHARED = ("quantum-trader", "numpy", "TA-Lib", "onnxruntime", "onnx")
_LIBRARIES = {
    "xgb": ("xgboost-cpu", "onnxmltools"),
    "lgbm": ("lightgbm", "onnxmltools"),
    "nhits": ("torch", "onnxscript"),
    "patchtst": ("torch", "onnxscript"),
}


def next_version(out_dir: Path, lineage: str) -> int:
    """One more than the highest version of a lineage among the artefacts of a folder; 1 where there is none."""
    if not out_dir.is_dir():
        return 1
    found = [entry.artefact.manifest for entry in list_artefacts(out_dir) if entry.artefact is not None]
    return max((manifest.version for manifest in found if manifest.lineage == lineage), default=0) + 1


def library_versions(model: str) -> dict[str, str]:
    """Versions of the libraries behind a model's numbers, of Python, and the processor's architecture."""
    found = {library: version(library) for library in (*_SHARED, *_LIBRARIES[model])}
    return {**found, "python": platform.python_version(), "machine": platform.machine()}

"""Version numbers within a lineage, for the alpha budget."""

from pathlib import Path

from tests.artefacts import make_artefact

from quantum_trader.core.predictions import MODELS
from quantum_trader.learn.lineage import library_versions, next_version


def test_versions_count_within_their_lineage_only(tmp_path: Path) -> None:
    assert next_version(tmp_path / "nowhere", "a") == 1
    make_artefact(tmp_path, "xgb", 1, lineage="a", version=1)
    make_artefact(tmp_path, "xgb", 2, lineage="a", version=7)
    make_artefact(tmp_path, "xgb", 3, lineage="b", version=30)
    assert next_version(tmp_path, "a") == 8
    assert next_version(tmp_path, "b") == 31
    assert next_version(tmp_path, "c") == 1


def test_every_model_names_its_libraries() -> None:
    for model in MODELS:
        versions = library_versions(model)
        assert {"numpy", "TA-Lib", "onnxruntime", "onnx", "python", "machine"} < versions.keys()
    assert "torch" in library_versions("patchtst")
    assert "xgboost-cpu" in library_versions("xgb")

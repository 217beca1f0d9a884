"""A folder of artefacts."""

from pathlib import Path

import pytest
from tests.artefacts import make_artefact

from quantum_trader.core.errors import ArtefactError
from quantum_trader.models.store import find, list_artefacts, newest, present


def test_the_newest_of_each_model_by_its_stamp(tmp_path: Path) -> None:
    for seed in (5, 70_000, 300):
        make_artefact(tmp_path, "xgb", seed)
    make_artefact(tmp_path, "lgbm", 80_000)
    assert newest(tmp_path, "xgb").manifest.version == 70_001
    assert newest(tmp_path, "lgbm").manifest.version == 80_001
    assert present(tmp_path) == ["xgb", "lgbm"]
    with pytest.raises(ArtefactError, match="no artefact named patchtst_v"):
        newest(tmp_path, "patchtst")


def test_a_broken_newest_one_is_an_error_not_an_older_one(tmp_path: Path) -> None:
    make_artefact(tmp_path, "xgb", 1)
    (make_artefact(tmp_path, "xgb", 2) / "model.onnx").unlink()
    with pytest.raises(ArtefactError, match="missing"):
        newest(tmp_path, "xgb")


def test_a_list_shows_broken_ones_with_their_problem_and_skips_what_is_none(tmp_path: Path) -> None:
    good, broken = make_artefact(tmp_path, "xgb", 1), make_artefact(tmp_path, "xgb", 2)
    (broken / "foreign").write_bytes(b"")
    (tmp_path / ".xgb_v20260101_000009.abc").mkdir()
    (tmp_path / "notes").mkdir()
    entries = list_artefacts(tmp_path)
    assert [entry.folder for entry in entries] == [good, broken]
    assert entries[0].artefact is not None
    assert entries[1].artefact is None
    assert "foreign" in entries[1].problem


def test_one_is_found_by_its_folder_or_its_model(tmp_path: Path) -> None:
    old, new = make_artefact(tmp_path, "xgb", 1), make_artefact(tmp_path, "xgb", 2)
    assert find(tmp_path, old.name).folder == old
    assert find(tmp_path, "xgb").folder == new


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such folder"):
        list_artefacts(tmp_path / "nowhere")

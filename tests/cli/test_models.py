"""`quantum models list|show|import` as a person starts them."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.artefacts import make_artefact, make_imported

from quantum_trader.learn.patchtst import PatchTST
from quantum_trader.models.store import newest


def _models(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quantum_trader.cli.main", "models", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={"COLUMNS": "100", "PATH": "/usr/bin:/bin"})


def test_list_names_every_artefact_and_fails_on_a_broken_one(tmp_path: Path) -> None:
    good = make_artefact(tmp_path, "xgb", 1)
    imported = make_imported(tmp_path)
    run = _models("list", "--dir", tmp_path)
    assert run.returncode == 0, run.stderr
    assert good.name in run.stdout
    assert newest(tmp_path, "xgb").digest[:12] in run.stdout
    assert imported.name in run.stdout
    assert "unknown" in run.stdout
    (good / "model.onnx").write_bytes(b"")
    run = _models("list", "--dir", tmp_path)
    assert run.returncode == 1
    assert "BROKEN" in run.stdout
    assert "has 0 bytes, the manifest says" in run.stdout


def test_an_empty_folder_says_so_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    assert "no artefacts" in _models("list", "--dir", tmp_path).stdout
    run = _models("list", "--dir", tmp_path / "nowhere")
    assert run.returncode == 1
    assert run.stderr.strip().endswith("no such folder")


def test_show_verifies_and_json_is_the_manifest_as_it_is(tmp_path: Path) -> None:
    folder = make_artefact(tmp_path, "nhits", 1)
    run = _models("show", "nhits", "--dir", tmp_path)
    assert run.returncode == 0, run.stderr
    assert "verified: every digest" in run.stdout
    assert newest(tmp_path, "nhits").digest in run.stdout
    raw = _models("show", folder.name, "--dir", tmp_path, "--json")
    assert raw.stdout == (folder / "manifest.json").read_text()
    (folder / "foreign").touch()
    assert _models("show", "nhits", "--dir", tmp_path).returncode == 1


@pytest.mark.slow
def test_import_turns_a_checkpoint_into_an_artefact_that_can_only_be_a_shadow(tmp_path: Path) -> None:
    torch.manual_seed(1)
    torch.save({"model_state_dict": PatchTST().state_dict()}, tmp_path / "old.pth")
    run = _models("import", tmp_path / "old.pth", "--dir", tmp_path / "models", "--buy-above", "0.6")
    assert run.returncode == 0, run.stderr
    assert "only run as a shadow" in run.stdout
    artefact = newest(tmp_path / "models", "patchtst")
    assert not artefact.manifest.schema_known
    assert artefact.manifest.thresholds.buy_above == 0.6
    assert "it can only be a shadow" in _models("show", "patchtst", "--dir", tmp_path / "models").stdout
    run = _models("import", tmp_path / "missing.pth", "--dir", tmp_path / "models")
    assert run.returncode == 1
    assert "cannot be read" in run.stderr

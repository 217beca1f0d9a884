"""Artefacts on disk: nothing changed, foreign or linked loads; nothing half-written is left."""

import contextlib
import os
import shutil
from pathlib import Path

import msgspec
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.artefacts import make_artefact, make_manifest, onnx_bytes

from quantum_trader.core.errors import ArtefactError
from quantum_trader.models.artefact import file_entries, load_artefact, write_artefact
from quantum_trader.models.manifest import digest


def test_what_was_written_loads_with_its_digest(folder: Path) -> None:
    artefact = load_artefact(folder)
    assert artefact.digest == digest((folder / "manifest.json").read_bytes())
    assert artefact.onnx_bytes == (folder / "model.onnx").read_bytes()
    assert artefact.folder == folder
    assert artefact.manifest.name == folder.name


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_flipped_bit_anywhere_breaks_it_or_changes_its_digest(folder: Path, data: st.DataObject) -> None:
    whole = load_artefact(folder)
    path = folder / data.draw(st.sampled_from(["manifest.json", "model.onnx"]))
    raw = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    try:
        path.write_bytes(raw[:at] + bytes([raw[at] ^ (1 << bit)]) + raw[at + 1 :])
        changed = None
        with contextlib.suppress(ArtefactError):
            changed = load_artefact(folder)
        assert changed is None or (path.name == "manifest.json" and changed.digest != whole.digest)
    finally:
        path.write_bytes(raw)


def test_a_changed_model_file_of_the_same_size_is_refused(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(ArtefactError, match=r"model\.onnx was changed"):
        load_artefact(folder)


def test_another_size_is_refused(folder: Path) -> None:
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtefactError, match="bytes, the manifest says"):
        load_artefact(folder)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtefactError, match=f"{name} is missing"):
        load_artefact(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such folder"):
        load_artefact(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["weights.bin", ".hidden", "model.onnx.data"])
def test_a_foreign_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    with pytest.raises(ArtefactError, match="does not belong to it"):
        load_artefact(folder)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_link_is_refused_even_to_the_right_bytes(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.move(folder / name, tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(ArtefactError, match=f"{name} is a link"):
        load_artefact(folder)


def test_a_pipe_in_place_of_a_file_does_not_hang(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    with pytest.raises(ArtefactError, match="no regular file"):
        load_artefact(folder)


def test_a_folder_in_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    with pytest.raises(ArtefactError, match=r"model\.onnx is no regular file"):
        load_artefact(folder)


def test_a_hard_link_to_the_right_bytes_is_the_same_artefact(folder: Path, tmp_path: Path) -> None:
    before = load_artefact(folder)
    os.link(folder / "model.onnx", tmp_path / "backup")
    assert load_artefact(folder).digest == before.digest


def test_weights_in_another_file_are_refused_although_the_digests_agree(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    model = onnx.load_from_string(onnx_bytes("xgb"))
    onnx.save(model, outside / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    raw = (outside / "model.onnx").read_bytes()
    with pytest.raises(ArtefactError, match="external data"):
        make_artefact(tmp_path / "models", "xgb", onnx_bytes=raw)
    # The same by hand, past the writer, with the data hard-linked beside the model as an attacker would.
    good = make_artefact(tmp_path / "models", "xgb")
    (good / "model.onnx").write_bytes(raw)
    manifest = make_manifest("xgb", raw)
    (good / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    with pytest.raises(ArtefactError, match="external data"):
        load_artefact(good)
    os.link(outside / "model.data", good / "model.data")
    with pytest.raises(ArtefactError, match=r"model\.data does not belong"):
        load_artefact(good)


def test_an_existing_artefact_is_never_overwritten(folder: Path) -> None:
    before = load_artefact(folder).digest
    with pytest.raises(ArtefactError, match="never overwritten"):
        make_artefact(folder.parent, "xgb", seed=3, version=77)
    assert load_artefact(folder).digest == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_an_empty_folder_in_its_place_is_not_replaced_either(tmp_path: Path) -> None:
    (tmp_path / "xgb_v20260101_000000").mkdir()
    with pytest.raises(ArtefactError, match="exists already"):
        make_artefact(tmp_path, "xgb")


def test_a_manifest_of_other_files_is_not_written(tmp_path: Path) -> None:
    manifest = make_manifest("xgb", onnx_bytes("xgb"))
    with pytest.raises(ArtefactError, match="does not describe the files"):
        write_artefact(tmp_path / "models", manifest, {"model.onnx": onnx_bytes("xgb", seed=1)})
    assert not (tmp_path / "models").exists()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    # A file name that the file system cannot hold fails in the middle of writing, after the model file.
    raw = onnx_bytes("xgb")
    files = {"model.onnx": raw, "n" * 300: b"x"}
    manifest = make_manifest("xgb", raw, files=file_entries(files))
    with pytest.raises(OSError, match="too long"):
        write_artefact(tmp_path / "models", manifest, files)
    assert list((tmp_path / "models").iterdir()) == []


def test_others_may_read_what_was_written(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o755

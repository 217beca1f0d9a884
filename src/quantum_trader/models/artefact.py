"""Artefacts on disk: a folder that is verified whole before anything in it is parsed, and written whole or not at all.

- The folder holds the manifest, the files it lists, and nothing else; all of them regular files, none a link.
- Size and SHA-256 of every file are checked on the very bytes that are used afterwards.
- An artefact is written into a temporary folder and renamed into place; an existing one is never touched.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quantum_trader.core.errors import ArtefactError
from quantum_trader.models.manifest import MANIFEST_FILE, MODEL_FILE, FileEntry, Manifest, digest, parse, render
from quantum_trader.models.onnx_scan import check_self_contained
from quantum_trader.models.regular import read_regular

_MANIFEST_LIMIT = 4 * 2**20
_FILE_LIMIT = 2**31
"""A protobuf file cannot be larger than 2 GiB."""


@dataclass(frozen=True)
class Artefact:
    """A verified artefact.

    Attributes:
        folder: Where it was read.
        manifest: Its manifest.
        digest: SHA-256 of the manifest's bytes: the artefact's identity.
        onnx_bytes: The verified model file.
    """

    folder: Path
    manifest: Manifest
    digest: str
    onnx_bytes: bytes = field(repr=False)


def load_artefact(folder: Path) -> Artefact:
    """Read and verify an artefact.

    Raises:
        ArtefactError: if anything is missing, foreign, changed, a link, or refers to data outside the folder.
    """
    where = str(folder)
    if not folder.is_dir():
        raise ArtefactError(f"artefact {where}: no such folder")
    raw = read_regular(folder / MANIFEST_FILE, f"artefact {where}", _MANIFEST_LIMIT)
    manifest = parse(raw, where)
    expected = {MANIFEST_FILE, *manifest.files}
    foreign = sorted({path.name for path in folder.iterdir()} - expected)
    if foreign:
        raise ArtefactError(f"artefact {where}: {foreign[0]} does not belong to it (the manifest does not list it)")
    contents = {name: _verified(folder / name, where, entry) for name, entry in manifest.files.items()}
    check_self_contained(contents[MODEL_FILE], where)
    return Artefact(folder, manifest, digest(raw), contents[MODEL_FILE])


def _verified(path: Path, where: str, entry: FileEntry) -> bytes:
    raw = read_regular(path, f"artefact {where}", _FILE_LIMIT, expected_size=entry.bytes)
    found = digest(raw)
    if found != entry.sha256:
        raise ArtefactError(
            f"artefact {where}: {path.name} was changed: SHA-256 is {found[:16]}, the manifest says {entry.sha256[:16]}"
        )
    return raw


def file_entries(files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    """What a manifest says of files: digest and size by name, in name order."""
    return {name: FileEntry(digest(files[name]), len(files[name])) for name in sorted(files)}


def write_artefact(folder_parent: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """Write an artefact as `folder_parent` / `manifest.name`, whole or not at all.

    Args:
        folder_parent: Made where it does not exist.
        manifest: Holds the digests of exactly these files.
        files: Contents by name, without the manifest.

    Returns:
        The new folder.

    Raises:
        ArtefactError: if the manifest breaks a rule or does not describe these files, or the folder exists.
    """
    target = folder_parent / manifest.name
    raw = render(manifest)
    parse(raw, str(target))
    if manifest.files != file_entries(files):
        raise ArtefactError(f"artefact {target}: the manifest does not describe the files that are to be written")
    check_self_contained(files[MODEL_FILE], str(target))
    _refuse_existing(target)
    folder_parent.mkdir(parents=True, exist_ok=True)
    # A name with a leading dot: never taken for an artefact, even if this process is killed here.
    draft = Path(tempfile.mkdtemp(prefix=f".{manifest.name}.", dir=folder_parent))
    try:
        for name, content in {**files, MANIFEST_FILE: raw}.items():
            _write_durably(draft / name, content)
        draft.chmod(0o755)
        _refuse_existing(target)
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _sync_folder(folder_parent)
    return target


def _refuse_existing(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise ArtefactError(f"artefact {target}: exists already; artefacts are never overwritten")


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

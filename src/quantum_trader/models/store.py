"""A folder of artefacts: what is in it, and the newest of each model."""

import re
from dataclasses import dataclass
from pathlib import Path

from quantum_trader.core.errors import ArtefactError
from quantum_trader.models.artefact import Artefact, load_artefact

_FOLDER = re.compile(r"(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)_v(?P<stamp>\d{8}_\d{6})")


@dataclass(frozen=True)
class StoreEntry:
    """One folder that is named as an artefact is: the artefact, or why it is none."""

    folder: Path
    artefact: Artefact | None
    problem: str


def list_artefacts(folder: Path) -> list[StoreEntry]:
    """Every artefact of a folder, verified, oldest first within each name; broken ones are listed with their problem.

    Raises:
        ArtefactError: if the folder does not exist.
    """
    return [_entry(path) for path in _folders(folder)]


def present(folder: Path) -> list[str]:
    """Short names of the models that have an artefact here, by the folders' names, in alphabetical order.

    Raises:
        ArtefactError: if the folder does not exist.
    """
    return sorted({path.name.rpartition("_v")[0] for path in _folders(folder)})


def newest(folder: Path, model: str) -> Artefact:
    """The newest artefact of a model by the stamp in its folder's name, verified.

    A newest one that is broken is an error: serving an older one instead would hide it.

    Raises:
        ArtefactError: if there is none or it does not verify.
    """
    folders = [path for path in _folders(folder) if path.name.rpartition("_v")[0] == model]
    if not folders:
        raise ArtefactError(f"models folder {folder}: no artefact named {model}_vYYYYMMDD_HHMMSS")
    return load_artefact(folders[-1])


def find(folder: Path, name: str) -> Artefact:
    """An artefact by the whole name of its folder, or the newest by a model's short name.

    Raises:
        ArtefactError: if there is none or it does not verify.
    """
    if _FOLDER.fullmatch(name):
        return load_artefact(folder / name)
    return newest(folder, name)


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ArtefactError(f"models folder {folder}: no such folder")
    return sorted(path for path in folder.iterdir() if path.is_dir() and _FOLDER.fullmatch(path.name))


def _entry(folder: Path) -> StoreEntry:
    try:
        return StoreEntry(folder, load_artefact(folder), "")
    except ArtefactError as error:
        return StoreEntry(folder, None, str(error))

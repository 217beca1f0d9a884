"""A folder of artefacts: what is in it, and the newest of each model."""

from dataclasses import dataclass
from pathlib import Path

from quantum_trader.core.errors import ArtefactError
from quantum_trader.core.predictions import MODELS
from quantum_trader.models.artefact import Artefact, load_artefact
from quantum_trader.models.manifest import NAME


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
    """Short names of the models that have at least one artefact in a folder, in breakdown order.

    Raises:
        ArtefactError: if the folder does not exist.
    """
    names = {_model_of(path) for path in _folders(folder)}
    return [model for model in MODELS if model in names]


def newest(folder: Path, model: str) -> Artefact:
    """The newest artefact of a model by the stamp in its folder's name, verified.

    A newest one that is broken is an error: serving an older one instead would hide it.

    Raises:
        ArtefactError: if there is none or it does not verify.
    """
    folders = [path for path in _folders(folder) if _model_of(path) == model]
    if not folders:
        raise ArtefactError(f"models folder {folder}: no artefact named {model}_vYYYYMMDD_HHMMSS")
    return load_artefact(folders[-1])


def find(folder: Path, name: str) -> Artefact:
    """An artefact by the whole name of its folder, or the newest by a model's short name.

    Raises:
        ArtefactError: if there is none or it does not verify.
    """
    if NAME.fullmatch(name):
        return load_artefact(folder / name)
    return newest(folder, name)


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ArtefactError(f"models folder {folder}: no such folder")
    return sorted(path for path in folder.iterdir() if path.is_dir() and NAME.fullmatch(path.name))


def _model_of(path: Path) -> str:
    return path.name.rpartition("_v")[0]


def _entry(folder: Path) -> StoreEntry:
    try:
        return StoreEntry(folder, load_artefact(folder), "")
    except ArtefactError as error:
        return StoreEntry(folder, None, str(error))

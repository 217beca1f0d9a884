"""What a verdict is taken under: the policy that was named, and the version of the judged artefact in its lineage."""

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantum_trader.gates.policy import LEGACY, ContractPolicy
from quantum_trader.gates.whole_policy import WHOLE, Policy

if TYPE_CHECKING:
    from quantum_trader.settings import Settings

PolicyName = Annotated[str, typer.Option("--policy", help="default, legacy (the plain 3-of-4 rule), or a TOML file.")]
Models = Annotated[
    Path | None,
    typer.Option(help="Folder of artefacts: the judged one's version divides alpha. Else the env's model path."),
]
Version = Annotated[
    int | None, typer.Option("--version-of-lineage", min=1, help="The judged artefact's version, where none is found.")
]


def read_policy(name: str) -> Policy | ContractPolicy:
    """The policy of that name, or of that file.

    A file holds a table for each section (`[contract]`, `[vetoes]`, ...). One that only names keys of the contract, as
    files did before there were sections, is taken as its contract.

    Raises:
        ConfigError: if there is no such name or file, or the file breaks a rule.
    """
    from quantum_trader.core.errors import ConfigError

    if name == WHOLE.name:
        return WHOLE
    if name == LEGACY.name:
        return LEGACY
    try:
        return _of_mapping(tomllib.loads(Path(name).read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"policy {name}: neither default, legacy nor a readable file ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"policy {name}: {error}") from error


def _of_mapping(values: Mapping[str, Any]) -> Policy:
    flat = {item.name for item in fields(ContractPolicy)} - {"name"}
    if flat & set(values) and not any(isinstance(value, Mapping) for value in values.values()):
        named = {key: value for key, value in values.items() if key == "name"}
        return Policy.from_mapping({**named, "contract": values})
    return Policy.from_mapping(values)


def version_of(
    model: str, artefact: str, given: int | None, models: Path | None, settings: "Settings"
) -> tuple[int | None, tuple[str, ...]]:
    """The version of an artefact in its lineage, and what a reader should know of it.

    Args:
        model: Short name.
        artefact: Digest that the decisions hold; empty where none could be loaded.
        given: What the user says.
        models: Folder of artefacts.
        settings: With the env's model path.

    Raises:
        ArtefactError: if the folder does not exist.
    """
    from quantum_trader.models.artefact import Artefact, load_artefact
    from quantum_trader.models.store import list_artefacts

    if given is not None:
        return given, (f"Version {given} of its lineage, as was said: alpha is divided accordingly.",)
    found: list[Artefact] = []
    path = settings.models[model].model_path
    if models is not None:
        found = [entry.artefact for entry in list_artefacts(models) if entry.artefact is not None]
    elif path is not None and path.is_dir():
        found = [load_artefact(path)]
    for one in found:
        if one.digest == artefact:
            manifest = one.manifest
            return manifest.version, (f"Version {manifest.version} of lineage {manifest.lineage} ({manifest.name}).",)
    where = f"in {models}" if models is not None else "by the model path" if found else "here"
    return None, (
        f"The judged artefact is not known {where}, nor is its lineage: alpha is not divided (see --models).",
    )

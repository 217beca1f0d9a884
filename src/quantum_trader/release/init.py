"""First release: grant the first voters their vote and write the env file that the engine starts from.

Only an empty ledger can be initialised: later votes are earned, not initialised.
"""

import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from quantum_trader.core.errors import ConfigError, LedgerError
from quantum_trader.core.predictions import DEFAULT_WEIGHTS, MODELS
from quantum_trader.models.artefact import load_artefact
from quantum_trader.release.env_file import is_read_differently
from quantum_trader.release.ledger import append_entries, read_entries
from quantum_trader.release.ledger_entries import Grant, New


@dataclass(frozen=True)
class Release:
    """What `initialise` wrote: the roles by model, with digest and folder."""

    ledger: Path
    env_file: Path
    artefacts: Mapping[str, tuple[Path, str]]
    shadows: frozenset[str]


def initialise(
    artefacts: Mapping[str, Path], shadows: Collection[str], ledger: Path, env_file: Path, *, by: str, at: str
) -> Release:
    """Grant every artefact but the shadows' and write the env file.

    Args:
        artefacts: Folder of each model's artefact.
        shadows: Models that start in shadow: no grant, flag true.
        ledger: New or empty ledger file.
        env_file: Written whole; an existing one is not touched.
        by: Who initialises.
        at: ISO 8601 in UTC.

    Raises:
        ArtefactError: if an artefact does not verify.
        ConfigError: if a name is unknown, nobody would vote, or the env file exists or cannot hold the paths.
        LedgerError: if the ledger already holds entries or cannot be written.
    """
    _check_names(artefacts, shadows)
    if env_file.exists():
        raise ConfigError(f"env file {env_file}: exists already; edit it, or initialise another")
    if read_entries(ledger):
        raise LedgerError(f"ledger {ledger}: holds entries already; a later model earns its vote in shadow")
    loaded = {model: load_artefact(path) for model, path in artefacts.items()}
    for model, artefact in loaded.items():
        if artefact.manifest.model != model:
            raise ConfigError(f"artefact {artefact.folder}: it is a {artefact.manifest.model} model, not {model}")
        if model not in shadows and not artefact.manifest.schema_known:
            raise ConfigError(f"artefact {artefact.folder}: imported, its feature schema is unknown; shadow only")
    # The env file sets no weights, so the engine takes these.
    grants = [
        New(
            at=at,
            by=by,
            reason="first voters: quantum init",
            detail=Grant(model=model, artefact=artefact.digest, weight=DEFAULT_WEIGHTS[model]),
        )
        for model, artefact in loaded.items()
        if model not in shadows
    ]
    _write_env(env_file, {model: artefact.folder.resolve() for model, artefact in loaded.items()}, shadows, ledger)
    try:
        append_entries(ledger, grants)
    except BaseException:
        env_file.unlink()
        raise
    described = {model: (artefact.folder, artefact.digest) for model, artefact in loaded.items()}
    return Release(ledger, env_file, described, frozenset(shadows))


def _check_names(artefacts: Mapping[str, Path], shadows: Collection[str]) -> None:
    for name in (*artefacts, *shadows):
        if name not in MODELS:
            raise ConfigError(f"model {name!r}: unknown, expected one of {', '.join(MODELS)}")
    missing = sorted(set(shadows) - set(artefacts))
    if missing:
        raise ConfigError(f"shadow {missing[0]}: there is no artefact of it among {', '.join(artefacts) or 'none'}")
    if set(artefacts) <= set(shadows):
        raise ConfigError("every model would be a shadow: at least one must vote")


def _write_env(path: Path, folders: Mapping[str, Path], shadows: Collection[str], ledger: Path) -> None:
    lines = [
        "# Artefacts and roles of quantum-ai-engine. A model votes only with a grant in the ledger AND the word false.",
        f"QUANTUM_LEDGER={ledger.resolve()}",
    ]
    for model in MODELS:
        if model in folders:
            lines.append(f"{model.upper()}_MODEL_PATH={folders[model]}")
            lines.append(f"{model.upper()}_SHADOW_ONLY={'true' if model in shadows else 'false'}")
    unsafe = next((line for line in lines if is_read_differently(line)), None)
    if unsafe is not None:
        raise ConfigError(f"env file {path}: cannot hold {unsafe!r} (a line break, a backslash, ' #' or a blank end)")
    try:
        _replace_whole(path, "\n".join(lines) + "\n")
    except OSError as error:
        raise ConfigError(f"env file {path}: cannot be written ({error.strerror})") from error


def _replace_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise

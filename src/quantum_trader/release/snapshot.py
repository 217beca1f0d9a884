"""How a host stands before something is changed there: env file, ledger, the artefacts that it names."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

from quantum_trader.core.errors import ConfigError, HostError, LedgerError, QuantumError, ReleaseError
from quantum_trader.core.predictions import DEFAULT_WEIGHTS, MODELS, Role
from quantum_trader.core.roles import assign_role
from quantum_trader.models.manifest import MANIFEST_FILE, NAME, FileEntry, Manifest, digest, parse
from quantum_trader.release.env_file import read_values, readable_values
from quantum_trader.release.host import Host, checked_path
from quantum_trader.release.host_settings import HostSettings
from quantum_trader.release.influence import WEIGHTS
from quantum_trader.release.ledger import read_entries, voting
from quantum_trader.release.ledger_entries import Entry, State

LEDGER = "QUANTUM_LEDGER"

Found = TypeVar("Found")


@dataclass(frozen=True)
class Held:
    """An artefact by its manifest: where it lies, and what its files must be."""

    folder: PurePosixPath
    digest: str
    model: str
    schema_known: bool
    files: Mapping[str, FileEntry]

    @classmethod
    def of(cls, folder: PurePosixPath, manifest: Manifest, raw: bytes) -> "Held":
        """From the bytes of its manifest."""
        files = {**manifest.files, MANIFEST_FILE: FileEntry(digest(raw), len(raw))}
        return cls(folder, digest(raw), manifest.model, manifest.schema_known, files)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(entry.bytes for entry in self.files.values())

    def files_json(self) -> dict[str, dict[str, object]]:
        """Its files as a plan names them."""
        return {name: {"sha256": entry.sha256, "bytes": entry.bytes} for name, entry in self.files.items()}


@dataclass(frozen=True)
class Snapshot:
    """A host at one moment.

    Attributes:
        env: Bytes of its env file.
        values: What the env file says.
        entries: Its ledger.
        named: The artefact that the env file names for each model; a broken or missing one is left out.
        held: Every artefact in its models' folder, by digest.
        problems: What could not be read where that was allowed, a sentence each.
    """

    env: bytes
    values: Mapping[str, str]
    entries: list[Entry]
    named: Mapping[str, Held]
    held: Mapping[str, Held]
    problems: tuple[str, ...] = ()

    def state_of(self, model: str) -> State:
        """Where a model stands, by the rules of the engine."""
        return state_of(self, model, self.values)

    @property
    def ledger(self) -> PurePosixPath:
        """Path of the ledger."""
        return _ledger(self.values)


def state_of(snapshot: Snapshot, model: str, values: Mapping[str, str]) -> State:
    """Where a model would stand with other values in the env file, by the rules of the engine."""
    path = values.get(f"{model.upper()}_MODEL_PATH", "")
    found = next((h for h in (*snapshot.held.values(), *snapshot.named.values()) if str(h.folder) == path), None)
    if found is None:
        return State()
    granted = voting(snapshot.entries).get(model, set())
    flag = values.get(f"{model.upper()}_SHADOW_ONLY")
    role = assign_role(model, found.digest, granted, flag, schema_known=found.schema_known).role
    if role is not Role.VOTER:
        return State(role="shadow", artefact=found.digest)
    return State(role="voter", artefact=found.digest, weight=weights(values)[model])


def weights(values: Mapping[str, str]) -> dict[str, float]:
    """Nominal weights that an env file sets.

    Raises:
        ConfigError: if one is no number.
    """
    text = values.get(WEIGHTS, "")
    given = (part.partition("=") for part in text.split(",") if part.strip())
    try:
        return {**DEFAULT_WEIGHTS, **{name.strip(): float(number) for name, _, number in given}}
    except ValueError:
        raise ConfigError(f"{WEIGHTS}={text}: expected model=number, with commas between") from None


def take_snapshot(
    host: Host, settings: HostSettings, instead: bytes | None = None, *, lenient: bool = False
) -> Snapshot:
    """Read how a host stands; nothing is changed.

    Args:
        host: The host.
        settings: Where things lie there.
        instead: Names the ledger where the env file itself is past reading; who votes is told by its good lines alone.
        lenient: A ledger or an artefact that cannot be read is left out and told among the problems.

    Raises:
        QuantumError: if its env file cannot be read; if not lenient, its ledger or an artefact neither.
    """
    problems: list[str] = []

    def tried(read: Callable[[], Found], otherwise: Found, *, always: bool = False) -> Found:
        try:
            return read()
        except QuantumError as error:
            if not lenient and not always:
                raise
            if isinstance(error, HostError):
                # A host that is away is no host with damage: this raises where the connection was lost.
                host.stat(settings.env_file)
            problems.append(str(error))
            return otherwise

    what = host.stat(settings.env_file)
    if what is None or what.kind != "file":
        found = "is not there; see `quantum init`" if what is None else f"is a {what.kind}"
        raise ReleaseError(f"host {host.name}: env file {settings.env_file} {found}")
    env = host.read(settings.env_file)
    where = f"{host.name}:{settings.env_file}"
    values = read_values(env, where) if instead is None else _certain(env, read_values(instead, where))
    named: dict[str, Held | None] = {}
    for model in MODELS:
        path = values.get(f"{model.upper()}_MODEL_PATH", "")
        named[model] = tried(partial(_held, host, path), None) if path else None
    # In one call: a rollback must not take longer the more artefacts lie there.
    manifests: dict[str, bytes] = tried(partial(host.read_each, settings.models, MANIFEST_FILE), {})
    # Whatever else lies there broken stands in nobody's way.
    inside = [
        tried(partial(_parsed, host, settings.models / name, raw), None, always=True)
        for name, raw in manifests.items()
        if NAME.fullmatch(name)
    ]
    entries: list[Entry] = tried(partial(_entries, host, values), [])
    return Snapshot(
        env,
        values,
        entries,
        {model: artefact for model, artefact in named.items() if artefact is not None},
        {artefact.digest: artefact for artefact in inside if artefact is not None},
        tuple(dict.fromkeys(problems)),
    )


def _certain(env: bytes, backup: Mapping[str, str]) -> dict[str, str]:
    """What an env file that is past reading says of who votes, never more than it does say; the backup's ledger."""
    values, doubtful = readable_values(env)
    if WEIGHTS in doubtful:
        # Without them every voter would be taken for one with its usual weight.
        values = {name: value for name, value in values.items() if not name.endswith("_SHADOW_ONLY")}
    return {**values, LEDGER: backup.get(LEDGER, "")}


def _held(host: Host, name: str) -> Held | None:
    folder = checked_path(PurePosixPath(name))
    path = folder / MANIFEST_FILE
    what = host.stat(path)
    if what is None or what.kind != "file":
        return None
    return _parsed(host, folder, host.read(path))


def _parsed(host: Host, folder: PurePosixPath, raw: bytes) -> Held:
    return Held.of(folder, parse(raw, f"{host.name}:{folder}"), raw)


def _ledger(values: Mapping[str, str]) -> PurePosixPath:
    path = values.get(LEDGER, "")
    if not path:
        raise ReleaseError("the env file names no QUANTUM_LEDGER; a release must know where grants stand")
    return checked_path(PurePosixPath(path))


def _entries(host: Host, values: Mapping[str, str]) -> list[Entry]:
    path = _ledger(values)
    if not host.exists(path):
        return []
    with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(host.read(path))
        try:
            return read_entries(copy)
        except LedgerError as error:
            # The copy is gone when somebody reads this.
            raise LedgerError(str(error).replace(str(copy), f"{host.name}:{path}")) from error

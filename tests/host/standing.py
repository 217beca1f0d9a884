"""How the test host stands, as its far side tells it, compared byte by byte with how it should."""

import base64
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from tests.e2e.releasing import model_infos
from tests.host.guest import ENV_FILE, SHADOW

from quantum_trader.core.predictions import MODELS
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.manifest import MANIFEST_FILE, digest
from quantum_trader.release.env_file import plan_env, read_values
from quantum_trader.release.ledger import read_entries, voting
from quantum_trader.release.ledger_entries import Entry, Grant
from quantum_trader.release.snapshot import weights

STATE = "/var/lib/quantum/deploy"
MODELS_FOLDER = PurePosixPath("/var/lib/quantum/models")
PATH, FLAG = f"{SHADOW.upper()}_MODEL_PATH", f"{SHADOW.upper()}_SHADOW_ONLY"


@dataclass(frozen=True)
class Known:
    """An artefact that was made here."""

    folder: Path
    digest: str
    files: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path) -> "Known":
        """From its folder."""
        raw = (folder / MANIFEST_FILE).read_bytes()
        entries = load_artefact(folder).manifest.files
        return cls(folder, digest(raw), {MANIFEST_FILE: digest(raw), **{n: e.sha256 for n, e in entries.items()}})

    @property
    def path(self) -> str:
        """Where it lies on the host."""
        return str(MODELS_FOLDER / self.folder.name)


@dataclass(frozen=True)
class Standing:
    """What the far side saw at one moment."""

    told: Mapping[str, Any]

    @cached_property
    def env(self) -> bytes:
        """Bytes of the env file."""
        return base64.b64decode(self.told["env"])

    @cached_property
    def values(self) -> Mapping[str, str]:
        """What it says."""
        return read_values(self.env, ENV_FILE)

    @cached_property
    def roles(self) -> dict[str, tuple[str, str]]:
        """Role and artefact of every model, in the engine's own words."""
        return {model: (role, artefact) for model, role, artefact in model_infos(self.told["metrics"])}

    @cached_property
    def entries(self) -> list[Entry]:
        """The ledger."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "ledger.jsonl"
            copy.write_bytes(base64.b64decode(self.told["ledger"]))
            return read_entries(copy)

    @property
    def granted(self) -> set[str]:
        """Digests of the model that hold a grant."""
        return voting(self.entries).get(SHADOW, set())

    @property
    def role(self) -> tuple[str, str]:
        """Role and artefact of the model that is deployed."""
        return self.roles.get(SHADOW, ("none", ""))

    def influence(self, model: str) -> float:
        """Nominal weight of its vote; 0 without one."""
        return weights(self.values)[model] if self.roles.get(model, ("", ""))[0] == "voter" else 0.0


@dataclass(frozen=True)
class Wanted:
    """A state that is whole.

    Attributes:
        env: The env file, every byte.
        role: Of the model, and the digest of its artefact.
        models: The artefacts that lie there; no others.
    """

    env: bytes
    role: tuple[str, str]
    models: Mapping[str, Known]

    @classmethod
    def of(cls, standing: Standing, known: Mapping[str, Known]) -> "Wanted":
        """Exactly what stands there now."""
        return cls(standing.env, standing.role, {name: known[name] for name in standing.told["models"]})

    def changed(self, values: Mapping[str, str], role: tuple[str, str], models: Mapping[str, Known]) -> "Wanted":
        """The same with other values in the env file, nothing else of it moved."""
        return Wanted(plan_env(self.env, values, ENV_FILE).after, role, models)

    def missing(self, now: Standing) -> list[str]:
        """What does not hold, a phrase each."""
        told = now.told
        found = [] if now.env == self.env else ["env file has other bytes"]
        lying = set(told["models"])
        found += [f"{name} lies there" for name in sorted(lying - set(self.models))]
        found += [f"{name} is gone" for name in sorted(set(self.models) - lying)]
        found += [
            f"{name} has other bytes"
            for name, files in told["models"].items()
            if name in self.models and dict(files) != dict(self.models[name].files)
        ]
        if now.role != self.role:
            found.append(f"engine says {now.role[0]} {now.role[1][:8]}, not {self.role[0]} {self.role[1][:8]}")
        if self.role[0] == "shadow" and not told["shadow_on_it"]:
            found.append("no shadow process on the named artefact")
        return found + unsettled(now)


def unsettled(now: Standing) -> list[str]:
    """What must hold whatever the state is."""
    told = now.told
    found = [f"draft {path}" for path in told["drafts"]]
    if (told["active"], told["ready"]) != ("active running", True):
        found.append(f"engine is {told['active']}, {'ready' if told['ready'] else 'not ready'}")
    if "unbroken" not in told["verify"]:
        found.append(f"ledger: {told['verify'][-200:]}")
    return found


def raised(before: Standing, after: Standing, way: str) -> list[str]:
    """Influence that a rollback gave: allowed is a baseline's alone, by a grant that stood before it."""
    found = [
        f"{model} has {after.influence(model)} instead of {before.influence(model)}"
        for model in MODELS
        if model != SHADOW and after.influence(model) > before.influence(model)
    ]
    found += [f"grant written: {e.seq}" for e in after.entries[len(before.entries) :] if isinstance(e.detail, Grant)]
    role, artefact = after.role
    if role == "voter" and (before.role != after.role or after.influence(SHADOW) > before.influence(SHADOW)):
        grants = [
            e.detail.weight for e in before.entries if isinstance(e.detail, Grant) and e.detail.artefact == artefact
        ]
        if way == "fast" or artefact not in before.granted or after.influence(SHADOW) > max(grants, default=0.0):
            found.append(f"{SHADOW} {artefact[:8]} votes with {after.influence(SHADOW)}")
    return found


def parse(text: str) -> Standing:
    """From what the far side printed."""
    return Standing(json.loads(text))

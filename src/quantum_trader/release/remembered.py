"""What there is to go back to: the deployments that a host remembers, and the artefact that was granted before."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import msgspec

from quantum_trader.models.manifest import FileEntry
from quantum_trader.release.ledger import voting
from quantum_trader.release.ledger_entries import Entry, Grant, WeightChange
from quantum_trader.release.snapshot import Held


@dataclass(frozen=True)
class Deployment:
    """A deployment that a host remembers.

    Attributes:
        transaction: Its name.
        artefact: Digest of what it brought.
        folder: Where that lies.
        placed: Whether it put it there; it may have been there before.
        previous: What the model had before; None where nothing.
        backup: The env file's backup.
        backup_sha256: Its digest.
    """

    transaction: str
    artefact: str
    folder: str
    placed: bool
    previous: Held | None
    backup: PurePosixPath
    backup_sha256: str


def deployments(transactions: Sequence[Mapping[str, Any]], model: str) -> list[Deployment]:
    """Deployments of a model that stand: done, and not taken back whole since; newest last."""
    out: list[Deployment] = []
    for one in transactions:
        if one["model"] != model or one["result"] != "done":
            continue
        if one["kind"] == "rollback-nuclear" and out:
            out.pop()
        if one["kind"] != "deploy":
            continue
        facts = one["facts"]
        previous = None
        if facts["previous"]:
            files = msgspec.convert(facts["previous_files"], dict[str, FileEntry])
            previous = Held(PurePosixPath(facts["previous_folder"]), facts["previous"], model, True, files)
        backup = PurePosixPath(facts["backup"])
        found = (one["id"], facts["artefact"], facts["folder"], bool(one["placed"]), previous)
        out.append(Deployment(*found, backup, facts["backup_sha256"]))
    return out


def baseline(entries: Sequence[Entry], model: str, current: str) -> tuple[str, float] | None:
    """The artefact that held the last grant before the present one, and the weight it had; its grant still stands.

    With no present one it is the last that was granted.
    """
    stand = voting(entries).get(model, set()) - {current}
    return last_grant(entries, model, stand)


def last_grant(entries: Sequence[Entry], model: str, artefacts: Collection[str]) -> tuple[str, float] | None:
    """Whichever of some artefacts was granted last, and the weight that it has by its grant and what changed it."""
    found: tuple[str, float] | None = None
    for entry in entries:
        detail = entry.detail
        if isinstance(detail, Grant) and detail.model == model and detail.artefact in artefacts:
            found = detail.artefact, detail.weight
        elif isinstance(detail, WeightChange) and found is not None and detail.artefact == found[0]:
            found = detail.artefact, detail.after.weight or found[1]
    return found

"""What is deployed, as files and ledger of this machine say: every configured model, its role and its digest."""

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from quantum_trader.release.stream_proof import Deployed
    from quantum_trader.settings import Settings


class ModelFact(msgspec.Struct, frozen=True, kw_only=True):
    """One configured model.

    Attributes:
        model: Short name.
        role: ``voter`` or ``shadow``, as the engine would decide it now.
        reason: Why, in words; why it cannot be loaded, where that is so.
        folder: Name of the artefact's folder.
        digest: The artefact's; empty where it does not verify.
        manifest: The manifest's very text, so that the digest can be computed again.
    """

    model: str
    role: str
    reason: str
    folder: str
    digest: str
    manifest: str


def model_facts(settings: "Settings") -> list[ModelFact]:
    """Every configured model, in breakdown order; an artefact that does not verify is a fact, not an error.

    Raises:
        QuantumError: if the ledger cannot be read, or a model is told to vote and has no path.
    """
    from quantum_trader.bootstrap import model_specs
    from quantum_trader.core.errors import ArtefactError
    from quantum_trader.core.predictions import Role
    from quantum_trader.core.roles import assign_role
    from quantum_trader.models.artefact import load_artefact
    from quantum_trader.models.manifest import render
    from quantum_trader.release.ledger import read_entries, voting

    granted = voting(read_entries(settings.ledger))
    facts = []
    for spec in model_specs(settings):
        try:
            artefact = load_artefact(spec.path)
        except ArtefactError as error:
            facts.append(_fact(spec.model, Role.SHADOW, str(error), spec.path.name, "", ""))
            continue
        manifest = artefact.manifest
        decided = assign_role(
            *(spec.model, artefact.digest, granted.get(spec.model, ()), spec.flag), schema_known=manifest.schema_known
        )
        facts.append(
            _fact(spec.model, decided.role, decided.reason, spec.path.name, artefact.digest, render(manifest).decode())
        )
    return facts


def _fact(model: str, role: str, reason: str, folder: str, digest: str, manifest: str) -> ModelFact:
    return ModelFact(model=model, role=str(role), reason=reason, folder=folder, digest=digest, manifest=manifest)


def deployed(settings: "Settings") -> "Deployed":
    """The digests and the shadows, for the proof on the stream.

    Raises:
        ProofError: if no model is in shadow, or an artefact does not verify.
    """
    from quantum_trader.core.errors import ProofError
    from quantum_trader.release.stream_proof import Deployed

    facts = model_facts(settings)
    broken = next((fact for fact in facts if not fact.digest), None)
    if broken is not None:
        raise ProofError(f"{broken.model} is deployed and does not verify: {broken.reason}")
    shadows = frozenset(fact.model for fact in facts if fact.role == "shadow")
    if not shadows:
        raise ProofError("no model is in shadow here: there is no shadow to prove")
    return Deployed({fact.model: fact.digest for fact in facts}, shadows)

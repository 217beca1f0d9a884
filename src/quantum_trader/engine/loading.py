"""From settings, files and grants to models with roles: fail closed, and say why.

A model that is meant to vote and cannot be loaded stops the start: an engine that silently lost a voter is the
disguise this project exists to prevent. A shadow that cannot be loaded is recorded as failed on every decision.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantum_trader.core.drift import Reference
from quantum_trader.core.errors import ArtefactError, ConfigError
from quantum_trader.core.predictions import DISPLAY_NAMES, MODELS, Role
from quantum_trader.core.roles import asks_for_vote, assign_role
from quantum_trader.models.artefact import Artefact, load_artefact
from quantum_trader.models.inference import OnnxModel


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One configured model: the folder of its artefact and the raw text of its SHADOW_ONLY flag."""

    model: str
    path: Path
    flag: str | None


@dataclass(frozen=True, slots=True)
class ShadowSpec:
    """A model that runs in shadow: its artefact, or why there is none."""

    model: str
    path: Path
    digest: str
    reason: str
    loadable: bool


@dataclass(frozen=True)
class Cast:
    """Everybody who speaks: voters in breakdown order, shadows, why, and what their features were in training."""

    voters: Mapping[str, OnnxModel]
    shadows: Sequence[ShadowSpec]
    reasons: Mapping[str, str]
    references: Mapping[str, Reference]


def load_cast(specs: Sequence[ModelSpec], granted: Mapping[str, Collection[str]]) -> Cast:
    """Load and warm up every configured model.

    Args:
        specs: At most one for each model.
        granted: For every model the digests that hold a grant.

    Raises:
        ArtefactError: if a model whose flag says that it votes cannot be loaded.
        ConfigError: if no model votes.
    """
    voters: dict[str, OnnxModel] = {}
    shadows: list[ShadowSpec] = []
    reasons: dict[str, str] = {}
    references: dict[str, Reference] = {}
    for spec in sorted(specs, key=lambda spec: MODELS.index(spec.model)):
        try:
            artefact = load_artefact(spec.path)
            known = artefact.manifest.schema_known
            decided = assign_role(
                spec.model, artefact.digest, granted.get(spec.model, ()), spec.flag, schema_known=known
            )
            _check_kind(spec, artefact)
            references[spec.model] = _reference(artefact)
            if decided.role is Role.VOTER:
                voters[spec.model] = _ready(artefact)
            else:
                shadows.append(ShadowSpec(spec.model, spec.path, artefact.digest, decided.reason, loadable=True))
            reasons[spec.model] = f"{decided.role.value}: {decided.reason}"
        except ArtefactError as error:
            if asks_for_vote(spec.flag):
                raise ArtefactError(f"{DISPLAY_NAMES[spec.model]} is meant to vote and cannot: {error}") from error
            shadows.append(ShadowSpec(spec.model, spec.path, "", str(error), loadable=False))
            reasons[spec.model] = f"failed: {error}"
    if not voters:
        detail = "; ".join(f"{model} is {why}" for model, why in reasons.items()) or "no model is configured"
        raise ConfigError(f"no model may vote, so there is nothing to run: {detail}")
    return Cast(voters, shadows, reasons, references)


def _ready(artefact: Artefact) -> OnnxModel:
    model = OnnxModel(artefact)
    model.warm_up()
    return model


def _reference(artefact: Artefact) -> Reference:
    try:
        return Reference.of(artefact.manifest.feature_statistics)
    except ValueError as error:
        raise ArtefactError(f"artefact {artefact.folder}: {error}") from error


def _check_kind(spec: ModelSpec, artefact: Artefact) -> None:
    if artefact.manifest.model != spec.model:
        raise ArtefactError(
            f"artefact {spec.path}: it is a {artefact.manifest.model} model, configured as {spec.model}"
        )

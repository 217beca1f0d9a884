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


@dataclass(frozen=True)
class Seat:
    """What one configured model would be, before anything of it runs.

    Attributes:
        spec: How it is configured.
        role: What it may be.
        reason: Why; where its artefact cannot be loaded, what is wrong with it.
        artefact: Verified; None where it cannot be loaded.
        reference: Its features in training; None where it cannot be loaded.
    """

    spec: ModelSpec
    role: Role
    reason: str
    artefact: Artefact | None = None
    reference: Reference | None = None

    @property
    def digest(self) -> str:
        """Of its artefact; empty where that cannot be loaded."""
        return self.artefact.digest if self.artefact is not None else ""

    def as_shadow(self) -> ShadowSpec:
        """How it runs in shadow."""
        return ShadowSpec(self.spec.model, self.spec.path, self.digest, self.reason, self.artefact is not None)


def seats(specs: Sequence[ModelSpec], granted: Mapping[str, Collection[str]]) -> dict[str, Seat]:
    """Verify every configured model's artefact and give it its role; in breakdown order, and nothing is started.

    Args:
        specs: At most one for each model.
        granted: For every model the digests that hold a grant.

    Raises:
        ArtefactError: if a model whose flag says that it votes cannot be loaded.
    """
    found = {}
    for spec in sorted(specs, key=lambda spec: MODELS.index(spec.model)):
        try:
            found[spec.model] = _seat(spec, granted.get(spec.model, ()))
        except ArtefactError as error:
            if asks_for_vote(spec.flag):
                raise _meant_to_vote(spec, error) from error
            found[spec.model] = Seat(spec, Role.SHADOW, str(error))
    return found


def load_cast(specs: Sequence[ModelSpec], granted: Mapping[str, Collection[str]]) -> Cast:
    """Load and warm up every configured model.

    Args:
        specs: At most one for each model.
        granted: For every model the digests that hold a grant.

    Raises:
        ArtefactError: if a model whose flag says that it votes cannot be loaded.
        ConfigError: if no model votes.
    """
    return cast_of(seats(specs, granted))


def cast_of(taken: Mapping[str, Seat]) -> Cast:
    """Load and warm up everybody who may vote.

    Raises:
        ArtefactError: if one of them cannot be loaded.
        ConfigError: if no model votes.
    """
    voters = {
        model: _ready(seat.spec, seat.artefact)
        for model, seat in taken.items()
        if seat.role is Role.VOTER and seat.artefact is not None
    }
    reasons = {
        model: f"failed: {seat.reason}" if seat.artefact is None else f"{seat.role.value}: {seat.reason}"
        for model, seat in taken.items()
    }
    if not voters:
        detail = "; ".join(f"{model} is {why}" for model, why in reasons.items()) or "no model is configured"
        raise ConfigError(f"no model may vote, so there is nothing to run: {detail}")
    shadows = [seat.as_shadow() for model, seat in taken.items() if model not in voters]
    references = {model: seat.reference for model, seat in taken.items() if seat.reference is not None}
    return Cast(voters, shadows, reasons, references)


def _seat(spec: ModelSpec, granted: Collection[str]) -> Seat:
    artefact = load_artefact(spec.path)
    known = artefact.manifest.schema_known
    decided = assign_role(spec.model, artefact.digest, granted, spec.flag, schema_known=known)
    _check_kind(spec, artefact)
    return Seat(spec, decided.role, decided.reason, artefact, _reference(artefact))


def _meant_to_vote(spec: ModelSpec, error: ArtefactError) -> ArtefactError:
    return ArtefactError(f"{DISPLAY_NAMES[spec.model]} is meant to vote and cannot: {error}")


def _ready(spec: ModelSpec, artefact: Artefact) -> OnnxModel:
    try:
        model = OnnxModel(artefact)
        model.warm_up()
    except ArtefactError as error:
        raise _meant_to_vote(spec, error) from error
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

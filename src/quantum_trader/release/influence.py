"""Giving a vote, changing a weight, taking a vote away: the ledger and the env file, in the order that fails closed.

- A model votes only with a grant *and* the word false. So a promotion writes the ledger first and the env file last:
  whatever stops it between leaves a shadow; an env file that cannot be written takes the grant back.
- A demotion does both halves, each whether or not the other one worked: either of them ends the vote.
- Both files are local; nothing here needs the stream server, the network or the analysis.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from quantum_trader.core.errors import ConfigError, ProofError, QuantumError
from quantum_trader.core.predictions import MODELS
from quantum_trader.release.appending import append
from quantum_trader.release.env_file import EnvPlan, plan_env, read_values, write_env
from quantum_trader.release.ledger import append_entries
from quantum_trader.release.ledger_entries import (
    Demote,
    Detail,
    Grant,
    New,
    Promote,
    Revoke,
    State,
    Verdict,
    Watch,
    WeightChange,
)

WEIGHTS = "QUANTUM_WEIGHTS"


class Place(NamedTuple):
    """The two files that say who votes, and the private key of the ledger's head where there is one."""

    ledger: Path
    env_file: Path
    key_file: Path | None = None

    def append(self, new: Sequence[New]) -> None:
        """Append to the ledger, and sign its head.

        Raises:
            QuantumError: as `appending.append`.
        """
        append(self.ledger, new, self.key_file)


class Ground(NamedTuple):
    """What a vote is granted for.

    Attributes:
        report: SHA-256 of the verdict's file; empty where there is none.
        entry: The verdict's own entry, where the ledger does not have it yet.
        override: Whether it was granted against or without a verdict.
    """

    report: str
    entry: Verdict | None
    override: bool


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """Who does something to which artefact, when (ISO 8601, UTC) and why; `facts` as in the ledger."""

    model: str
    artefact: str
    at: str
    by: str
    reason: str
    facts: dict[str, str] = {}

    def entry(self, detail: Detail) -> New:
        """A ledger entry of it."""
        return New(at=self.at, by=self.by, reason=self.reason, detail=detail)


def promote(
    place: Place,
    deed: Deed,
    weight: float,
    ground: Ground,
    *,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Grant a vote and set flag and weight.

    Args:
        place: Ledger and env file.
        deed: What is done.
        weight: To begin with.
        ground: What it is granted for.
        check: Raises where the env file, once written, does not have its effect.

    Raises:
        QuantumError: if it did not come about; the model is then a shadow, and holds no grant.
    """
    plan = _planned(place, {_flag(deed.model): "false", WEIGHTS: _weights(place, deed.model, weight)})
    grant = Grant(
        model=deed.model, artefact=deed.artefact, weight=weight, verdict=ground.report, override=ground.override
    )
    step = Promote(
        model=deed.model,
        artefact=deed.artefact,
        before=State(role="shadow", artefact=deed.artefact),
        after=State(role="voter", artefact=deed.artefact, weight=weight),
        facts=deed.facts,
    )
    details: list[Detail] = [] if ground.entry is None else [ground.entry]
    place.append([deed.entry(detail) for detail in (*details, grant, step)])
    try:
        _written(place, plan, check)
    except QuantumError as error:
        _taken_back(place, deed, f"not promoted: {error}")
        raise


def change_weight(
    place: Place, deed: Deed, before: float, after: float, *, check: Callable[[], None] = lambda: None
) -> None:
    """Change a voter's weight.

    Raises:
        QuantumError: if it did not come about; the weight is then as it was.
    """
    plan = _planned(place, {WEIGHTS: _weights(place, deed.model, after)})
    place.append([deed.entry(_weight_change(deed, before, after))])
    try:
        _written(place, plan, check)
    except QuantumError as error:
        undone = msgspec.structs.replace(deed, reason=f"not changed: {error}")
        place.append([undone.entry(_weight_change(deed, after, before))])
        raise


def watched_entry(deed: Deed, weight: float) -> Watch:
    """The watch's own entry: the model stands as it stood; what follows from it stands in its own entry."""
    stands = State(role="voter", artefact=deed.artefact, weight=weight)
    return Watch(model=deed.model, artefact=deed.artefact, before=stands, after=stands, facts=deed.facts)


def demote(place: Place, deed: Deed, weight: float, watched: Watch | None = None) -> list[str]:
    """Take a vote away: revoke the grant and set the flag to shadow.

    Args:
        place: Ledger and env file.
        deed: What is done.
        weight: That it voted with.
        watched: What the watch found, where that was why.

    Returns:
        What did not work, a sentence each. Where flag or grant is gone the vote is, at the next reload.
    """
    problems = []
    try:
        write_env(place.env_file, _planned(place, {_flag(deed.model): "true"}).after)
    except QuantumError as error:
        problems.append(f"the flag is not set to shadow: {error}")
    step = Demote(
        model=deed.model,
        artefact=deed.artefact,
        before=State(role="voter", artefact=deed.artefact, weight=weight),
        after=State(role="shadow", artefact=deed.artefact),
        facts=deed.facts,
    )
    details: list[Detail] = [] if watched is None else [watched]
    details += [Revoke(model=deed.model, artefact=deed.artefact), step]
    new = [deed.entry(detail) for detail in details]
    try:
        try:
            place.append(new)
        except ProofError as error:
            # A key that is gone must not keep a vote alive; the next signed append seals this one too.
            append_entries(place.ledger, new)
            problems.append(f"the ledger's head is not signed: {error}")
    except QuantumError as error:
        problems.append(f"the grant is not revoked: {error}")
    return problems


def _weight_change(deed: Deed, before: float, after: float) -> WeightChange:
    return WeightChange(
        model=deed.model,
        artefact=deed.artefact,
        before=State(role="voter", artefact=deed.artefact, weight=before),
        after=State(role="voter", artefact=deed.artefact, weight=after),
        facts=deed.facts,
    )


def _taken_back(place: Place, deed: Deed, reason: str) -> None:
    undone = msgspec.structs.replace(deed, reason=reason)
    place.append([undone.entry(Revoke(model=deed.model, artefact=deed.artefact))])


def _flag(model: str) -> str:
    return f"{model.upper()}_SHADOW_ONLY"


def _read(place: Place) -> bytes:
    try:
        return place.env_file.read_bytes()
    except OSError as error:
        raise ConfigError(f"env file {place.env_file}: cannot be read ({error.strerror})") from error


def _planned(place: Place, values: Mapping[str, str]) -> EnvPlan:
    return plan_env(_read(place), values, str(place.env_file))


def _written(place: Place, plan: EnvPlan, check: Callable[[], None]) -> None:
    """Write the env file; where it then has not its effect it is put back."""
    write_env(place.env_file, plan.after)
    try:
        check()
    except QuantumError:
        write_env(place.env_file, plan.before)
        raise


def _weights(place: Place, model: str, weight: float) -> str:
    """The variable of all weights with one of them changed."""
    held = read_values(_read(place), str(place.env_file)).get(WEIGHTS, "")
    parts = [part.partition("=") for part in held.split(",") if part.strip()]
    weights = {name.strip(): value.strip() for name, _, value in parts} | {model: repr(weight)}
    return ",".join(
        f"{name}={weights[name]}" for name in (*MODELS, *sorted(set(weights) - set(MODELS))) if name in weights
    )

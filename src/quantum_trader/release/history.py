"""What the ledger says of a moment: who was voting then, with which artefact and weight, and by whose decision.

- A grant, and every step after it, says where a model stands; the last one before the moment counts.
- A model was voting if it stood as a voter and its artefact held a grant then. What somebody changed in the env file by
  hand does not stand in the ledger: a flag can only take a vote away, never give one without a grant.
- A grant that was an override stays marked as one for as long as its artefact votes, and for ever in the list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from quantum_trader.core.predictions import MODELS
from quantum_trader.release.ledger import voting
from quantum_trader.release.ledger_entries import (
    Demote,
    Deploy,
    Entry,
    Grant,
    Promote,
    Proof,
    Revoke,
    Rollback,
    State,
    Verdict,
    Watch,
    WeightChange,
)

_STEPS = (Deploy, Promote, WeightChange, Demote, Rollback, Watch)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a model stood.

    Attributes:
        model: Short name.
        state: Its role, artefact and weight.
        since: Number of the entry that put it there.
        override: Whether its artefact's last grant was an override.
    """

    model: str
    state: State
    since: int
    override: bool


def standings(entries: Sequence[Entry], at: datetime | None = None) -> dict[str, Standing]:
    """Where every model of the ledger stood, in breakdown order; a voter here is one whose artefact held a grant.

    Args:
        entries: From `read_entries`.
        at: The moment; None for now.
    """
    until = [entry for entry in entries if at is None or entry.when <= at]
    granted = voting(until)
    states: dict[str, tuple[State, int]] = {}
    overrides: dict[tuple[str, str], bool] = {}
    for entry in until:
        detail = entry.detail
        if isinstance(detail, Grant):
            overrides[detail.model, detail.artefact] = detail.override
        after = _after(detail, {model: state for model, (state, _) in states.items()})
        if after is not None and not isinstance(detail, Proof):
            states[detail.model] = after, entry.seq
    return {
        model: Standing(
            model,
            _allowed(states[model][0], granted.get(model, set())),
            states[model][1],
            _is(overrides, model, states),
        )
        for model in MODELS
        if model in states
    }


def _is(overrides: Mapping[tuple[str, str], bool], model: str, states: Mapping[str, tuple[State, int]]) -> bool:
    return overrides.get((model, states[model][0].artefact), False)


def _after(detail: object, states: Mapping[str, State]) -> State | None:
    """Where an entry puts its model; None where it leaves it."""
    if isinstance(detail, Grant):
        return State(role="voter", artefact=detail.artefact, weight=detail.weight)
    if isinstance(detail, Revoke):
        before = states.get(detail.model, State())
        return State(role="shadow", artefact=before.artefact) if before.artefact == detail.artefact else None
    if isinstance(detail, _STEPS):
        return detail.after
    return None


def _allowed(state: State, granted: set[str]) -> State:
    if state.role != "voter" or state.artefact in granted:
        return state
    return State(role="shadow", artefact=state.artefact)


def before_and_after(entry: Entry) -> tuple[str, str]:
    """What an entry changed, as two short texts; empty where it changes nothing."""
    detail = entry.detail
    if isinstance(detail, _STEPS):
        return _shown(detail.before), _shown(detail.after)
    if isinstance(detail, Grant):
        kind = "may vote, by OVERRIDE" if detail.override else "may vote"
        return "", f"{kind} {detail.artefact[:12]} weight {detail.weight:g}"
    if isinstance(detail, Revoke):
        return f"may vote {detail.artefact[:12]}", "may not vote"
    if isinstance(detail, Verdict):
        return "", f"{detail.state} under policy {detail.policy[:12]}, report {detail.report[:12]}"
    if isinstance(detail, Proof):
        return "", f"proof pack {detail.statement[:12]} of {detail.entries} entries on {detail.host}"
    return "", f"to be judged under policy {detail.policy[:12]}, version {detail.version} of {detail.lineage}"


def _shown(state: State) -> str:
    if state.role == "none":
        return "none"
    weight = f" weight {state.weight:g}" if state.role == "voter" and state.weight else ""
    return f"{state.role} {state.artefact[:12]}{weight}"

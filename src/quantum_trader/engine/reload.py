"""What a reload takes while the engine runs, and what needs a restart: what runs compared with what is wanted, pure.

- Taken: a voter becomes a shadow, a shadow gets another artefact, a shadow comes or goes. All of these leave the
  influence of every model that goes on voting as it is, or end one.
- Not taken: whatever could give anybody a vote or more weight (a shadow or a new model that would vote, a voter's
  artefact or weight), a voter that would vanish without a word, and every other setting. The rest is taken anyway.
- A shadow's new artefact that cannot be loaded is not taken: the old one goes on. A demoted voter's is: its vote ends.
- Nothing is taken where no voter would be left.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quantum_trader.core.drift import Reference
from quantum_trader.core.errors import ConfigError
from quantum_trader.core.predictions import MODELS, Role
from quantum_trader.engine.loading import Seat, ShadowSpec


@dataclass(frozen=True, slots=True)
class Part:
    """One model's part.

    Attributes:
        role: What it is.
        digest: Of its artefact; empty where that cannot be loaded.
        path: Folder of its artefact.
        weight: Nominal weight; counts for a voter only.
        reason: Why it has this role.
        reference: Its features in training; None where it cannot be loaded.
    """

    role: Role
    digest: str
    path: Path
    weight: float
    reason: str = field(default="", compare=False)
    reference: Reference | None = field(default=None, compare=False)

    def as_shadow(self, model: str) -> ShadowSpec:
        """How it runs in shadow."""
        return ShadowSpec(model, self.path, self.digest, self.reason, bool(self.digest))


@dataclass(frozen=True)
class Standing:
    """Who has which part, and every other setting by name."""

    parts: Mapping[str, Part]
    rest: Mapping[str, object]


@dataclass(frozen=True)
class Reload:
    """What a reload does.

    Attributes:
        demoted: Voters that become shadows.
        replaced: Shadows that get another artefact.
        added: Shadows that come.
        removed: Shadows that go.
        not_taken: Why something else is not taken, a phrase each; a restart takes it.
        refused: Shadows' artefacts that cannot be loaded, a phrase each; the old ones go on.
    """

    demoted: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    not_taken: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def taken(self) -> bool:
        """Whether it changes anything."""
        return bool(self.demoted or self.replaced or self.added or self.removed)

    @property
    def started(self) -> tuple[str, ...]:
        """Models whose new shadow is started."""
        return (*self.demoted, *self.replaced, *self.added)


def parts_of(seats: Mapping[str, Seat], weights: Mapping[str, float]) -> dict[str, Part]:
    """Everybody's part, in breakdown order."""
    return {
        model: Part(seat.role, seat.digest, seat.spec.path, weights[model], seat.reason, seat.reference)
        for model, seat in seats.items()
    }


def plan_reload(running: Standing, wanted: Standing) -> Reload:
    """Compare what runs with what is asked for.

    Raises:
        ConfigError: if no voter would be left; nothing is then taken.
    """
    lists: dict[str, list[str]] = {name: [] for name in Reload.__dataclass_fields__}
    for model in MODELS:
        found = _compared(model, running.parts.get(model), wanted.parts.get(model))
        if found is not None:
            where, what = found
            lists[where].append(what)
    names = sorted(set(running.rest) | set(wanted.rest))
    changed = [name for name in names if running.rest.get(name) != wanted.rest.get(name)]
    lists["not_taken"] += [f"setting {name}" for name in changed]
    voters = [model for model, part in running.parts.items() if part.role is Role.VOTER]
    if voters and set(voters) <= set(lists["demoted"]):
        raise ConfigError(f"no voter would be left ({', '.join(voters)} would be in shadow): stop the engine instead")
    return Reload(**{name: tuple(what) for name, what in lists.items()})


def _compared(model: str, runs: Part | None, asked: Part | None) -> tuple[str, str] | None:
    """The list that a model belongs to, and what stands there; None where it does not change."""
    if runs is None:
        if asked is None:
            return None
        return ("added", model) if asked.role is Role.SHADOW else ("not_taken", f"{model} would be a new voter")
    if runs.role is Role.VOTER:
        return _of_voter(model, runs, asked)
    return _of_shadow(model, runs, asked)


def _of_voter(model: str, runs: Part, asked: Part | None) -> tuple[str, str] | None:
    if asked is None:
        return "not_taken", f"{model} votes and would be gone"
    if asked.role is Role.SHADOW:
        return "demoted", model
    if runs == asked:
        return None
    if runs.weight != asked.weight:
        return "not_taken", f"{model}'s weight would go from {runs.weight:g} to {asked.weight:g}"
    return "not_taken", f"{model} would vote with artefact {asked.digest[:16]} in {asked.path}"


def _of_shadow(model: str, runs: Part, asked: Part | None) -> tuple[str, str] | None:
    if asked is None:
        return "removed", model
    if asked.role is Role.VOTER:
        return "not_taken", f"{model} would vote"
    if (runs.digest, runs.path) == (asked.digest, asked.path):
        return None
    if not asked.digest:
        return "refused", f"{model}: {asked.reason}"
    return "replaced", model

"""Counters that are as exact as the decisions: they move in the very transaction that writes them.

- The tally is one hash. Each decision adds one to ``decisions``, to ``cast:...`` (which models took part in which role)
  and, for every model, to ``model:role:status``; each intent adds one to ``intents``.
- So for every model and role: the decisions whose cast holds it = on time + late + failed + missing + refused. Two
  counters that are kept apart say it, over every restart, crash and change of roles.
- A decision that is refused, because it was written before, counts nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple, Self

import msgspec

from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.predictions import MODELS, Role, Status

DECISIONS, INTENTS = "decisions", "intents"
SINCE = "since"
BASE_ID, BASE_DECISIONS, BASE_INTENTS = "base:after", "base:decisions", "base:intents"
_CAST = "cast:"


class Part(NamedTuple):
    """A model in a role, as it is counted."""

    model: str
    role: str

    def __str__(self) -> str:
        return f"{self.model}:{self.role}"


class Base(msgspec.Struct, frozen=True):
    """Where the streams stood when the tally began: last decision's entry id, entries ever added."""

    after: str = "0-0"
    decisions: int = 0
    intents: int = 0


class Tally(msgspec.Struct, frozen=True):
    """What was counted.

    Attributes:
        decisions: Decisions.
        intents: Those of them that were published as intents.
        casts: Decisions by who took part: each key is a sorted tuple of parts.
        answers: Of each part, how often its prediction ended in which status.
        since: Time of the first decision counted, milliseconds since the epoch; None before there was one.
        base: Where the streams stood then.
    """

    decisions: int = 0
    intents: int = 0
    casts: Mapping[tuple[Part, ...], int] = {}
    answers: Mapping[Part, Mapping[str, int]] = {}
    since: int | None = None
    base: Base = Base()

    @classmethod
    def of(cls, records: Iterable[DecisionRecord]) -> Self:
        """The tally of decisions, counted one by one; every one that is no HOLD has an intent."""
        fields: Counter[str] = Counter()
        for record in records:
            fields.update(counted(record, intent=record.decision.action != "HOLD"))
        return cls.from_fields(fields)

    @classmethod
    def from_fields(cls, fields: Mapping[str, str | int]) -> Self:
        """The tally of a hash's fields.

        Raises:
            ValueError: naming the field that is none of the tally's.
        """
        casts: dict[tuple[Part, ...], int] = {}
        answers: dict[Part, dict[str, int]] = {}
        for field, value in fields.items():
            if field.startswith(_CAST):
                casts[tuple(_part(text) for text in field.removeprefix(_CAST).split(",") if text)] = int(value)
            elif field not in _PLAIN:
                part, _, status = field.rpartition(":")
                answers.setdefault(_part(part), {})[Status(status).value] = int(value)
        plain = {field: int(fields.get(field, 0)) for field in (DECISIONS, INTENTS, BASE_DECISIONS, BASE_INTENTS)}
        return cls(
            plain[DECISIONS],
            plain[INTENTS],
            casts,
            answers,
            int(fields[SINCE]) if SINCE in fields else None,
            Base(str(fields.get(BASE_ID, "0-0")), plain[BASE_DECISIONS], plain[BASE_INTENTS]),
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """Everybody who was ever counted, in breakdown order."""
        found = {part for cast in self.casts for part in cast} | set(self.answers)
        return tuple(sorted(found, key=_order))

    def took_part(self, part: Part) -> int:
        """Decisions in which a model took part in a role."""
        return sum(count for cast, count in self.casts.items() if part in cast)

    def answered(self, part: Part) -> int:
        """How often the prediction of a model in a role ended in any status."""
        return sum(self.answers.get(part, {}).values())

    def problems(self) -> list[str]:
        """Where the identity does not hold, one sentence each; empty where everything adds up."""
        found = []
        if (cast := sum(self.casts.values())) != self.decisions:
            found.append(f"the casts of {cast:,} decisions were counted, but {self.decisions:,} decisions")
        if not 0 <= self.intents <= self.decisions:
            found.append(f"{self.intents:,} intents of {self.decisions:,} decisions")
        if self.lowest() < 0:
            found.append("a counter is below zero")
        for part in self.parts:
            if (took := self.took_part(part)) != (said := self.answered(part)):
                found.append(f"{part.model} as {part.role}: took part in {took:,} decisions, {said:,} answers counted")
        return found

    def lowest(self) -> int:
        """The smallest of all counters."""
        counts = (*self.casts.values(), *(n for by_status in self.answers.values() for n in by_status.values()))
        return min((self.decisions, self.intents, *counts))

    def minus(self, other: "Tally") -> "Tally":
        """What this tally counted and the other did not; counters that come to zero vanish."""
        casts = {cast: self.casts.get(cast, 0) - other.casts.get(cast, 0) for cast in {*self.casts, *other.casts}}
        answers = {}
        for part in {*self.answers, *other.answers}:
            mine, others = self.answers.get(part, {}), other.answers.get(part, {})
            left = {status: mine.get(status, 0) - others.get(status, 0) for status in {*mine, *others}}
            answers[part] = {status: n for status, n in left.items() if n}
        return Tally(
            self.decisions - other.decisions,
            self.intents - other.intents,
            {cast: n for cast, n in casts.items() if n},
            {part: by_status for part, by_status in answers.items() if by_status},
        )


_PLAIN = frozenset({DECISIONS, INTENTS, SINCE, BASE_ID, BASE_DECISIONS, BASE_INTENTS})


def counted(record: DecisionRecord, *, intent: bool) -> tuple[str, ...]:
    """The fields of the tally to which one decision adds one each; equal ones are one object."""
    votes = tuple([(name, vote.status) for name, vote in record.decision.votes.items()])
    return _counted(votes, tuple([(name, vote.status) for name, vote in record.shadows.items()]), intent)


@lru_cache(maxsize=4096)
def _counted(votes: tuple[tuple[str, str], ...], shadows: tuple[tuple[str, str], ...], intent: bool) -> tuple[str, ...]:
    parts = [(f"{name}:{Role.VOTER}", status) for name, status in votes]
    parts += [(f"{name}:{Role.SHADOW}", status) for name, status in shadows]
    cast = _CAST + ",".join(sorted(part for part, _ in parts))
    return (DECISIONS, cast, *(f"{part}:{status}" for part, status in parts), *([INTENTS] if intent else ()))


def _part(text: str) -> Part:
    model, _, role = text.rpartition(":")
    if not model:
        raise ValueError(f"field {text!r} is no counter of a model")
    return Part(model, Role(role).value)


def _order(part: Part) -> tuple[int, str, str]:
    known = MODELS.index(part.model) if part.model in MODELS else len(MODELS)
    return known, part.model, part.role

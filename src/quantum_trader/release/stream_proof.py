"""Step C of a deployment: the newest events show that the deployed shadow is seen, named, marked and counted nowhere.

Judged are the intents as consumers read them and the decisions as the gates read them. Who is a shadow is told from
outside, by what is deployed; what an entry says of itself is what is tried. No event is no proof.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from quantum_trader.bus.excerpt import RawEntry
from quantum_trader.bus.wire import decode_intent, decode_record, pair_up
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.errors import WireError
from quantum_trader.core.intent import encode_payload
from quantum_trader.core.predictions import FULL_NAMES
from quantum_trader.release.recompute import breakdown, intent_problems, pair_problems, record_problems

ENTRY_BYTES = 130
ENTRY_PERCENT = 12.0
"""A shadow's entry stays below both: what consumers parse must not grow noticeably."""


class Check(msgspec.Struct, frozen=True):
    """One thing that had to hold: in how many events it was looked for, and every event where it did not."""

    name: str
    looked_at: int
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether it was looked for at all and held everywhere."""
        return self.looked_at > 0 and not self.problems


class Overhead(msgspec.Struct, frozen=True):
    """One shadow's entry in the payloads, smallest to largest; `with_digest` is all that the shadow adds to one."""

    model: str
    payloads: int
    smallest_bytes: int
    largest_bytes: int
    largest_percent: float
    with_digest_bytes: int


class StreamProof(msgspec.Struct, frozen=True):
    """The outcome."""

    intents: int
    decisions: int
    newest: str
    checks: tuple[Check, ...]
    overhead: tuple[Overhead, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True)
class Deployed:
    """What is deployed: the artefact's digest of every model, and which models are shadows."""

    artefacts: Mapping[str, str]
    shadows: frozenset[str]


@dataclass(frozen=True)
class _Intent:
    where: str
    raw: bytes
    payload: dict[str, Any]
    entries: dict[str, dict[str, Any]]


def prove(intents: Sequence[RawEntry], decisions: Sequence[RawEntry], deployed: Deployed) -> StreamProof:
    """Judge the newest events.

    Args:
        intents: Entries of the intent stream, oldest first.
        decisions: Entries of the decision stream that cover the same time.
        deployed: What they must show.
    """
    unreadable: list[str] = []
    read_intents = [one for entry in intents if (one := _intent(entry, unreadable)) is not None]
    records = {r.decision.decision_id: r for entry in decisions if (r := _record(entry, unreadable)) is not None}
    looked = len(intents) + len(decisions)
    checks = [Check("events readable", looked, tuple(unreadable))]
    for name, find in _INTENT_CHECKS.items():
        found = [f"intent {one.where}: {problem}" for one in read_intents for problem in find(one, deployed)]
        checks.append(Check(name, len(read_intents), tuple(found)))
    found = [f"intent {one.where}: {problem}" for one in read_intents for problem in _against(one, records)]
    checks.append(Check("intents equal their decisions", len(read_intents), tuple(found)))
    found = [f"decision {name}: {p}" for name, record in records.items() for p in _recorded(record, deployed)]
    checks.append(Check("decisions exclude the shadow", len(records), tuple(found)))
    overhead = tuple(_overhead(read_intents, model) for model in sorted(deployed.shadows))
    newest = max((entry.entry_id for entry in (*intents, *decisions)), key=_order, default="")
    return StreamProof(len(intents), len(decisions), newest, tuple(checks), overhead)


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, sequence = entry_id.partition("-")
    return int(ms), int(sequence or 0)


def _intent(entry: RawEntry, unreadable: list[str]) -> _Intent | None:
    try:
        fields = pair_up(entry.flat)
        payload = decode_intent(fields)
    except WireError as error:
        unreadable.append(f"intent {entry.entry_id}: {error}")
        return None
    return _Intent(entry.entry_id, fields[b"payload"], payload, breakdown(payload))


def _record(entry: RawEntry, unreadable: list[str]) -> DecisionRecord | None:
    try:
        return decode_record(pair_up(entry.flat))
    except WireError as error:
        unreadable.append(f"decision {entry.entry_id}: {error}")
        return None


def _marked(intent: _Intent, deployed: Deployed) -> Iterator[str]:
    for model in sorted(deployed.shadows):
        entry = intent.entries.get(model)
        if entry is None:
            yield f"no entry of {model}"
        elif entry.get("shadow") is not True:
            yield f'the entry of {model} is not marked "shadow": true'
        elif entry.get("model") != f"{FULL_NAMES[model]}_shadow":
            yield f"the entry of {model} names the model {entry.get('model')!r}"
    for model, entry in intent.entries.items():
        if model not in deployed.shadows and "shadow" in entry:
            yield f"the entry of {model} is marked, and it votes"


def _same_artefacts(intent: _Intent, deployed: Deployed) -> Iterator[str]:
    held = intent.payload.get("artefacts")
    found = held if isinstance(held, Mapping) else {}
    for model, digest in deployed.artefacts.items():
        if found.get(model) != digest:
            yield f"artefact of {model} is {str(found.get(model))[:16]}, deployed is {digest[:16]}"
    for model in (*found, *intent.entries):
        if model not in deployed.artefacts:
            yield f"{model} is not deployed"


def _counted(intent: _Intent, deployed: Deployed) -> Iterator[str]:
    return intent_problems(intent.payload, deployed.shadows)


def _small(intent: _Intent, deployed: Deployed) -> Iterator[str]:
    for model in sorted(deployed.shadows & set(intent.entries)):
        size, percent = _size(intent, model)
        if size >= ENTRY_BYTES or percent >= ENTRY_PERCENT:
            yield f"the entry of {model} has {size} bytes, {percent:.1f} % of {len(intent.raw)}"


_INTENT_CHECKS = {
    "shadow entries marked": _marked,
    "digests are the deployed ones": _same_artefacts,
    "consensus excludes the shadow": _counted,
    f"shadow entry under {ENTRY_BYTES} bytes and {ENTRY_PERCENT:.0f} %": _small,
}


def _against(intent: _Intent, records: Mapping[str, DecisionRecord]) -> Iterator[str]:
    record = records.get(str(intent.payload.get("decision_id")))
    if record is None:
        yield "its decision is not in the stream"
    else:
        yield from pair_problems(intent.payload, record)


def _recorded(record: DecisionRecord, deployed: Deployed) -> Iterator[str]:
    yield from record_problems(record, {})
    if set(record.shadows) != set(deployed.shadows):
        shown = ", ".join(sorted(record.shadows)) or "none"
        yield f"its shadows are {shown}, deployed are {', '.join(sorted(deployed.shadows)) or 'none'}"
    for model, said in {**record.shadows, **record.decision.votes}.items():
        if said.artefact != deployed.artefacts.get(model):
            yield f"artefact of {model} is {said.artefact[:16] or 'none'}, not the deployed one"


def _size(intent: _Intent, model: str) -> tuple[int, float]:
    """Bytes of one entry as it stands in a payload, and its share of the whole in percent."""
    rest = {name: entry for name, entry in intent.payload["model_breakdown"].items() if name != model}
    added = len(intent.raw) - len(encode_payload({**intent.payload, "model_breakdown": rest}))
    # What is added is the entry behind its name: `, "patchtst": `.
    size = added - len(model) - 6
    return size, 100.0 * size / len(intent.raw)


def _overhead(intents: Sequence[_Intent], model: str) -> Overhead:
    sizes = [(_size(one, model), _with_digest(one, model)) for one in intents if model in one.entries]
    if not sizes:
        return Overhead(model, 0, 0, 0, 0.0, 0)
    bytes_ = [size for (size, _), _ in sizes]
    percent = max(share for (_, share), _ in sizes)
    return Overhead(model, len(sizes), min(bytes_), max(bytes_), round(percent, 3), max(both for _, both in sizes))


def _with_digest(intent: _Intent, model: str) -> int:
    rest = dict(intent.payload)
    for key in ("model_breakdown", "artefacts"):
        held = intent.payload.get(key)
        rest[key] = {name: one for name, one in held.items() if name != model} if isinstance(held, Mapping) else held
    return len(intent.raw) - len(encode_payload(rest))

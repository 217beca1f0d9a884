"""Which promotions are being watched, and when a watch may end: rules on the ledger's entries, nothing else.

- A promotion opens a watch, and so does every step of its weight upwards.
- KEEP, a demotion, a rollback and a revoked grant end it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from quantum_trader.release.ledger_entries import Demote, Detail, Entry, Promote, Revoke, Rollback, Watch, WeightChange

KEEP = "KEEP"

UNPROVEN_MEAN = 0.10
"""Standardised mean of a block that an override without a verdict is held to: the least that planning speaks of."""


@dataclass(frozen=True)
class OpenWatch:
    """A promotion that is being watched.

    Attributes:
        model: Short name.
        artefact: Digest of the artefact.
        weight: That it votes with.
        since_ms: When the promotion, or the last step upwards, was recorded, milliseconds since the epoch.
        block_mean: What it was promoted for.
        verdict: Digest of its verdict; empty where there is none.
    """

    model: str
    artefact: str
    weight: float
    since_ms: int
    block_mean: float
    verdict: str


def open_watches(entries: Sequence[Entry]) -> list[OpenWatch]:
    """Every watch that has not ended, in the order of their models' promotions."""
    found: dict[str, OpenWatch] = {}
    for entry in entries:
        detail = entry.detail
        if isinstance(detail, Promote):
            mean = _mean(detail.facts.get("block_mean", ""))
            verdict = detail.facts.get("verdict", "")
            found[detail.model] = OpenWatch(
                detail.model, detail.artefact, detail.after.weight, _millis(entry), mean, verdict
            )
        elif isinstance(detail, WeightChange):
            _reweigh(found, detail, entry, entries)
        elif isinstance(detail, Demote | Rollback | Revoke) or _is_keep(detail):
            found.pop(detail.model, None)
    return list(found.values())


def _is_keep(detail: Detail) -> TypeGuard[Watch]:
    return isinstance(detail, Watch) and detail.facts.get("state") == KEEP


def _reweigh(found: dict[str, OpenWatch], step: WeightChange, entry: Entry, entries: Sequence[Entry]) -> None:
    now = found.get(step.model)
    if step.after.weight <= step.before.weight:
        # Less of it is no promotion; the watch goes on with the decisions at that weight.
        if now is not None:
            found[step.model] = OpenWatch(
                *(now.model, now.artefact, step.after.weight, _millis(entry), now.block_mean, now.verdict)
            )
        return
    facts = _promoted_with(step, entries)
    mean, verdict = _mean(facts.get("block_mean", "")), facts.get("verdict", "")
    found[step.model] = OpenWatch(step.model, step.artefact, step.after.weight, _millis(entry), mean, verdict)


def _promoted_with(step: WeightChange, entries: Sequence[Entry]) -> dict[str, str]:
    """The facts of a step's own verdict, or of the promotion before it."""
    if "verdict" in step.facts:
        return step.facts
    details = [entry.detail for entry in entries if isinstance(entry.detail, Promote)]
    own = [detail for detail in details if (detail.model, detail.artefact) == (step.model, step.artefact)]
    return own[-1].facts if own else {}


def _mean(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return UNPROVEN_MEAN
    return value if math.isfinite(value) and value > 0 else UNPROVEN_MEAN


def _millis(entry: Entry) -> int:
    return int(entry.when.timestamp() * 1000)

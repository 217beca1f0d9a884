"""Votes that were granted against the rules: shown for ever after, whatever became of them."""

from collections.abc import Sequence

from quantum_trader.release.ledger import voting
from quantum_trader.release.ledger_entries import Entry, Grant


def overrides(entries: Sequence[Entry]) -> list[str]:
    """A sentence for each, oldest first."""
    now = voting(entries)
    found = []
    for entry in entries:
        if isinstance(entry.detail, Grant) and entry.detail.override:
            model, artefact = entry.detail.model, entry.detail.artefact
            stands = "it still stands" if artefact in now.get(model, ()) else "it was taken back since"
            found.append(
                f"{model} {artefact[:12]} got its vote at {entry.at} from {entry.by}, {entry.reason}; {stands}"
            )
    return found

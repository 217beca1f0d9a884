"""What a verdict owes to its registration: the ledger's entry of before the window, and every departure from it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from quantum_trader.gates.whole_policy import Policy
    from quantum_trader.settings import Settings


def departures(
    settings: "Settings", table: "pa.Table", model: str, artefact: str, policy: "Policy"
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Faults of a verdict that is not taken as it was registered, and notes for its reader; a sentence each.

    Args:
        settings: With the ledger's place.
        table: The judged decisions, not empty.
        model: Short name of the judged model.
        artefact: Its digest; empty where it never answered.
        policy: That judges.

    Raises:
        LedgerError: if there is a ledger and it is broken.
    """
    from quantum_trader.release.ledger import read_entries
    from quantum_trader.release.observed import observed
    from quantum_trader.release.registration import faults_of, registration_for

    entry = registration_for(read_entries(settings.ledger), model, artefact) if artefact else None
    if entry is None:
        return (), (
            f"Not registered in {settings.ledger} before the window (quantum register): this verdict promotes nobody.",
        )
    return faults_of(entry, policy.digest, observed(table, model)), (
        f"Registered at {entry.at} (entry {entry.seq} of {settings.ledger}).",
    )

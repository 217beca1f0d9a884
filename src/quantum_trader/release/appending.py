"""Appending to the ledger as every command does it: with a signed head where a key is configured, without one else."""

from collections.abc import Sequence
from pathlib import Path

from quantum_trader.release.ledger import append_entries
from quantum_trader.release.ledger_entries import LOWERING, Entry, New


def append(ledger: Path, new: Sequence[New], key_file: Path | None) -> list[Entry]:
    """Append entries, all or none, and seal the ledger.

    Args:
        ledger: The ledger.
        new: In order.
        key_file: Private key of the head, the setting `signing_key`; None for no head.

    Returns:
        The entries as they stand in the ledger.

    Raises:
        LedgerError: if the ledger is broken, contradicts its head or cannot be written, or an entry breaks a rule.
        ProofError: if the key cannot be used; nothing was appended.
    """
    if key_file is None or not new:
        return append_entries(ledger, new)
    # Only here: whoever signs nothing needs no cryptography installed.
    from quantum_trader.release.sealing import sealer
    from quantum_trader.release.signing import load_private

    lowering = all(item.detail.KIND in LOWERING for item in new)
    return append_entries(ledger, new, sealer(ledger, load_private(key_file), new[-1].at, lowering=lowering))

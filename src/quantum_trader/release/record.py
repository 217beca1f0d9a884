"""Runs on the host, under the engine's own Python: appends a transaction's entries to the ledger, once.

``python -m quantum_trader.release.record ENV_FILE TRANSACTION`` reads a JSON list of entries, each with `by`, `reason`,
`kind` and `detail`. The ledger and the key of its head are those of the env file, the time is the host's. Entries of a
transaction that is in the ledger already are not appended again, so that a killed agent may ask twice.
"""

import logging
import sys
from pathlib import Path
from typing import Any

import msgspec

from quantum_trader.clock import now_utc
from quantum_trader.core.errors import ConfigError, ProofError, QuantumError
from quantum_trader.release.appending import append
from quantum_trader.release.ledger import append_entries, read_entries
from quantum_trader.release.ledger_entries import KINDS, LOWERING, Detail, Entry, New
from quantum_trader.settings import load_settings

TRANSACTION = "transaction"
"""Fact of a step that names what it belongs to."""

log = logging.getLogger(__name__)


def to_json(by: str, reason: str, details: list[Detail]) -> str:
    """Entries as this program reads them."""
    return msgspec.json.encode(
        [{"by": by, "reason": reason, "kind": detail.KIND, "detail": detail} for detail in details]
    ).decode()


def record(env_file: Path, transaction: str, content: bytes, at: str) -> str:
    """Append the entries of a transaction, unless they are there.

    Args:
        env_file: Names the ledger, and the key of its head.
        transaction: What they belong to.
        content: From `to_json`.
        at: The time, ISO 8601 in UTC.

    Returns:
        What was done, one sentence.

    Raises:
        QuantumError: if nothing was appended.
    """
    settings = load_settings((), env_file, {})
    ledger = settings.ledger
    if not ledger.is_absolute():
        # Where this program happens to be is not where the engine looks.
        raise ConfigError(f"{env_file}: names no QUANTUM_LEDGER by an absolute path; nothing is written down")
    if any(_transaction(entry) == transaction for entry in read_entries(ledger)):
        return f"the ledger has transaction {transaction} already"
    new = _parsed(content, at)
    try:
        added = append(ledger, new, settings.signing_key)
    except ProofError as error:
        # A key that is gone must not keep a vote alive.
        if any(item.detail.KIND not in LOWERING for item in new):
            raise
        added = append_entries(ledger, new)
        return f"entries {_numbers(added)} of the ledger, its head not signed: {error}"
    return f"entries {_numbers(added)} of the ledger"


def _parsed(content: bytes, at: str) -> list[New]:
    try:
        items: list[dict[str, Any]] = msgspec.json.decode(content, type=list[dict[str, Any]])
        return [
            New(
                at=at,
                by=item["by"],
                reason=item["reason"],
                detail=msgspec.convert(item["detail"], KINDS[item["kind"]]),
            )
            for item in items
        ]
    except (msgspec.MsgspecError, KeyError) as error:
        raise ConfigError(f"entries: not as they must be ({error})") from error


def _transaction(entry: Entry) -> str:
    facts: dict[str, str] = getattr(entry.detail, "facts", {})
    return facts.get(TRANSACTION, "")


def _numbers(entries: list[Entry]) -> str:
    return ", ".join(str(entry.seq) for entry in entries)


def main(arguments: list[str]) -> int:
    """Append what stands on standard input; a problem is one line and exit code 1."""
    env_file, transaction = arguments
    try:
        said = record(
            Path(env_file), transaction, sys.stdin.buffer.read(), now_utc().isoformat(timespec="milliseconds")
        )
    except QuantumError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

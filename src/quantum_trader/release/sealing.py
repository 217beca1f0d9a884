"""The ledger's signed head: how many entries there are and the digest of the last, so that a cut tail shows.

`ledger.head.json` stands beside the ledger and is written under the ledger's lock, after every append. A process that
dies between the two leaves the head one append behind; never ahead, which is how a cut tail looks. The next append
seals the ledger again. Whatever else does not fit is told before anything is appended.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import msgspec

from quantum_trader.core.errors import LedgerError, ProofError
from quantum_trader.release.dsse import seal, unseal
from quantum_trader.release.ledger import Head, at_rest, read_entries
from quantum_trader.release.ledger_entries import NO_ENTRY, Digest, Entry, render
from quantum_trader.release.signing import SigningKey, VerifyKey
from quantum_trader.release.statement import read_file

log = logging.getLogger(__name__)

PAYLOAD_TYPE = "application/vnd.quantum-trader.ledger-head+json"


class SignedHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A head as it is signed; `at` is ISO 8601 in UTC."""

    count: int
    digest: Digest
    at: str


class State(StrEnum):
    """How a ledger and its signed head stand to each other."""

    SEALED = "sealed"
    BEHIND = "behind"
    """The ledger has one append more than the head: a process died between the two, or had no key."""
    UNSEALED = "unsealed"
    """There is no head."""
    BROKEN = "broken"


class Seal(msgspec.Struct, frozen=True):
    """What was found, in which words, and how many entries the ledger has."""

    state: State
    sentence: str
    entries: int = 0


def head_file(ledger: Path) -> Path:
    """Where a ledger's head stands.

    >>> head_file(Path("state/ledger.jsonl")).name
    'ledger.head.json'
    """
    return ledger.with_name(f"{ledger.stem}.head.json")


def check_seal(ledger: Path, key: VerifyKey) -> Seal:
    """Compare a ledger with its signed head.

    Args:
        ledger: The ledger.
        key: Public key that signs its head.

    Raises:
        LedgerError: if the ledger itself is broken.
    """
    ledger = ledger.resolve()
    path = head_file(ledger)
    born = ledger.exists()
    with at_rest(ledger):
        entries = read_entries(ledger) if born else []
        if not path.exists():
            return Seal(State.UNSEALED, f"{path.name}: there is none; nothing guards the last entry", len(entries))
        try:
            signed = _read(path, key)
        except ProofError as error:
            return Seal(State.BROKEN, str(error))
    return _compare(entries, signed)


def _compare(entries: list[Entry], signed: SignedHead) -> Seal:
    count = len(entries)
    after = entries[signed.count :]
    if count < signed.count:
        state, words = State.BROKEN, f"the tail was cut: the head counts {signed.count} entries, the ledger {count}"
    elif _digest_at(entries, signed.count) != signed.digest:
        state, words = State.BROKEN, f"entry {signed.count} is not the one that the head names"
    elif not after:
        state, words = State.SEALED, f"{count} entries, sealed {signed.at}"
    elif len({entry.at for entry in after}) > 1:
        state, words = State.BROKEN, f"{len(after)} entries of several times stand after the head: without the key"
    else:
        state = State.BEHIND
        words = (
            f"{len(after)} of {count} entries stand after the head: one append was not sealed; the next one seals it"
        )
    return Seal(state, words, count)


def _digest_at(entries: list[Entry], count: int) -> str:
    """Digest of the first `count` entries' last line."""
    if count < len(entries):
        return entries[count].prev
    return hashlib.sha256(render(entries[-1])).hexdigest() if entries else NO_ENTRY


def sealer(ledger: Path, key: SigningKey, at: str, *, lowering: bool = False) -> Callable[[Head], None] | None:
    """What `append_entries` calls with the new head, under the lock: signs it, or takes the append back.

    Args:
        ledger: The ledger.
        key: Signs.
        at: The time, ISO 8601 in UTC.
        lowering: Whether everything to be appended takes influence away. Nothing may hinder that: where ledger and
            head contradict each other it is appended, and not sealed, so that the contradiction stays to be seen.

    Raises:
        LedgerError: if ledger and head contradict each other, or the ledger is broken.
    """
    ledger = ledger.resolve()
    found = check_seal(ledger, key.verify_key)
    if found.state is State.BROKEN:
        if lowering:
            log.error("ledger %s: %s; what takes influence away is appended all the same", ledger, found.sentence)
            return None
        raise LedgerError(f"ledger {ledger}: {found.sentence}; nothing is appended to it")
    if found.state is State.BEHIND or (found.state is State.UNSEALED and found.entries):
        log.warning("ledger %s: %s", ledger, found.sentence)

    def seal_head(head: Head) -> None:
        signed = SignedHead(head.entries, head.digest, at)
        _put(head_file(ledger), seal(PAYLOAD_TYPE, msgspec.json.encode(signed), key), ledger.stat())

    return seal_head


def _put(path: Path, content: bytes, owner: os.stat_result) -> None:
    """Put a head in place, whole, with the owner and mode of the ledger; called under the ledger's lock."""
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.unlink(missing_ok=True)
        with draft.open("xb") as file:
            mine = os.fstat(file.fileno())
            if (mine.st_uid, mine.st_gid) != (owner.st_uid, owner.st_gid):
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fchmod(file.fileno(), owner.st_mode & 0o7777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _read(path: Path, key: VerifyKey) -> SignedHead:
    body = unseal(read_file(path, path.name), PAYLOAD_TYPE, key, path.name)
    try:
        signed = msgspec.json.decode(body, type=SignedHead)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProofError(f"{path.name}: no head of a ledger ({error})") from error
    if signed.count < 0 or msgspec.json.encode(signed) != body:
        raise ProofError(f"{path.name}: the head is not written in its canonical form")
    return signed

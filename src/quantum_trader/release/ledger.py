"""The release ledger: a plain file of grants, one JSON object a line, only ever appended to.

A grant says that one artefact, named by its digest, may vote as one model. A line that cannot be read makes the whole
ledger unreadable: an engine that guessed which grants hold would be an engine that guesses who votes.
"""

import fcntl
import io
import os
from pathlib import Path

import msgspec

from quantum_trader.core.errors import LedgerError
from quantum_trader.core.predictions import MODELS


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model's right to vote, for one artefact.

    Attributes:
        at: When, ISO 8601 in UTC.
        model: Short name of the model.
        artefact: SHA-256 digest of the artefact.
        by: Who gave it.
        reason: Why.
    """

    at: str
    model: str
    artefact: str
    by: str
    reason: str
    kind: str = "grant"


def read_grants(path: Path) -> list[Grant]:
    """Every grant of a ledger, oldest first; a ledger that does not exist grants nothing.

    Raises:
        LedgerError: naming the first line that is no grant.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LedgerError(f"ledger {path}: cannot be read ({error.strerror})") from error
    if lines[-1]:
        raise LedgerError(f"ledger {path}: line {len(lines)} was cut off (no newline at its end)")
    return [_parse(line, path, number) for number, line in enumerate(lines[:-1], start=1)]


def _parse(line: bytes, path: Path, number: int) -> Grant:
    try:
        grant = msgspec.json.decode(line, type=Grant)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LedgerError(f"ledger {path}: line {number} is no grant ({error})") from error
    if grant.kind != "grant" or grant.model not in MODELS or not _is_digest(grant.artefact):
        raise LedgerError(f"ledger {path}: line {number} needs kind grant, a known model and a SHA-256 digest")
    return grant


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdef" for character in text)


def granted_digests(grants: list[Grant]) -> dict[str, set[str]]:
    """For every model the digests that hold a grant."""
    out: dict[str, set[str]] = {}
    for grant in grants:
        out.setdefault(grant.model, set()).add(grant.artefact)
    return out


def append_grants(path: Path, new: list[Grant]) -> None:
    """Append grants in one write and wait until the disk has them; a broken ledger is refused, not continued.

    Raises:
        LedgerError: if the ledger is broken or cannot be written.
    """
    content = b"".join(msgspec.json.encode(grant) + b"\n" for grant in new)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a buffer would write its rest when the file is closed, after a failure was undone.
        with path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            read_grants(path)
            # Asked under the lock: another process may have appended since the file was opened.
            before = os.fstat(file.fileno()).st_size
            try:
                _write_whole(file, content)
                os.fsync(file.fileno())
            except OSError:
                # A full disk may have taken half a line: leave the ledger as it was.
                os.ftruncate(file.fileno(), before)
                raise
    except OSError as error:
        raise LedgerError(f"ledger {path}: cannot be written ({error.strerror})") from error


def _write_whole(file: io.FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]

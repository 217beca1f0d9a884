"""What a proof pack swears: an in-toto Statement v1 whose subjects are every file of the pack but the statement itself.

Four steps, each by itself: `hash_files` (SHA-256 of each file), `make_statement` (the list of files and what is said
of them), `dsse.seal` (the signature), and `pack_verify` (everything again, from the other side).
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from quantum_trader.core.errors import ProofError
from quantum_trader.report.proof import Predicate

STATEMENT_FILE = "statement.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:quantum-trader:proof-pack:v1"


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file: its path inside the pack with ``/`` between folders, and its digest."""

    name: str
    digest: dict[str, str]


class Statement(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"kind": "_type", "predicate_type": "predicateType"},
):
    """The statement, keys in the order in which it is written."""

    kind: str
    subject: tuple[Subject, ...]
    predicate_type: str
    predicate: Predicate

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 by file name."""
        return {subject.name: subject.digest.get("sha256", "") for subject in self.subject}


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder but the statement, by name, in name order.

    Raises:
        ProofError: if there is anything but folders and regular files, or one cannot be read.
    """
    found: dict[str, str] = {}
    for path in sorted(_files(folder)):
        name = path.relative_to(folder).as_posix()
        if name != STATEMENT_FILE:
            found[name] = hashlib.sha256(read_file(path, name)).hexdigest()
    return found


def _files(folder: Path) -> list[Path]:
    paths: list[Path] = []
    try:
        for path in folder.iterdir():
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                inside = _files(path)
                if not inside:
                    raise ProofError(f"{path.name}: an empty folder; a pack holds files only")
                paths += inside
            elif stat.S_ISREG(mode):
                paths.append(path)
            else:
                raise ProofError(f"{path.name}: a link or no regular file; a pack holds files only")
    except OSError as error:
        raise ProofError(f"{folder}: cannot be read ({error.strerror})") from error
    return paths


def read_file(path: Path, name: str) -> bytes:
    """Bytes of a regular file, opened without following a link.

    Raises:
        ProofError: naming the file, if it is missing or no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()
    except OSError as error:
        raise ProofError(f"{name}: cannot be read ({error.strerror})") from error


def make_statement(digests: Mapping[str, str], predicate: Predicate) -> bytes:
    """The statement's bytes: compact JSON, keys in declared order, subjects in name order."""
    subjects = tuple(Subject(name, {"sha256": digests[name]}) for name in sorted(digests))
    return msgspec.json.encode(Statement(STATEMENT_TYPE, subjects, PREDICATE_TYPE, predicate))


def read_statement(body: bytes) -> Statement:
    """A statement that was sealed.

    Raises:
        ProofError: if it is no statement of this kind, or not in the form in which it is written.
    """
    try:
        statement = msgspec.json.decode(body, type=Statement)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProofError(f"{STATEMENT_FILE}: no statement of a proof pack ({error})") from error
    if (statement.kind, statement.predicate_type) != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise ProofError(f"{STATEMENT_FILE}: a {statement.predicate_type!r}, expected {PREDICATE_TYPE}")
    if make_statement(statement.digests, statement.predicate) != body:
        raise ProofError(f"{STATEMENT_FILE}: the statement is not written in its canonical form")
    return statement

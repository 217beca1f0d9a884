"""The release ledger: who may vote and everything that led to it, one JSON object a line, only ever appended to.

- Every entry holds its number and the SHA-256 of the line before it, so that nothing before the last line can be
  changed, removed or put in without the chain breaking there. What guards the last line is the head: how many entries
  there are and the digest of the last.
- Times never go back. A clock that did by a few seconds is taken at the last entry's time; further back, only entries
  that take influence away are still accepted.
- A line that cannot be read, or a broken chain, makes the whole ledger unreadable: an engine that guessed which grants
  hold would be an engine that guesses who votes.
- An append is a new file put in the old one's place under a lock: whoever reads, and whatever dies, there is the ledger
  before or the ledger after, never half an entry and never half a batch.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec

from quantum_trader.core.errors import LedgerError
from quantum_trader.release.ledger_entries import (
    LOWERING,
    NO_ENTRY,
    Entry,
    Grant,
    New,
    Revoke,
    moment,
    parse,
    read,
    render,
)

CLOCK_SLACK = timedelta(seconds=5)
"""By how much a clock may have gone back since the last entry; the entry then gets the last one's time."""


class Head(NamedTuple):
    """How many entries a ledger has, and the SHA-256 of its last line (64 zeros where there is none)."""

    entries: int
    digest: str


class Problem(NamedTuple):
    """What is wrong, and in which line, from 1."""

    line: int
    what: str


def read_entries(path: Path) -> list[Entry]:
    """Every entry of a ledger, oldest first; a ledger that does not exist has none.

    Raises:
        LedgerError: naming the first line that is no entry, or that does not follow from the one before it.
    """
    return _entries(_read(path), path)


def head(path: Path) -> Head:
    """The head of a ledger that was verified.

    Raises:
        LedgerError: as `read_entries`.
    """
    raw = _read(path)
    _entries(raw, path)
    return _head(raw)


def verify(path: Path, expected: Head | None = None) -> list[Problem]:
    """What is wrong with a ledger, first line first; nothing for a whole one.

    Args:
        path: The ledger.
        expected: The head that it must have, from where it was kept safe: a changed last line or a cut tail shows.

    Raises:
        LedgerError: if the file cannot be read at all.
    """
    raw = _read(path)
    problems = [problem for _, problem in _walk(raw) if problem is not None]
    return problems if expected is None else [*problems, *_against(raw, expected)]


def append_entries(path: Path, new: Sequence[New], sealed: Callable[[Head], None] | None = None) -> list[Entry]:
    """Append entries, all or none, and wait until the disk has them; a broken ledger is refused, not continued.

    Args:
        path: The ledger; made, with its folder, where it is missing.
        new: In order.
        sealed: Told of the new head, still under the lock; where it raises, nothing was appended.

    Returns:
        The entries as they stand in the ledger.

    Raises:
        LedgerError: if the ledger is broken or cannot be written, or an entry breaks a rule.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path) as held:
            before = _read(path)
            entries = _entries(before, path)
            added = _chained(entries[-1] if entries else None, _head(before), new, path)
            if added:
                after = before + b"".join(render(entry) + b"\n" for entry in added)
                _replace(path, (before, after), os.fstat(held), sealed)
            return added
    except OSError as error:
        raise LedgerError(f"ledger {path}: cannot be written ({error.strerror})") from error


def voting(entries: Sequence[Entry], at: datetime | None = None) -> dict[str, set[str]]:
    """For every model the digests that hold a grant: those granted and not revoked since.

    Args:
        entries: From `read_entries`.
        at: Only what was written until then counts; None for everything.
    """
    out: dict[str, set[str]] = {}
    for entry in entries:
        if at is not None and entry.when > at:
            break
        if isinstance(entry.detail, Grant):
            out.setdefault(entry.detail.model, set()).add(entry.detail.artefact)
        elif isinstance(entry.detail, Revoke):
            out.get(entry.detail.model, set()).discard(entry.detail.artefact)
    return {model: digests for model, digests in out.items() if digests}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise LedgerError(f"ledger {path}: cannot be read ({error.strerror})") from error


def _entries(raw: bytes, path: Path) -> list[Entry]:
    entries = []
    for entry, problem in _walk(raw):
        if problem is not None:
            raise LedgerError(f"ledger {path}: line {problem.line} {problem.what}")
        if entry is not None:
            entries.append(entry)
    return entries


def _walk(raw: bytes) -> Iterator[tuple[Entry | None, Problem | None]]:
    """Every line's entry, and what is wrong with it: one of the two at least."""
    *lines, rest = raw.split(b"\n")
    last: Entry | None = None
    digest = NO_ENTRY
    for number, line in enumerate(lines, start=1):
        try:
            entry = parse(line)
        except ValueError as error:
            yield None, Problem(number, f"is no entry ({error})")
        else:
            fault = _misfit(entry, number, digest, last)
            yield entry, None if fault is None else Problem(number, fault)
            last = entry
        digest = _sha256(line)
    if rest:
        yield None, Problem(len(lines) + 1, "was cut off (no newline at its end)")


def _misfit(entry: Entry, number: int, digest: str, last: Entry | None) -> str | None:
    """Why an entry cannot stand on this line."""
    if entry.prev != digest:
        if number == 1:
            return "is no first entry: lines before it were taken out"
        return f"does not follow from line {number - 1}: that one was changed, or a line was taken out or put in"
    if entry.seq != number - 1:
        return f"has the number {entry.seq}, expected {number - 1}"
    if last is not None and entry.when < last.when:
        return f"is from {entry.at}, before the one before it ({last.at})"
    return None


def _against(raw: bytes, expected: Head) -> Iterator[Problem]:
    lines = raw.split(b"\n")[:-1]
    if len(lines) < expected.entries:
        yield Problem(
            len(lines) + 1, f"is missing: the head counts {expected.entries} entries, the ledger {len(lines)}"
        )
    elif len(lines) > expected.entries:
        yield Problem(expected.entries + 1, f"stands after the head, which counts {expected.entries} entries")
    if 0 < expected.entries <= len(lines) and _sha256(lines[expected.entries - 1]) != expected.digest:
        yield Problem(expected.entries, "is not the line that the head names")


def _head(raw: bytes) -> Head:
    lines = raw.split(b"\n")[:-1]
    return Head(len(lines), _sha256(lines[-1]) if lines else NO_ENTRY)


def _sha256(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _chained(last: Entry | None, at_head: Head, new: Sequence[New], path: Path) -> list[Entry]:
    """New entries with their numbers, digests and times, each read back once before it is written."""
    added: list[Entry] = []
    seq, prev = at_head
    for item in new:
        try:
            draft = Entry(
                seq=seq,
                prev=prev,
                at=item.at,
                kind=item.detail.KIND,
                by=item.by,
                reason=item.reason,
                detail=item.detail,
            )
            entry = read(render(draft))
        except (ValueError, TypeError, OverflowError, msgspec.MsgspecError) as error:
            raise LedgerError(
                f"ledger {path}: a new entry of kind {item.detail.KIND} breaks a rule: {error}"
            ) from error
        last = _timed(entry, last, path)
        added.append(last)
        seq, prev = seq + 1, _sha256(render(last))
    return added


def _timed(entry: Entry, last: Entry | None, path: Path) -> Entry:
    if last is None or entry.when >= last.when:
        return entry
    if last.when - moment(entry.at) > CLOCK_SLACK and entry.kind not in LOWERING:
        raise LedgerError(
            f"ledger {path}: the clock says {entry.at}, the last entry is from {last.at}; set the clock right"
        )
    return msgspec.structs.replace(entry, at=last.at)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """A descriptor of the ledger's file, locked, and still the ledger's once the lock is held."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Another process may have put a new file in its place while this one waited for the lock.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _replace(
    path: Path, contents: tuple[bytes, bytes], owner: os.stat_result, sealed: Callable[[Head], None] | None
) -> None:
    """Put the second content in the first one's place, with its owner and mode, or leave everything as it was."""
    path = path.resolve()
    old, new = path.with_name(f".{path.name}.old"), path.with_name(f".{path.name}.new")
    try:
        # The way back is on the disk before anything changes: it must not fail because the disk is full.
        _write(old, contents[0], owner)
        _write(new, contents[1], owner)
        # The new file is locked before anybody can open it: the old one's lock holds nobody back any more.
        with _alone(new):
            new.replace(path)
            try:
                _flush(path.parent)
                if sealed is not None:
                    sealed(_head(contents[1]))
            except BaseException:
                old.replace(path)
                raise
    finally:
        new.unlink(missing_ok=True)
        old.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def at_rest(path: Path) -> Iterator[None]:
    """While the block runs nobody appends, so that the ledger and what is written after it fit each other.

    Raises:
        LedgerError: if the ledger cannot be opened; one that does not exist is at rest.
    """
    descriptor = _shared(path)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _shared(path: Path) -> int | None:
    """A descriptor of the ledger's file that shares its lock; None where there is no ledger."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LedgerError(f"ledger {path}: cannot be read ({error.strerror})") from error
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _write(path: Path, content: bytes, owner: os.stat_result) -> None:
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        mine = os.fstat(file.fileno())
        if (mine.st_uid, mine.st_gid) != (owner.st_uid, owner.st_gid):
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        os.fchmod(file.fileno(), owner.st_mode & 0o7777)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

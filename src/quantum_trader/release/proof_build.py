"""Making a proof pack: run, derive, draw, hash, list, sign; whole or not at all, then entered in the ledger.

Everything happens in a hidden folder beside the pack's place, which takes its name only when nothing is missing. The
ledger in the pack ends before the entry that names the pack: the entry holds the statement's digest, and the statement
holds the ledger's head.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantum_trader.core.errors import ProofError, QuantumError
from quantum_trader.core.intent import iso_micros
from quantum_trader.release import proof_commands as listed
from quantum_trader.release.dsse import seal
from quantum_trader.release.ledger import Head, head
from quantum_trader.release.ledger_entries import Proof
from quantum_trader.release.proof_commands import Scene, commands
from quantum_trader.release.proof_derive import derive, verdict_name, verdict_words
from quantum_trader.release.proof_run import Command, Here, Reach, run_command
from quantum_trader.release.signing import SigningKey
from quantum_trader.release.statement import PAYLOAD_TYPE, STATEMENT_FILE, hash_files, make_statement, read_file
from quantum_trader.report.proof import FORMAT, CommandRun, LedgerHead, Predicate
from quantum_trader.report.proof_page import HTML_FILE, MARKDOWN_FILE, pages

EXCERPTS = "excerpts"

_NEUTRAL = frozenset({"HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV"})


@dataclass(frozen=True)
class Order:
    """What to make.

    Attributes:
        out: The pack's folder; it must not exist.
        title: For people.
        maker: Version, code digest and commit of the program that makes it.
        scene: What the commands are about.
        judge: Words that call our command line on this machine, for the verdict on the excerpts.
    """

    out: Path
    title: str
    maker: Mapping[str, str]
    scene: Scene
    judge: Sequence[str]


@dataclass(frozen=True)
class Pack:
    """A pack that was made: where it lies, what it says, and what the ledger is told of it."""

    folder: Path
    predicate: Predicate
    entry: Proof


def build_pack(
    order: Order, reach: Reach, key: SigningKey, now_us: Callable[[], int], told: Callable[[CommandRun], None]
) -> Pack:
    """Make a pack.

    Args:
        order: What to make.
        reach: Where the commands run.
        key: Signs the statement.
        now_us: The clock, microseconds since the epoch.
        told: Called after every command.

    Raises:
        ProofError: if the folder exists, the ledger cannot be read, or something cannot be written.
    """
    if order.out.exists() or order.out.is_symlink():
        raise ProofError(f"pack {order.out}: exists already; a pack is never overwritten")
    made = now_us()
    with _draft(order.out) as draft:
        runs = []
        for command in commands(order.scene):
            runs.append(run_command(command, reach, draft, now_us))
            told(runs[-1])
        at = _ledger_head(draft, runs)
        for run in _verdicts(order, draft, runs, now_us):
            runs.append(run)
            told(run)
        predicate = _predicate(order, reach.name, made, runs, at)
        _draw(draft, predicate)
        raw = seal(PAYLOAD_TYPE, make_statement(hash_files(draft), predicate), key)
        _write(draft / STATEMENT_FILE, raw)
        _put_in_place(draft, order.out)
    digest = hashlib.sha256(raw).hexdigest()
    return Pack(order.out, predicate, Proof(statement=digest, entries=at.entries, head=at.digest, host=predicate.host))


@contextlib.contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """A hidden folder beside the pack's place; gone afterwards unless it took that place."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise ProofError(f"pack {out}: cannot be written ({error.strerror})") from error
    try:
        yield draft
    except OSError as error:
        raise ProofError(f"pack {out}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _ledger_head(draft: Path, runs: Sequence[CommandRun]) -> Head:
    """Where the ledger in the pack stands.

    Raises:
        ProofError: if it was not read.
        LedgerError: if it is broken.
    """
    run = _named(runs, listed.LEDGER)
    if run.exit_code != 0:
        said = (draft / run.stderr).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise ProofError(f"no pack without the ledger: {run.problem or (said or ['it could not be read'])[-1]}")
    return head(draft / run.stdout)


def _verdicts(order: Order, draft: Path, runs: Sequence[CommandRun], now_us: Callable[[], int]) -> Iterator[CommandRun]:
    """The gates' verdict on every shadow in the excerpts; none where there is nothing to judge."""
    decisions, bars = (draft / _named(runs, name).stdout for name in (listed.DECISIONS, listed.BARS))
    with tempfile.TemporaryDirectory(prefix="proof-") as place:
        try:
            shadows = derive(decisions.read_bytes(), bars.read_bytes(), Path(place))
        except QuantumError:
            # What cannot be read stands in the excerpt for everybody to see; there is no verdict on it.
            return
        here = Here(EXCERPTS, Path(place), own_environment(os.environ))
        for model in shadows:
            words = (*order.judge, *verdict_words(model))
            yield run_command(
                Command(verdict_name(model), f"Verdict of the gates on {model}", words, "json"), here, draft, now_us
            )


def own_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Only what a program needs to start: a verdict on excerpts follows from the excerpts, not from our settings."""
    return {name: value for name, value in environ.items() if name in _NEUTRAL}


def _named(runs: Sequence[CommandRun], name: str) -> CommandRun:
    return next(run for run in runs if run.name == name)


def _predicate(order: Order, host: str, made: int, runs: Sequence[CommandRun], at: Head) -> Predicate:
    return Predicate(
        format=FORMAT,
        title=order.title,
        made=iso_micros(made),
        host=host,
        maker=dict(order.maker),
        since=order.scene.since_ms,
        until=order.scene.until_ms,
        commands=tuple(runs),
        ledger=LedgerHead(_named(runs, listed.LEDGER).stdout, at.entries, at.digest),
    )


def _draw(draft: Path, predicate: Predicate) -> None:
    files = {name: read_file(draft / name, name) for name in hash_files(draft)}
    for name, text in zip((MARKDOWN_FILE, HTML_FILE), pages(predicate, files), strict=True):
        _write(draft / name, text)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _put_in_place(draft: Path, out: Path) -> None:
    draft.chmod(0o755)
    for folder in (draft / "outputs", draft):
        _flush(folder)
    if out.exists() or out.is_symlink():
        raise ProofError(f"pack {out}: exists already; a pack is never overwritten")
    draft.rename(out)
    _flush(out.parent)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

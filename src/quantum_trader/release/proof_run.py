"""Commands of a proof pack: run one by one as argument lists, with what they printed and how they ended.

A command that fails, hangs or does not exist is evidence too: it is recorded as such, and the next one runs. Only
Ctrl-C ends the whole.
"""

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from quantum_trader.core.errors import ProofError, QuantumError
from quantum_trader.core.intent import iso_micros
from quantum_trader.report.proof import CommandRun

LIMIT_S = 300.0


class Answer(Protocol):
    """How a command ended: its exit code, standard output and standard error."""

    @property
    def code(self) -> int:
        """Exit code."""

    @property
    def out(self) -> bytes:
        """Standard output."""

    @property
    def err(self) -> str:
        """Standard error."""


class Reach(Protocol):
    """Where commands run: this machine, or a host of `release.host`."""

    @property
    def name(self) -> str:
        """What to call it."""

    def run(
        self, argv: Sequence[str], stdin: bytes | Path = b"", timeout_s: float = LIMIT_S, *, check: bool = True
    ) -> Answer:
        """Run a command; raises `QuantumError` where it could not be run or was given up."""


@dataclass(frozen=True)
class Ended:
    """An `Answer`."""

    code: int
    out: bytes
    err: str


@dataclass(frozen=True)
class Here:
    """This machine, with a folder and an environment for the commands."""

    name: str = "here"
    folder: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def run(
        self, argv: Sequence[str], stdin: bytes | Path = b"", timeout_s: float = LIMIT_S, *, check: bool = True
    ) -> Ended:
        """Run a command.

        Raises:
            ProofError: if it cannot be started, is not done in time, or fails where `check` asks for success.
        """
        given = stdin.read_bytes() if isinstance(stdin, Path) else stdin
        try:
            done = subprocess.run(  # noqa: S603 - an argument list, no shell
                list(argv),
                input=given,
                capture_output=True,
                timeout=timeout_s,
                cwd=self.folder,
                env=dict(self.environ),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ProofError(f"not done within {timeout_s:g} s") from error
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ProofError(f"cannot be started ({reason})") from error
        if check and done.returncode:
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no word"])[-1]
            raise ProofError(f"{argv[0]} ended with {done.returncode}: {last}")
        return Ended(done.returncode, done.stdout, done.stderr.decode(errors="surrogateescape"))


@dataclass(frozen=True)
class Command:
    """A command to run: a short name, what it shows, its words, and how its output's file name ends."""

    name: str
    title: str
    argv: tuple[str, ...]
    suffix: str = "txt"


def run_command(command: Command, reach: Reach, folder: Path, now_us: Callable[[], int]) -> CommandRun:
    """Run a command and write both its outputs into the pack.

    Args:
        command: What to run.
        reach: Where.
        folder: The pack.
        now_us: The clock, microseconds since the epoch.

    Raises:
        OSError: if an output cannot be written.
    """
    started, begun = now_us(), time.monotonic()
    code: int | None = None
    out, err, problem = b"", "", ""
    try:
        done = reach.run(command.argv, timeout_s=LIMIT_S, check=False)
        code, out, err = done.code, done.out, done.err
    except QuantumError as error:
        problem = str(error)
    seconds, ended = time.monotonic() - begun, now_us()
    stdout, stderr = f"outputs/{command.name}.{command.suffix}", f"outputs/{command.name}.stderr.txt"
    raw = err.encode(errors="surrogateescape")
    return CommandRun(
        name=command.name,
        title=command.title,
        argv=command.argv,
        where=reach.name,
        exit_code=code,
        problem=problem,
        started=iso_micros(started),
        ended=iso_micros(ended),
        seconds=round(seconds, 6),
        stdout=stdout,
        stdout_sha256=_write(folder / stdout, out),
        stderr=stderr,
        stderr_sha256=_write(folder / stderr, raw),
    )


def _write(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()

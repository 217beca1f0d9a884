"""Commands of a pack: what they print is stored, and one that fails is recorded, not raised."""

import hashlib
import sys
from itertools import count
from pathlib import Path

import pytest

from quantum_trader.core.errors import ProofError
from quantum_trader.release import proof_run
from quantum_trader.release.proof_run import Command, Here, run_command
from quantum_trader.report.proof import CommandRun


def run(folder: Path, *argv: str) -> CommandRun:
    ticks = count(1_768_012_593_250_080, 7)
    return run_command(Command("it", "A test", argv, "txt"), Here(), folder, lambda: next(ticks))


def python(folder: Path, program: str) -> CommandRun:
    return run(folder, sys.executable, "-c", program)


def test_both_outputs_are_stored_with_their_digests(tmp_path: Path) -> None:
    program = "import sys; sys.stdout.buffer.write(bytes([0, 255, 10])); sys.stderr.buffer.write(bytes([254])); exit(7)"
    done = python(tmp_path, program)
    assert (done.exit_code, done.problem, done.where) == (7, "", "here")
    assert (tmp_path / done.stdout).read_bytes() == b"\x00\xff\n"
    assert (tmp_path / done.stderr).read_bytes() == b"\xfe"
    assert done.stdout_sha256 == hashlib.sha256(b"\x00\xff\n").hexdigest()
    assert done.stderr_sha256 == hashlib.sha256(b"\xfe").hexdigest()
    assert done.started < done.ended
    assert done.argv == (sys.executable, "-c", program)


def test_no_shell_reads_the_words(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, "-c", "import sys; print(sys.argv[1:])", "$HOME; `id` && *", "a b")
    assert (tmp_path / done.stdout).read_text() == "['$HOME; `id` && *', 'a b']\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("no-such-program-anywhere",), "cannot be started (No such file or directory)"),
        (("a\0b",), "cannot be started (embedded null byte)"),
    ],
)
def test_what_cannot_be_started_is_recorded(tmp_path: Path, argv: tuple[str, ...], words: str) -> None:
    done = run(tmp_path, *argv)
    assert (done.exit_code, done.problem) == (None, words)
    assert (tmp_path / done.stdout).read_bytes() == (tmp_path / done.stderr).read_bytes() == b""


def test_what_hangs_is_given_up_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof_run, "LIMIT_S", 0.2)
    done = python(tmp_path, "import time; time.sleep(600)")
    assert (done.exit_code, done.problem) == (None, "not done within 0.2 s")


def test_a_signal_is_a_negative_exit_code(tmp_path: Path) -> None:
    assert python(tmp_path, "import os; os.kill(os.getpid(), 9)").exit_code == -9


def test_where_success_is_asked_for_failure_is_an_error() -> None:
    with pytest.raises(ProofError, match="ended with 3: it is so"):
        Here().run([sys.executable, "-c", "import sys; print('it is so', file=sys.stderr); exit(3)"])

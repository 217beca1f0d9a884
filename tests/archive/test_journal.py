"""Lines that only grow: once each, whole after a kill, as they were after a failed write."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.archive.journal import Journal


def lines(path: Path) -> list[object]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def test_a_line_is_there_once_over_all_lives(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    assert not path.exists()
    assert [journal.add({"a": "ü\n"}), journal.add({"a": 2}), journal.add({"a": "ü\n"})] == [True, True, False]
    assert [Journal(path).add({"a": 2}), Journal(path).add({"a": 3})] == [False, True]
    assert lines(path) == [{"a": "ü\n"}, {"a": 2}, {"a": 3}]


@given(data=st.data())
def test_a_cut_line_is_dropped_and_written_again(data, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    written = [{"n": n, "text": "x" * n} for n in range(4)]
    journal = Journal(path)
    for line in written:
        journal.add(line)
    raw = path.read_bytes()
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    again = Journal(path)
    for line in written:
        again.add(line)
    assert path.read_bytes() == raw


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    Journal(path).add({"a": 1})
    code = (
        "import resource, signal, sys; from pathlib import Path; from quantum_trader.archive.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "journal = Journal(Path(sys.argv[1])); resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "try:\n    journal.add({'text': 'x' * 100})\n"
        "except OSError as error:\n    print(error.strerror)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "File too large"
    assert lines(path) == [{"a": 1}]

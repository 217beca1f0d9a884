import fcntl
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.core.errors import LedgerError
from quantum_trader.core.predictions import MODELS
from quantum_trader.release.ledger import Grant, append_grants, granted_digests, read_grants

GRANT = Grant(at="2026-01-01T00:00:00Z", model="xgb", artefact="ab" * 32, by="operator", reason="first voters")

GOOD_LINE = msgspec.json.encode(GRANT) + b"\n"

grants = st.lists(
    st.builds(
        Grant,
        at=st.just("2026-01-01T00:00:00Z"),
        model=st.sampled_from(MODELS),
        artefact=st.text("0123456789abcdef", min_size=64, max_size=64),
        by=st.text(max_size=20),
        reason=st.text(max_size=20),
    ),
    max_size=5,
)


def line(**changes: object) -> bytes:
    return msgspec.json.encode({**msgspec.to_builtins(GRANT), **changes}) + b"\n"


def without(name: str) -> bytes:
    fields = msgspec.to_builtins(GRANT)
    del fields[name]
    return msgspec.json.encode(fields) + b"\n"


class TestALedgerGrantsNothing:
    def test_where_it_is_missing(self, tmp_path: Path) -> None:
        assert read_grants(tmp_path / "none.jsonl") == []
        assert read_grants(tmp_path / "no folder" / "none.jsonl") == []

    def test_where_it_is_empty(self, tmp_path: Path) -> None:
        (tmp_path / "ledger").touch()
        assert read_grants(tmp_path / "ledger") == []

    def test_to_another_model_or_digest(self) -> None:
        other = msgspec.structs.replace(GRANT, model="lgbm", artefact="cd" * 32)
        found = granted_digests([GRANT, other, msgspec.structs.replace(GRANT, artefact="ef" * 32)])
        assert found == {"xgb": {"ab" * 32, "ef" * 32}, "lgbm": {"cd" * 32}}
        assert granted_digests([]) == {}


class TestALedgerGivesBackWhatWasAppended:
    @given(batches=st.lists(grants, max_size=4))
    def test_in_order_and_line_by_line(
        self, batches: list[list[Grant]], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        path = tmp_path_factory.mktemp("ledger") / "new folder" / "ledger.jsonl"
        for batch in batches:
            append_grants(path, batch)
        everything = [grant for batch in batches for grant in batch]
        assert read_grants(path) == everything
        if batches:
            assert path.read_bytes().count(b"\n") == len(everything)

    def test_and_appending_never_changes_what_stands(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        append_grants(path, [GRANT])
        before = path.read_bytes()
        append_grants(path, [GRANT, GRANT])
        assert path.read_bytes() == before * 3


BROKEN = {
    "an empty line": b"\n",
    "no JSON": b"grant xgb\n",
    "another type": b"[]\n",
    "an unknown field": line(until="2027"),
    "a missing field": without("artefact"),
    "a wrong type": line(by=3),
    "a null": line(reason=None),
    "an unknown model": line(model="gru"),
    "an unknown kind": line(kind="revoke"),
    "a short digest": line(artefact="ab"),
    "a digest in capitals": line(artefact="AB" * 32),
    "no UTF-8": GOOD_LINE.replace(b"operator", b"op\xffrator"),
    "a lone surrogate": GOOD_LINE.replace(b"operator", b"op\\ud800"),
    "a carriage return between two": GOOD_LINE.replace(b"\n", b"\r") + GOOD_LINE,
    "a second object": GOOD_LINE.replace(b"\n", b"") + GOOD_LINE,
    "NUL bytes after a power cut": b"\0" * 64 + b"\n",
}


class TestALedgerThatCannotBeReadWholeIsRefused:
    @pytest.mark.parametrize("what", BROKEN)
    def test_with_the_number_of_its_first_broken_line(self, tmp_path: Path, what: str) -> None:
        path = tmp_path / "ledger"
        path.write_bytes(GOOD_LINE * 2 + BROKEN[what] + GOOD_LINE + BROKEN[what])
        with pytest.raises(LedgerError, match=r"ledger: line 3 "):
            read_grants(path)
        with pytest.raises(LedgerError, match=r"ledger: line 3 "):
            append_grants(path, [GRANT])
        assert path.read_bytes() == GOOD_LINE * 2 + BROKEN[what] + GOOD_LINE + BROKEN[what]

    @pytest.mark.parametrize("kept", [1, 50, len(GOOD_LINE) - 1])
    def test_where_its_last_line_was_cut_off(self, tmp_path: Path, kept: int) -> None:
        path = tmp_path / "ledger"
        path.write_bytes(GOOD_LINE + GOOD_LINE[:kept])
        with pytest.raises(LedgerError, match="line 2 was cut off"):
            read_grants(path)
        with pytest.raises(LedgerError, match="line 2 was cut off"):
            append_grants(path, [GRANT])

    def test_where_it_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(LedgerError, match=r"cannot be read \(Is a directory\)"):
            read_grants(tmp_path)
        with pytest.raises(LedgerError, match=r"cannot be written \(Is a directory\)"):
            append_grants(tmp_path, [GRANT])
        (tmp_path / "file").touch()
        with pytest.raises(LedgerError, match=r"cannot be written \(File exists\)"):
            append_grants(tmp_path / "file" / "ledger", [GRANT])

    @given(content=st.binary(max_size=60), good=st.booleans())
    def test_and_no_bytes_whatever_give_a_vote_or_a_traceback(
        self, content: bytes, good: bool, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        path = tmp_path_factory.mktemp("fuzz") / "ledger"
        path.write_bytes(GOOD_LINE * good + content)
        try:
            found = read_grants(path)
        except LedgerError:
            found = []
        assert found == [GRANT] * (good and not content)


APPEND_TO_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from quantum_trader.core.errors import LedgerError
from quantum_trader.release.ledger import Grant, append_grants

path, limit, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    grant = Grant(at="2026-01-01T00:00:00Z", model="lgbm", artefact="cd" * 32, by="full disk", reason="r" * 50)
    append_grants(path, [grant] * count)
except LedgerError as error:
    print(error)
else:
    print("written")
"""


def append_with_limit(path: Path, limit: int, count: int) -> "subprocess.Popen[str]":
    """Append in a process whose files cannot grow beyond `limit`: what a full disk does to a write."""
    command = [sys.executable, "-c", APPEND_TO_A_FULL_DISK, str(path), str(limit), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def said(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output


class TestAFullDiskLeavesTheLedgerAsItWas:
    @pytest.mark.parametrize("room", [0, 1, 150, 300, 700])
    def test_whole_or_not_at_all(self, tmp_path: Path, room: int) -> None:
        path = tmp_path / "ledger"
        append_grants(path, [GRANT])
        before = path.read_bytes()
        assert "cannot be written (File too large)" in said(append_with_limit(path, len(before) + room, 4))
        assert path.read_bytes() == before
        append_grants(path, [GRANT])
        assert read_grants(path) == [GRANT] * 2

    def test_and_more_than_a_buffer_is_no_different(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        assert "cannot be written" in said(append_with_limit(path, 60_000, 1000))
        assert path.read_bytes() == b""
        assert said(append_with_limit(path, 10**6, 1000)) == "written\n"
        assert len(read_grants(path)) == 1000

    def test_with_what_another_process_appended_meanwhile(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        append_grants(path, [GRANT])
        with path.open("ab") as ours:
            fcntl.flock(ours, fcntl.LOCK_EX)
            process = append_with_limit(path, 2 * len(GOOD_LINE) + 10, 4)
            wait_until_open(process.pid, path)
            ours.write(GOOD_LINE)
        assert "cannot be written" in said(process)
        assert read_grants(path) == [GRANT, GRANT]


def wait_until_open(pid: int, path: Path) -> None:
    """Until a process holds a file open (it then waits for our lock)."""
    folder = Path(f"/proc/{pid}/fd")
    for _ in range(3000):
        links = []
        for link in folder.iterdir():
            try:
                links.append(link.readlink())
            except FileNotFoundError:
                continue
        if path.resolve() in links:
            return
        time.sleep(0.01)
    raise AssertionError("the process never opened the ledger")


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    processes = [append_with_limit(path, 10**6, 25) for _ in range(4)]
    assert [said(process) for process in processes] == ["written\n"] * 4
    assert len(read_grants(path)) == 100

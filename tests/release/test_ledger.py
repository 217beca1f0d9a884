import fcntl
import itertools
import os
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.core.errors import LedgerError
from quantum_trader.core.predictions import MODELS
from quantum_trader.release.ledger import Head, append_entries, head, read_entries, verify, voting
from quantum_trader.release.ledger_entries import NO_ENTRY, Demote, Entry, Grant, New, Revoke, State, render

AT = "2026-01-01T00:00:00Z"


def grant(model: str = "xgb", artefact: str = "ab" * 32, at: str = AT, reason: str = "first voters") -> New:
    return New(at=at, by="operator", reason=reason, detail=Grant(model=model, artefact=artefact, weight=0.25))


def revoke(model: str = "xgb", artefact: str = "ab" * 32, at: str = AT) -> New:
    return New(at=at, by="operator", reason="it disappointed", detail=Revoke(model=model, artefact=artefact))


digests = st.text("0123456789abcdef", min_size=64, max_size=64)
words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
states = st.builds(
    State, role=st.sampled_from(["voter", "shadow", "none"]), artefact=digests, weight=st.floats(0, 1000)
)
details = st.one_of(
    st.builds(
        Grant,
        model=st.sampled_from(MODELS),
        artefact=digests,
        weight=st.floats(1e-300, 1000),
        verdict=digests,
        override=st.booleans(),
    ),
    st.builds(Revoke, model=st.sampled_from(MODELS), artefact=digests),
    st.builds(
        Demote,
        model=st.sampled_from(MODELS),
        artefact=digests,
        before=states,
        after=states,
        facts=st.dictionaries(words, words, max_size=2),
    ),
)
news = st.lists(st.builds(New, at=st.just(AT), by=words, reason=words, detail=details), max_size=4)


class TestALedgerGrantsNothing:
    def test_where_it_is_missing_or_empty(self, tmp_path: Path) -> None:
        assert read_entries(tmp_path / "none.jsonl") == []
        assert read_entries(tmp_path / "no folder" / "none.jsonl") == []
        (tmp_path / "ledger").touch()
        assert read_entries(tmp_path / "ledger") == []
        assert head(tmp_path / "ledger") == Head(0, NO_ENTRY)

    def test_to_another_model_or_digest(self, tmp_path: Path) -> None:
        new = [grant(), grant("lgbm", "cd" * 32), grant("xgb", "ef" * 32)]
        found = voting(append_entries(tmp_path / "ledger", new))
        assert found == {"xgb": {"ab" * 32, "ef" * 32}, "lgbm": {"cd" * 32}}
        assert voting([]) == {}

    def test_once_it_is_revoked_until_it_is_granted_again(self, tmp_path: Path) -> None:
        times = [f"2026-01-0{day}T00:00:00Z" for day in range(1, 5)]
        new = [grant(at=times[0]), revoke(at=times[1]), revoke("lgbm", at=times[2]), grant(at=times[3])]
        entries = append_entries(tmp_path / "ledger", new)
        expected = [{"xgb": {"ab" * 32}}, {}, {}, {"xgb": {"ab" * 32}}]
        assert [voting(entries[: n + 1]) for n in range(4)] == expected
        assert [voting(entries, datetime(2026, 1, day, tzinfo=UTC)) for day in range(1, 5)] == expected
        assert voting(entries, datetime(2025, 12, 31, tzinfo=UTC)) == {}


class TestALedgerGivesBackWhatWasAppended:
    @given(batches=st.lists(news, max_size=4))
    def test_in_order_and_line_by_line(
        self, batches: list[list[New]], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        path = tmp_path_factory.mktemp("ledger") / "new folder" / "ledger.jsonl"
        written = [entry for batch in batches for entry in append_entries(path, batch)]
        found = read_entries(path)
        assert found == written
        assert [(item.by, item.reason, item.detail) for item in itertools.chain(*batches)] == [
            (entry.by, entry.reason, entry.detail) for entry in found
        ]
        assert [entry.seq for entry in found] == list(range(len(found)))
        assert verify(path, head(path)) == []
        assert head(path).entries == len(found)

    def test_and_appending_never_changes_what_stands(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        append_entries(path, [grant()])
        before = path.read_bytes()
        append_entries(path, [grant(), grant()])
        assert path.read_bytes().startswith(before)
        assert [path.name for path in tmp_path.iterdir()] == ["ledger"]

    def test_with_a_weight_that_is_written_as_a_whole_number(self, tmp_path: Path) -> None:
        new = New(at=AT, by="o", reason="r", detail=Grant(model="xgb", artefact="ab" * 32, weight=1))
        assert append_entries(tmp_path / "ledger", [new]) == read_entries(tmp_path / "ledger")

    def test_with_the_files_mode_and_through_a_link(self, tmp_path: Path) -> None:
        path, link = tmp_path / "ledger", tmp_path / "link"
        path.touch(0o640)
        link.symlink_to(path)
        append_entries(link, [grant()])
        assert link.is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert len(read_entries(path)) == 1


class TestTimeNeverGoesBack:
    def test_a_clock_that_is_seconds_behind_is_taken_at_the_last_entrys_time(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        append_entries(path, [grant(at="2026-01-01T00:00:05+00:00")])
        assert append_entries(path, [grant(at=AT)])[0].at == "2026-01-01T00:00:05+00:00"

    def test_further_behind_only_what_takes_influence_away_is_accepted(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        append_entries(path, [grant(at="2026-01-01T00:00:06Z")])
        with pytest.raises(LedgerError, match="the clock says 2026-01-01T00:00:00Z, the last entry is from 2026-01-01"):
            append_entries(path, [grant(at=AT)])
        assert append_entries(path, [revoke(at="2020-01-01T00:00:00Z")])[0].at == "2026-01-01T00:00:06Z"
        assert verify(path) == []


class TestTheHookThatIsToldOfTheHead:
    def test_is_told_under_the_lock_when_the_entries_are_there(self, tmp_path: Path) -> None:
        path, told = tmp_path / "ledger", []

        def sealed(new: Head) -> None:
            assert head(path) == new
            told.append(new)

        append_entries(path, [grant()], sealed)
        append_entries(path, [grant(), revoke()], sealed)
        assert [new.entries for new in told] == [1, 3]

    def test_undoes_the_append_where_it_raises(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        append_entries(path, [grant()])
        before = path.read_bytes()

        def refuse(_: Head) -> None:
            raise LedgerError("no key")

        with pytest.raises(LedgerError, match="no key"):
            append_entries(path, [grant("lgbm")], refuse)
        assert path.read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["ledger"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "ledger"
    append_entries(path, [grant(model, f"{n:02x}" * 32, reason=f"n {n}") for n, model in enumerate(MODELS)])
    append_entries(path, [revoke("lgbm", "01" * 32), grant("xgb", "ff" * 32)])
    return path.read_bytes()


def assert_found(folder: Path, raw: bytes, known: Head, *, without_head: bool) -> None:
    path = folder / "changed"
    path.write_bytes(raw)
    assert verify(path, known)
    if without_head:
        assert verify(path)
        with pytest.raises(LedgerError, match=r"changed: line \d+ "):
            read_entries(path)
        with pytest.raises(LedgerError, match=r"changed: line \d+ "):
            append_entries(path, [grant()])
        assert path.read_bytes() == raw


class TestEveryChangeIsFound:
    """The last line may be changed into another valid one, and the tail cut at a line: that, the head shows."""

    @pytest.fixture
    def known(self, tmp_path: Path, whole: bytes) -> Head:
        (tmp_path / "whole").write_bytes(whole)
        return head(tmp_path / "whole")

    @given(data=st.data())
    def test_of_one_byte(self, whole: bytes, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp("flip")
        (folder / "whole").write_bytes(whole)
        at = data.draw(st.integers(0, len(whole) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[at]))
        last = whole.rindex(b"\n", 0, -1) + 1
        changed = whole[:at] + bytes([byte]) + whole[at + 1 :]
        assert_found(folder, changed, head(folder / "whole"), without_head=at < last)

    def test_of_a_line_removed_doubled_or_swapped(self, tmp_path: Path, whole: bytes, known: Head) -> None:
        lines = whole.splitlines(keepends=True)
        for n, line in enumerate(lines):
            last = n == len(lines) - 1
            assert_found(tmp_path, b"".join([*lines[:n], *lines[n + 1 :]]), known, without_head=not last)
            assert_found(tmp_path, b"".join([*lines[:n], line, *lines[n:]]), known, without_head=True)
        for a, b in itertools.combinations(range(len(lines)), 2):
            swapped = list(lines)
            swapped[a], swapped[b] = swapped[b], swapped[a]
            assert_found(tmp_path, b"".join(swapped), known, without_head=True)

    def test_of_the_length(self, tmp_path: Path, whole: bytes, known: Head) -> None:
        for kept in range(len(whole)):
            at_a_line = kept == 0 or whole[kept - 1 : kept] == b"\n"
            assert_found(tmp_path, whole[:kept], known, without_head=not at_a_line)

    def test_of_history_rewritten_with_a_chain_of_its_own(self, tmp_path: Path, known: Head) -> None:
        append_entries(tmp_path / "own", [grant("nhits")] * known.entries)
        assert_found(tmp_path, (tmp_path / "own").read_bytes(), known, without_head=False)

    def test_and_the_first_line_that_is_wrong_is_named(self, tmp_path: Path, whole: bytes, known: Head) -> None:
        path = tmp_path / "changed"
        path.write_bytes(whole.replace(b"n 2", b"n 7"))
        assert [str(problem.line) for problem in verify(path)] == ["4"]
        assert "does not follow from line 3: that one was changed, or a line was taken out" in verify(path)[0].what
        path.write_bytes(whole[: -len(whole.splitlines()[-1]) - 1])
        assert verify(path) == []
        assert verify(path, known)[0] == (6, "is missing: the head counts 6 entries, the ledger 5")


def first() -> Entry:
    new = grant()
    return Entry(seq=0, prev=NO_ENTRY, at=AT, kind="grant", by=new.by, reason=new.reason, detail=new.detail)


GOOD_LINE = render(first()) + b"\n"


def line(**changes: object) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(GOOD_LINE), **changes}) + b"\n"


def detail(**changes: object) -> bytes:
    return line(detail={**msgspec.json.decode(GOOD_LINE)["detail"], **changes})


BROKEN = {
    "an empty line": b"\n",
    "no JSON": b"grant xgb\n",
    "another type": b"[]\n",
    "a ledger of before the chain": b'{"at":"2026-01-01T00:00:00Z","model":"xgb","kind":"grant"}\n',
    "an unknown field": line(until="2027"),
    "an unknown field of the detail": detail(until="2027"),
    "a wrong type": line(by=3),
    "a null": line(reason=None),
    "nobody": line(by=""),
    "no reason": line(reason=""),
    "an unknown model": detail(model="gru"),
    "a weight of nothing": detail(weight=0.0),
    "a negative weight": detail(weight=-0.25),
    "an unknown kind": line(kind="gift"),
    "the detail of another kind": line(kind="revoke"),
    "a short digest": detail(artefact="ab"),
    "a digest in capitals": detail(artefact="AB" * 32),
    "a digest and a line break": detail(artefact="ab" * 32 + "\n"),
    "a local time": line(at="2026-01-01T00:00:00+01:00"),
    "no time": line(at="2026-13-01T00:00:00Z"),
    "another number": line(seq=1),
    "a predecessor": line(prev="ab" * 32),
    "spaces": GOOD_LINE.replace(b":", b": "),
    "a key twice": GOOD_LINE.replace(b'"by":', b'"by":"somebody","by":'),
    "no UTF-8": GOOD_LINE.replace(b"operator", b"op\xffrator"),
    "a lone surrogate": GOOD_LINE.replace(b"operator", b"op\\ud800"),
    "a carriage return": GOOD_LINE.replace(b"\n", b"\r\n"),
    "a second object": GOOD_LINE.replace(b"\n", b"") + GOOD_LINE,
    "NUL bytes after a power cut": b"\0" * 64 + b"\n",
}


class TestALedgerThatCannotBeReadWholeIsRefused:
    @pytest.mark.parametrize("what", BROKEN)
    def test_with_the_number_of_its_first_broken_line(self, tmp_path: Path, what: str) -> None:
        path = tmp_path / "ledger"
        path.write_bytes(BROKEN[what] + GOOD_LINE)
        with pytest.raises(LedgerError, match=r"ledger: line 1 ") as error:
            read_entries(path)
        assert "\n" not in str(error.value)
        assert verify(path)[0].line == 1
        with pytest.raises(LedgerError, match=r"ledger: line 1 "):
            append_entries(path, [grant()])
        assert path.read_bytes() == BROKEN[what] + GOOD_LINE

    def test_where_it_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(LedgerError, match=r"cannot be read \(Is a directory\)"):
            read_entries(tmp_path)
        with pytest.raises(LedgerError, match=r"cannot be written \(Is a directory\)"):
            append_entries(tmp_path, [grant()])
        (tmp_path / "file").touch()
        with pytest.raises(LedgerError, match=r"cannot be written \(File exists\)"):
            append_entries(tmp_path / "file" / "ledger", [grant()])

    @given(content=st.binary(max_size=60), good=st.booleans())
    def test_and_no_bytes_whatever_give_a_vote_or_a_traceback(
        self, content: bytes, good: bool, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        path = tmp_path_factory.mktemp("fuzz") / "ledger"
        path.write_bytes(GOOD_LINE * good + content)
        try:
            found = read_entries(path)
        except LedgerError:
            found = []
        assert found == [first()] * (good and not content)

    @pytest.mark.parametrize(
        "new",
        [
            grant(model="gru"),
            grant(artefact="ab"),
            grant(at="yesterday"),
            grant(reason=""),
            New(at=AT, by="o", reason="r", detail=Grant(model="xgb", artefact="ab" * 32, weight=float("nan"))),
        ],
    )
    def test_and_an_entry_that_breaks_a_rule_is_not_written_nor_are_its_neighbours(
        self, tmp_path: Path, new: New
    ) -> None:
        path = tmp_path / "ledger"
        append_entries(path, [grant()])
        before = path.read_bytes()
        with pytest.raises(LedgerError, match="a new entry of kind grant breaks a rule"):
            append_entries(path, [grant(), new])
        assert path.read_bytes() == before


APPEND = """
import resource, sys
from pathlib import Path
from quantum_trader.core.errors import LedgerError
from quantum_trader.release.ledger import append_entries
from quantum_trader.release.ledger_entries import Grant, New

path, limit, count, calls = Path(sys.argv[1]), *map(int, sys.argv[2:5])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
detail = Grant(model="lgbm", artefact="cd" * 32, weight=0.25)
new = New(at="2026-01-01T00:00:00Z", by="full disk", reason="r" * 50, detail=detail)
print("started", flush=True)
try:
    for _ in range(calls):
        append_entries(path, [new] * count)
except LedgerError as error:
    print(error)
else:
    print("written")
"""


def appending(path: Path, count: int, limit: int = 10**8, calls: int = 1) -> "subprocess.Popen[str]":
    """Append in a process whose files cannot grow beyond `limit`: what a full disk does to a write."""
    command = [sys.executable, "-c", APPEND, str(path), str(limit), str(count), str(calls)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def said(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output.removeprefix("started\n")


class TestAFullDiskLeavesTheLedgerAsItWas:
    @pytest.mark.parametrize("room", [0, 1, 300, 1200])
    def test_whole_or_not_at_all(self, tmp_path: Path, room: int) -> None:
        path = tmp_path / "ledger"
        append_entries(path, [grant()])
        before = path.read_bytes()
        assert "cannot be written (File too large)" in said(appending(path, 4, len(before) + room))
        assert path.read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["ledger"]
        append_entries(path, [grant()])
        assert len(read_entries(path)) == 2

    def test_with_what_another_process_appended_meanwhile(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        append_entries(path, [grant()])
        ours = os.open(path, os.O_RDWR)
        fcntl.flock(ours, fcntl.LOCK_EX)
        process = appending(path, 4)
        wait_until_open(process.pid, path)
        # What an append of ours does under this lock, while the other process waits for it on the old file.
        append_entries(tmp_path / "copy", [grant(), grant("lgbm")])
        (tmp_path / "copy").replace(path)
        os.close(ours)
        assert said(process) == "written\n"
        assert verify(path) == []
        assert len(read_entries(path)) == 6


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
    processes = [appending(path, 5, calls=5) for _ in range(3)]
    assert [said(process) for process in processes] == ["written\n"] * 3
    assert len(read_entries(path)) == 75


def test_a_process_killed_while_it_appends_leaves_a_whole_ledger_of_whole_batches(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    for trial in range(8):
        process = appending(path, 7, calls=10**6)
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(0.003 * trial)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert verify(path) == []
        assert len(read_entries(path)) % 7 == 0
    append_entries(path, [grant()])
    assert [path.name for path in tmp_path.iterdir()] == ["ledger"]

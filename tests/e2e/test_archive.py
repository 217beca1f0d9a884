"""`quantum archive` as an operator runs it: kill -9, a full disk, two at once, and what it says of each."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import redis
from tests.archive.many import DAY_BARS, NAMES, SYMBOLS, commit, in_order, linked, many_records
from tests.core.strategies import random_series
from tests.e2e.harness import wait_until

from quantum_trader.archive.columns import to_records
from quantum_trader.archive.gather import day_of
from quantum_trader.archive.integrity import broken
from quantum_trader.archive.store import read_decisions
from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.market.files import write_bars

KEY = NAMES.decisions
QUANTUM = [sys.executable, "-m", "quantum_trader.cli.main"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "valkey") as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with connect(server.url) as connected:
        yield connected


def environment(url: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("QUANTUM_")}
    return clean | {"QUANTUM_REDIS_URL": url}


def once(url: str, out: Path, *options: str) -> subprocess.CompletedProcess:
    command = [*QUANTUM, "archive", "--out", str(out), "--once", *options]
    return subprocess.run(command, env=environment(url), capture_output=True, text=True, timeout=120)


class Archiver:
    """One life of the process that keeps the record."""

    def __init__(self, url: str, out: Path, *options: str, before: tuple[str, ...] = ()) -> None:
        self.log_path = out.parent / f"archive-{time.monotonic_ns()}.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*before, *QUANTUM, "archive", "--out", str(out), *options],
                env=environment(url),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def wait_log(self, words: str) -> None:
        wait_until(lambda: words in self.log or self.process.poll() is not None)
        assert words in self.log

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def kept(out: Path) -> list[DecisionRecord]:
    return to_records(read_decisions(out / "decisions"))


def pending(client: redis.Redis) -> int:
    return int(client.xpending(KEY, "archive")["pending"])


def wait_for_change(folder: Path, *, drafts: bool) -> None:
    """Until a day's file was put in place or, with `drafts`, one is being written; at most two seconds."""
    before, end = stamps(folder, drafts=drafts), time.monotonic() + 2.0
    while stamps(folder, drafts=drafts) == before and time.monotonic() < end:
        pass


def stamps(folder: Path, *, drafts: bool) -> set[tuple[str, int]]:
    with os.scandir(folder) as found:
        return {(item.name, item.inode()) for item in found if item.name.startswith(".") == drafts}


class Writing:
    """Decisions that come as long as the block lasts, four bars of three symbols at a time."""

    def __init__(self, url: str) -> None:
        self._url, self._stop = url, threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.records: list[DecisionRecord] = []

    def __enter__(self) -> "Writing":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        heads: dict[str, str] = {}
        with connect(self._url) as client:
            while not self._stop.wait(0.1):
                bar = len(self.records) // len(SYMBOLS)
                new = linked(many_records(range(bar, bar + 4)), heads)
                assert commit(client, new) == len(new)
                self.records += new


@pytest.mark.slow
def test_kill_9_at_25_random_points_while_decisions_come_keeps_each_once(server, client, tmp_path) -> None:
    out = tmp_path / "archive"
    rng = np.random.default_rng(20260110)
    repeated = 0
    with Writing(server.url) as writing:
        for life in range(25):
            archiver = Archiver(server.url, out, "--every", "0.1", "--rows", str(int(rng.integers(5, 200))))
            try:
                if life % 5:
                    archiver.wait_log("decisions kept")
                if life % 5 < 3:
                    time.sleep(float(rng.exponential(0.15)))
                else:
                    wait_for_change(out / "decisions", drafts=life % 5 == 4)
                assert archiver.process.poll() is None, archiver.log
            finally:
                archiver.end(signal.SIGKILL)
            repeated += sum(int(part.split()[-1]) for part in archiver.log.split(" were there already")[:-1])
            # Whenever it dies, what is there can be read, and no decision twice.
            if (out / "decisions").exists() and any((out / "decisions").glob("*.parquet")):
                ids = read_decisions(out / "decisions")["decision_id"].to_pylist()
                assert len(ids) == len(set(ids))
    assert once(server.url, out).returncode == 0
    assert kept(out) == in_order(writing.records)
    assert pending(client) == 0
    files = {path.name for path in (out / "decisions").iterdir()}
    assert files == {f"{day_of(record)}.parquet" for record in writing.records}
    assert not (out / "quarantine.jsonl").exists()
    assert not (out / "missing.jsonl").exists()
    print(f"{len(writing.records)} decisions; {repeated} of them were written and not acknowledged when a life ended")


def test_once_says_what_it_did_and_gates_read_it(server, client, tmp_path) -> None:
    records = many_records(range(2 * DAY_BARS))
    commit(client, records)
    result = once(server.url, tmp_path / "archive", "--rows", "500")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("decisions: 1728 kept, 0 repeated, 0 quarantined, 0 missing; 3 files written in ")
    again = once(server.url, tmp_path / "archive")
    assert (again.returncode, again.stdout[:20]) == (0, "decisions: 0 kept, 0")
    assert kept(tmp_path / "archive") == in_order(records)
    assert broken(read_decisions(tmp_path / "archive" / "decisions")) == ()
    bars = {symbol: random_series(2 * DAY_BARS + 20, i, symbol=symbol) for i, symbol in enumerate(SYMBOLS)}
    write_bars(tmp_path / "bars.parquet", bars)
    arguments = ["--decisions", str(tmp_path / "archive" / "decisions"), "--bars", str(tmp_path / "bars.parquet")]
    verdict = subprocess.run([*QUANTUM, "gates", *arguments], capture_output=True, text=True, timeout=120)
    assert verdict.returncode in (2, 3, 4), verdict.stderr
    assert "patchtst" in verdict.stdout.lower()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_being_stopped_keeps_what_was_read(server, client, tmp_path, number: int, code: int) -> None:
    commit(client, many_records(range(30)))
    archiver = Archiver(server.url, tmp_path / "archive", "--every", "3600")
    wait_until(lambda: client.xlen(KEY) == 90 and client.exists(KEY) and groups(client) == 1 and pending(client) == 90)
    assert not list((tmp_path / "archive" / "decisions").glob("*.parquet"))
    assert archiver.end(number) == code, archiver.log
    assert "stopped: decisions: 90 kept" in archiver.log
    assert kept(tmp_path / "archive") == in_order(many_records(range(30)))
    assert pending(client) == 0


def groups(client: redis.Redis) -> int:
    return len(client.xinfo_groups(KEY))


def test_what_is_missing_or_set_aside_is_exit_code_1(server, client, tmp_path) -> None:
    out = tmp_path / "archive"
    commit(client, many_records(range(3)))
    assert once(server.url, out).returncode == 0
    client.xadd(KEY, {"hello": "there"})
    result = once(server.url, out)
    assert result.returncode == 1
    assert "0 kept, 0 repeated, 1 quarantined, 0 missing" in result.stdout
    assert "is kept in quarantine.jsonl: event_type is None" in result.stderr
    commit(client, many_records(range(3, 9)))
    client.xtrim(KEY, maxlen=5, approximate=False)
    result = once(server.url, out)
    assert result.returncode == 1
    assert "5 kept, 0 repeated, 0 quarantined, 13 missing" in result.stdout
    assert "decisions missing: 13, written after 20" in result.stderr
    assert once(server.url, out).returncode == 0


class TestAMistakeIsOneLine:
    def told(self, result: subprocess.CompletedProcess, words: str) -> None:
        assert result.returncode == 1
        assert words in result.stderr
        assert "Traceback" not in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1

    def test_two_on_one_folder(self, server, client, tmp_path) -> None:
        archiver = Archiver(server.url, tmp_path / "archive")
        wait_until(lambda: (tmp_path / "archive" / "archive.json").exists())
        self.told(once(server.url, tmp_path / "archive"), f"{tmp_path / 'archive'}: another process is keeping it")
        assert archiver.end(signal.SIGTERM) == 0, archiver.log

    def test_two_folders_with_one_group(self, server, client, tmp_path) -> None:
        commit(client, many_records(range(3)))
        assert once(server.url, tmp_path / "archive").returncode == 0
        self.told(once(server.url, tmp_path / "other"), "belongs to another reader (archive-")
        assert once(server.url, tmp_path / "other", "--group", "archive-2").returncode == 0
        assert kept(tmp_path / "other") == kept(tmp_path / "archive")

    def test_no_server(self, tmp_path) -> None:
        self.told(once("redis://qt:hunter2@127.0.0.1:1/0", tmp_path / "archive"), "127.0.0.1:1")

    def test_a_day_that_is_no_file_of_ours(self, server, client, tmp_path) -> None:
        commit(client, many_records(range(3)))
        (tmp_path / "decisions").mkdir()
        (tmp_path / "decisions" / "2026-01-01.parquet").write_bytes(b"PAR1 no PAR1")
        result = once(server.url, tmp_path)
        assert result.returncode == 1
        assert "2026-01-01.parquet: not readable as Parquet" in result.stderr
        assert pending(client) == 9


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(b"x" * 4096):
            pass


TMPFS = ("unshare", "-Urm", "sh", "-c", 'mount -t tmpfs -o size=400k tmpfs "$0" && exec "$@"')


def test_a_full_disk_is_waited_for_and_loses_nothing(server, client, tmp_path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    try:
        subprocess.run([*TMPFS, str(mount), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small file system can be mounted here (unshare -Urm, mount -t tmpfs): {error}")
    records = many_records(range(200))
    commit(client, records[:150])
    archiver = Archiver(server.url, mount / "archive", "--every", "0.3", before=(*TMPFS, str(mount)))
    archiver.wait_log("150 decisions kept")
    # The mount is the process's own; it is seen through the process.
    seen = Path(f"/proc/{archiver.process.pid}/root{mount}")
    day = seen / "archive" / "decisions" / "2026-01-01.parquet"
    before = day.read_bytes()
    fill(seen / "filler")
    commit(client, records[150:])
    archiver.wait_log("not written (No space left on device)")
    time.sleep(1.0)
    assert (
        archiver.log.count("not written (No space left on device); 450 decisions wait, none of them acknowledged") == 1
    )
    assert (day.read_bytes(), pending(client)) == (before, 450)
    assert [path.name for path in day.parent.iterdir()] == [day.name]
    (seen / "filler").unlink()
    archiver.wait_log("going on: server and disk are there again")
    wait_until(lambda: pending(client) == 0)
    assert to_records(read_decisions(day.parent)) == in_order(records)
    assert archiver.end(signal.SIGTERM) == 0, archiver.log

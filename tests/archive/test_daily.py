"""The folder: whole files or none, one keeper, nothing lost to a full disk, nothing kept that cannot come back."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests.archive.many import in_order, many_records

from quantum_trader.archive.columns import SCHEMA, to_records, to_table
from quantum_trader.archive.daily import ArchiveError, DailyArchive, archivable
from quantum_trader.archive.store import read_decisions
from quantum_trader.core.errors import ConfigError, WireError

ROOT = Path(__file__).resolve().parents[2]
DAY = "2026-01-01"


def python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60
    )


class TestADay:
    def test_grows_row_by_row_and_stays_sorted(self, tmp_path: Path) -> None:
        records = many_records(range(8))
        with DailyArchive(tmp_path) as archive:
            assert archive.add(DAY, to_table(records[10:])).added == 14
            assert archive.add(DAY, to_table(records[:12])).repeated == 2
            assert to_records(read_decisions(archive.decisions)) == in_order(records)
            before = (archive.decisions / f"{DAY}.parquet").stat()
            assert archive.add(DAY, to_table(records)).added == 0
            assert (archive.decisions / f"{DAY}.parquet").stat().st_mtime_ns == before.st_mtime_ns
        assert [path.name for path in (tmp_path / "decisions").iterdir()] == [f"{DAY}.parquet"]

    def test_that_is_no_file_of_ours_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "decisions" / f"{DAY}.parquet"
        with DailyArchive(tmp_path) as archive:
            path.write_bytes(b"PAR1 no PAR1")
            with pytest.raises(WireError, match=f"{DAY}.parquet: not readable as Parquet"):
                archive.add(DAY, to_table(many_records(range(1))))
        assert path.read_bytes() == b"PAR1 no PAR1"

    @pytest.mark.parametrize("limit", [0, 4, 5000, -1])
    def test_meets_a_full_disk_as_one_line_and_stays_as_it_was(self, tmp_path: Path, limit: int) -> None:
        code = (
            "import resource, signal, sys; from pathlib import Path\n"
            "from quantum_trader.archive.daily import ArchiveError, DailyArchive\n"
            "from quantum_trader.archive.columns import to_table; from tests.archive.many import many_records\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); limit = int(sys.argv[2])\n"
            "with DailyArchive(Path(sys.argv[1])) as archive:\n"
            "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
            "    try:\n        archive.add('2026-01-01', to_table(many_records(range(20))))\n"
            "    except ArchiveError as error:\n        print(error)\n"
        )
        with DailyArchive(tmp_path / "whole") as archive:
            archive.add(DAY, to_table(many_records(range(20))))
        size = (tmp_path / "whole" / "decisions" / f"{DAY}.parquet").stat().st_size
        with DailyArchive(tmp_path / "full") as archive:
            archive.add(DAY, to_table(many_records(range(20))[:15]))
        path = tmp_path / "full" / "decisions" / f"{DAY}.parquet"
        before = path.read_bytes()
        done = python(code, str(tmp_path / "full"), str(limit if limit >= 0 else size + limit))
        assert done.stdout == f"archive {tmp_path / 'full'}: not written (File too large)\n", done.stderr
        assert path.read_bytes() == before
        assert [path.name for path in path.parent.iterdir()] == [path.name]


class TestAFolder:
    def test_has_one_keeper(self, tmp_path: Path) -> None:
        with DailyArchive(tmp_path), pytest.raises(ConfigError, match="another process is keeping it"):
            DailyArchive(tmp_path).__enter__()
        with DailyArchive(tmp_path):
            pass

    def test_is_free_again_when_its_keeper_was_killed(self, tmp_path: Path) -> None:
        code = (
            "import os, signal, sys; from pathlib import Path; from quantum_trader.archive.daily import DailyArchive\n"
            "with DailyArchive(Path(sys.argv[1])):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        assert python(code, str(tmp_path)).returncode == -9
        with DailyArchive(tmp_path):
            pass

    def test_keeps_its_name_and_drops_drafts(self, tmp_path: Path) -> None:
        with DailyArchive(tmp_path) as archive:
            name = archive.name
        drafts = [tmp_path / "decisions" / f".{DAY}.parquet.new", tmp_path / "decisions" / f"..{DAY}.parquet.new.part"]
        drafts.append(tmp_path / ".archive.json.new")
        for draft in drafts:
            draft.write_bytes(b"half")
        with DailyArchive(tmp_path) as archive:
            assert archive.name == name
        assert not any(draft.exists() for draft in drafts)
        with DailyArchive(tmp_path / "other") as other:
            assert other.name != name

    def test_with_a_foreign_name_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "archive.json").write_text('{"title": "mine"}')
        with pytest.raises(ConfigError, match=r"archive\.json does not name an archive"):
            DailyArchive(tmp_path).__enter__()
        (tmp_path / "archive.json").unlink()
        with DailyArchive(tmp_path):
            pass

    def test_that_cannot_be_made_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ArchiveError, match=r"file: not written \(Not a directory\)"):
            DailyArchive(tmp_path / "file").__enter__()


class TestARowGivesItsRecordBack:
    def test_or_is_none(self) -> None:
        records = many_records(range(3))
        table, unfit = archivable(records)
        assert (to_records(table), unfit) == (records, {})
        assert archivable([]) == (SCHEMA.empty_table(), {})

    def test_and_those_that_cannot_are_named_among_those_that_can(self) -> None:
        good = many_records(range(3))
        foreign = msgspec.structs.replace(good[2], shadows={"catboost": good[2].shadows["patchtst"]})
        unknown = msgspec.structs.replace(good[5], decision=msgspec.structs.replace(good[5].decision, action="PANIC"))
        large = msgspec.structs.replace(good[6], decision=msgspec.structs.replace(good[6].decision, voters=70_000))
        mixed = [*good[:2], foreign, *good[3:5], unknown, large, *good[7:]]
        table, unfit = archivable(mixed)
        assert to_records(table) == [*good[:2], *good[3:5], *good[7:]]
        assert sorted(unfit) == [2, 5, 6]
        assert unfit[2] == "no row of the archive can hold all that it says"
        assert "PANIC" in unfit[5]

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.archive.test_columns import some_records

from quantum_trader.archive.columns import LINKS, SCHEMA, to_records, to_table
from quantum_trader.archive.integrity import broken
from quantum_trader.archive.store import DecisionFile, read_decisions
from quantum_trader.core.errors import ConfigError, WireError


def write(path: Path, table: pa.Table | None = None) -> Path:
    with DecisionFile(path) as file:
        file.write(to_table(some_records()) if table is None else table)
    return path


class TestAFileIsWrittenWholeOrNotAtAll:
    def test_and_is_not_there_before_its_end(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        with DecisionFile(path) as file:
            file.write(to_table(some_records()))
            assert not path.exists()
            with pytest.raises(ConfigError, match="holds no Parquet file"):
                read_decisions(tmp_path)
        assert [found.name for found in tmp_path.iterdir()] == ["a.parquet"]
        assert to_records(read_decisions(tmp_path)) == some_records()

    def test_and_an_error_inside_leaves_nothing(self, tmp_path: Path) -> None:
        def failing() -> None:
            with DecisionFile(tmp_path / "a.parquet") as file:
                file.write(to_table(some_records()))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            failing()
        assert list(tmp_path.iterdir()) == []

    def test_and_an_error_leaves_the_older_file_as_it_was(self, tmp_path: Path) -> None:
        before = write(tmp_path / "a.parquet").read_bytes()
        with pytest.raises(ValueError, match="schema"):
            write(tmp_path / "a.parquet", pa.table({"foreign": [1]}))
        assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
        assert (tmp_path / "a.parquet").read_bytes() == before

    @pytest.mark.parametrize("limit", [0, 4, 2000, -1])
    def test_and_a_full_disk_leaves_nothing(self, tmp_path: Path, limit: int) -> None:
        code = (
            "import resource, sys; from pathlib import Path; from quantum_trader.archive.store import DecisionFile\n"
            "from quantum_trader.archive.columns import to_table; from tests.archive.test_columns import some_records\n"
            "limit = int(sys.argv[2]); resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
            "try:\n"
            "    with DecisionFile(Path(sys.argv[1])) as file:\n"
            "        file.write(to_table(some_records()))\n"
            "except OSError as error:\n"
            "    print('refused', error.strerror or error)\n"
        )
        size = write(tmp_path / "whole.parquet").stat().st_size
        target = tmp_path / "new" / "a.parquet"
        command = [sys.executable, "-c", code, str(target), str(limit if limit >= 0 else size + limit)]
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
        assert done.stdout.startswith("refused")
        assert list((tmp_path / "new").iterdir()) == []

    def test_outside_of_its_block_it_takes_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match="outside of its with-block"):
            DecisionFile(tmp_path / "a.parquet").write(to_table(some_records()))

    def test_the_same_records_give_the_same_bytes(self, tmp_path: Path) -> None:
        assert write(tmp_path / "a.parquet").read_bytes() == write(tmp_path / "b.parquet").read_bytes()


class TestAFolder:
    def test_is_one_table_in_order_of_time_and_symbol(self, tmp_path: Path) -> None:
        one, two = some_records()
        write(tmp_path / "a.parquet", to_table([two]))
        write(tmp_path / "b.parquet", to_table([one]))
        (tmp_path / "notes.txt").write_text("not a decision")
        assert to_records(read_decisions(tmp_path)) == [one, two]

    def test_that_is_missing_or_empty_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"^decisions .*none: no such folder"):
            read_decisions(tmp_path / "none")
        with pytest.raises(ConfigError, match="holds no Parquet file of decisions"):
            read_decisions(tmp_path)

    def test_with_a_foreign_file_is_refused_by_that_files_name(self, tmp_path: Path) -> None:
        write(tmp_path / "a.parquet")
        pq.write_table(pa.table({"symbol": ["BTCUSDT"]}), tmp_path / "b.parquet")
        with pytest.raises(WireError, match=r"b\.parquet: a Parquet file, but not of decisions"):
            read_decisions(tmp_path)
        (tmp_path / "b.parquet").write_bytes(b"PAR1 no PAR1")
        with pytest.raises(WireError, match=r"b\.parquet: not readable as Parquet"):
            read_decisions(tmp_path)

    def test_of_before_the_chain_is_read_and_says_so(self, tmp_path: Path) -> None:
        """Version 2 of the columns: without links, in files that older releases wrote."""
        older = to_table(some_records()).drop_columns([*LINKS])
        pq.write_table(older.replace_schema_metadata({"quantum_trader.decisions": "2"}), tmp_path / "b.parquet")
        table = read_decisions(tmp_path)
        assert table.schema == SCHEMA
        assert to_records(table) == some_records()
        (line,) = broken(table)
        assert "carries no link: it was recorded before there was a chain" in line

    def test_with_another_versions_columns_is_refused(self, tmp_path: Path) -> None:
        pq.write_table(to_table(some_records()).drop_columns(["xgb.p_up"]), tmp_path / "b.parquet")
        with pytest.raises(WireError, match=r"b\.parquet: "):
            read_decisions(tmp_path)

    @pytest.mark.parametrize("kept", [0, 3, 100, -9, -1])
    def test_with_a_cut_file_is_refused(self, tmp_path: Path, kept: int) -> None:
        path = write(tmp_path / "a.parquet")
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(WireError, match=r"a\.parquet: not readable as Parquet"):
            read_decisions(tmp_path)

    def test_a_flipped_bit_anywhere_never_gives_another_decision(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.parquet")
        raw = path.read_bytes()
        good = [record.decision for record in some_records()]
        for at in range(0, len(raw), max(len(raw) // 150, 1)):
            path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1 :])
            try:
                found = [record.decision for record in to_records(read_decisions(tmp_path))]
            except (WireError, ConfigError):
                continue
            assert found == good

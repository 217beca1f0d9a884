"""Merging rows: any order, any parts, any repetition give the same table, and no difference is hidden."""

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.archive.many import in_order, many_records
from tests.core.strategies import records

from quantum_trader.archive.columns import SCHEMA, to_records, to_table
from quantum_trader.archive.merge import merge, ordered
from quantum_trader.archive.store import DecisionFile
from quantum_trader.core.decision import DecisionRecord

EMPTY = SCHEMA.empty_table()


def merged(parts: list[list[DecisionRecord]]) -> pa.Table:
    table = EMPTY
    for part in parts:
        table = merge(table, to_table(part)).table
    return table


class TestEveryDecisionIsThereOnce:
    @given(written=records(max_rows=12), data=st.data())
    def test_whatever_comes_in_which_parts_and_how_often(self, written: list[DecisionRecord], data) -> None:
        delivered = data.draw(st.permutations([*written, *data.draw(st.lists(st.sampled_from(written), max_size=8))]))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(delivered)), max_size=4)))
        bounds = list(zip([0, *cuts], [*cuts, len(delivered)], strict=True))
        table, added, repeated = EMPTY, 0, 0
        for start, end in bounds:
            result = merge(table, to_table(delivered[start:end]))
            assert result.conflicts == ()
            table, added, repeated = result.table, added + result.added, repeated + result.repeated
        assert to_records(table) == in_order(written)
        assert (added, repeated) == (len(written), len(delivered) - len(written))

    @settings(max_examples=15)
    @given(data=st.data())
    def test_and_the_files_bytes_do_not_show_it(self, data, tmp_path_factory: pytest.TempPathFactory) -> None:
        written = many_records(range(10))
        shuffled = data.draw(st.permutations(written))
        cut = data.draw(st.integers(0, len(written)))
        folder: Path = tmp_path_factory.mktemp("merge")
        for name, parts in (("one", [written]), ("two", [shuffled[:cut], shuffled[cut:], shuffled[:3]])):
            with DecisionFile(folder / name) as file:
                file.write(merged(parts))
        assert (folder / "one").read_bytes() == (folder / "two").read_bytes()

    def test_and_nothing_new_leaves_the_table_as_it_is(self) -> None:
        table = merged([many_records(range(3))])
        result = merge(table, to_table(many_records(range(3))[2:5]))
        assert result.table is table
        assert (result.added, result.repeated, result.conflicts) == (0, 3, ())


def other_decision(record: DecisionRecord) -> DecisionRecord:
    return msgspec.structs.replace(
        record,
        decision=msgspec.structs.replace(
            record.decision, entry_price=float(np.nextafter(record.decision.entry_price, 0))
        ),
    )


def other_shadow(record: DecisionRecord) -> DecisionRecord:
    vote = record.shadows["patchtst"]
    return msgspec.structs.replace(record, shadows={"patchtst": msgspec.structs.replace(vote, input_hash="0" * 16)})


def other_clock(record: DecisionRecord) -> DecisionRecord:
    return msgspec.structs.replace(record, ts_decision=record.ts_decision + 1)


class TestAConflict:
    @pytest.mark.parametrize("change", [other_decision, other_shadow, other_clock])
    def test_keeps_the_first_and_names_the_other(self, change) -> None:
        first, second, third = many_records(range(1))
        result = merge(to_table([first]), to_table([second, change(first), third, first]))
        assert to_records(result.table) == [first, second, third]
        assert (result.added, result.repeated, result.conflicts) == (2, 1, (1,))

    def test_within_what_is_new_is_found_as_well(self) -> None:
        first, second, _ = many_records(range(1))
        result = merge(EMPTY, to_table([second, first, other_clock(second), second]))
        assert to_records(result.table) == [first, second]
        assert (result.added, result.repeated, result.conflicts) == (2, 1, (2,))


def test_the_order_does_not_depend_on_a_dictionarys() -> None:
    written = many_records(range(4), ("SOLUSDT", "BTCUSDT"))
    table = to_table(written)
    assert to_records(ordered(table)) == in_order(written)
    assert ordered(table) == ordered(table.slice(0).take(list(range(len(table)))[::-1]))
    assert ordered(EMPTY) == EMPTY

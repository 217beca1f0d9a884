"""Archived decisions checked against their chain: whole ones are whole, and every change is named with its bar."""

import hashlib
import itertools
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.archive.many import linked, many_records, unbroken
from tests.core.strategies import records

from quantum_trader.archive.bodies import bodies
from quantum_trader.archive.columns import LINKS, SCHEMA, to_records, to_table
from quantum_trader.archive.integrity import CHUNK, ChainCheck, broken
from quantum_trader.archive.merge import ordered
from quantum_trader.core.chain import GENESIS, body, chained, link
from quantum_trader.core.decision import DecisionRecord, canonical
from quantum_trader.core.errors import WireError, format_ms

BARS = 6
WHOLE = many_records(range(BARS))
SYMBOLS = sorted({record.decision.symbol for record in WHOLE})


def where(record: DecisionRecord) -> str:
    return f"{record.decision.symbol} 5m, bar {format_ms(record.decision.ts_open)}: the record "


def without(found: list[DecisionRecord], *at: int) -> list[DecisionRecord]:
    return [record for i, record in enumerate(found) if i not in at]


class TestTheBytesOfColumns:
    @settings(max_examples=60, deadline=None)
    @given(written=st.lists(records(), min_size=1, max_size=3))
    def test_are_those_of_the_records(self, written: list[list[DecisionRecord]]) -> None:
        flat = list(itertools.chain(*written))
        table = pa.concat_tables([to_table(part) for part in written])
        found = {row: (decision, record) for row, decision, record in bodies(table)}
        assert [found[row] for row in range(len(flat))] == [(canonical(r.decision), body(r)) for r in flat]

    def test_are_so_for_parts_and_for_texts_with_commas_and_quotes(self) -> None:
        odd = [
            msgspec.structs.replace(
                record, decision=msgspec.structs.replace(record.decision, input_hash=f'"{n},', symbol=f"S,{n}")
            )
            for n, record in enumerate(WHOLE)
        ]
        table = to_table(odd).slice(2, 7)
        assert [record for _, _, record in bodies(table)] == [body(record) for record in odd[2:9]]


class TestAWholeChain:
    @settings(max_examples=30, deadline=None)
    @given(written=records())
    def test_of_any_records_is_whole(self, written: list[DecisionRecord]) -> None:
        in_time = sorted(written, key=lambda record: record.decision.ts_open)
        chain = linked(in_time)
        assert unbroken(chain)
        assert to_records(to_table(chain)) == chain
        assert broken(to_table(chain)) == ()

    def test_is_whole_in_any_order_in_parts_and_from_any_bar_on(self) -> None:
        table = to_table(WHOLE)
        shuffled = table.take(pa.array(np.random.default_rng(0).permutation(len(table))))
        for one in (
            table,
            shuffled,
            ordered(shuffled),
            table.slice(7),
            pa.concat_tables([shuffled]),
            table.slice(3, 1),
        ):
            assert broken(one) == ()
        assert broken(table.slice(0, 0)) == ()

    def test_is_whole_over_more_rows_than_are_checked_at_once(self) -> None:
        many = many_records(range(CHUNK // 3 + 2))
        told: list[int] = []
        assert broken(to_table(many), told.append) == ()
        assert told == [CHUNK, len(many) - CHUNK]

    def test_says_the_same_whoever_shares_the_work(self) -> None:
        many = many_records(range(2 * CHUNK // 3 + 2))
        changed = list(many)
        for at in (7, CHUNK + 1, 2 * CHUNK + 1):
            changed[at] = msgspec.structs.replace(many[at], ts_decision=many[at].ts_decision + 1)
        table = to_table(without(changed, 100))
        told: list[int] = []
        alone = broken(table)
        assert len(alone) == 4
        assert broken(table, told.append, workers=2) == alone
        assert sum(told) == len(table)

    def test_goes_on_from_part_to_part(self) -> None:
        table, check = to_table(WHOLE), ChainCheck()
        for start in range(0, len(table), 4):
            assert check.add(table.slice(start, 4)) == ()
        assert check.add(table.slice(0, 0)) == ()
        gap = ChainCheck()
        assert gap.add(table.slice(0, 6)) == ()
        found = gap.add(table.slice(9))
        assert [line.partition(",")[0] for line in found] == [f"{symbol} 5m" for symbol in SYMBOLS]
        assert all("does not follow from the record before it" in line for line in found)


class TestABreakIsNamed:
    @pytest.mark.parametrize("at", range(3 * (BARS - 1)))
    def test_where_a_record_is_missing(self, at: int) -> None:
        found = broken(to_table(without(WHOLE, at)))
        if at < 3:
            assert found == (), "what was before the first record is taken as given"
        else:
            assert found == (
                where(WHOLE[at + 3])
                + "does not follow from the record before it: one was taken out, put in or changed",
            )

    def test_but_a_cut_tail_shows_only_to_who_goes_on(self) -> None:
        assert broken(to_table(WHOLE[:-3])) == ()
        check = ChainCheck()
        check.add(to_table(WHOLE[:-3]))
        later = linked(many_records(range(BARS, BARS + 1)), {r.decision.symbol: r.chain for r in WHOLE})
        assert len(check.add(to_table(later))) == 3

    def test_where_two_records_changed_places(self) -> None:
        one, other = WHOLE[6], WHOLE[9]
        swapped = list(WHOLE)
        swapped[6] = msgspec.structs.replace(one, chain=other.chain, chain_prev=other.chain_prev)
        swapped[9] = msgspec.structs.replace(other, chain=one.chain, chain_prev=one.chain_prev)
        follows, changed = broken(to_table(swapped))
        assert follows.startswith(where(one) + "does not follow from the record before it")
        assert changed.startswith(where(one) + "is not what its link speaks for")

    def test_where_a_record_was_put_in_or_doubled(self) -> None:
        foreign = linked(many_records(range(2, 3), seed=9), {WHOLE[3].decision.symbol: WHOLE[3].chain})[0]
        assert broken(to_table([*WHOLE, foreign]))
        assert broken(to_table([*WHOLE, WHOLE[4]]))

    def test_where_what_stands_beside_the_decision_was_changed(self) -> None:
        changes: dict[str, Any] = {
            "ts_decision": WHOLE[4].ts_decision - 1,
            "shadows": {},
            "reasons": {"xgb": "failed: no"},
        }
        for name, value in changes.items():
            changed = list(WHOLE)
            changed[4] = msgspec.structs.replace(WHOLE[4], **{name: value})
            assert broken(to_table(changed)) == (
                where(WHOLE[4]) + "is not what its link speaks for: it was changed after it was recorded",
            )

    def test_where_the_record_was_changed_and_its_own_link_made_anew(self) -> None:
        changed = list(WHOLE)
        changed[4] = chained(msgspec.structs.replace(WHOLE[4], shadows={}), WHOLE[4].chain_prev)
        (line,) = broken(to_table(changed))
        assert line.startswith(where(WHOLE[7]))

    def test_where_the_chain_begins_anew(self) -> None:
        anew = [*WHOLE[:9], *linked(WHOLE[9:])]
        assert broken(to_table(anew)) == tuple(
            where(record) + "begins a chain anew, behind others" for record in sorted(WHOLE[9:12], key=where)
        )

    def test_where_records_carry_no_link(self) -> None:
        bare = [*(msgspec.structs.replace(r, chain="", chain_prev="") for r in WHOLE[:6]), *linked(WHOLE[6:])]
        found = broken(to_table(bare))
        assert len(found) == 3
        assert all("carries no link" in line and line.endswith("(2 such records, this is the first)") for line in found)
        assert {line.partition(":")[0] for line in found} == {where(record).partition(":")[0] for record in WHOLE[:3]}

    @settings(max_examples=80, deadline=None)
    @given(data=st.data())
    def test_where_any_value_of_any_column_was_changed(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name in SCHEMA.names if name not in ("symbol", "timeframe")]))
        # Not of the first records: their predecessors are what they say.
        row = data.draw(st.integers(3, len(WHOLE) - 1))
        table, field = to_table(WHOLE), SCHEMA.field(name)
        values = table[name].to_pylist()
        values[row] = other_than(values[row], field.type)
        changed = table.set_column(SCHEMA.get_field_index(name), field, pa.array(values, field.type))
        if to_table(to_records_or_none(changed) or []) == table:
            return  # nothing that any record says: a column of a model that took no part
        assert broken(changed), (name, row)


def to_records_or_none(table: pa.Table) -> list[DecisionRecord] | None:
    try:
        return to_records(table)
    except (WireError, TypeError):
        return None


def other_than(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_floating(kind):
        return 0.5 if value is None else float(np.nextafter(value, 10.0))
    if pa.types.is_integer(kind):
        return 1 if value is None else value - 1
    if pa.types.is_fixed_size_binary(kind):
        return bytes([value[0] ^ 1]) + value[1:]
    return "x" if value is None else value + "0"


def test_a_link_is_what_the_page_says_it_is() -> None:
    """Recomputed from the payload's text alone, as a stranger would."""
    record = WHOLE[3]
    payload = msgspec.json.encode(record)
    content, _, rest = payload.rpartition(b',"chain_prev":')
    assert rest == f'"{record.chain_prev}","chain":"{record.chain}"}}'.encode()
    assert hashlib.sha256(bytes.fromhex(record.chain_prev) + content + b"}").hexdigest() == record.chain
    assert link(GENESIS, body(WHOLE[0])) == WHOLE[0].chain
    assert LINKS == ("chain_prev", "chain")

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.strategies import occasion_of, output_of, records

from quantum_trader.archive.columns import LINKS, SCHEMA, to_records, to_table
from quantum_trader.archive.store import DecisionFile, read_decisions
from quantum_trader.core.calibration import Calibration, PlattCurve
from quantum_trader.core.decision import DecisionRecord, canonical, decide, shadow_votes
from quantum_trader.core.errors import WireError
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import MODELS, ModelOutput, Status

POLICY = VotePolicy(
    calibrations={
        name: Calibration("d" * 64, name, artefact * 64, PlattCurve(0.1, 0.5))
        for name, artefact in {"xgb": "a", "lgbm": "b", "nhits": "a"}.items()
    }
)


def some_records() -> list[DecisionRecord]:
    """Two decisions: three calibrated voters, one of them silent on the second row, and a shadow."""
    silent = ModelOutput(
        np.array([0.7, np.nan]), np.array([1, 0], np.int8), (Status.OK, Status.FAILED), "b" * 64, ("", "x")
    )
    voters = {"xgb": output_of([0.75, 0.6]), "lgbm": silent, "nhits": output_of([0.5, 0.6])}
    shadow = shadow_votes(output_of([0.61, 0.2], "c" * 64))
    return [
        DecisionRecord(
            decision=decision,
            shadows={"patchtst": shadow[i]},
            reasons={"lgbm": "failed: x"} if i else {},
            ts_decision=decision.ts_close + 7,
        )
        for i, decision in enumerate(decide(occasion_of(2), voters, POLICY))
    ]


def in_order(found: list[DecisionRecord]) -> list[DecisionRecord]:
    return sorted(found, key=lambda record: (record.decision.ts_open, record.decision.symbol))


class TestNothingIsLost:
    @given(written=records())
    def test_between_records_and_columns(self, written: list[DecisionRecord]) -> None:
        table = to_table(written)
        assert table.schema == SCHEMA
        read = to_records(table)
        assert read == written
        for one, other in zip(read, written, strict=True):
            assert canonical(one.decision) == canonical(other.decision)
            assert msgspec.json.encode(one) == msgspec.json.encode(other)

    @settings(max_examples=30)
    @given(parts=st.lists(records(), min_size=1, max_size=3))
    def test_between_records_and_a_file(
        self, parts: list[list[DecisionRecord]], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("archive") / "new folder"
        with DecisionFile(folder / "a.parquet") as file:
            for part in parts:
                file.write(to_table(part))
        read = to_records(read_decisions(folder))
        written = [record for part in parts for record in part]
        # The archive sorts by time and symbol; records of equal keys (here: of two parts) may come in either order.
        assert sorted(map(msgspec.json.encode, read)) == sorted(map(msgspec.json.encode, written))
        keys = [(record.decision.ts_open, record.decision.symbol) for record in read]
        assert keys == sorted(keys)

    def test_of_a_model_that_took_no_part(self) -> None:
        table = to_table(to_records(to_table(some_records()[:1])))
        row = table.to_pylist()[0]
        assert row["patchtst.role"] == "shadow"
        assert row["patchtst.weight"] is None
        assert (row["lgbm.role"], row["lgbm.weight"], row["lgbm.action"]) == ("voter", 0.25, 1)
        only = decide(occasion_of(1), {"nhits": output_of([0.7])}, VotePolicy())[0]
        alone = to_table([DecisionRecord(decision=only, shadows={}, reasons={}, ts_decision=0)])
        for model in ("xgb", "lgbm", "patchtst"):
            assert {alone[f"{model}.{name}"][0].as_py() for name in ("role", "p_up", "status", "artefact")} == {None}

    def test_of_no_records_is_an_empty_table(self) -> None:
        assert to_table([]).num_rows == 0
        assert to_table([]).schema == SCHEMA
        assert to_records(to_table([])) == []


BESIDE = {"ts_decision", *LINKS, *(f"patchtst.{name}" for name in ("role", "weight", "action", "confidence", "p_up"))}
BESIDE |= {f"patchtst.{name}" for name in ("status", "artefact", "p_calibrated")} | {
    f"{model}.{name}" for model in MODELS for name in ("reason", "input_hash")
}

INSIDE = [name for name in SCHEMA.names if name not in BESIDE]


class TestAFlippedValueIsFound:
    @pytest.mark.parametrize("name", INSIDE)
    def test_in_every_column_of_the_decision(self, name: str) -> None:
        table = to_table(some_records())
        at, kind = SCHEMA.get_field_index(name), SCHEMA.field(name).type
        values = table[name].to_pylist()
        if pa.types.is_floating(kind):
            values[0] = float(np.nextafter(values[0], 10.0))
        elif pa.types.is_integer(kind):
            values[0] = values[0] - 1
        elif name.endswith(".role"):
            values[0] = "shadow"
        else:
            values[0] = values[0] + "0"
        changed = table.set_column(at, SCHEMA.field(at), pa.array(values, kind))
        with pytest.raises(WireError, match=r"archived decision .*: its fields do not give its stored digest"):
            to_records(changed)
        assert to_records(changed.slice(1)) == some_records()[1:]

    def test_and_those_beside_it_cannot_reach_the_decision(self) -> None:
        records_ = some_records()
        other = [
            msgspec.structs.replace(record, shadows={}, reasons={}, ts_decision=record.ts_decision + 1)
            for record in records_
        ]
        assert to_table(records_)["digest"] == to_table(other)["digest"]

    @pytest.mark.parametrize("action", [2, -2, 127])
    def test_where_it_is_no_action_at_all(self, action: int) -> None:
        table = to_table(some_records())
        at = SCHEMA.get_field_index("xgb.action")
        changed = table.set_column(at, SCHEMA.field(at), pa.array([action, 1], pa.int8()))
        with pytest.raises(WireError, match="archived decision"):
            to_records(changed)

    def test_where_a_value_is_gone(self) -> None:
        table = to_table(some_records())
        for name in INSIDE:
            at = SCHEMA.get_field_index(name)
            nulls = pa.nulls(2, SCHEMA.field(at).type)
            with pytest.raises(WireError, match="archived decision"):
                to_records(table.set_column(at, SCHEMA.field(at), nulls))


def test_a_file_from_before_there_were_calibrations_is_read(tmp_path: Path) -> None:
    plain = [
        DecisionRecord(decision=decision, shadows={}, reasons={}, ts_decision=0)
        for decision in decide(occasion_of(3), {"xgb": output_of([0.75, 0.6, 0.5])}, VotePolicy())
    ]
    table = to_table(plain)
    old = table.select([name for name in SCHEMA.names if not name.endswith(".p_calibrated")])
    pq.write_table(old.replace_schema_metadata({"quantum_trader.decisions": "2"}), tmp_path / "old.parquet")
    assert read_decisions(tmp_path).schema == SCHEMA
    assert to_records(read_decisions(tmp_path)) == plain
    with DecisionFile(tmp_path / "new.parquet") as file:
        file.write(table)
    assert read_decisions(tmp_path).num_rows == 6

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tests.artefacts import make_artefact
from tests.core.strategies import INTERVAL, START, random_series

from quantum_trader.core.bars import WINDOW
from quantum_trader.core.decision import Occasion, canonical, shadow_votes
from quantum_trader.core.features import SCHEMA, Computation, compute
from quantum_trader.core.hashes import hashes_of_both, input_hashes
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import MODELS, ModelOutput, Status
from quantum_trader.engine.deciding import (
    abstentions,
    decide_batch,
    feature_batch,
    finish_batch,
    predict,
    without_broken_rows,
)
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.inference import BATCH_ROWS, OUTPUT, OnnxModel, input_shape

FloatArray = NDArray[np.float64]


@cache
def windows(n: int) -> tuple[FloatArray, ...]:
    return tuple(random_series(WINDOW, seed).matrix() for seed in range(n))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OnnxModel]:
    folder = tmp_path_factory.mktemp("models")
    return {model: OnnxModel(load_artefact(make_artefact(folder, model))) for model in MODELS}


def occasion(rows: list[int], hashes: list[str], atr: list[float]) -> Occasion:
    ts_open = [START + row * INTERVAL for row in rows]
    return Occasion(
        timeframe="5m",
        symbols=["BTCUSDT"] * len(rows),
        ts_open=ts_open,
        ts_close=[ts + INTERVAL for ts in ts_open],
        prices=[100.0 + row for row in rows],
        atr_fractions=atr,
        input_hashes=hashes,
    )


def decided(rows: list[int], models: dict[str, OnnxModel], broken: frozenset[int] = frozenset()) -> list[bytes]:
    """Canonical bytes of the decisions on some of the windows, as one batch."""
    found = []
    for row in rows:
        window = windows(40)[row].copy()
        if row in broken:
            window[3, 100] = np.nan
        found.append(window)
    batch = feature_batch(found)
    where = occasion(rows, batch.input_hashes, batch.atr_fractions)
    decisions, _ = decide_batch(where, batch, models, VotePolicy(min_consensus=1))
    return [canonical(decision) for decision in decisions]


class TestABatch:
    @settings(max_examples=25, deadline=None)
    @given(data=st.data())
    def test_of_any_grouping_and_order_gives_the_same_bytes(
        self, models: dict[str, OnnxModel], data: st.DataObject
    ) -> None:
        alone = everybody_alone(models)
        rows = data.draw(st.lists(st.integers(0, 39), min_size=1, max_size=40, unique=True))
        assert decided(rows, models) == [alone[row] for row in rows]

    def test_really_decides_in_all_three_ways(self, models: dict[str, OnnxModel]) -> None:
        actions = {raw.split(b'"action":"')[1].split(b'"')[0] for raw in everybody_alone(models)}
        assert actions == {b"BUY", b"SELL", b"HOLD"}

    def test_larger_than_the_models_batch_is_cut_and_not_mixed_up(self, models: dict[str, OnnxModel]) -> None:
        assert BATCH_ROWS < 40
        assert decided(list(range(40)), models) == list(everybody_alone(models))

    def test_of_no_rows_gives_no_decisions(self, models: dict[str, OnnxModel]) -> None:
        assert decided([], models) == []

    @settings(max_examples=10, deadline=None)
    @given(broken=st.sets(st.integers(0, 9), min_size=1))
    def test_with_broken_windows_leaves_every_other_row_as_it_was(
        self, models: dict[str, OnnxModel], broken: set[int]
    ) -> None:
        found = decided(list(range(10)), models, frozenset(broken))
        for row, raw in enumerate(found):
            if row not in broken:
                assert raw == everybody_alone(models)[row]
            else:
                assert b'"action":"HOLD"' in raw
                assert raw.count(b'"status":"refused"') == len(MODELS)
                assert b'"voters":0' in raw


_alone: dict[int, tuple[bytes, ...]] = {}


def everybody_alone(models: dict[str, OnnxModel]) -> tuple[bytes, ...]:
    if id(models) not in _alone:
        _alone[id(models)] = tuple(decided([row], models)[0] for row in range(40))
    return _alone[id(models)]


class TestTheFeaturesOfABatch:
    def test_are_those_of_its_windows_one_by_one(self) -> None:
        batch = feature_batch(windows(5))
        for i, window in enumerate(windows(5)):
            features = compute(window)
            assert batch.rows[i].tobytes() == features.row.tobytes()
            assert batch.sequences[i].tobytes() == features.sequence.tobytes()
            assert batch.atr_fractions[i] == features.atr_fraction
        assert (batch.hashes("sequence"), tuple(batch.input_hashes)) == hashes_of_both(batch.sequences, batch.rows)
        assert batch.hashes("row") == input_hashes(batch.rows)
        assert batch.inputs("row") is batch.rows
        assert batch.inputs("sequence") is batch.sequences
        assert batch.reasons == {}

    def test_are_nan_where_a_window_is_broken_and_the_reason_is_kept(self) -> None:
        broken = windows(2)[1].copy()
        broken[4, 0] = np.inf
        batch = feature_batch([windows(2)[0], broken, broken[:, 1:]])
        assert np.isfinite(batch.rows[0]).all()
        assert np.isnan(batch.rows[1:]).all()
        assert np.isnan(batch.sequences[1:]).all()
        assert batch.reasons[1] == "window: volume is not finite"
        assert "features need (5, 512)" in batch.reasons[2]
        assert batch.atr_fractions[1:] == [0.0, 0.0]
        assert batch.input_hashes[1:] == ["", ""]


def artefact_of(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[np.generic]], folder: Path) -> OnnxModel:
    """A model whose graph takes `x`, the tabular rows, and leaves its answer in `p_up`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape("row"))],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH_ROWS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return OnnxModel(load_artefact(make_artefact(folder, "xgb", onnx_bytes=model.SerializeToString())))


@pytest.fixture
def crashing(tmp_path: Path) -> OnnxModel:
    """A real graph that answers zeros (so its warm-up passes) and raises on every real row: an index out of bounds."""
    nodes = [
        helper.make_node("Abs", ["x"], ["abs"]),
        helper.make_node("ReduceMax", ["abs", "last"], ["peak"], keepdims=0),
        helper.make_node("Ceil", ["peak"], ["ceil"]),
        helper.make_node("Cast", ["ceil"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], [OUTPUT]),
    ]
    return artefact_of(nodes, {"table": np.array([0.5], np.float32), "last": np.array([1], np.int64)}, tmp_path)


@pytest.fixture
def odd(tmp_path: Path) -> OnnxModel:
    """A real graph that answers 1000 times the first return plus a half: now and then no probability."""
    nodes = [
        helper.make_node("Gather", ["x", "first"], ["ret"], axis=1),
        helper.make_node("Mul", ["ret", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "half"], [OUTPUT]),
    ]
    constants = {
        "first": np.array(SCHEMA.names.index("ret_1"), np.int64),
        "gain": np.array(300.0, np.float32),
        "half": np.array(0.5, np.float32),
    }
    return artefact_of(nodes, constants, tmp_path)


class TestAVoterThatCannotAnswer:
    def test_by_raising_fails_on_every_row_and_harms_no_other(
        self, models: dict[str, OnnxModel], crashing: OnnxModel
    ) -> None:
        crashing.warm_up()
        batch = feature_batch(windows(3))
        where = occasion([0, 1, 2], batch.input_hashes, batch.atr_fractions)
        voters = {"xgb": crashing, "lgbm": models["lgbm"], "nhits": models["nhits"]}
        decisions, outputs = decide_batch(where, batch, voters, VotePolicy(min_consensus=1))
        assert outputs["xgb"].statuses == (Status.FAILED,) * 3
        assert np.isnan(outputs["xgb"].p_up).all()
        assert "indices element out of data bounds" in outputs["xgb"].reasons[0]
        assert "\n" not in outputs["xgb"].reasons[0]
        others = {name: voters[name] for name in ("lgbm", "nhits")}
        without, _ = decide_batch(where, batch, others, VotePolicy(min_consensus=1))
        for row, (decision, other) in enumerate(zip(decisions, without, strict=True)):
            assert decision.votes["xgb"].status == "failed"
            assert decision.votes["xgb"].artefact == crashing.digest
            assert (decision.voters, decision.action, decision.scores) == (2, other.action, other.scores)
            named = abstentions(row, outputs)
            assert list(named) == ["xgb"]
            assert named["xgb"].startswith("failed: ")

    def test_with_a_probability_is_refused_row_by_row(self, odd: OnnxModel) -> None:
        batch = feature_batch(windows(40))
        output = predict(odd, batch)
        raw = 300.0 * batch.rows[:, SCHEMA.names.index("ret_1")].astype(np.float64) + 0.5
        expected = (raw >= 0) & (raw <= 1)
        assert 0 < expected.sum() < 40
        assert [status is Status.OK for status in output.statuses] == expected.tolist()
        assert {status for status in output.statuses} == {Status.OK, Status.REFUSED}
        np.testing.assert_array_equal(np.isnan(output.p_up), ~expected)
        assert not output.actions[~expected].any()
        row = int(np.argmin(expected))
        (reason,) = abstentions(row, {"xgb": output}).values()
        assert reason.startswith("refused: range: the output ")

    def test_for_want_of_features_is_named_with_the_features_reason(self, models: dict[str, OnnxModel]) -> None:
        broken = windows(1)[0].copy()
        broken[0, 7] = np.nan
        batch = feature_batch([windows(1)[0], broken])
        outputs = {name: predict(model, batch) for name, model in models.items()}
        assert abstentions(0, outputs) == {}
        assert abstentions(1, outputs) == dict.fromkeys(MODELS, "refused: features: window: open is not finite")

    def test_is_what_a_replay_says_of_a_shadow_that_was_shown_the_sequence_before_the_row_broke(
        self, models: dict[str, OnnxModel]
    ) -> None:
        burst = windows(1)[0].copy()
        burst[4] = 1e308
        computation = Computation([windows(1)[0], burst])
        model = models["patchtst"]
        answered = shadow_votes(ModelOutput.of(model.predict(computation.sequences), model.thresholds, model.digest))
        assert [vote.status for vote in answered] == ["ok", "ok"]
        batch = finish_batch(computation)
        # Of what the shadow was shown, not of what is left of it.
        assert batch.hashes("sequence") == input_hashes(computation.sequences) != input_hashes(batch.sequences)
        corrected = without_broken_rows(answered, batch)
        assert corrected == shadow_votes(predict(model, batch))
        assert corrected[0] == answered[0]
        assert (corrected[1].status, corrected[1].reason) == ("refused", "features: feature mfi_14 is not finite")

import inspect
import uuid

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.strategies import NOT_OK, START, ensembles, occasion_of, occasions, output_of, policies

from quantum_trader.core.calibration import Calibration, PlattCurve
from quantum_trader.core.decision import Decision, Occasion, canonical, decide, decision_id, shadow_votes
from quantum_trader.core.features import SCHEMA
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import MODELS, ModelOutput, Status

BUY, SELL, HOLD = 0.7, 0.2, 0.5


def cut(occasion: Occasion, rows: list[int]) -> Occasion:
    fields = {name: getattr(occasion, name) for name in Occasion.__struct_fields__}
    return Occasion(**{k: v if isinstance(v, str) else [v[i] for i in rows] for k, v in fields.items()})


def cut_output(output: ModelOutput, rows: list[int]) -> ModelOutput:
    statuses = tuple(output.statuses[i] for i in rows)
    return ModelOutput(
        output.p_up[rows], output.actions[rows], statuses, output.artefact, tuple(output.reasons[row] for row in rows)
    )


def decide_one(**p_up: float) -> Decision:
    return decide(occasion_of(1), {name: output_of([p]) for name, p in p_up.items()}, VotePolicy())[0]


class TestAShadowChangesNothing:
    def test_because_deciding_takes_none(self) -> None:
        assert list(inspect.signature(decide).parameters) == ["occasion", "outputs", "policy"]
        assert "shadows" not in Decision.__struct_fields__

    @given(data=st.data(), n=st.integers(1, 4))
    def test_a_policys_weight_or_calibration_for_it_reaches_no_byte(self, data: st.DataObject, n: int) -> None:
        voters, _ = data.draw(ensembles(n))
        occasion, policy = data.draw(occasions(n)), data.draw(policies)
        silent = {name: 0.9 for name in policy.weights if name not in voters}
        known = {name: found for name, found in policy.calibrations.items() if name in voters}
        other = VotePolicy({**policy.weights, **silent}, policy.min_consensus, known)
        one = [canonical(decision) for decision in decide(occasion, voters, policy)]
        assert one == [canonical(decision) for decision in decide(occasion, voters, other)]


class TestTheSameInputsGiveTheSameBytes:
    @given(data=st.data(), n=st.integers(1, 6))
    def test_however_rows_are_grouped_into_batches(self, data: st.DataObject, n: int) -> None:
        voters, _ = data.draw(ensembles(n))
        occasion, policy = data.draw(occasions(n)), data.draw(policies)
        whole = [canonical(decision) for decision in decide(occasion, voters, policy)]
        order = data.draw(st.permutations(range(n)))
        at = data.draw(st.integers(0, n))
        for rows in (order[:at], order[at:]):
            part = {name: cut_output(output, rows) for name, output in voters.items()}
            decided = decide(cut(occasion, rows), part, policy)
            assert [canonical(decision) for decision in decided] == [whole[i] for i in rows]

    @given(data=st.data(), n=st.integers(1, 3))
    def test_and_the_bytes_give_the_decision_back(self, data: st.DataObject, n: int) -> None:
        voters, _ = data.draw(ensembles(n))
        for decision in decide(data.draw(occasions(n)), voters, data.draw(policies)):
            raw = canonical(decision)
            assert msgspec.json.decode(raw, type=Decision, strict=True) == decision
            assert canonical(msgspec.json.decode(raw, type=Decision)) == raw
            assert b"null" not in raw
            assert b"NaN" not in raw

    def test_in_this_form_for_ever(self) -> None:
        decision = decide(
            occasion_of(1), {"xgb": output_of([0.75]), "lgbm": output_of([0.25], "b" * 64)}, VotePolicy(min_consensus=1)
        )[0]
        assert canonical(decision).decode() == (
            '{"schema":1,"decision_id":"' + decision.decision_id + '","symbol":"BNBUSDT","timeframe":"5m",'
            '"ts_open":1767225600000,"ts_close":1767225900000,"action":"HOLD","confidence":0.0,"consensus_count":0,'
            '"voters":2,"min_consensus":1,"weights":{"xgb":0.25,"lgbm":0.25},'
            '"scores":{"SELL":0.5,"HOLD":0.0,"BUY":0.5},'
            '"votes":{"xgb":{"action":"BUY","confidence":0.75,"status":"ok","artefact":"' + "a" * 64 + '","p_up":0.75},'
            '"lgbm":{"action":"SELL","confidence":0.75,"status":"ok","artefact":"' + "b" * 64 + '","p_up":0.25}},'
            '"entry_price":890.12,"atr_value":0.02,"features":"' + SCHEMA.digest + '",'
            '"input_hash":"0123456789abcdef","policy":"' + VotePolicy(min_consensus=1).digest(("xgb", "lgbm")) + '"}'
        )


class TestTheNameOfADecision:
    @given(
        symbol=st.sampled_from(["BTCUSDT", "1000SATSUSDT"]),
        timeframe=st.sampled_from(["1m", "5m", "1h"]),
        bar=st.integers(0, 10**7),
    )
    def test_is_a_uuid_of_version_8_and_always_the_same(self, symbol: str, timeframe: str, bar: int) -> None:
        name = decision_id(symbol, timeframe, bar * 60_000)
        parsed = uuid.UUID(name)
        assert str(parsed) == name
        assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)
        assert name == decision_id(symbol, timeframe, bar * 60_000)

    def test_differs_with_symbol_timeframe_and_time(self) -> None:
        keys = [(s, t, START + i * 60_000) for s in ("BTCUSDT", "BTCUSD") for t in ("1m", "5m") for i in range(500)]
        assert len({decision_id(*key) for key in keys}) == len(keys)


class TestAVoterThatCannotPredictAbstainsAndIsNamed:
    @pytest.mark.parametrize("status", NOT_OK)
    def test_with_its_status_and_without_a_number(self, status: Status) -> None:
        outputs = {
            "xgb": output_of([BUY]),
            "lgbm": ModelOutput.none(1, status, "b" * 64, "it broke"),
            "nhits": output_of([BUY]),
        }
        decision = decide(occasion_of(1), outputs, VotePolicy())[0]
        vote = decision.votes["lgbm"]
        assert (vote.action, vote.confidence, vote.status, vote.p_up) == ("HOLD", 0.0, status.value, msgspec.UNSET)
        assert (decision.voters, decision.consensus_count, decision.action) == (2, 2, "BUY")
        assert set(decision.weights) == {"xgb", "lgbm", "nhits"}

    def test_and_its_weight_is_shared_by_those_who_are_there(self) -> None:
        outputs = {
            "xgb": output_of([BUY]),
            "lgbm": output_of([SELL]),
            "nhits": ModelOutput.none(1, Status.FAILED, "", "it broke"),
        }
        decision = decide(occasion_of(1), outputs, VotePolicy(min_consensus=1))[0]
        assert decision.scores == {"SELL": 0.5, "HOLD": 0.0, "BUY": 0.5}

    def test_all_of_them_give_a_hold_that_is_recorded(self) -> None:
        outputs = {name: ModelOutput.none(2, Status.MISSING, "", "gone") for name in MODELS}
        for decision in decide(occasion_of(2), outputs, VotePolicy()):
            assert (decision.action, decision.voters, decision.confidence) == ("HOLD", 0, 0.0)
            assert {vote.status for vote in decision.votes.values()} == {"missing"}

    def test_no_probability_is_no_vote(self) -> None:
        output = output_of([np.nan, np.inf, -0.01, 1.01, 0.0, 1.0])
        assert [status.value for status in output.statuses] == ["refused"] * 4 + ["ok"] * 2
        decisions = decide(occasion_of(6), {"xgb": output}, VotePolicy(min_consensus=1))
        assert [decision.action for decision in decisions] == ["HOLD"] * 4 + ["SELL", "BUY"]


class TestWhatAShadowSays:
    def test_is_recorded_in_the_words_of_a_voter(self) -> None:
        votes = shadow_votes(output_of([0.6150280237197876, 0.5]))
        assert (votes[0].action, votes[0].confidence, votes[0].p_up) == ("BUY", 0.6150280237197876, 0.6150280237197876)
        assert all(vote.shadow and vote.reason == "" for vote in votes)

    def test_has_a_reason_where_it_says_nothing(self) -> None:
        vote = shadow_votes(ModelOutput.none(1, Status.LATE, "c" * 64, "no answer within the grace"))[0]
        assert (vote.action, vote.status, vote.reason) == ("HOLD", "late", "no answer within the grace")
        assert vote.p_up is msgspec.UNSET


def test_the_golden_majority_is_buy_at_the_weighted_confidence_of_those_who_agree() -> None:
    decision = decide_one(xgb=0.9958, lgbm=HOLD, nhits=0.6)
    assert (decision.action, decision.consensus_count, decision.voters) == ("BUY", 2, 3)
    assert decision.confidence == pytest.approx((0.25 * 0.9958 + 0.3 * 0.6) / 0.55, rel=1e-15)


def test_the_policy_of_a_decision_says_what_could_change_it() -> None:
    digests = {
        VotePolicy().digest(("xgb", "lgbm")),
        VotePolicy().digest(("xgb",)),
        VotePolicy(min_consensus=1).digest(("xgb", "lgbm")),
        VotePolicy({"xgb": 0.3, "lgbm": 0.25}).digest(("xgb", "lgbm")),
    }
    assert len(digests) == 4


HALVING = PlattCurve(0.0, 0.5)
DOUBTING = PlattCurve(-1.0, 1.0)


def calibrated(curve: PlattCurve, model: str = "xgb", artefact: str = "a" * 64, digest: str = "d" * 64) -> VotePolicy:
    return VotePolicy(min_consensus=1, calibrations={model: Calibration(digest, model, artefact, curve)})


class TestACalibration:
    @given(data=st.data(), n=st.integers(1, 4))
    def test_changes_how_sure_a_vote_is_and_nothing_that_was_voted(self, data: st.DataObject, n: int) -> None:
        voters, _ = data.draw(ensembles(n))
        occasion, policy = data.draw(occasions(n)), data.draw(policies)
        plain = VotePolicy(policy.weights, policy.min_consensus)
        mapped, raw = decide(occasion, voters, policy), decide(occasion, voters, plain)
        for one, other in zip(mapped, raw, strict=True):
            votes = {
                name: msgspec.structs.replace(vote, p_calibrated=msgspec.UNSET) for name, vote in one.votes.items()
            }
            same = msgspec.structs.replace(one, votes=votes, confidence=other.confidence, policy=other.policy)
            assert canonical(same) == canonical(other)
            assert 0.0 <= one.confidence <= 1.0
            used = {name for name, vote in one.votes.items() if vote.p_calibrated is not msgspec.UNSET}
            assert used == {
                name
                for name, found in policy.calibrations.items()
                if name in voters and voters[name].artefact == found.artefact and one.votes[name].status == "ok"
            }

    def test_is_recorded_beside_what_the_model_stated(self) -> None:
        decision = decide(occasion_of(1), {"xgb": output_of([0.8])}, calibrated(HALVING))[0]
        vote = decision.votes["xgb"]
        # sigmoid(ln(4) / 2) = 2 / 3.
        assert (vote.action, vote.confidence, vote.p_up) == ("BUY", 0.8, 0.8)
        assert vote.p_calibrated == pytest.approx(2 / 3, rel=1e-15)
        assert decision.confidence == vote.p_calibrated
        assert b'"p_up":0.8,"p_calibrated":0.666' in canonical(decision)

    def test_of_a_side_that_mostly_fails_leaves_little_confidence_in_it(self) -> None:
        decision = decide(occasion_of(1), {"xgb": output_of([0.6])}, calibrated(DOUBTING))[0]
        assert decision.action == "BUY"
        assert decision.confidence == decision.votes["xgb"].p_calibrated
        assert decision.confidence < 0.4

    def test_mixes_with_voters_that_have_none(self) -> None:
        outputs = {"xgb": output_of([0.2]), "lgbm": output_of([0.3])}
        decision = decide(occasion_of(1), outputs, calibrated(HALVING))[0]
        assert (decision.action, decision.votes["lgbm"].p_calibrated) == ("SELL", msgspec.UNSET)
        assert decision.confidence == pytest.approx((2 / 3 + 0.7) / 2, rel=1e-15)

    def test_of_another_artefact_is_not_used(self) -> None:
        other = decide(occasion_of(1), {"xgb": output_of([0.8], "b" * 64)}, calibrated(HALVING))[0]
        assert (other.votes["xgb"].p_calibrated, other.confidence) == (msgspec.UNSET, 0.8)

    def test_is_part_of_the_policys_digest_only_where_it_votes(self) -> None:
        plain, used = VotePolicy(min_consensus=1), calibrated(HALVING)
        assert used.digest(("lgbm", "nhits")) == plain.digest(("lgbm", "nhits"))
        assert (
            len({plain.digest(("xgb",)), used.digest(("xgb",)), calibrated(HALVING, digest="e" * 64).digest(("xgb",))})
            == 3
        )

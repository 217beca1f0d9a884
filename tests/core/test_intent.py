import json
import subprocess
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.strategies import NOT_OK, occasion_of, occasions, output_of, outputs

from quantum_trader.core.decision import Decision, ShadowVote, canonical, decide, shadow_votes
from quantum_trader.core.intent import build_intent, encode_payload, iso_micros
from quantum_trader.core.policy import IntentPolicy, VotePolicy
from quantum_trader.core.predictions import FULL_NAMES, MODELS, Cause, ModelOutput, Status, because

NOW_US = 1_768_012_593_250_080

DESIGN_KEYS = [
    *("symbol", "side", "action", "position_size_usd", "leverage", "entry_price", "stop_loss", "take_profit"),
    *("confidence", "timestamp", "model", "meta_strategy", "consensus_count", "total_models", "fallback_used"),
    *("model_breakdown", "atr_value", "volatility_factor", "exchange_divergence", "funding_rate", "regime"),
]

OUR_KEYS = ["voters", "decision_id", "schema", "timeframe", "ts_open", "ts_close", "artefacts"]

MAY_NAME_A_SHADOW = {"model_breakdown", "total_models", "artefacts"}

BUY, SELL, HOLD = 0.7, 0.2, 0.5


def decision_of(*, price: float = 890.12, atr: float = 0.02, **p_up: float) -> Decision:
    outputs = {name: output_of([p]) for name, p in p_up.items()}
    return decide(occasion_of(1, price=price, atr=atr), outputs, VotePolicy())[0]


def shadow_of(p_up: float) -> dict[str, ShadowVote]:
    return {"patchtst": shadow_votes(output_of([p_up]))[0]}


def silent_shadow(status: Status) -> dict[str, ShadowVote]:
    return {"patchtst": shadow_votes(ModelOutput.none(1, status, "a" * 64, "grace: nothing came in time"))[0]}


def intent_of(
    decision: Decision, shadows: dict[str, ShadowVote] | None = None, policy: IntentPolicy | None = None
) -> dict[str, Any]:
    payload = build_intent(decision, shadows or {}, policy or IntentPolicy(), NOW_US)
    assert payload is not None
    return payload


EXAMPLE = intent_of(decision_of(xgb=0.9958, lgbm=HOLD, nhits=0.634), shadow_of(0.6150280237197876))


class TestThePayload:
    def test_has_its_keys_in_the_order_that_consumers_know(self) -> None:
        assert list(EXAMPLE) == DESIGN_KEYS + OUR_KEYS
        assert list(json.loads(encode_payload(EXAMPLE))) == DESIGN_KEYS + OUR_KEYS
        assert list(EXAMPLE["model_breakdown"]) == list(MODELS)
        assert list(EXAMPLE["model_breakdown"]["patchtst"]) == ["action", "confidence", "model", "shadow"]
        assert list(EXAMPLE["model_breakdown"]["xgb"]) == ["action", "confidence", "model"]

    def test_is_one_line_with_a_space_after_every_colon_and_comma(self) -> None:
        raw = encode_payload(EXAMPLE).decode()
        assert raw == json.dumps(json.loads(raw), separators=(", ", ": "))
        assert "\n" not in raw
        assert raw.startswith('{"symbol": "BNBUSDT", "side": "BUY", "action": "BUY", "position_size_usd": 10.0, "lev')

    def test_writes_the_published_example_to_the_cent(self) -> None:
        assert EXAMPLE["entry_price"] == 890.12
        assert round(EXAMPLE["stop_loss"], 2) == 867.87
        assert round(EXAMPLE["take_profit"], 2) == 943.53
        assert EXAMPLE["timestamp"] == "2026-01-10T02:36:33.250080+00:00"
        assert encode_payload(EXAMPLE["model_breakdown"]["patchtst"]) == (
            b'{"action": "BUY", "confidence": 0.6150280237197876, "model": "patchtst_shadow", "shadow": true}'
        )
        assert encode_payload(EXAMPLE["model_breakdown"]["xgb"]) == (
            b'{"action": "BUY", "confidence": 0.9958, "model": "xgboost"}'
        )

    def test_has_the_same_stops_mirrored_for_a_sale(self) -> None:
        sold = intent_of(decision_of(xgb=SELL, lgbm=SELL, nhits=SELL))
        assert (sold["side"], sold["action"]) == ("SELL", "SELL")
        assert sold["stop_loss"] - 890.12 == pytest.approx(890.12 - EXAMPLE["stop_loss"], abs=1e-5)
        assert 890.12 - sold["take_profit"] == pytest.approx(EXAMPLE["take_profit"] - 890.12, abs=1e-5)

    def test_takes_size_and_stops_from_the_policy(self) -> None:
        policy = IntentPolicy(position_size_usd=25, leverage=3, stop_atr=2.0, take_atr=4.0)
        payload = intent_of(decision_of(price=100.0, atr=0.01, xgb=BUY, lgbm=BUY), policy=policy)
        assert payload["position_size_usd"] == 25.0
        assert type(payload["position_size_usd"]) is float
        assert (payload["leverage"], payload["stop_loss"], payload["take_profit"]) == (3, 98.0, 104.0)

    def test_never_holds_a_stop_that_is_no_price(self) -> None:
        bought = intent_of(decision_of(price=2.0, atr=0.9, xgb=BUY, lgbm=BUY))
        sold = intent_of(decision_of(price=2.0, atr=0.9, xgb=SELL, lgbm=SELL))
        assert bought["stop_loss"] > 0
        assert sold["take_profit"] > 0

    def test_of_a_hold_does_not_exist(self) -> None:
        assert build_intent(decision_of(xgb=HOLD, lgbm=BUY), shadow_of(BUY), IntentPolicy(), NOW_US) is None

    def test_names_every_loaded_artefact(self) -> None:
        assert EXAMPLE["artefacts"] == {name: "a" * 64 for name in MODELS}
        assert EXAMPLE["fallback_used"] is False

    def test_says_so_where_something_without_an_artefact_spoke(self) -> None:
        outputs = {"xgb": output_of([BUY]), "lgbm": output_of([BUY], artefact="")}
        assert intent_of(decide(occasion_of(1), outputs, VotePolicy())[0])["fallback_used"] is True

    @pytest.mark.parametrize("micros", [0, 1, 999_999, NOW_US, 4_102_444_799_999_999])
    def test_has_a_time_that_any_reader_of_iso_8601_reads(self, micros: int) -> None:
        read = datetime.fromisoformat(iso_micros(micros))
        assert read.tzinfo is not None
        assert round(read.timestamp() * 1_000_000) == micros
        assert len(iso_micros(micros)) == len("2026-01-10T02:36:33.250080+00:00")


class TestTheGoldenEvents:
    def test_a_shadow_that_agrees_is_not_counted(self) -> None:
        payload = intent_of(decision_of(xgb=BUY, lgbm=HOLD, nhits=BUY), shadow_of(BUY))
        assert (payload["side"], payload["consensus_count"], payload["total_models"]) == ("BUY", 2, 4)
        assert payload["voters"] == 3

    def test_all_four_buying_is_three_of_four(self) -> None:
        payload = intent_of(decision_of(xgb=BUY, lgbm=BUY, nhits=BUY), shadow_of(BUY))
        assert (payload["side"], payload["consensus_count"], payload["total_models"]) == ("BUY", 3, 4)

    @pytest.mark.parametrize("p_shadow", [BUY, HOLD, SELL])
    def test_a_shadow_tips_no_balance(self, p_shadow: float) -> None:
        # With a vote, PatchTST would make 0.25 + 0.20 against 0.25, or a tie of 0.25 with it.
        split = decision_of(xgb=BUY, lgbm=SELL, nhits=HOLD)
        assert split.action == "HOLD"
        assert build_intent(split, shadow_of(p_shadow), IntentPolicy(), NOW_US) is None


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """A breakdown entry: flat, as dashboards read it."""

    action: Literal["BUY", "SELL", "HOLD"]
    confidence: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
    model: str
    shadow: bool = False
    status: Literal["ok", "late", "failed", "missing", "refused"] = "ok"
    reason: str = ""


class Reader(msgspec.Struct, forbid_unknown_fields=True):
    """The strictest reader that DESIGN describes; every field is required and has one type."""

    symbol: str
    side: Literal["BUY", "SELL"]
    action: Literal["BUY", "SELL"]
    position_size_usd: Annotated[float, msgspec.Meta(gt=0.0)]
    leverage: int
    entry_price: Annotated[float, msgspec.Meta(gt=0.0)]
    stop_loss: Annotated[float, msgspec.Meta(gt=0.0)]
    take_profit: Annotated[float, msgspec.Meta(gt=0.0)]
    confidence: Annotated[float, msgspec.Meta(ge=0.5, le=1.0)]
    timestamp: datetime
    model: Literal["ensemble"]
    meta_strategy: str
    consensus_count: Annotated[int, msgspec.Meta(ge=1)]
    total_models: int
    fallback_used: bool
    model_breakdown: dict[str, Entry]
    atr_value: float
    volatility_factor: float
    exchange_divergence: float
    funding_rate: float
    regime: str
    voters: int
    decision_id: str
    schema: int
    timeframe: str
    ts_open: int
    ts_close: int
    artefacts: dict[str, str]


@st.composite
def actionable(draw: st.DrawFn) -> Decision:
    """Decisions that buy or sell, of two to four voters, some of them silent."""
    voters = draw(st.lists(st.sampled_from(MODELS), min_size=2, max_size=4, unique=True))
    found = {name: draw(outputs(1)) for name in MODELS if name in voters}
    for name in draw(st.permutations(sorted(found)))[:2]:
        found[name] = output_of([draw(st.floats(0.55, 1.0))])
    decision = decide(draw(occasions(1)), found, VotePolicy(min_consensus=1))[0]
    return decision if decision.action != "HOLD" else decision_of(xgb=BUY, lgbm=BUY)


@st.composite
def any_shadows(draw: st.DrawFn) -> dict[str, ShadowVote]:
    """Shadows of any name, a voter's included, that say anything or nothing."""
    names = draw(st.lists(st.sampled_from(MODELS), max_size=4, unique=True))
    return {name: shadow_votes(draw(outputs(1)))[0] for name in names}


class TestAShadowChangesNothing:
    @given(decision=actionable(), shadows=any_shadows())
    def test_but_its_own_entry_and_the_number_of_models(
        self, decision: Decision, shadows: dict[str, ShadowVote]
    ) -> None:
        before = canonical(decision)
        alone, watched = intent_of(decision), intent_of(decision, shadows)
        assert list(alone) == list(watched)
        for key in alone.keys() - MAY_NAME_A_SHADOW:
            assert encode_payload({key: alone[key]}) == encode_payload({key: watched[key]})
        for name, entry in alone["model_breakdown"].items():
            assert watched["model_breakdown"][name] == entry
            assert watched["artefacts"][name] == alone["artefacts"][name]
        extra = watched["model_breakdown"].keys() - alone["model_breakdown"].keys()
        assert extra == shadows.keys() - decision.votes.keys()
        assert all(watched["model_breakdown"][name]["shadow"] is True for name in extra)
        assert watched["total_models"] == alone["total_models"] + len(extra)
        assert canonical(decision) == before

    @given(decision=actionable(), shadows=any_shadows())
    def test_in_what_a_strict_reader_accepts(self, decision: Decision, shadows: dict[str, ShadowVote]) -> None:
        raw = encode_payload(intent_of(decision, shadows))
        assert b"null" not in raw
        read = msgspec.json.decode(raw, type=Reader, strict=True)
        assert read.total_models == len(read.model_breakdown)
        if decision.atr_value > 1e-6:
            stop, price, target = read.stop_loss, read.entry_price, read.take_profit
            assert stop < price < target if read.side == "BUY" else target < price < stop


class TestAShadowsEntry:
    @pytest.mark.parametrize("status", NOT_OK)
    def test_is_kept_with_its_status_where_it_has_no_answer(self, status: Status) -> None:
        payload = intent_of(decision_of(xgb=BUY, lgbm=BUY, nhits=BUY), silent_shadow(status))
        assert encode_payload(payload["model_breakdown"]["patchtst"]).decode() == (
            '{"action": "HOLD", "confidence": 0.0, "model": "patchtst_shadow", "shadow": true, '
            f'"status": "{status.value}", "reason": "grace"}}'
        )

    @given(
        model=st.sampled_from(MODELS),
        p_up=st.floats(0.0, 1.0),
        status=st.sampled_from([None, *NOT_OK]),
        cause=st.sampled_from(Cause),
    )
    @settings(max_examples=300)
    def test_is_under_130_bytes_and_12_percent(
        self, model: str, p_up: float, status: Status | None, cause: Cause
    ) -> None:
        output = output_of([p_up]) if status is None else ModelOutput.none(1, status, "a" * 64, because(cause, "why"))
        # Voters with the shortest numbers there are: the payload in which an entry is the largest part.
        voters = {name: 1.0 for name in MODELS if name != model}
        payload = intent_of(decision_of(price=1.0, atr=0.5, **voters), {model: shadow_votes(output)[0]})
        entry = encode_payload(payload["model_breakdown"][model])
        assert len(entry) < 130
        assert len(entry) < 0.12 * len(encode_payload(payload))

    def test_has_confidences_as_long_as_floats_get(self) -> None:
        longest = max((0.5 + k / 2**53 for k in range(1, 2000)), key=lambda p: len(repr(p)))
        assert len(repr(longest)) >= 18
        payload = intent_of(decision_of(xgb=1.0, lgbm=1.0, nhits=1.0), shadow_of(1.0 - longest))
        assert len(encode_payload(payload["model_breakdown"]["patchtst"])) < 130


def run(command: list[str], text: str) -> str:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


class TestTheShellPatternsOfConsumers:
    """Run by the real awk, grep and sed over what `redis-cli --raw XREVRANGE` prints."""

    STREAM = "\n".join(
        [
            "1768012593250-0",
            *("event_type", "trade.intent"),
            *("payload", encode_payload(EXAMPLE).decode()),
            *("trace_id", "b3b0a1f0-7f2c-8a0e-8c1a-0123456789ab"),
            *("correlation_id", "b3b0a1f0-7f2c-8a0e-8c1a-0123456789ab"),
            *("timestamp", "2026-01-10T02:36:33.250080+00:00"),
            *("source", "ai-engine", ""),
        ]
    )

    def payload(self) -> str:
        line = run(["awk", "/^payload$/ { getline; print }"], self.STREAM)
        assert json.loads(line) == EXAMPLE
        return line

    @pytest.mark.parametrize(
        ("pattern", "value"),
        [
            ('"consensus_count": ([0-9]+)', "2"),
            ('"side": "([^"]+)"', "BUY"),
            ('"patchtst": \\{[^}]*"action": "([^"]+)"', "BUY"),
            ('"total_models": ([0-9]+)', "4"),
            ('"leverage": ([0-9]+),', "1"),
        ],
    )
    def test_find_their_value_once(self, pattern: str, value: str) -> None:
        line = self.payload()
        assert run(["sed", "-nE", f"s/.*{pattern}.*/\\1/p"], line) == f"{value}\n"
        assert len(run(["grep", "-oE", pattern], line).splitlines()) == 1
        found = run(["awk", f"match($0, /{pattern}/) {{ print substr($0, RSTART, RLENGTH) }}"], line)
        assert value in found

    def test_find_the_shadow_entry_whole(self) -> None:
        pattern = '"patchtst": \\{[^}]*"shadow": true[^}]*\\}'
        found = run(["grep", "-oE", pattern], self.payload()).strip()
        assert json.loads("{" + found + "}") == {"patchtst": EXAMPLE["model_breakdown"]["patchtst"]}

    @pytest.mark.parametrize("status", [Status.LATE, Status.FAILED])
    def test_find_the_entry_of_a_shadow_without_an_answer(self, status: Status) -> None:
        payload = intent_of(decision_of(xgb=BUY, lgbm=BUY, nhits=BUY), silent_shadow(status))
        line = encode_payload(payload).decode() + "\n"
        assert run(["sed", "-nE", 's/.*"patchtst": \\{[^}]*"action": "([^"]+)".*/\\1/p'], line) == "HOLD\n"
        assert "status" in run(["grep", "-oE", '"patchtst": \\{[^}]*"shadow": true[^}]*\\}'], line)

    def test_find_no_shadow_where_patchtst_votes(self) -> None:
        voting = encode_payload(intent_of(decision_of(xgb=BUY, patchtst=BUY))).decode()
        found = subprocess.run(["grep", "-cE", '"patchtst": \\{[^}]*"shadow": true'], input=voting.encode())
        assert found.returncode == 1

    def test_names_of_models_are_those_consumers_know(self) -> None:
        names = {name: entry["model"] for name, entry in EXAMPLE["model_breakdown"].items()}
        assert names == {**FULL_NAMES, "patchtst": "patchtst_shadow"}

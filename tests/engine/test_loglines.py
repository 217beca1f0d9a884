import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.strategies import occasion_of, output_of

from quantum_trader.core.decision import ShadowVote, decide, shadow_votes
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import DISPLAY_NAMES, MODELS, ModelOutput, Status
from quantum_trader.engine.loglines import SHADOW_LINE_EVERY_MS, RateLimit, loaded_line, shadow_line, telemetry_line


def shadow_vote(p_up: float) -> ShadowVote:
    return shadow_votes(output_of([p_up]))[0]


class TestTheLinesThatOperatorsGrep:
    def test_shadow(self) -> None:
        assert shadow_line("patchtst", "ETHUSDT", shadow_vote(0.6150280237197876)) == (
            "[SHADOW] PatchTST | ETHUSDT | action=BUY conf=0.6150 | prob=0.6150 logit=0.4685 | mode=SHADOW_ONLY"
        )

    def test_shadow_that_sells_is_sure_of_the_other_side(self) -> None:
        assert shadow_line("nhits", "BTCUSDT", shadow_vote(0.25)) == (
            "[SHADOW] N-HiTS | BTCUSDT | action=SELL conf=0.7500 | prob=0.2500 logit=-1.0986 | mode=SHADOW_ONLY"
        )

    @pytest.mark.parametrize("p_up", [0.0, 1.0])
    def test_shadow_at_the_ends_has_a_finite_logit(self, p_up: float) -> None:
        line = shadow_line("patchtst", "ETHUSDT", shadow_vote(p_up))
        assert math.isfinite(float(line.split("logit=")[1].split(" ")[0]))

    @pytest.mark.parametrize("status", [Status.LATE, Status.MISSING, Status.FAILED, Status.REFUSED])
    def test_shadow_without_an_answer_says_why_in_the_same_form(self, status: Status) -> None:
        vote = shadow_votes(ModelOutput.none(1, status, "", "why"))[0]
        assert shadow_line("patchtst", "ETHUSDT", vote) == (
            f"[SHADOW] PatchTST | ETHUSDT | action=HOLD conf=0.0000 | status={status.value} | mode=SHADOW_ONLY"
        )

    def test_telemetry(self) -> None:
        outputs = {"xgb": output_of([0.9]), "lgbm": output_of([0.5]), "nhits": output_of([0.8])}
        occasion = occasion_of(1, symbol="XRPUSDT")
        decision = decide(occasion, outputs, VotePolicy())[0]
        assert telemetry_line(decision, ["xgb", "lgbm", "nhits", "patchtst"], fallback_used=False) == (
            "[TELEMETRY] Publishing trade.intent: XRPUSDT | breakdown_keys=['xgb', 'lgbm', 'nhits', 'patchtst'] | "
            "fallback_used=False | consensus=2/4 | action=BUY"
        )

    def test_loaded(self) -> None:
        assert loaded_line("patchtst", 0.2) == "[OK] PatchTST agent loaded (weight: 20.0%)"
        assert loaded_line("xgb", 0.25) == "[OK] XGBoost agent loaded (weight: 25.0%)"

    def test_loaded_shadow_says_that_it_does_not_vote_after_the_same_words(self) -> None:
        line = loaded_line("patchtst", 0.2, shadow=True)
        assert line.startswith("[OK] PatchTST agent loaded (weight: 20.0%)")
        assert line.endswith("mode=SHADOW_ONLY: it does not vote")

    @pytest.mark.parametrize("model", MODELS)
    def test_every_model_has_its_name(self, model: str) -> None:
        assert DISPLAY_NAMES[model] in shadow_line(model, "ETHUSDT", shadow_vote(0.6))


class TestTheLimit:
    def test_is_one_line_of_a_model_and_symbol_in_30_seconds(self) -> None:
        limit = RateLimit()
        eth, btc = ("patchtst", "ETHUSDT"), ("patchtst", "BTCUSDT")
        assert SHADOW_LINE_EVERY_MS == 30_000
        assert limit.allows(eth, 1_000)
        assert limit.allows(btc, 1_000)
        assert limit.allows(("nhits", "ETHUSDT"), 1_000)
        assert not limit.allows(eth, 1_000)
        assert not limit.allows(eth, 30_999)
        assert limit.allows(eth, 31_000)
        assert not limit.allows(eth, 31_001)

    @given(times=st.lists(st.integers(0, 200), max_size=40).map(sorted))
    def test_lets_the_first_through_and_then_keeps_its_distance(self, times: list[int]) -> None:
        limit = RateLimit(30)
        let_through = [now for now in times if limit.allows(("m", "s"), now)]
        assert let_through[:1] == times[:1]
        assert all(b - a >= 30 for a, b in itertools.pairwise(let_through))
        for now in times:
            assert any(0 <= now - earlier < 30 for earlier in let_through)

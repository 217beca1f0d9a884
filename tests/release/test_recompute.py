"""Computed again: whatever the engine decided follows from itself, and whatever was changed does not."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.strategies import THRESHOLDS, records

from quantum_trader.core.chain import GENESIS, chained
from quantum_trader.core.decision import Decision, DecisionRecord, canonical
from quantum_trader.core.intent import build_intent, encode_payload
from quantum_trader.core.policy import IntentPolicy
from quantum_trader.release.recompute import again, chain_problems, intent_problems, pair_problems, record_problems

BOUNDS = {"a" * 64: THRESHOLDS, "b" * 64: THRESHOLDS}


def payload_of(record: DecisionRecord) -> dict[str, Any] | None:
    built = build_intent(record.decision, record.shadows, IntentPolicy(), 1_768_012_593_250_080)
    return None if built is None else msgspec.json.decode(encode_payload(built), type=dict[str, Any])


@given(records())
def test_every_decision_of_the_engine_follows_from_its_votes(found: list[DecisionRecord]) -> None:
    for record in found:
        assert canonical(again(record.decision)) == canonical(record.decision)
        assert list(record_problems(record, BOUNDS)) == []
        payload = payload_of(record)
        if payload is not None:
            assert list(intent_problems(payload, set(record.shadows))) == []
            assert list(pair_problems(payload, record)) == []


FIELDS: dict[str, Any] = {
    "decision_id": "0" * 36,
    "confidence": 0.123456,
    "consensus_count": 9,
    "voters": 9,
    "scores": {"SELL": 0.1, "HOLD": 0.2, "BUY": 0.7},
}


@pytest.mark.parametrize("field", FIELDS)
@given(found=records(max_rows=1))
def test_a_changed_field_does_not_follow(field: str, found: list[DecisionRecord]) -> None:
    (record,) = found
    changed: Decision = msgspec.structs.replace(record.decision, **{field: FIELDS[field]})
    problems = list(record_problems(msgspec.structs.replace(record, decision=changed), {}))
    assert problems == ["its bytes do not follow from its votes"]


@given(found=records(max_rows=1), data=st.data())
def test_a_shadow_that_is_counted_does_not_follow(found: list[DecisionRecord], data: st.DataObject) -> None:
    (record,) = found
    if not record.shadows:
        return
    name = data.draw(st.sampled_from(sorted(record.shadows)))
    votes = {**record.decision.votes, name: record.shadows[name]}
    changed = msgspec.structs.replace(record.decision, votes=votes)
    problems = list(record_problems(msgspec.structs.replace(record, decision=changed), {}))
    assert any("none of a vote" in problem for problem in problems)
    assert f"{name} is a shadow and a voter at once" in problems


def test_what_is_no_breakdown_is_no_reason_to_fall_over() -> None:
    for broken in (None, [], {"xgb": 7}, "text"):
        assert list(intent_problems({"side": "BUY", "model_breakdown": broken}, set()))


@given(found=records())
def test_the_chain_breaks_where_a_record_is_changed_taken_out_or_not_chained(found: list[DecisionRecord]) -> None:
    first = found[0]
    one = chained(first, GENESIS)
    two = chained(msgspec.structs.replace(first, ts_decision=first.ts_decision + 1), one.chain)
    three = chained(msgspec.structs.replace(first, ts_decision=first.ts_decision + 2), two.chain)
    anew = chained(first, GENESIS)

    def broken(*records: DecisionRecord) -> list[str]:
        return list(chain_problems((str(i), record) for i, record in enumerate(records)))

    assert broken(one, two, three) == broken(two, three) == []
    assert broken(one, three) == ["1: does not follow from the record before it"]
    assert broken(one, anew) == ["1: the chain begins anew here"]
    assert broken(one, first) == ["1: the chain begins anew here"]
    assert list(record_problems(two, {})) == []
    changed = msgspec.structs.replace(two, ts_decision=0)
    assert list(record_problems(changed, {})) == ["its link of the chain does not speak for it"]

"""Whatever bytes a shadow sends, what is recorded is a whole, valid output, and no decision changes by a bit."""

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.strategies import THRESHOLDS, ensembles, occasions, policies
from tests.engine.said import Said

from quantum_trader.core.decision import DecisionRecord, ShadowVote, canonical, decide, shadow_votes
from quantum_trader.core.intent import build_intent
from quantum_trader.core.policy import IntentPolicy
from quantum_trader.core.predictions import Cause, ModelOutput, Status, cause_of
from quantum_trader.engine.frames import FrameError, Reply, reply_limit
from quantum_trader.engine.replies import Asked, Expected, Miss, read_reply

DIGEST = "a" * 64
EXPECTED = Expected(DIGEST, THRESHOLDS)


def hashes(n: int) -> tuple[str, ...]:
    return tuple(f"{i:016x}" for i in range(n))


def packed(*fields: object) -> bytes:
    return msgspec.msgpack.encode(fields)


def reply(values: list[float], **changes: object) -> bytes:
    good = Reply(7, tuple(values), hashes(len(values)), "", DIGEST)
    return msgspec.msgpack.encode(msgspec.structs.replace(good, **changes))


def votes_of(body: bytes, n: int) -> list[ShadowVote]:
    found = read_reply(body, Asked(7, hashes(n)), EXPECTED)
    return found.votes(n, DIGEST) if isinstance(found, Miss) else found


def read(body: bytes, n: int) -> Said:
    return Said.of(votes_of(body, n))


any_double = st.integers(0, 2**64 - 1).map(lambda bits: np.array([bits], np.uint64).view(np.float64)[0].item())
any_status_text = st.text(max_size=20)
any_reply = st.one_of(
    st.binary(max_size=400),
    st.builds(
        packed,
        st.just(7) | st.integers(-3, 9),
        st.lists(any_double | st.integers(-1, 2) | st.none(), max_size=8) | st.binary(max_size=60),
        st.lists(st.sampled_from(hashes(8)) | any_status_text, max_size=8) | st.integers(0, 8).map(hashes),
        st.just("") | any_status_text,
        st.just(DIGEST) | any_status_text,
    ),
    st.lists(any_double, max_size=8).map(reply),
)


def judged(body: bytes, n: int) -> list[ShadowVote]:
    try:
        return votes_of(body, n)
    except FrameError:
        return Miss(Status.REFUSED, "shape: no reply").votes(n, DIGEST)


@given(body=any_reply, n=st.integers(1, 8))
def test_any_bytes_give_a_whole_and_valid_output(body: bytes, n: int) -> None:
    said = Said.of(judged(body, n))
    assert len(said.statuses) == n
    for status, reason, p_up, action in zip(said.statuses, said.reasons, said.p_up, said.actions, strict=True):
        if status is Status.OK:
            assert p_up is not None
            assert 0.0 <= p_up <= 1.0
            assert reason == ""
        else:
            assert p_up is None
            assert action == "HOLD"
            assert cause_of(reason) in {cause.value for cause in Cause}


@given(values=st.lists(any_double | st.floats(0.0, 1.0), min_size=1, max_size=8))
def test_a_vote_is_what_an_array_of_all_values_would_give(values: list[float]) -> None:
    together = replace(ModelOutput.of(np.array(values), THRESHOLDS, DIGEST), input_hashes=hashes(len(values)))
    assert votes_of(reply(values), len(values)) == shadow_votes(together)


@given(data=st.data(), n=st.integers(1, 5))
def test_no_shadow_output_changes_a_byte_of_a_decision(data: st.DataObject, n: int) -> None:
    voters, shadows = data.draw(ensembles(n))
    where, policy = data.draw(occasions(n)), data.draw(policies)
    alone = decide(where, voters, policy)
    said = {name: judged(data.draw(any_reply), n) for name in shadows} | {"patchtst": judged(data.draw(any_reply), n)}
    votes = {name: rows for name, rows in said.items() if name not in voters}
    beside = decide(where, voters, policy)
    for i, (decision, before) in enumerate(zip(beside, alone, strict=True)):
        record = DecisionRecord(
            decision=decision,
            shadows={name: rows[i] for name, rows in votes.items()},
            reasons={},
            ts_decision=decision.ts_close,
        )
        assert canonical(record.decision) == canonical(before)
        assert (decision.scores, decision.weights, decision.voters) == (before.scores, before.weights, before.voters)
        with_shadows = build_intent(record.decision, record.shadows, IntentPolicy(), 1)
        without = build_intent(before, {}, IntentPolicy(), 1)
        assert (with_shadows is None) == (without is None)
        if with_shadows is not None and without is not None:
            by_model = ("model_breakdown", "artefacts")
            same = [name for name in without if name not in (*by_model, "total_models")]
            assert [with_shadows[name] for name in same] == [without[name] for name in same]
            for name in by_model:
                assert {model: with_shadows[name][model] for model in without[name]} == without[name]
        # What a consumer parses stays parseable, whatever the shadow said.
        msgspec.json.decode(msgspec.json.encode(record))


def test_good_values_are_taken_as_they_are_with_the_hashes_of_what_was_seen() -> None:
    output = read(reply([0.0, 0.25, 1.0]), 3)
    assert output.statuses == (Status.OK,) * 3
    assert output.p_up == (0.0, 0.25, 1.0)
    assert output.input_hashes == hashes(3)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (math.nan, Cause.NAN),
        (math.inf, Cause.INFINITE),
        (-math.inf, Cause.INFINITE),
        (-1e-300, Cause.RANGE),
        (1.0000000000000002, Cause.RANGE),
    ],
)
def test_what_is_no_probability_is_refused_alone(value: float, cause: Cause) -> None:
    output = read(reply([0.5, value, 0.5]), 3)
    assert output.statuses == (Status.OK, Status.REFUSED, Status.OK)
    assert cause_of(output.reasons[1]) == cause


def test_a_row_that_was_predicted_on_something_else_is_refused_alone() -> None:
    output = read(reply([0.5, 0.6], input_hashes=(hashes(2)[0], "f" * 16)), 2)
    assert output.statuses == (Status.OK, Status.REFUSED)
    assert output.reasons[1] == f"input: it saw {'f' * 16}, given was {hashes(2)[1]}"
    assert output.input_hashes == (hashes(2)[0], "f" * 16)


@pytest.mark.parametrize("junk", ["", "F" * 16, "f" * 17, "no hash\n" * 3])
def test_a_hash_that_is_none_is_not_recorded(junk: str) -> None:
    output = read(reply([0.5], input_hashes=(junk,)), 1)
    assert output.input_hashes == ("",)
    assert output.reasons == (f"input: it saw no input, given was {hashes(1)[0]}",)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (reply([0.5] * 4), Status.REFUSED, "shape: 4 values for 3 symbols"),
        (reply([], input_hashes=hashes(3)), Status.REFUSED, "shape: 0 values for 3 symbols"),
        (reply([0.5] * 3, input_hashes=hashes(2)), Status.REFUSED, "shape: 2 input hashes for 3 symbols"),
        (reply([0.5] * 3, digest="b" * 64), Status.REFUSED, "digest: it runs artefact bbbbbbbbbbbbbbbb"),
        (reply([], error="ValueError: no\nmore"), Status.FAILED, "error: ValueError: no"),
    ],
)
def test_what_concerns_the_whole_reply_concerns_every_row(body: bytes, status: Status, reason: str) -> None:
    output = read(body, 3)
    assert output.statuses == (status,) * 3
    assert output.reasons == (reason,) * 3
    assert output.artefact == DIGEST


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "its 0 bytes are no reply"),
        (b"\xc1" * 30, "its 30 bytes are no reply"),
        (packed(7, [], [b"\xff"], "", DIGEST), "are no reply"),
        (packed(7, b"x" * 8, hashes(1), "", DIGEST), "are no reply"),
        (packed(7, [None], hashes(1), "", DIGEST), "are no reply"),
        (reply([0.5], batch=6), "it answered batch 6, asked was 7"),
    ],
)
def test_what_is_no_reply_is_of_no_more_use(body: bytes, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        read(body, 1)


@given(n=st.integers(1, 2000))
def test_an_honest_reply_is_under_the_limit(n: int) -> None:
    assert len(reply([0.123456789] * n)) < reply_limit(n)
    assert len(reply([], error="x" * 250)) < reply_limit(1)

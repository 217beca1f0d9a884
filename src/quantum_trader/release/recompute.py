"""Evidence computed again: a decision from its votes, an answer from its probability, an intent from its breakdown.

Each function says what does not follow, in one sentence, or nothing. They see only what stands in the record itself,
so whoever holds a pack can ask the same questions years later, without a server, a model or a clock.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from quantum_trader.core.calibration import conviction
from quantum_trader.core.chain import GENESIS, holds
from quantum_trader.core.decision import Decision, DecisionRecord, ModelVote, canonical, decision_id
from quantum_trader.core.predictions import Action, Thresholds, confidence
from quantum_trader.core.vote import vote


def again(decision: Decision) -> Decision:
    """The decision with everything that follows from its votes computed anew.

    Raises:
        KeyError: if a vote has no weight or its action is none.
        ValueError: if the weights are none of a vote.
    """
    names = tuple(decision.votes)
    said = [decision.votes[name] for name in names]
    result = vote(
        np.array([[Action[one.action].value for one in said]], dtype=np.int8).reshape(1, len(names)),
        np.array([[_counted(one) for one in said]], dtype=np.float64).reshape(1, len(names)),
        np.array([[one.status == "ok" for one in said]], dtype=np.bool_).reshape(1, len(names)),
        np.array([decision.weights[name] for name in names], dtype=np.float64),
        decision.min_consensus,
    )
    scores = dict(zip(("SELL", "HOLD", "BUY"), result.scores[0].tolist(), strict=True))
    return msgspec.structs.replace(
        decision,
        decision_id=decision_id(decision.symbol, decision.timeframe, decision.ts_open),
        action=Action(int(result.actions[0])).name,
        confidence=float(result.confidences[0]),
        consensus_count=int(result.consensus[0]),
        voters=int(result.voters[0]),
        scores=scores,
    )


def _counted(said: ModelVote) -> float:
    """The confidence that counts: the stated one, or what the policy's calibration makes of it."""
    if said.status != "ok" or said.p_calibrated is UNSET:
        return said.confidence
    action = np.array([Action[said.action].value], dtype=np.int8)
    return float(conviction(np.array([said.p_calibrated]), action)[0])


def record_problems(record: DecisionRecord, thresholds: Mapping[str, Thresholds]) -> Iterator[str]:
    """What does not follow in a record.

    Args:
        record: A decision with its shadows.
        thresholds: By artefact digest, those of the artefacts whose manifests are known.
    """
    decision = record.decision
    yield from _vote_problems(decision)
    counted = sorted(set(record.shadows) & set(decision.votes))
    if counted:
        yield f"{counted[0]} is a shadow and a voter at once"
    if (record.chain or record.chain_prev) and not holds(record):
        yield "its link of the chain does not speak for it"
    for model, said in (*decision.votes.items(), *record.shadows.items()):
        problem = _answer_problem(said, thresholds.get(said.artefact))
        if problem:
            yield f"{model}: {problem}"


def chain_problems(records: Iterable[tuple[str, DecisionRecord]]) -> Iterator[str]:
    """Where records that were written one after the other do not stand behind one another in the chain of their symbol.

    Args:
        records: Each with where it was found, in the order in which they were written, without a gap.
    """
    last: dict[tuple[str, str], str] = {}
    for where, record in records:
        key = record.decision.symbol, record.decision.timeframe
        before = last.get(key)
        if before and record.chain_prev != before:
            begins = record.chain_prev in ("", GENESIS)
            yield f"{where}: {'the chain begins anew here' if begins else 'does not follow from the record before it'}"
        last[key] = record.chain


def _vote_problems(decision: Decision) -> Iterator[str]:
    try:
        computed = again(decision)
    except (KeyError, ValueError) as error:
        yield f"its votes and weights are none of a vote ({error})"
        return
    if canonical(computed) != canonical(decision):
        yield "its bytes do not follow from its votes"


def _answer_problem(said: ModelVote, thresholds: Thresholds | None) -> str:
    if said.status != "ok":
        silent = said.action == "HOLD" and said.confidence == 0.0 and said.p_up is UNSET
        return "" if silent else "no answer, and yet an action, a confidence or a probability"
    if said.p_up is UNSET:
        return "an answer without a probability"
    p_up = np.array([said.p_up])
    if confidence(p_up)[0] != said.confidence:
        return "its confidence does not follow from its probability"
    if thresholds is not None and Action(int(thresholds.actions(p_up)[0])).name != said.action:
        return "its action does not follow from its probability and its artefact's thresholds"
    return ""


def intent_problems(payload: Mapping[str, Any], shadows: Collection[str]) -> Iterator[str]:
    """What in an intent's counts does not follow from its breakdown.

    Args:
        payload: Of a `trade.intent`.
        shadows: Models whose entries count for nothing, whatever the entries say of themselves.
    """
    entries = breakdown(payload)
    voters = {name: entry for name, entry in entries.items() if name not in shadows and "status" not in entry}
    agreeing = sum(entry.get("action") == payload.get("side") for entry in voters.values())
    expected = {
        "consensus_count": agreeing,
        "voters": len(voters),
        "total_models": len(entries),
        "action": payload.get("side"),
    }
    for key, value in expected.items():
        if payload.get(key) != value:
            yield f"{key} is {payload.get(key)!r}, and its breakdown gives {value!r}"


def breakdown(payload: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of an intent's breakdown; whatever is no entry is none."""
    entries = payload.get("model_breakdown")
    if not isinstance(entries, Mapping):
        return {}
    return {name: dict(entry) for name, entry in entries.items() if isinstance(entry, Mapping)}


def pair_problems(payload: Mapping[str, Any], record: DecisionRecord) -> Iterator[str]:
    """Where an intent says something else than the decision that it was made from."""
    decision = record.decision
    same = {
        "side": decision.action,
        "symbol": decision.symbol,
        "confidence": decision.confidence,
        "consensus_count": decision.consensus_count,
        "voters": decision.voters,
        "entry_price": decision.entry_price,
        "ts_open": decision.ts_open,
        "artefacts": {name: said.artefact for name, said in {**record.shadows, **decision.votes}.items()},
    }
    for key, value in same.items():
        if payload.get(key) != value:
            yield f"{key} is {payload.get(key)!r}, and its decision says {value!r}"
    entries = breakdown(payload)
    for name, said in {**record.shadows, **decision.votes}.items():
        entry = entries.get(name, {})
        if (entry.get("action"), entry.get("confidence")) != (said.action, said.confidence):
            yield f"the entry of {name} is not what its decision's record says"
        if (entry.get("shadow") is True) != (name in record.shadows):
            yield f"the entry of {name} is {'not ' if name in record.shadows else ''}marked as a shadow's"

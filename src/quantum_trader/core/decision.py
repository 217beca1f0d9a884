"""A decision: a function of the voters only, with one canonical form as bytes.

What a shadow says, why a model did not answer and when the clock was read live beside the decision in a
`DecisionRecord`; they cannot reach its bytes. Replay and service are compared by these bytes.
"""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from quantum_trader.core.calibration import FloatArray, conviction
from quantum_trader.core.features import SCHEMA
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import Action, ModelOutput, Status, Thresholds, confidence, no_probability
from quantum_trader.core.vote import vote

SCHEMA_VERSION = 1

_NAMES = {int(action): action.name for action in Action}
_encode = msgspec.json.Encoder().encode

# The structs below are left out of garbage collection (gc=False): they never point back to what holds them, and
# scanning them took a fifth of a replay's deciding time.


class ModelVote(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One model's full prediction, as it states it; `p_up` is left out where there is none.

    `p_calibrated` is what the policy's calibration makes of `p_up`, and what the vote's confidence is made of; left out
    where the policy has none for this artefact.
    """

    action: str
    confidence: float
    status: str
    artefact: str
    p_up: float | UnsetType = UNSET
    p_calibrated: float | UnsetType = UNSET


class ShadowVote(ModelVote, frozen=True, kw_only=True, gc=False):
    """A shadow's prediction: recorded, published, counted for nothing.

    `input_hash` is what the shadow's own process says of the input that it predicted on, so that a model which is fed
    something else than the market shows in every record.
    """

    shadow: bool = True
    reason: str = ""
    input_hash: str = ""

    @classmethod
    def of(cls, p_up: float, thresholds: Thresholds, artefact: str, input_hash: str) -> "ShadowVote":
        """A value that arrived; refused if it is no probability."""
        problem = no_probability(p_up)
        if problem:
            return cls.none(Status.REFUSED, artefact, problem, input_hash)
        return cls(
            action=_NAMES[thresholds.action(p_up)],
            confidence=max(p_up, 1.0 - p_up),
            status="ok",
            artefact=artefact,
            p_up=p_up,
            input_hash=input_hash,
        )

    @classmethod
    def none(cls, status: Status, artefact: str, reason: str, input_hash: str = "") -> "ShadowVote":
        """No answer, and why."""
        return cls(
            action="HOLD",
            confidence=0.0,
            status=status.value,
            artefact=artefact,
            reason=reason,
            input_hash=input_hash,
        )


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the voters decided for one symbol at one bar. Times are milliseconds since the epoch, UTC."""

    schema: int
    decision_id: str
    symbol: str
    timeframe: str
    ts_open: int
    ts_close: int
    action: str
    confidence: float
    consensus_count: int
    voters: int
    min_consensus: int
    weights: dict[str, float]
    scores: dict[str, float]
    votes: dict[str, ModelVote]
    entry_price: float
    atr_value: float
    features: str
    input_hash: str
    policy: str


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A decision with what stands beside it: the shadows, the reasons of silent voters, the clock, the chain's links.

    `chain_prev` and `chain` are links of `core.chain`, 64 hexadecimal characters; whoever writes the record down sets
    them, and until then they are empty.
    """

    decision: Decision
    shadows: dict[str, ShadowVote]
    reasons: dict[str, str]
    ts_decision: int
    chain_prev: str = ""
    chain: str = ""


class Occasion(msgspec.Struct, frozen=True):
    """Where and when n decisions are taken, and what of the market they quote; every sequence has length n."""

    timeframe: str
    symbols: Sequence[str]
    ts_open: Sequence[int]
    ts_close: Sequence[int]
    prices: Sequence[float]
    atr_fractions: Sequence[float]
    input_hashes: Sequence[str]


def decision_id(symbol: str, timeframe: str, ts_open: int) -> str:
    """The name of a decision as a UUID: the same bar gives the same name on every machine and in every replay.

    >>> decision_id("BTCUSDT", "5m", 0)
    '17786d99-cac1-8f07-8784-9b833b915cfc'
    """
    h = hashlib.sha256(f"{symbol}|{timeframe}|{ts_open}".encode()).hexdigest()
    # Version 8 of RFC 9562 (the bits are ours to define), variant 0b10; Python's uuid knows it only from 3.14 on.
    return f"{h[:8]}-{h[8:12]}-8{h[13:16]}-8{h[17:20]}-{h[20:32]}"


def canonical(decision: Decision) -> bytes:
    """The decision as compact JSON in declared key order; floats in their shortest exact form."""
    return _encode(decision)


def decide(occasion: Occasion, outputs: Mapping[str, ModelOutput], policy: VotePolicy) -> list[Decision]:
    """Take n decisions from the voters' outputs.

    Args:
        occasion: The n symbols and bars.
        outputs: For every voter, in breakdown order, its answers for the n rows.
        policy: Weights, quorum and calibrations.

    A voter that is not OK on a row abstains there: it neither counts nor weighs, and it is named with its status.
    """
    names = tuple(outputs)
    n = len(occasion.symbols)
    calibrated = _calibrated(outputs, policy)
    actions, sure, present = _stack(outputs, calibrated, n)
    weights = np.array([policy.weights[name] for name in names], dtype=np.float64)
    result = vote(actions, sure, present, weights, policy.min_consensus)
    votes = zip(*(model_votes(output, calibrated.get(name)) for name, output in outputs.items()), strict=True)
    nominal = {name: policy.weights[name] for name in names}
    digest = policy.digest(names)
    rows = zip(
        result.actions.tolist(),
        result.confidences.tolist(),
        result.consensus.tolist(),
        result.voters.tolist(),
        result.scores.tolist(),
        votes,
        strict=True,
    )
    return [
        Decision(
            schema=SCHEMA_VERSION,
            decision_id=decision_id(occasion.symbols[i], occasion.timeframe, occasion.ts_open[i]),
            symbol=occasion.symbols[i],
            timeframe=occasion.timeframe,
            ts_open=occasion.ts_open[i],
            ts_close=occasion.ts_close[i],
            action=_NAMES[action],
            confidence=sure_,
            consensus_count=consensus,
            voters=voters,
            min_consensus=policy.min_consensus,
            weights=nominal,
            scores={"SELL": scores[0], "HOLD": scores[1], "BUY": scores[2]},
            votes=dict(zip(names, said, strict=True)),
            entry_price=occasion.prices[i],
            atr_value=occasion.atr_fractions[i],
            features=SCHEMA.digest,
            input_hash=occasion.input_hashes[i],
            policy=digest,
        )
        for i, (action, sure_, consensus, voters, scores, said) in enumerate(rows)
    ]


def _calibrated(outputs: Mapping[str, ModelOutput], policy: VotePolicy) -> dict[str, FloatArray]:
    """Calibrated probabilities, shape (n,), of the voters whose very artefact the policy has a calibration for."""
    return {
        name: calibration.curve(outputs[name].p_up)
        for name, calibration in policy.calibrations.items()
        if name in outputs and outputs[name].artefact == calibration.artefact
    }


def _stack(
    outputs: Mapping[str, ModelOutput], calibrated: Mapping[str, FloatArray], n: int
) -> tuple[NDArray[np.int8], NDArray[np.float64], NDArray[np.bool_]]:
    """Actions, confidences and presence of the voters, each of shape (n, m)."""
    actions = np.zeros((n, len(outputs)), dtype=np.int8)
    sure = np.zeros((n, len(outputs)))
    present = np.zeros((n, len(outputs)), dtype=np.bool_)
    for m, (name, output) in enumerate(outputs.items()):
        actions[:, m] = output.actions
        present[:, m] = [status is Status.OK for status in output.statuses]
        stated = conviction(calibrated[name], output.actions) if name in calibrated else confidence(output.p_up)
        sure[:, m] = np.where(present[:, m], stated, 0.0)
    return actions, sure, present


def model_votes(output: ModelOutput, calibrated: FloatArray | None = None) -> list[ModelVote]:
    """One ModelVote a row; a row that is not OK is HOLD at confidence 0 and carries its status.

    Args:
        output: Answers of n rows.
        calibrated: Their calibrated probabilities, shape (n,), where the policy has a calibration.
    """
    sure = confidence(output.p_up).tolist()
    beside = [UNSET] * len(sure) if calibrated is None else calibrated.tolist()
    rows = zip(output.p_up.tolist(), output.actions.tolist(), sure, output.statuses, beside, strict=True)
    return [
        ModelVote(action=_NAMES[action], confidence=c, status="ok", artefact=output.artefact, p_up=p, p_calibrated=q)
        if status is Status.OK
        else ModelVote(action="HOLD", confidence=0.0, status=status.value, artefact=output.artefact)
        for p, action, c, status, q in rows
    ]


def shadow_votes(output: ModelOutput) -> list[ShadowVote]:
    """One ShadowVote a row, from the same words as a voter's; what `ShadowVote.of` makes of one value."""
    hashes = output.input_hashes or ("",) * len(output.statuses)
    rows = zip(model_votes(output), output.reasons, hashes, strict=True)
    return [
        ShadowVote(
            action=vote_.action,
            confidence=vote_.confidence,
            status=vote_.status,
            artefact=vote_.artefact,
            p_up=vote_.p_up,
            reason=reason,
            input_hash=input_hash,
        )
        for vote_, reason, input_hash in rows
    ]

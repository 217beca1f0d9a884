"""Decision records as columns and back, without loss: one row a decision, one group of columns a model.

Columns of a model are named ``MODEL.FIELD`` (``xgb.p_up``). A model that took no part in a row has role null there.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from msgspec import UNSET

from quantum_trader.core.decision import Decision, DecisionRecord, ModelVote, ShadowVote, canonical
from quantum_trader.core.errors import WireError
from quantum_trader.core.predictions import MODELS, Action

_TEXT = pa.dictionary(pa.int32(), pa.string())

_HEAD: dict[str, pa.DataType] = {
    "symbol": _TEXT,
    "timeframe": _TEXT,
    "ts_open": pa.int64(),
    "ts_close": pa.int64(),
    "ts_decision": pa.int64(),
    "action": pa.int8(),
    "confidence": pa.float64(),
    "consensus_count": pa.int16(),
    "voters": pa.int16(),
    "min_consensus": pa.int16(),
    "entry_price": pa.float64(),
    "atr_value": pa.float64(),
    "score_sell": pa.float64(),
    "score_hold": pa.float64(),
    "score_buy": pa.float64(),
    "schema": pa.int16(),
    "decision_id": pa.string(),
    "features": _TEXT,
    "input_hash": pa.string(),
    "policy": _TEXT,
    "digest": pa.string(),
    "chain_prev": pa.binary(32),
    "chain": pa.binary(32),
}

LINKS = ("chain_prev", "chain")
"""Columns of the chain of records (`core.chain`)."""

_MODEL: dict[str, pa.DataType] = {
    "role": _TEXT,
    "weight": pa.float64(),
    "action": pa.int8(),
    "confidence": pa.float64(),
    "p_up": pa.float64(),
    "status": _TEXT,
    "artefact": _TEXT,
    "reason": _TEXT,
    "input_hash": pa.string(),
    "p_calibrated": pa.float64(),
}

SCHEMA = pa.schema(
    [*_HEAD.items(), *((f"{model}.{name}", kind) for model in MODELS for name, kind in _MODEL.items())],
    metadata={"quantum_trader.decisions": "3"},
)

LATER = frozenset([*LINKS, *(f"{model}.p_calibrated" for model in MODELS)])
"""Columns that files of version 2 lack, all or some; they are null there."""


def grown(table: pa.Table, schema: pa.Schema = SCHEMA) -> pa.Table:
    """A table in a schema's order, with nulls for what it lacks: files of version 2 lack what came later."""
    if table.schema.names == schema.names:
        return table
    there = set(table.schema.names)
    columns = [table[f.name] if f.name in there else pa.nulls(len(table), f.type) for f in schema]
    return pa.table(columns, names=schema.names, metadata=table.schema.metadata)


def to_table(records: Sequence[DecisionRecord]) -> pa.Table:
    """Records as a table in `SCHEMA`."""
    decisions = [record.decision for record in records]
    columns: dict[str, list[Any]] = {name: [getattr(d, name, None) for d in decisions] for name in _HEAD}
    columns["ts_decision"] = [record.ts_decision for record in records]
    columns["action"] = [Action[d.action].value for d in decisions]
    for action in Action:
        columns[f"score_{action.name.lower()}"] = [d.scores[action.name] for d in decisions]
    columns["digest"] = [hashlib.sha256(canonical(d)).hexdigest() for d in decisions]
    for name in LINKS:
        columns[name] = [bytes.fromhex(getattr(record, name)) or None for record in records]
    for model in MODELS:
        rows = [_model_row(record, model) for record in records]
        columns |= {f"{model}.{name}": [row[i] for row in rows] for i, name in enumerate(_MODEL)}
    return pa.table(columns, schema=SCHEMA)


_ABSENT = (None,) * len(_MODEL)


def _model_row(record: DecisionRecord, model: str) -> tuple[Any, ...]:
    vote = record.decision.votes.get(model)
    if vote is not None:
        return (
            "voter",
            record.decision.weights[model],
            *_vote_row(vote),
            record.reasons.get(model),
            None,
            _calibrated(vote),
        )
    shadow = record.shadows.get(model)
    if shadow is None:
        return _ABSENT
    return ("shadow", None, *_vote_row(shadow), shadow.reason or None, shadow.input_hash or None, _calibrated(shadow))


def _calibrated(vote: ModelVote) -> float | None:
    return None if vote.p_calibrated is UNSET else vote.p_calibrated


def _vote_row(vote: ModelVote) -> tuple[Any, ...]:
    p_up = None if vote.p_up is UNSET else vote.p_up
    return (Action[vote.action].value, vote.confidence, p_up, vote.status, vote.artefact)


def to_records(table: pa.Table) -> list[DecisionRecord]:
    """A table's rows as records.

    Raises:
        WireError: if a value is none of its kind, or a row's decision does not give the digest stored with it.
    """
    try:
        return [_record(row) for row in table.to_pylist()]
    except (pa.ArrowException, ValueError) as error:
        raise WireError(f"archived decision: a value is none of its kind ({error})") from error


def _record(row: dict[str, Any]) -> DecisionRecord:
    votes, shadows, weights, reasons = {}, {}, {}, {}
    for model in MODELS:
        role = row[f"{model}.role"]
        if role == "voter":
            votes[model] = ModelVote(**_vote_fields(row, model))
            weights[model] = row[f"{model}.weight"]
            if row[f"{model}.reason"] is not None:
                reasons[model] = row[f"{model}.reason"]
        elif role == "shadow":
            shadows[model] = ShadowVote(
                **_vote_fields(row, model),
                reason=row[f"{model}.reason"] or "",
                input_hash=row[f"{model}.input_hash"] or "",
            )
    decision = Decision(
        **{name: row[name] for name in Decision.__struct_fields__ if name in row and name != "action"},
        action=Action(row["action"]).name,
        weights=weights,
        scores={action.name: row[f"score_{action.name.lower()}"] for action in Action},
        votes=votes,
    )
    if hashlib.sha256(canonical(decision)).hexdigest() != row["digest"]:
        raise WireError(f"archived decision {row['decision_id']}: its fields do not give its stored digest")
    links = {name: (row[name] or b"").hex() for name in LINKS}
    return DecisionRecord(decision=decision, shadows=shadows, reasons=reasons, ts_decision=row["ts_decision"], **links)


def _vote_fields(row: dict[str, Any], model: str) -> dict[str, Any]:
    p_up, p_calibrated = row[f"{model}.p_up"], row[f"{model}.p_calibrated"]
    return {
        "action": Action(row[f"{model}.action"]).name,
        "confidence": row[f"{model}.confidence"],
        "status": row[f"{model}.status"],
        "artefact": row[f"{model}.artefact"],
        "p_up": UNSET if p_up is None else p_up,
        "p_calibrated": UNSET if p_calibrated is None else p_calibrated,
    }

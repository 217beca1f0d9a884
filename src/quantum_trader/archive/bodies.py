"""Canonical bytes of archived records, straight from their columns: what digests and links speak for.

`columns.to_records` gives the same bytes, record by record, some five times slower. Here every column is written as
JSON in one go and cut at its commas, and rows of the same cast share one form.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quantum_trader.core.predictions import MODELS, Action

_encode = msgspec.json.Encoder().encode
_ACTIONS = {action.value: _encode(action.name) for action in Action}

_DECISION = (
    b'{"schema":%b,"decision_id":%b,"symbol":%b,"timeframe":%b,"ts_open":%b,"ts_close":%b,"action":%b,"confidence":%b,'
    b'"consensus_count":%b,"voters":%b,"min_consensus":%b,"weights":{%b},"scores":{"SELL":%b,"HOLD":%b,"BUY":%b},'
    b'"votes":{%b},"entry_price":%b,"atr_value":%b,"features":%b,"input_hash":%b,"policy":%b}'
)
_BEFORE_VOTES = (
    *("schema", "decision_id", "symbol", "timeframe", "ts_open", "ts_close", "action", "confidence"),
    *("consensus_count", "voters", "min_consensus", "", "score_sell", "score_hold", "score_buy"),
)
_AFTER_VOTES = ("entry_price", "atr_value", "features", "input_hash", "policy")

Bytes = Sequence[bytes]


def bodies(table: pa.Table) -> Iterator[tuple[int, bytes, bytes]]:
    """For every row its number, its decision's canonical bytes, and its record's (`core.chain.body`).

    Args:
        table: In the archive's schema; all of it is in memory while it is read, so give it in parts.

    The rows come cast by cast: in the order of the table only where the same models took part in the same roles. A
    value that no record could hold gives bytes that no digest will fit.
    """
    for rows, roles in _casts(table):
        # Taking rows costs as much as reading them; nearly always all of them are of one cast.
        part = table if len(rows) == len(table) else table.take(pa.array(rows))
        decisions, beside = _written(part, roles)
        ends = zip(decisions, *beside, strict=True)
        for row, (decision, shadows, reasons, ts) in zip(rows.tolist(), ends, strict=True):
            record = b'{"decision":%b,"shadows":{%b},"reasons":{%b},"ts_decision":%b}'
            yield row, decision, record % (decision, shadows, reasons, ts)


def _casts(table: pa.Table) -> Iterator[tuple[np.ndarray[Any, Any], dict[str, str | None]]]:
    """Row numbers with the same roles, and those roles."""
    pattern = np.zeros(len(table), dtype=np.int64)
    names: list[list[str | None]] = []
    for model in MODELS:
        found, codes = _dictionary(table[f"{model}.role"])
        pattern = pattern * (len(found) + 1) + codes
        names.append([*found, None])
    for code in np.unique(pattern).tolist():
        roles, rest = {}, code
        for model, known in zip(reversed(MODELS), reversed(names), strict=True):
            rest, own = divmod(rest, len(known))
            roles[model] = known[own]
        yield np.flatnonzero(pattern == code), roles


def _written(part: pa.Table, roles: dict[str, str | None]) -> tuple[list[bytes], tuple[Bytes, Bytes, Bytes]]:
    """Rows of one cast: their decisions, and what stands beside them (shadows, reasons, time)."""
    voters = [model for model in MODELS if roles[model] == "voter"]
    shadows = [model for model in MODELS if roles[model] == "shadow"]
    weights = [_named(model, _texts(part[f"{model}.weight"])) for model in voters]
    votes = [_named(model, [b"{%b}" % vote for vote in _votes(part, model)]) for model in voters]
    columns = [
        *(_listed(weights, len(part)) if not name else _column(part, name) for name in _BEFORE_VOTES),
        _listed(votes, len(part)),
        *(_column(part, name) for name in _AFTER_VOTES),
    ]
    said = [_named(model, _shadow_votes(part, model)) for model in shadows]
    beside = _listed(said, len(part)), _reasons(part, voters), _column(part, "ts_decision")
    return [_DECISION % row for row in zip(*columns, strict=True)], beside


def _column(part: pa.Table, name: str) -> Bytes:
    return _actions(part[name]) if name == "action" else _texts(part[name])


def _votes(part: pa.Table, model: str) -> list[bytes]:
    """A model's votes without their braces."""
    fields = (_texts(part[f"{model}.{name}"]) for name in ("confidence", "status", "artefact"))
    beside = (_where_given(part, model, name) for name in ("p_up", "p_calibrated"))
    form = b'"action":%b,"confidence":%b,"status":%b,"artefact":%b%b%b'
    return [form % row for row in zip(_actions(part[f"{model}.action"]), *fields, *beside, strict=True)]


def _where_given(part: pa.Table, model: str, name: str) -> list[bytes]:
    """A key of a vote that is left out where there is no value."""
    column = part[f"{model}.{name}"]
    if column.null_count == len(column):
        return [b""] * len(column)
    key = b',"%b":' % name.encode()
    return [b"" if value == b"null" else key + value for value in _texts(column)]


def _shadow_votes(part: pa.Table, model: str) -> list[bytes]:
    beside = (_texts(pc.fill_null(part[f"{model}.{name}"].cast(pa.string()), "")) for name in ("reason", "input_hash"))
    form = b'{%b,"shadow":true,"reason":%b,"input_hash":%b}'
    return [form % row for row in zip(_votes(part, model), *beside, strict=True)]


def _reasons(part: pa.Table, voters: Sequence[str]) -> Bytes:
    given = [model for model in voters if part[f"{model}.reason"].null_count < len(part)]
    if not given:
        return [b""] * len(part)
    rows = zip(*(_named(model, _texts(part[f"{model}.reason"])) for model in given), strict=True)
    return [b",".join(reason for reason in row if not reason.endswith(b":null")) for row in rows]


def _named(model: str, values: Bytes) -> list[bytes]:
    name = _encode(model)
    return [b"%b:%b" % (name, value) for value in values]


def _listed(parts: Sequence[Bytes], n: int) -> Bytes:
    return [b",".join(row) for row in zip(*parts, strict=True)] if parts else [b""] * n


def _actions(column: pa.ChunkedArray) -> list[bytes]:
    return [_ACTIONS.get(value, b"null") for value in column.to_pylist()]


def _texts(column: pa.ChunkedArray) -> list[bytes]:
    """A column's values as JSON; null where there is none."""
    if pa.types.is_dictionary(column.type):
        found, codes = _dictionary(column)
        known = [*map(_encode, found), b"null"]
        return [known[code] for code in codes.tolist()]
    values = column.to_pylist()
    texts = _encode(values)[1:-1].split(b",")
    # A text with a comma in it would have been cut.
    return texts if len(texts) == len(values) else [*map(_encode, values)]


def _dictionary(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray[Any, np.dtype[np.int64]]]:
    """Values and, for every row, which of them; their number where there is none."""
    array = column.unify_dictionaries().combine_chunks()
    found = array.dictionary.to_pylist()
    return found, pc.fill_null(array.indices.cast(pa.int64()), len(found)).to_numpy(zero_copy_only=False)

"""Sample intents: the latest actionable decisions as one line each, with the shadow's answer beside them."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from quantum_trader.core.predictions import MODELS, Action, Role, Status


@dataclass(frozen=True, slots=True)
class IntentLine:
    """One actionable decision.

    Attributes:
        ts_close: Close of its bar, milliseconds since the epoch, UTC.
        symbol: Venue symbol.
        side: BUY or SELL.
        entry_price: In quote currency.
        confidence: Of the agreeing voters.
        consensus: Voters that agreed.
        total: Models in the breakdown, shadows among them.
        shadow: Short name of the model whose answer follows; empty where there is none.
        answer: The shadow's action and confidence, or the status that explains its silence; empty without a shadow.
    """

    ts_close: int
    symbol: str
    side: str
    entry_price: float
    confidence: float
    consensus: int
    total: int
    shadow: str
    answer: str


def last_intents(table: pa.Table, judged: str | None, count: int = 3) -> tuple[IntentLine, ...]:
    """The last `count` BUY or SELL decisions of a table in time order, each of another symbol where there are enough.

    The answer shown is the judged model's, or without one the first shadow's.
    """
    actionable = table.filter(pc.not_equal(table["action"], 0))
    rows = actionable.slice(max(0, len(actionable) - 40 * count)).to_pylist()
    lines = [_line(row, judged) for row in rows]
    latest = {line.symbol: line for line in lines}
    fresh = sorted(latest.values(), key=lambda line: (line.ts_close, line.symbol))[-count:]
    rest = [line for line in reversed(lines) if line not in fresh][: count - len(fresh)]
    return tuple(sorted([*fresh, *rest], key=lambda line: (line.ts_close, line.symbol)))


def _line(row: dict[str, Any], judged: str | None) -> IntentLine:
    shadows = [model for model in MODELS if row[f"{model}.role"] == Role.SHADOW.value]
    shadow = judged if judged and row[f"{judged}.role"] is not None else next(iter(shadows), "")
    return IntentLine(
        ts_close=row["ts_close"],
        symbol=row["symbol"],
        side=Action(row["action"]).name,
        entry_price=row["entry_price"],
        confidence=row["confidence"],
        consensus=row["consensus_count"],
        total=sum(row[f"{model}.role"] is not None for model in MODELS),
        shadow=shadow,
        answer=_answer(row, shadow) if shadow else "",
    )


def _answer(row: dict[str, Any], shadow: str) -> str:
    status = row[f"{shadow}.status"]
    if status != Status.OK.value:
        return str(status)
    return f"{Action(row[f'{shadow}.action']).name} {row[f'{shadow}.confidence']:.3f}"

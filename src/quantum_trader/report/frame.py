"""Archived decisions as arrays in one order (by time, then symbol), with their outcomes: what every view reads."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quantum_trader.archive.codes import codes, column
from quantum_trader.archive.join import outcomes
from quantum_trader.core.bars import BarSeries
from quantum_trader.core.predictions import MODELS, Role
from quantum_trader.gates.sample import CYCLE

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ModelColumns:
    """What one model said; every array has shape (n,).

    Attributes:
        voter: Where it voted.
        shadow: Where it only watched.
        valid: Where it gave a probability in time.
        action: -1, 0 or 1; read only where valid.
        confidence: NaN where not valid.
        p_up: NaN where not valid.
        weight: Nominal weight of its vote; NaN where it did not vote.
    """

    voter: BoolArray
    shadow: BoolArray
    valid: BoolArray
    action: NDArray[np.int8]
    confidence: FloatArray
    p_up: FloatArray
    weight: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """n decisions; every array has shape (n,), times are milliseconds since the epoch, UTC.

    Attributes:
        names: Symbols, sorted.
        symbol: Index into `names`.
        interval: Bar length in milliseconds.
        ts_open: Open time of the bar that was decided on.
        action: The voters' decision, -1, 0 or 1.
        consensus: Voters that agreed.
        min_consensus: The quorum in force.
        forward: Log return over the delayed horizon; NaN where it is not known.
        models: Every model that took part, in the order of every breakdown.
    """

    names: tuple[str, ...]
    symbol: IntArray
    interval: int
    ts_open: IntArray
    action: NDArray[np.int8]
    consensus: IntArray
    min_consensus: IntArray
    forward: FloatArray
    models: dict[str, ModelColumns]

    @classmethod
    def of(cls, table: pa.Table, bars: dict[str, BarSeries]) -> "Frame":
        """Arrays of a table that holds at least one decision, in the order of `archive.store.in_order`."""
        names, symbol = codes(table, "symbol")
        return cls(
            names=names,
            symbol=symbol,
            interval=int(column(table, "ts_close")[0] - column(table, "ts_open")[0]),
            ts_open=column(table, "ts_open"),
            action=column(table, "action"),
            consensus=column(table, "consensus_count").astype(np.int64),
            min_consensus=column(table, "min_consensus").astype(np.int64),
            forward=outcomes(table, bars),
            models={
                model: _model_columns(table, model)
                for model in MODELS
                if table[f"{model}.role"].null_count < len(table)
            },
        )

    def __len__(self) -> int:
        return len(self.ts_open)

    @property
    def cycle(self) -> IntArray:
        """Index of each decision's cycle, counted as the gates count it, shape (n,)."""
        return np.asarray((self.ts_open - self.ts_open[0]) // self.interval // CYCLE)


def tally(table: pa.Table, name: str) -> dict[str, int]:
    """How often each text of a column occurs, nulls left out, sorted by text."""
    counts = pc.value_counts(table[name].cast(pa.string())).to_pylist()
    return {
        item["values"]: item["counts"] for item in sorted(counts, key=lambda i: i["values"] or "") if item["values"]
    }


def _model_columns(table: pa.Table, model: str) -> ModelColumns:
    (roles, role), p_up = codes(table, f"{model}.role"), column(table, f"{model}.p_up")
    valid = ~np.isnan(p_up)
    return ModelColumns(
        voter=_is(roles, role, Role.VOTER),
        shadow=_is(roles, role, Role.SHADOW),
        valid=valid,
        action=column(table, f"{model}.action"),
        confidence=np.where(valid, column(table, f"{model}.confidence"), np.nan),
        p_up=p_up,
        weight=column(table, f"{model}.weight"),
    )


def _is(names: tuple[str, ...], index: IntArray, role: Role) -> BoolArray:
    return np.asarray(index == (names.index(role.value) if role.value in names else -2))

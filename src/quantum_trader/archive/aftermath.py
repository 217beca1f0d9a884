"""What the watch after a promotion reads: the model's blocks since then, and the engine's conduct before and after.

- The blocks are those of the verdict: the model's own view, held against the other voters, whether it voted itself or
  not. The standard of the blocks is what came before the promotion, as far back as the decisions with this artefact go.
- Both sides count the same things, so that a vote more changes neither by itself: agreeing voters are the others;
  contended is a decision on which the model is one of BUY and SELL against each other and the others are not.
- Latency leaves out the first bar since: the engine was restarted for it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quantum_trader.archive.join import column
from quantum_trader.core.bars import BarSeries
from quantum_trader.core.predictions import MODELS
from quantum_trader.gates.events import portions
from quantum_trader.gates.panel import Electorate, Panel
from quantum_trader.gates.sample import Sample
from quantum_trader.gates.trial import Trial
from quantum_trader.gates.watch import Conduct
from quantum_trader.gates.whole_policy import Policy

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

PERCENTILE_OF = 200
"""Decisions below which a 99th percentile is hardly more than the largest value."""

_PORTION = 250_000


@dataclass(frozen=True, eq=False)
class Aftermath:
    """What the watch judges.

    Attributes:
        x: Shape (blocks,), standardised blocks since the promotion.
        before: The engine in as much time before the promotion as there was since.
        after: The engine since.
        bars: Bars since the promotion.
        decided_ms: When the last decision was taken, milliseconds since the epoch; 0 where none was since.
        interval_ms: Length of a bar.
        faults: Why the blocks say nothing, a sentence each.
    """

    x: FloatArray
    before: Conduct
    after: Conduct
    bars: int
    decided_ms: int
    interval_ms: int
    faults: tuple[str, ...] = ()

    def age_ms(self, now_ms: int) -> int:
        """How long ago the last decision was taken."""
        return now_ms - self.decided_ms


def aftermath(
    table: pa.Table,
    bars: Mapping[str, BarSeries],
    who: tuple[str, str, float],
    since_ms: int,
    policy: Policy,
) -> Aftermath:
    """Look at everything since a promotion took effect.

    Args:
        table: Decisions in the archive's schema, sorted by time.
        bars: Bars by symbol.
        who: Model, digest of its artefact and weight that it was promoted with.
        since_ms: When that was recorded, milliseconds since the epoch; it took effect with the first decision after
            it in which the model votes so.
        policy: Thresholds.
    """
    model, artefact, weight = who
    names = np.asarray(table[f"{model}.artefact"].cast(pa.string()).to_pylist(), dtype=object)
    role = np.asarray(table[f"{model}.role"].cast(pa.string()).to_pylist(), dtype=object)
    opens = column(table, "ts_open")
    votes = (role == "voter") & (names == artefact) & (column(table, f"{model}.weight") == weight)
    begun = votes & (column(table, "ts_decision") >= since_ms)
    if not begun.any():
        nothing = Conduct(0, (0,), 0, 0, 0)
        return Aftermath(np.empty(0), nothing, nothing, 0, 0, 0)
    interval = int(column(table, "ts_close")[0] - opens[0])
    start, last = int(opens[begun].min()), int(opens.max())
    length = last + interval - start
    late = opens >= start
    others = tuple(name for name in MODELS if name != model and (_texts(table, f"{name}.role")[late] == "voter").any())
    said = _Said(table, model, others)
    earlier = (opens < start) & (opens >= start - length)
    x, faults = _blocks(table.filter(pa.array(names == artefact)), bars, (model, others, weight), start, policy)
    return Aftermath(
        x=x,
        before=said.conduct(earlier, earlier),
        after=said.conduct(late, opens > start),
        bars=length // interval,
        decided_ms=int(column(table, "ts_decision").max()),
        interval_ms=interval,
        faults=faults,
    )


class _Said:
    """What everybody said, in arrays of shape (n,)."""

    def __init__(self, table: pa.Table, model: str, others: tuple[str, ...]) -> None:
        self._decided = column(table, "action")
        self._closes, self._at = column(table, "ts_close"), column(table, "ts_decision")
        self._ok = _texts(table, f"{model}.status") == "ok"
        self._action = column(table, f"{model}.action")
        spoke = np.stack([_texts(table, f"{name}.status") == "ok" for name in others], axis=1)
        actions = np.stack([column(table, f"{name}.action") for name in others], axis=1)
        self._agreeing = (spoke & (actions == self._decided[:, None])).sum(axis=1)
        self._seats = len(others) + 1
        buys, sells = (spoke & (actions == 1)).any(axis=1), (spoke & (actions == -1)).any(axis=1)
        against = (buys & (self._action == -1)) | (sells & (self._action == 1))
        self._contended = self._ok & against & ~(buys & sells)

    def conduct(self, rows: BoolArray, timed: BoolArray) -> Conduct:
        """Of some decisions, and the latency of some of them."""
        waited = (self._at - self._closes)[timed]
        enough = len(waited) >= PERCENTILE_OF
        return Conduct(
            decisions=int(rows.sum()),
            consensus=tuple(np.bincount(self._agreeing[rows], minlength=self._seats).tolist()),
            agreeing=int((rows & self._ok & (self._action == self._decided)).sum()),
            contended=int((rows & self._contended).sum()),
            failed=int((rows & ~self._ok).sum()),
            latency_p99_ms=float(np.quantile(waited, 0.99)) if enough else math.nan,
        )


def _blocks(
    table: pa.Table, bars: Mapping[str, BarSeries], who: tuple[str, tuple[str, ...], float], start: int, policy: Policy
) -> tuple[FloatArray, tuple[str, ...]]:
    """Blocks from the one on that begins at or after `start`, and what is wrong with what they are made of."""
    model, others, weight = who
    opens = column(table, "ts_open")
    interval = int(column(table, "ts_close")[0] - opens[0])
    first, end = int(opens.min()), int(opens.max()) // interval + 1
    symbols, index = np.unique(_texts(table, "symbol").astype(str), return_inverse=True)
    bar, count = (opens - first) // interval, end - first // interval
    present = np.stack([_texts(table, f"{name}.status") == "ok" for name in others], axis=1)
    actions = np.stack([column(table, f"{name}.action") for name in others], axis=1).astype(np.int8)
    weights = [column(table, f"{name}.weight") for name in others]
    electorate = Electorate(
        tuple(float(w[w > 0][-1]) for w in weights), weight, int(column(table, "min_consensus")[-1])
    )
    ensemble = electorate.decide(np.where(present, actions, 0).astype(np.int8), present).actions
    voter_p = np.stack([column(table, f"{name}.p_up") for name in others], axis=1)
    closes = _closes(bars, symbols, first - interval, interval, count + 1)
    sample = Sample.of(
        bar, index, column(table, f"{model}.p_up"), column(table, f"{model}.action"), ensemble, bars=count
    )
    panel = Panel.of(
        *(bar, index, np.where(present, voter_p, np.nan), actions, closes[1:]),
        before=closes[0],
        electorate=electorate,
    )
    trial = Trial(len(symbols), electorate, policy)
    for portion in portions(sample, panel, _PORTION):
        trial.extend(*portion)
    size = policy.evidence.block_bars
    return trial.blocks.x[-(-(start - first) // interval // size) :], trial.faults


def _closes(
    bars: Mapping[str, BarSeries], symbols: NDArray[np.str_], first: int, interval: int, count: int
) -> FloatArray:
    """Log closes, shape (count, symbols); NaN where a bar is missing."""
    out = np.full((count, len(symbols)), np.nan)
    for number, name in enumerate(symbols.tolist()):
        if name in bars:
            part = bars[name].between(first, first + count * interval)
            out[(part.ts_open - first) // interval, number] = np.log(part.close)
    return out


def _texts(table: pa.Table, name: str) -> NDArray[np.object_]:
    return np.asarray(table[name].cast(pa.string()).to_pylist(), dtype=object)

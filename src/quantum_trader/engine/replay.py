"""Replay: the service's decision code over a file of bars, without a server, on every core.

Workers compute features and all models' answers for stretches of one symbol; the parent votes and builds the records.
Because features and models work row by row at fixed shapes, the decisions are the service's, byte for byte.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantum_trader.core.bars import WINDOW, BarSeries, IntArray
from quantum_trader.core.chain import GENESIS, chained
from quantum_trader.core.decision import DecisionRecord, Occasion, decide, shadow_votes
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import ModelOutput, Role
from quantum_trader.engine.deciding import FeatureBatch, abstentions, feature_batch, predict
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.inference import OnnxModel

CHUNK = 32
"""Bars whose features are computed together; their sequences stay in the cache from model to model."""

STRETCH = 32 * CHUNK
"""Bars that a worker takes at once: enough to make the hand-over cheap, small enough for progress and memory."""


@dataclass(frozen=True)
class ReplayModel:
    """A model of a replay and its role there."""

    model: str
    path: Path
    role: Role


@dataclass(frozen=True)
class Answers:
    """What a worker says of one stretch: columns of n rows, without the features."""

    symbol: str
    rows: IntArray
    outputs: dict[str, ModelOutput]
    atr_fractions: list[float]
    input_hashes: list[str]


_models: dict[str, OnnxModel] = {}
_series: dict[str, BarSeries] = {}


def _start_worker(models: Sequence[ReplayModel], series: dict[str, BarSeries]) -> None:
    for item in models:
        shadow = item.role is Role.SHADOW
        _models[item.model] = OnnxModel(load_artefact(item.path), allow_unknown_schema=shadow)
    _series.update(series)


def _answer(symbol: str, ends: IntArray) -> Answers:
    matrix = _series[symbol].matrix()
    parts = []
    for start in range(0, len(ends), CHUNK):
        chunk = ends[start : start + CHUNK].tolist()
        parts.append(
            _part(feature_batch([np.ascontiguousarray(matrix[:, end - WINDOW + 1 : end + 1]) for end in chunk]))
        )
    return _joined(symbol, ends, parts)


def _part(batch: FeatureBatch) -> tuple[FeatureBatch, dict[str, ModelOutput]]:
    outputs = {name: predict(model, batch) for name, model in _models.items()}
    empty = np.empty((0, 0), dtype=np.float32)
    return FeatureBatch(empty, empty, batch.atr_fractions, batch.input_hashes), outputs


def _joined(symbol: str, ends: IntArray, parts: Sequence[tuple[FeatureBatch, dict[str, ModelOutput]]]) -> Answers:
    outputs = {}
    for name in _models:
        pieces = [part[name] for _, part in parts]
        outputs[name] = ModelOutput(
            np.concatenate([piece.p_up for piece in pieces]),
            np.concatenate([piece.actions for piece in pieces]),
            tuple(status for piece in pieces for status in piece.statuses),
            pieces[0].artefact,
            tuple(reason for piece in pieces for reason in piece.reasons),
        )
    return Answers(
        symbol,
        ends,
        outputs,
        [value for batch, _ in parts for value in batch.atr_fractions],
        [value for batch, _ in parts for value in batch.input_hashes],
    )


def stretches(series: Mapping[str, BarSeries]) -> list[tuple[str, IntArray]]:
    """Work items: for every symbol the bars with a whole window, cut into stretches; interleaved by time."""
    items = []
    for symbol, bars in series.items():
        ends = bars.window_ends()
        items += [(symbol, ends[start : start + STRETCH]) for start in range(0, len(ends), STRETCH)]
    return sorted(items, key=lambda item: (int(series[item[0]].ts_open[item[1][0]]), item[0]))


def replay(
    series: Mapping[str, BarSeries],
    timeframe: str,
    models: Sequence[ReplayModel],
    policy: VotePolicy,
    *,
    workers: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[list[DecisionRecord]]:
    """Decisions of every bar with a whole window, one list a stretch of one symbol.

    Args:
        series: Bars by venue symbol.
        timeframe: Of the bars.
        models: Every model and its role, in breakdown order.
        policy: Weights and quorum.
        workers: Processes; each works on one thread.
        progress: Told the number of bars that a stretch decided.

    A decision is stamped with its bar's close, so that the same replay writes the same records. Each symbol's records
    form a chain of their own, from its beginning, as a stream's writer would make it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    items = stretches(series)
    arguments = (list(models), dict(series))
    heads: dict[str, str] = {}
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=arguments) as pool:
        try:
            for answers in pool.map(_answer, *zip(*items, strict=True)) if items else ():
                records = _linked(_records(answers, series[answers.symbol], timeframe, models, policy), heads)
                progress(len(records))
                yield records
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _linked(records: Sequence[DecisionRecord], heads: dict[str, str]) -> list[DecisionRecord]:
    """Records of one symbol behind its chain's head, which moves on."""
    linked = []
    for record in records:
        symbol = record.decision.symbol
        linked.append(chained(record, heads.get(symbol, GENESIS)))
        heads[symbol] = linked[-1].chain
    return linked


def _records(
    answers: Answers, bars: BarSeries, timeframe: str, models: Sequence[ReplayModel], policy: VotePolicy
) -> list[DecisionRecord]:
    ts_open = bars.ts_open[answers.rows].tolist()
    occasion = Occasion(
        timeframe=timeframe,
        symbols=[answers.symbol] * len(ts_open),
        ts_open=ts_open,
        ts_close=[ts + bars.interval for ts in ts_open],
        prices=bars.close[answers.rows].tolist(),
        atr_fractions=answers.atr_fractions,
        input_hashes=answers.input_hashes,
    )
    voters = {item.model: answers.outputs[item.model] for item in models if item.role is Role.VOTER}
    shadows = {item.model: shadow_votes(answers.outputs[item.model]) for item in models if item.role is Role.SHADOW}
    decisions = decide(occasion, voters, policy)
    return [
        DecisionRecord(
            decision=decision,
            shadows={name: votes[i] for name, votes in shadows.items()},
            reasons=abstentions(i, voters),
            ts_decision=decision.ts_close,
        )
        for i, decision in enumerate(decisions)
    ]

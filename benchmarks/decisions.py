"""How many decisions a second, where the models' answers are given: vote, canonical digest, archive table?"""

import hashlib
import statistics
import time
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import INTERVAL_MS, SEED
from benchmarks.harness import Crew, Workplace
from benchmarks.tables import Block, Table, at_least, rate, seconds
from quantum_trader.core.decision import Decision, DecisionRecord, Occasion, canonical, decide
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import MODELS, ModelOutput, Thresholds

FREQTRADE = 22_600
"""Bars a second, measured elsewhere: a backtest of 100k bars with given signals."""

GOAL = 10 * FREQTRADE
PROCESSES = 2
BATCH = 1024
"""Rows that replay decides at once."""


def run(place: Workplace) -> list[Block]:
    """Measure."""
    batches = 10 if place.quick else 40
    walls: dict[tuple[str, int], list[float]] = {(step, n): [] for step in STEPS for n in (1, PROCESSES)}
    with Crew(1) as one, Crew(PROCESSES) as several:
        rounds = place.rounds(5)
        for crew in (one, several):
            for step in STEPS:
                crew.work(_work, [(step, 2)] * crew.size)
        for turn in range(rounds):
            for step in STEPS:
                for crew in (one, several):
                    shift = crew.work(_work, [(step, batches)] * crew.size)
                    walls[step, crew.size].append(shift.wall_s / (batches * BATCH * crew.size))
            place.progress("deciding", turn + 1, rounds)
    each = {key: statistics.median(values) for key, values in walls.items()}
    rows = [
        (label, seconds(each[step, 1]), rate(1 / each[step, 1]), rate(1 / each[step, PROCESSES]))
        for step, (label, _) in STEPS.items()
    ]
    goals = [
        at_least(f"{STEPS[step][0]}, {PROCESSES} processes", 1 / each[step, PROCESSES] / 1000, GOAL / 1000, "{:.1f}k/s")
        for step in ("decide", "digest")
    ]
    notes = [
        f"four voters with given probabilities, batches of {BATCH} as in replay; rates count all processes, by wall "
        "time from the first one's start to the last one's end",
        f"elsewhere, not in this run and not the same work: backtests of 100k bars with given signals on a 2-core "
        f"machine ran at {FREQTRADE / 1000:.1f}k bars/s in freqtrade and at 12k to 14k bars/s in NautilusTrader; they "
        "also fill orders and keep accounts, which this engine leaves to its consumers; they do not vote or digest",
    ]
    table = Table(("decisions", "one, 1 process", "1 process", f"{PROCESSES} processes"), rows)
    return [Block("decisions", "decisions: the models' answers are given", [table], goals, notes)]


@cache
def _given() -> tuple[Occasion, dict[str, ModelOutput]]:
    rng = np.random.default_rng(SEED)
    thresholds = Thresholds(0.52, 0.48)
    outputs = {
        model: ModelOutput.of(_p_up(rng), thresholds, hashlib.sha256(model.encode()).hexdigest()) for model in MODELS
    }
    ts_open = [INTERVAL_MS * (5_000_000 + i) for i in range(BATCH)]
    occasion = Occasion(
        timeframe="5m",
        symbols=["BTCUSDT"] * BATCH,
        ts_open=ts_open,
        ts_close=[ts + INTERVAL_MS for ts in ts_open],
        prices=np.round(rng.uniform(60_000, 70_000, BATCH), 1).tolist(),
        atr_fractions=rng.uniform(0.001, 0.01, BATCH).tolist(),
        input_hashes=[hashlib.sha256(str(i).encode()).hexdigest()[:16] for i in range(BATCH)],
    )
    return occasion, outputs


def _p_up(rng: np.random.Generator) -> NDArray[np.float64]:
    # Models answer in float32.
    return rng.uniform(0.4, 0.6, BATCH).astype(np.float32).astype(np.float64)


def _decided() -> list[Decision]:
    return decide(*_given(), VotePolicy())


def _digested() -> list[str]:
    return [hashlib.sha256(canonical(decision)).hexdigest() for decision in _decided()]


def _tabled() -> object:
    from quantum_trader.archive.columns import to_table

    return to_table(
        [
            DecisionRecord(decision=decision, shadows={}, reasons={}, ts_decision=decision.ts_close)
            for decision in _decided()
        ]
    )


STEPS: dict[str, tuple[str, Callable[[], object]]] = {
    "decide": ("decide", _decided),
    "digest": ("decide and digest", _digested),
    "table": ("decide, digest, Arrow table", _tabled),
}


def _work(task: tuple[str, int]) -> float:
    step, batches = task
    _, call = STEPS[step]
    started = time.perf_counter()
    for _ in range(batches):
        call()
    return time.perf_counter() - started

"""Decisions made by the real vote on random answers, over random walks: what a report is made of."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from quantum_trader.archive.columns import to_table
from quantum_trader.core.bars import BarSeries
from quantum_trader.core.decision import DecisionRecord, Occasion, decide, shadow_votes
from quantum_trader.core.labels import forward_returns
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import MODELS, ModelOutput, Status, Thresholds

START = 1_767_225_600_000
FIVE_MINUTES = 300_000
THRESHOLDS = Thresholds(0.53, 0.47)


@dataclass(frozen=True)
class World:
    """Decisions and the bars they were taken on."""

    table: pa.Table
    bars: dict[str, BarSeries]


def random_walk(symbol: str, n: int, seed: int, price: float = 100.0) -> BarSeries:
    """Bars with volatility that clusters; high and low lie around open and close."""
    rng = np.random.default_rng(seed)
    volatility = 0.0015 * np.exp(0.5 * np.sin(np.arange(n) / 90.0) + 0.2 * rng.standard_normal(n))
    close = price * np.exp(np.cumsum(volatility * rng.standard_t(5, n)))
    open_ = np.concatenate([[price], close[:-1]])
    wick = np.exp(volatility * rng.exponential(1.0, n))
    return BarSeries(
        symbol=symbol,
        interval=FIVE_MINUTES,
        ts_open=START + FIVE_MINUTES * np.arange(n, dtype=np.int64),
        open=open_,
        high=np.maximum(open_, close) * wick,
        low=np.minimum(open_, close) / wick,
        close=close,
        volume=rng.uniform(10, 20, n),
    )


def _answers(truth: np.ndarray, skill: float, rng: np.random.Generator, artefact: str, missing: float) -> ModelOutput:
    logit = 0.6 * rng.standard_normal(len(truth)) + skill * truth
    p = 1.0 / (1.0 + np.exp(-logit))
    statuses = [Status.OK] * len(p)
    for i in np.flatnonzero(rng.random(len(p)) < missing).tolist():
        statuses[i] = (Status.LATE, Status.FAILED, Status.MISSING, Status.REFUSED)[i % 4]
    good = np.array([status is Status.OK for status in statuses])
    p = np.where(good, p, np.nan)
    return ModelOutput(
        p, THRESHOLDS.actions(p), tuple(statuses), artefact, tuple("" if ok else "grace: too slow" for ok in good)
    )


def make_world(
    symbols: dict[str, float],
    decisions: int = 600,
    later: int = 20,
    shadow: str | None = "patchtst",
    missing: float = 0.02,
    skill: float = 0.09,
    seed: int = 7,
    min_consensus: int = 2,
) -> World:
    """`decisions` bars with decisions on every symbol, and `later` bars after them; the answers know a little."""
    rng = np.random.default_rng(seed)
    bars = {name: random_walk(name, decisions + later, seed + 1 + i, p) for i, (name, p) in enumerate(symbols.items())}
    policy = VotePolicy(min_consensus=min_consensus)
    records: list[DecisionRecord] = []
    for name, series in bars.items():
        move = np.nan_to_num(np.sign(forward_returns(series)[:decisions]))
        shared = rng.standard_normal(decisions) + move
        outputs = {
            model: _answers(shared, skill, rng, f"{i}" * 64, missing if model == shadow else missing / 4)
            for i, model in enumerate(MODELS, 1)
        }
        occasion = Occasion(
            timeframe="5m",
            symbols=[name] * decisions,
            ts_open=series.ts_open[:decisions].tolist(),
            ts_close=(series.ts_open[:decisions] + FIVE_MINUTES).tolist(),
            prices=series.close[:decisions].tolist(),
            atr_fractions=[0.004] * decisions,
            input_hashes=[f"{i:016x}" for i in range(decisions)],
        )
        taken = decide(occasion, {m: o for m, o in outputs.items() if m != shadow}, policy)
        watched = shadow_votes(outputs[shadow]) if shadow else []
        records += [
            DecisionRecord(
                decision=decision,
                shadows={shadow: watched[i]} if shadow else {},
                reasons={},
                ts_decision=decision.ts_close + 40,
            )
            for i, decision in enumerate(taken)
        ]
    return World(to_table(records), bars)


@pytest.fixture(scope="session")
def worlds() -> Callable[..., World]:
    """Builds a world."""
    return make_world


@pytest.fixture(scope="session")
def world() -> World:
    """Three symbols over 21 cycles."""
    return make_world({"BTCUSDT": 91_000.0, "ETHUSDT": 3_100.0, "XRPUSDT": 2.07}, decisions=1030)

"""Decisions by the million for the gates: given answers, the real vote, columns of the archive, no Python objects."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.data import INTERVAL_MS
from quantum_trader.archive.columns import SCHEMA
from quantum_trader.core.bars import BarSeries
from quantum_trader.core.predictions import DEFAULT_WEIGHTS, MODELS, Thresholds
from quantum_trader.core.vote import vote

VOTERS, SHADOW = MODELS[:3], MODELS[3]
THRESHOLDS = Thresholds(0.52, 0.48)
MISSING = 0.002
"""Share of missing answers."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Past:
    """Decisions in the archive's schema, sorted, and their bars."""

    table: pa.Table
    bars: dict[str, BarSeries]


def make_past(bars: int, symbols: int, seed: int = 1, skill: float = 0.05) -> Past:
    """`bars` bars of random walks with a decision on each for every symbol; the shadow knows a little."""
    rng = np.random.default_rng(seed)
    names = [f"S{number:02d}USDT" for number in range(symbols)]
    log_close = np.cumsum(rng.normal(0.0, 1e-3, (bars + 14, symbols)), axis=0)
    close = 100.0 * np.exp(log_close)
    ts_open = INTERVAL_MS * (5_000_000 + np.arange(bars + 14, dtype=np.int64))
    move = (log_close[13 : 13 + bars] - log_close[1 : 1 + bars]) / (1e-3 * np.sqrt(12))
    n = bars * symbols
    logits = 0.25 * rng.standard_normal((n, len(MODELS)))
    logits[:, -1] += 0.25 * skill * move.ravel()
    p_up = np.where(rng.random(logits.shape) < MISSING, np.nan, 1.0 / (1.0 + np.exp(-logits)))
    return Past(_table(p_up, close[:bars].ravel(), ts_open[:bars], names), _series(names, ts_open, close))


def _series(names: list[str], ts_open: NDArray[np.int64], close: FloatArray) -> dict[str, BarSeries]:
    volume = np.ones(len(close))
    return {
        name: BarSeries(name, INTERVAL_MS, ts_open, own, own, own, own, volume)
        for name, own in zip(names, np.ascontiguousarray(close.T), strict=True)
    }


def _table(p_up: FloatArray, price: FloatArray, ts_open: NDArray[np.int64], names: list[str]) -> pa.Table:
    n, bars = len(p_up), len(ts_open)
    opens = np.repeat(ts_open, len(names))
    actions = THRESHOLDS.actions(p_up)
    sure = np.where(np.isnan(p_up), 0.0, np.maximum(p_up, 1.0 - p_up))
    weights = np.array([DEFAULT_WEIGHTS[name] for name in VOTERS])
    present = ~np.isnan(p_up[:, :3])
    votes = vote(actions[:, :3], sure[:, :3], present, weights, 2)
    columns: dict[str, object] = {
        "symbol": pa.DictionaryArray.from_arrays(np.tile(np.arange(len(names), dtype=np.int32), bars), names),
        "timeframe": _constant("5m", n),
        "ts_open": opens,
        "ts_close": opens + INTERVAL_MS,
        "ts_decision": opens + INTERVAL_MS + 40,
        "action": votes.actions,
        "confidence": votes.confidences,
        "consensus_count": votes.consensus.astype(np.int16),
        "voters": votes.voters.astype(np.int16),
        "min_consensus": np.full(n, 2, np.int16),
        "entry_price": price,
        "atr_value": np.full(n, 0.004),
        **{f"score_{name}": votes.scores[:, k] for k, name in enumerate(("sell", "hold", "buy"))},
        "schema": np.ones(n, np.int16),
        "features": _constant("f" * 64, n),
        "policy": _constant("e" * 64, n),
    }
    for k, name in enumerate(MODELS):
        columns |= _model(name, p_up[:, k], actions[:, k], sure[:, k], n)
    # What neither gates nor reports read is null here.
    full = {field.name: columns.get(field.name, pa.nulls(n, field.type)) for field in SCHEMA}
    return pa.table(full, schema=SCHEMA)


def _model(name: str, p_up: FloatArray, action: NDArray[np.int8], sure: FloatArray, n: int) -> dict[str, object]:
    missing = np.isnan(p_up)
    status = pa.DictionaryArray.from_arrays(missing.astype(np.int32), ["ok", "late"])
    weight = pa.nulls(n, pa.float64()) if name == SHADOW else np.full(n, DEFAULT_WEIGHTS[name])
    return {
        f"{name}.role": _constant("shadow" if name == SHADOW else "voter", n),
        f"{name}.weight": weight,
        f"{name}.action": action,
        f"{name}.confidence": sure,
        f"{name}.p_up": pa.array(p_up, mask=missing),
        f"{name}.status": status,
        f"{name}.artefact": _constant(hashlib.sha256(name.encode()).hexdigest(), n),
    }


def _constant(text: str, n: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), [text])

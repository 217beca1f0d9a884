"""Many decisions, quickly: records as the engine makes them, and a stream of them on a real server."""

from collections.abc import Iterable, Sequence

import numpy as np
import redis
from tests.core.strategies import INTERVAL, START, output_of

from quantum_trader.bus.client import Durability
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.writer import CommitBatch, DecisionWriter
from quantum_trader.core.chain import GENESIS, chained, holds
from quantum_trader.core.decision import DecisionRecord, Occasion, decide, shadow_votes
from quantum_trader.core.policy import VotePolicy

NAMES = StreamNames()
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
DAY_BARS = 288


def many_records(bars: Iterable[int], symbols: Sequence[str] = SYMBOLS, seed: int = 0) -> list[DecisionRecord]:
    """One decision a bar and symbol, in time order; bar 0 opens with 2026, so that bar 287 closes on its second day.

    Each symbol's records are a chain from its beginning.
    """
    where = [(bar, symbol) for bar in bars for symbol in symbols]
    n = len(where)
    if not n:
        return []
    rng = np.random.default_rng([seed, where[0][0]])
    voters = {name: output_of(rng.random(n).tolist(), name[0] * 64) for name in ("xgb", "lgbm", "nhits")}
    shadow = shadow_votes(output_of(rng.random(n).tolist(), "c" * 64))
    ts_open = [START + bar * INTERVAL for bar, _ in where]
    occasion = Occasion(
        timeframe="5m",
        symbols=[symbol for _, symbol in where],
        ts_open=ts_open,
        ts_close=[ts + INTERVAL for ts in ts_open],
        prices=(100 * np.exp(rng.normal(0, 0.01, n))).tolist(),
        atr_fractions=rng.random(n).tolist(),
        input_hashes=[rng.bytes(8).hex() for _ in range(n)],
    )
    return linked(
        DecisionRecord(decision=d, shadows={"patchtst": shadow[i]}, reasons={}, ts_decision=d.ts_close + 40)
        for i, d in enumerate(decide(occasion, voters, VotePolicy()))
    )


def linked(records: Iterable[DecisionRecord], heads: dict[str, str] | None = None) -> list[DecisionRecord]:
    """The records behind one another, each symbol's own chain, as a writer makes them; moves the heads on."""
    heads = {} if heads is None else heads
    out = []
    for record in records:
        symbol = record.decision.symbol
        out.append(chained(record, heads.get(symbol, GENESIS)))
        heads[symbol] = out[-1].chain
    return out


def unbroken(records: Iterable[DecisionRecord]) -> bool:
    """Whether every record is what its link speaks for and follows from the one before it, from the very first on."""
    records = list(records)
    heads: dict[str, str] = {}
    for record in records:
        symbol = record.decision.symbol
        if not holds(record) or record.chain_prev != heads.get(symbol, GENESIS):
            return False
        heads[symbol] = record.chain
    return True


def commit(client: redis.Redis, records: Sequence[DecisionRecord], names: StreamNames = NAMES) -> int:
    """Write decisions as the engine does; says how many were new."""
    writer = DecisionWriter(client, names, Durability.NONE)
    try:
        batch = CommitBatch(entry_ids=(), group="ai-engine", records=[(r, None) for r in records], now_us=START * 1000)
        return len(writer.commit(batch).written)
    finally:
        writer.close()


def in_order(records: Iterable[DecisionRecord]) -> list[DecisionRecord]:
    """As the archive sorts them."""
    return sorted(records, key=lambda record: (record.decision.ts_open, record.decision.symbol))

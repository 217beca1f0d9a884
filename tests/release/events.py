"""Events of a deployed shadow, written through the engine's own writers, and events that were tampered with."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tests.artefacts import make_artefact

from quantum_trader.bus.client import connect, durability
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.wire import encode_intent
from quantum_trader.bus.writer import BarWriter, CommitBatch, DecisionWriter
from quantum_trader.core.bars import WINDOW, Bar
from quantum_trader.core.decision import DecisionRecord, Occasion, decide, shadow_votes
from quantum_trader.core.intent import build_intent
from quantum_trader.core.policy import IntentPolicy, VotePolicy
from quantum_trader.core.predictions import MODELS, ModelOutput, Thresholds
from quantum_trader.models.artefact import load_artefact
from quantum_trader.release.init import initialise

NAMES = StreamNames()
NOW_US = 1_768_012_593_250_080
STEP = 300_000
FIRST = 1_768_012_500_000 - WINDOW * STEP
SYMBOL = "BTCUSDT"
AT = "2026-01-10T02:30:00+00:00"


class Deployment:
    """Four tiny artefacts, a ledger and an env file in a folder; PatchTST in shadow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        paths = {model: make_artefact(folder / "models", model, seed) for seed, model in enumerate(MODELS)}
        self.env_file, self.ledger = folder / "engine.env", folder / "ledger.jsonl"
        initialise(paths, {"patchtst"}, self.ledger, self.env_file, by="tests", at=AT)
        self.digests = {model: load_artefact(path).digest for model, path in paths.items()}

    def records(self, n: int, seed: int = 0) -> list[DecisionRecord]:
        """n decisions of one symbol, HOLD included, as the engine takes them."""
        rng = np.random.default_rng(seed)
        outputs = {
            model: ModelOutput.of(np.round(rng.uniform(0.3, 0.7, n), 6), Thresholds(0.52, 0.48), digest)
            for model, digest in self.digests.items()
        }
        shadow = replace(outputs.pop("patchtst"), input_hashes=("ab" * 8,) * n)
        opens = [FIRST + i * STEP for i in range(n)]
        occasion = Occasion(
            "5m",
            *([SYMBOL] * n, opens, [ts + STEP for ts in opens], [100.0 + i for i in range(n)], [0.01] * n),
            ["ab" * 8] * n,
        )
        decisions = decide(occasion, outputs, VotePolicy())
        return [
            DecisionRecord(decision=d, shadows={"patchtst": s}, reasons={}, ts_decision=d.ts_close + 500)
            for d, s in zip(decisions, shadow_votes(shadow), strict=True)
        ]


def publish(url: str, records: list[DecisionRecord], extra_bars: int = 0) -> None:
    """Bars, decisions and intents, as feed and engine write them."""
    client = connect(url)
    try:
        prices = 100.0 + np.arange(len(records) + extra_bars)
        bars = [
            Bar(SYMBOL, FIRST + i * STEP, STEP, *(price, price + 1.0, price - 1.0, price), 5.0)
            for i, price in enumerate(prices.tolist())
        ]
        BarWriter(client, NAMES).publish(bars, "5m", NOW_US)
        payloads = [build_intent(r.decision, r.shadows, IntentPolicy(), NOW_US) for r in records]
        writer = DecisionWriter(client, NAMES, durability(client))
        batch = CommitBatch(
            entry_ids=(), group="ai-engine", records=list(zip(records, payloads, strict=True)), now_us=NOW_US
        )
        writer.commit(batch)
        writer.close()
    finally:
        client.close()


def publish_changed(url: str, record: DecisionRecord, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """One more intent of a decision that is in the stream, changed on its way."""
    payload = build_intent(record.decision, record.shadows, IntentPolicy(), NOW_US)
    assert payload is not None
    client = connect(url)
    try:
        fields = encode_intent(change(payload), record.decision.decision_id, NOW_US)
        client.xadd(NAMES.intents, dict(fields))
    finally:
        client.close()

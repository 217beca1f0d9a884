"""A shadow that earned its vote, by a real verdict, and the house that it lives in."""

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from tests.e2e.harness import release
from tests.gates.conftest import _world

from quantum_trader.core.features import SCHEMA
from quantum_trader.core.predictions import DEFAULT_WEIGHTS
from quantum_trader.gates.judge import judge
from quantum_trader.gates.whole_policy import WHOLE
from quantum_trader.models.artefact import load_artefact
from quantum_trader.release.ledger import append_entries
from quantum_trader.release.ledger_entries import Electorate, New, Registration

BAR_MS = 300_000
VOTERS = ("xgb", "lgbm", "nhits")


@cache
def promoting_verdict() -> dict[str, Any]:
    world = _world()
    content = judge(world.sample(), world.panel(), WHOLE, WHOLE.digest, version=1, bar_ms=BAR_MS).to_dict()
    assert content["state"] == "PROMOTE"
    return content


class House:
    """Three voters, a registered shadow, an env file, and a verdict whose window ended `age_ms` ago."""

    def __init__(self, folder: Path, now_ms: int, age_ms: int = 3_600_000) -> None:
        self.env_file = release(folder)
        self.ledger = folder / "ledger.jsonl"
        self.artefact = load_artefact(next((folder / "models").glob("patchtst_v*"))).digest
        self.end_ms = now_ms - age_ms
        content = promoting_verdict()
        self.first_ms = self.end_ms - content["events"]["bars"] * BAR_MS
        self.verdict = folder / "verdict.json"
        self.write()
        self.register()

    def content(self, **changes: Any) -> dict[str, Any]:
        """The verdict as `quantum gates --json` writes it, with changes."""
        window = {"ts_first": self.first_ms, "bar_ms": BAR_MS, "symbols": ["BTCUSDT"]}
        head = {"model": "patchtst", "artefact": self.artefact, "window": window}
        return {**head, **promoting_verdict(), **changes}

    def write(self, **changes: Any) -> None:
        self.verdict.write_text(json.dumps(self.content(**changes)))

    def register(self, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "model": "patchtst",
            "artefact": self.artefact,
            "lineage": "patchtst",
            "version": 1,
            "policy": WHOLE.digest,
            "electorate": Electorate(
                weights={model: DEFAULT_WEIGHTS[model] for model in VOTERS},
                artefacts=dict.fromkeys(VOTERS, "1" * 64),
                shadow_weight=0.2,
                min_consensus=1,
            ),
            "features": SCHEMA.digest,
            "symbols": ["BTCUSDT"],
            "timeframe": "5m",
            "window_start": self.first_ms + BAR_MS,
        }
        self.append(Registration(**{**fields, **changes}), self.first_ms)

    def append(self, detail: Any, at_ms: int) -> None:
        at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
        append_entries(self.ledger, [New(at=at, by="tests", reason="a test", detail=detail)])

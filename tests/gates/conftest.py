"""Golden vectors and synthetic models for the gates."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantum_trader.core.vote import vote
from quantum_trader.gates.sample import Sample

Golden = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="session")
def golden(shared: Path) -> Golden:
    """Reads one golden file by its short name, such as g03_trend."""

    def read(name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((shared / "golden" / f"{name}.json").read_text())
        return content

    return read


def _model(
    seed: int = 7, bars: int = 49 * 40, symbols: int = 3, skill: float = 1.0, spread: float = 0.7, herd: float = 0.7
) -> Sample:
    """A calibrated model (at skill 1): its logits have a standard deviation of `spread`, its outcomes obey them.

    With probability `herd` the ensemble takes its action, else one at random.
    """
    rng = np.random.default_rng(seed)
    bar, symbol = (part.ravel() for part in np.meshgrid(np.arange(bars), np.arange(symbols), indexing="ij"))
    logit = rng.normal(0.0, spread, len(bar))
    p = 1.0 / (1.0 + np.exp(-logit))
    up = rng.random(len(bar)) < 1.0 / (1.0 + np.exp(-skill * logit))
    action = np.where(p > 0.55, 1, np.where(p < 0.45, -1, 0))
    ensemble = np.where(rng.random(len(bar)) < herd, action, rng.integers(-1, 2, len(bar)))
    forward = np.where(up, 1.0, -1.0) * rng.uniform(1e-4, 1e-2, len(bar))
    forward[bar + 13 >= bars] = np.nan
    return Sample.of(bar, symbol, p, action, ensemble, forward=forward, bars=bars)


@pytest.fixture(scope="session")
def model() -> Callable[..., Sample]:
    """Makes a synthetic model; see `_model`."""
    return _model


@pytest.fixture(scope="session")
def study(shared: Path) -> Callable[[str], Sample]:
    """Builds a sample of golden g11's study (e2e_neutral.npz) by the model's name."""
    with np.load(shared / "golden" / "e2e_neutral.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    bar, symbol = arrays["event_bar"].astype(int), arrays["event_symbol"].astype(int)
    returns = arrays["returns"].astype(float)
    log_price = np.cumsum(returns, axis=0)
    # y over closes t + D to t + D + H, D = 1 and H = 12; no event is so late that its outcome is not there.
    forward = log_price[bar + 13, symbol] - log_price[bar + 1, symbol]
    p = arrays["voter_p"].astype(float)
    actions = np.where(p > 0.55, 1, np.where(p < 0.45, -1, 0)).astype(np.int8)
    weights = np.array([0.25, 0.25, 0.30])
    ensemble = vote(actions, np.maximum(p, 1 - p), np.ones(p.shape, bool), weights, min_consensus=1).actions

    def build(name: str) -> Sample:
        p_up, action = arrays[f"shadow_{name}"], arrays[f"action_{name}"]
        return Sample.of(bar, symbol, p_up, action, ensemble, forward=forward, bars=len(returns))

    return build

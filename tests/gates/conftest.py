"""Golden vectors and synthetic models for the gates."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quantum_trader.core.vote import vote
from quantum_trader.gates.panel import Electorate, Panel
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


@dataclass(frozen=True)
class World:
    """A model among three voters, and the market; every array by event in time order, prices by bar and symbol."""

    bar: NDArray[np.int64]
    symbol: NDArray[np.int64]
    p_up: NDArray[np.float64]
    action: NDArray[np.int8]
    ensemble: NDArray[np.int8]
    voter_p: NDArray[np.float64]
    voter_action: NDArray[np.int8]
    log_price: NDArray[np.float64]
    bars: int

    def sample(self, first: int = 0, end: int | None = None) -> Sample:
        """Events of bars first to end - 1; their outcomes are the panel's to tell."""
        upto = self.bars if end is None else end
        rows = (self.bar >= first) & (self.bar < upto)
        columns = (getattr(self, name)[rows] for name in ("bar", "symbol", "p_up", "action", "ensemble"))
        return Sample.of(*columns, bars=upto)

    def panel(self, first: int = 0, end: int | None = None) -> Panel:
        """The voters and prices of bars first to end - 1."""
        upto = self.bars if end is None else end
        rows = (self.bar >= first) & (self.bar < upto)
        before = np.zeros(self.log_price.shape[1])
        return Panel.of(
            self.bar[rows],
            self.symbol[rows],
            self.voter_p[rows],
            self.voter_action[rows],
            self.log_price[first:upto],
            before=before,
            first=first,
        )

    def with_model(self, p_up: NDArray[np.float64]) -> "World":
        """The same world with another model's outputs."""
        return replace(self, p_up=p_up, action=acted(p_up))

    def take(self, rows: NDArray[Any]) -> "World":
        """The events of an index, in its order."""
        names = ("bar", "symbol", "p_up", "action", "ensemble", "voter_p", "voter_action")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def acted(p: NDArray[np.float64]) -> NDArray[np.int8]:
    """BUY above .55, SELL below .45."""
    return np.where(p > 0.55, 1, np.where(p < 0.45, -1, 0)).astype(np.int8)


def decided(voter_p: NDArray[np.float64]) -> NDArray[np.int8]:
    """The vote of three voters."""
    return Electorate().decide(acted(voter_p), ~np.isnan(voter_p)).actions


def _world(seed: int = 3, bars: int = 49 * 60, symbols: int = 6, skill: float = 0.15) -> World:
    """A model whose own view correlates by `skill` with the delayed return, beside three voters without any.

    With a skill of 0 it is a linear mixture of the voters and noise: it knows nothing of its own.
    """
    rng = np.random.default_rng(seed)
    bar, symbol = (part.ravel() for part in np.meshgrid(np.arange(bars), np.arange(symbols), indexing="ij"))
    log_price = np.cumsum(rng.normal(0.0, 1e-3, (bars + 13, symbols)), axis=0)
    move = (log_price[13:] - log_price[1:-12])[bar, symbol] / (1e-3 * np.sqrt(12))
    voters = rng.normal(0.0, 0.6, (len(bar), 3))
    own = skill * move + np.sqrt(1 - skill**2) * rng.normal(size=len(bar))
    p_up = 1 / (1 + np.exp(-(0.55 * voters.mean(axis=1) + 0.35 * own)))
    voter_p = 1 / (1 + np.exp(-voters))
    ensemble = decided(voter_p)
    return World(bar, symbol, p_up, acted(p_up), ensemble, voter_p, acted(voter_p), log_price[:bars], bars)


@pytest.fixture(scope="session")
def world() -> Callable[..., World]:
    """Makes a synthetic world; see `_world`."""
    return _world


@pytest.fixture(scope="session")
def study_world(shared: Path) -> Callable[[str], World]:
    """Golden g11's study (e2e_neutral.npz) by the model's name; observed up to its last event."""
    with np.load(shared / "golden" / "e2e_neutral.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    bar, symbol = arrays["event_bar"].astype(int), arrays["event_symbol"].astype(int)
    voter_p = arrays["voter_p"].astype(float)
    log_price = np.cumsum(arrays["returns"].astype(float), axis=0)

    def build(name: str) -> World:
        p_up, action = arrays[f"shadow_{name}"].astype(float), arrays[f"action_{name}"]
        bars = int(bar.max()) + 1
        return World(bar, symbol, p_up, action, decided(voter_p), voter_p, acted(voter_p), log_price, bars)

    return build


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

"""A simulated market with a secret, and a model that knows it: the shortest honest way to a PROMOTE verdict.

Each symbol's volume tells where its price goes over the next bars, and nothing else does: voters that read returns know
as much as a coin. From a chosen bar on volume tells the contrary, which is what a watch is for.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.artefacts import graph_bytes, make_artefact

from quantum_trader.core.bars import BarSeries
from quantum_trader.core.features import SEQUENCE_LENGTH, SEQUENCE_NAMES
from quantum_trader.market.files import SIMULATED, write_bars
from quantum_trader.market.simulator import simulate

BAR_MS = 300_000
PERSISTENCE = 0.9
LOUDNESS = 0.8
"""Standard deviation of the logarithm of volume that the signal makes."""

SLOPE = 1.3
"""Log-odds of the model for one unit of `volume_20`."""

Array = NDArray[np.float64]


def market(
    bars: int, start_ms: int, turn: int, seed: int = 6, edge: float = 0.28, against: float = 1.5
) -> dict[str, BarSeries]:
    """Bars by symbol.

    Args:
        bars: Of every symbol.
        start_ms: Open of the first.
        turn: Bar from which on volume tells the contrary.
        seed: Another one is another market.
        edge: Share of a bar's standard deviation by which the signal moves the next bar.
        against: The same after the turn, the other way round.
    """
    plain = simulate(bars, seed, start_ms=start_ms, edge=0.0)
    rng = np.random.default_rng([seed, 1])
    return {
        name: _told(series, rng, np.where(np.arange(bars) < turn, edge, -against)) for name, series in plain.items()
    }


def write_market(path: Path, series: dict[str, BarSeries]) -> None:
    """As a file for `quantum feed`."""
    write_bars(path, series, f"{SIMULATED}, volume tells")


def make_knowing(folder: Path, seed: int) -> Path:
    """A PatchTST artefact that reads the last bar's volume against those before it."""
    weights = np.zeros((SEQUENCE_LENGTH, len(SEQUENCE_NAMES)), dtype=np.float32)
    channel = SEQUENCE_NAMES.index("volume_20")
    weights[:, channel] = -SLOPE / (SEQUENCE_LENGTH - 1)
    weights[-1, channel] = SLOPE
    raw = graph_bytes(weights.ravel(), "sequence")
    return make_artefact(folder, "patchtst", seed, lineage="patchtst_volume", version=1, onnx_bytes=raw)


def _told(series: BarSeries, rng: np.random.Generator, edge: Array) -> BarSeries:
    bars = len(series)
    signal = _autoregression(rng.standard_normal(bars))
    move = np.diff(np.log(series.close), prepend=np.log(series.open[0]))
    drift = float(np.std(move)) * edge * np.concatenate([[0.0], signal[:-1]])
    after = np.exp(np.cumsum(drift))
    before = np.concatenate([[1.0], after[:-1]])
    opened, closed = series.open * before, series.close * after
    high = np.maximum(np.maximum(opened, closed), series.high * after)
    low = np.minimum(np.minimum(opened, closed), series.low * after)
    volume = float(np.median(series.volume)) * np.exp(LOUDNESS * signal + 0.1 * rng.standard_normal(bars))
    return replace(series, open=opened, high=high, low=low, close=closed, volume=volume)


def _autoregression(shocks: Array) -> Array:
    """A signal of standard deviation 1 that forgets slowly."""
    out = np.empty(len(shocks))
    now = 0.0
    for i, shock in enumerate(shocks.tolist()):
        now = PERSISTENCE * now + np.sqrt(1 - PERSISTENCE**2) * shock
        out[i] = now
    return out

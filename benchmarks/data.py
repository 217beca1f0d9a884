"""Bars for the benchmarks: simulated ones, and the real file where it lies beside the repository."""

import os
from pathlib import Path

from quantum_trader.core.bars import WINDOW, BarSeries
from quantum_trader.market.simulator import simulate

SEED = 20260101
INTERVAL_MS = 300_000


def simulated(symbols: int, bars: int) -> dict[str, BarSeries]:
    """Bars of symbols that nobody lists."""
    return simulate(bars, SEED, pairs=[f"S{number:03d}/USDT" for number in range(symbols)])


def real_file() -> Path | None:
    """The 5-minute futures bars beside the repository, or None."""
    beside = Path(__file__).resolve().parent.parent.parent / "shared"
    path = Path(os.environ.get("QUANTUM_SHARED", beside)) / "data" / "bars_5m_um.parquet"
    return path if path.is_file() else None


def replay_bars(decisions: int | None) -> tuple[dict[str, BarSeries], str]:
    """Bars for about so many decisions of each of five symbols, the newest of the file; None takes all of it.

    Returns:
        Bars by symbol, and where they come from.
    """
    path = real_file()
    if path is None:
        bars = (decisions or 20_000) + WINDOW - 1
        return simulate(bars, SEED), "SIMULATED bars (no shared folder beside the repository)"
    from quantum_trader.market.files import read_bars

    series = read_bars(path)
    if decisions is not None:
        keep = decisions + WINDOW - 1
        series = {name: bars.slice(max(0, len(bars) - keep), len(bars)) for name, bars in series.items()}
    part = "all" if decisions is None else "the newest"
    return series, f"real 5m bars of {path.name}, {part} {max(map(len, series.values())):,} of each symbol"

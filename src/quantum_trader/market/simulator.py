"""A seeded market: clustered volatility, fat tails, correlated symbols, and one weak regularity that can be learnt.

Not a model of any real market and no basis for a claim about one: it lets the whole machine run where no real bars
are. What it draws, for symbol i and bar t:

- shock z = sqrt(rho) f + sqrt(1 - rho) e, where the common f and the own e are Student t with 5 degrees of freedom,
  scaled to variance 1 (fat tails; correlation rho between symbols);
- log volatility h = a common slow AR(1) plus an own fast AR(1) (stochastic volatility after Taylor, 1986, "Modelling
  Financial Time Series"), times the hour's share of a daily cycle;
- return r = sigma (z + edge m), where m is the exponential mean of the last shocks before t, scaled to variance 1.
  `edge` is the planted regularity: short-term momentum. At 0 the returns are a martingale difference and nothing can
  be learnt; at the default 0.05 the sign of m agrees with the 12-bar return in about 54 % of the bars;
- close = previous close times exp(r); high and low are extremes of a Brownian bridge from open to close (Glasserman,
  2003, "Monte Carlo Methods in Financial Engineering", section 6.4); prices are rounded to the symbol's tick;
- volume is log-normal and rises with volatility and with the bar's own move.

Each symbol draws from its own generator, so a path depends neither on which other symbols are asked for nor on how
many bars follow.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantum_trader.core.bars import BarSeries, FloatArray, interval_ms, venue_symbol
from quantum_trader.core.errors import ConfigError

DEFAULT_PAIRS = ("BTC/USDT", "ETH/USDT", "BNB/USDT", "SOL/USDT", "XRP/USDT")
DEFAULT_START_MS = 1_735_689_600_000
"""2025-01-01T00:00:00Z."""

DEFAULT_EDGE = 0.05

_CORRELATION = 0.55
_DEGREES = 5
_SLOW, _FAST = 0.997, 0.96
_SLOW_SD, _FAST_SD = 0.45, 0.30
"""Persistence per bar and stationary standard deviation of the two parts of log volatility."""

_MOMENTUM = 1.0 - 1.0 / 24.0
_MAX_RETURN = 0.5
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Market:
    """Where a symbol starts: price, decimals of its tick; volatility of the return and base volume of 5 minutes."""

    price: float
    decimals: int
    volatility: float
    volume: float


MARKETS = {
    "BTCUSDT": Market(94_000.0, 1, 0.0011, 400.0),
    "ETHUSDT": Market(3_350.0, 2, 0.0015, 6_000.0),
    "BNBUSDT": Market(700.0, 2, 0.0012, 1_500.0),
    "SOLUSDT": Market(190.0, 2, 0.0018, 45_000.0),
    "XRPUSDT": Market(2.1, 4, 0.0019, 1_600_000.0),
}


def simulate(
    bars: int,
    seed: int,
    pairs: Sequence[str] = DEFAULT_PAIRS,
    timeframe: str = "5m",
    start_ms: int = DEFAULT_START_MS,
    edge: float = DEFAULT_EDGE,
) -> dict[str, BarSeries]:
    """Bars by venue symbol; the same arguments give the same bytes.

    Args:
        bars: Bars of every symbol.
        seed: Not negative.
        pairs: Any pairs or symbols; those without a known start get one from their name.
        timeframe: Length of a bar.
        start_ms: Open of the first bar, on the timeframe's grid.
        edge: Share of a standard deviation by which momentum moves the next return; 0 for none. See the module.

    Raises:
        ConfigError: if an argument is out of its range.
    """
    interval = interval_ms(timeframe)
    symbols = [venue_symbol(pair) for pair in pairs]
    _check(bars, seed, symbols, start_ms, interval, edge)
    common = np.random.default_rng([seed, 0])
    # Separate generators, so that the draws of one quantity do not shift another's when more bars are asked for.
    common_shock, common_step = (_shocks(rng, bars) for rng in common.spawn(2))
    times = start_ms + interval * np.arange(bars, dtype=np.int64)
    series = {}
    draws = {symbol: _Draws(seed, symbol, bars) for symbol in symbols}
    innovations = np.stack([common_step, *(draws[symbol].volatility_step for symbol in symbols)])
    log_volatility = _autoregression(
        innovations, np.array([_SLOW] + [_FAST] * len(symbols)), np.array([_SLOW_SD] + [_FAST_SD] * len(symbols))
    )
    shocks = np.stack(
        [np.sqrt(_CORRELATION) * common_shock + np.sqrt(1 - _CORRELATION) * draws[s].shock for s in symbols]
    )
    momentum = _autoregression(shocks, np.full(len(symbols), _MOMENTUM), np.ones(len(symbols)))
    cycle = _daily_cycle(times)
    for row, symbol in enumerate(symbols):
        level = log_volatility[0] + log_volatility[row + 1] + cycle
        drive = shocks[row] + edge * np.concatenate([[0.0], momentum[row, :-1]])
        series[symbol] = _series(symbol, interval, times, level, drive, draws[symbol])
    return series


def _check(bars: int, seed: int, symbols: list[str], start_ms: int, interval: int, edge: float) -> None:
    if bars < 1:
        raise ConfigError(f"simulator: {bars} bars, expected at least 1")
    if seed < 0:
        raise ConfigError(f"simulator: seed {seed} is negative")
    if not symbols or len(set(symbols)) != len(symbols):
        raise ConfigError("simulator: expected at least one pair, and none twice")
    if start_ms < 0 or start_ms % interval:
        raise ConfigError(f"simulator: start {start_ms} is not on the {interval} ms grid")
    if not abs(edge) <= 1:
        raise ConfigError(f"simulator: edge {edge} is outside -1 to 1")


class _Draws:
    """Everything random of one symbol, each array of shape (n,)."""

    def __init__(self, seed: int, symbol: str, bars: int) -> None:
        name = int.from_bytes(hashlib.sha256(symbol.encode()).digest()[:8], "big")
        own = np.random.default_rng([seed, name]).spawn(5)
        self.shock = _shocks(own[0], bars)
        self.volatility_step = _shocks(own[1], bars)
        self.high = own[2].random(bars)
        self.low = own[3].random(bars)
        self.volume = own[4].standard_normal(bars)


def _shocks(rng: np.random.Generator, bars: int) -> FloatArray:
    return np.asarray(rng.standard_t(_DEGREES, bars) * np.sqrt((_DEGREES - 2) / _DEGREES))


def _autoregression(steps: FloatArray, persistence: FloatArray, deviation: FloatArray) -> FloatArray:
    """AR(1) of every row, shape (k, n), with the given stationary standard deviations, started at 0."""
    scaled = np.ascontiguousarray((steps * (deviation * np.sqrt(1 - persistence**2))[:, None]).T)
    state = np.zeros(len(steps))
    for step in scaled:
        state *= persistence
        state += step
        step[:] = state
    return scaled.T


def _daily_cycle(times: np.ndarray[tuple[int], np.dtype[np.int64]]) -> FloatArray:
    """Log factor of volatility through the day, greatest at 15:00 UTC."""
    return np.asarray(0.3 * np.cos(2 * np.pi * (times % _DAY_MS / _DAY_MS - 15 / 24)))


def _market(symbol: str) -> Market:
    if symbol in MARKETS:
        return MARKETS[symbol]
    share = int.from_bytes(hashlib.sha256(b"price" + symbol.encode()).digest()[:4], "big") / 2**32
    price = float(10 ** (4 * share - 1))
    return Market(price, max(0, 4 - int(np.floor(np.log10(price)))), 0.002, 1e6 / price)


def _series(
    symbol: str,
    interval: int,
    times: np.ndarray[tuple[int], np.dtype[np.int64]],
    level: FloatArray,
    drive: FloatArray,
    draws: _Draws,
) -> BarSeries:
    market = _market(symbol)
    scale = interval / 300_000
    sigma = market.volatility * np.sqrt(scale) * np.exp(level - (_SLOW_SD**2 + _FAST_SD**2))
    moves = np.clip(sigma * drive, -_MAX_RETURN, _MAX_RETURN)
    log_close = np.log(market.price) + np.cumsum(moves)
    log_open = log_close - moves
    high, low = (
        _bridge(log_open, log_close, sigma, uniform, sign) for uniform, sign in ((draws.high, 1), (draws.low, -1))
    )
    tick = 10.0**-market.decimals
    close, high, low = (np.maximum(np.round(np.exp(value), market.decimals), tick) for value in (log_close, high, low))
    open_ = np.concatenate([[np.round(market.price, market.decimals)], close[:-1]])
    high = np.maximum.reduce([high, open_, close])
    low = np.minimum.reduce([low, open_, close])
    noise = 0.35 * draws.volume + 0.25 * np.minimum(np.abs(drive), 6.0)
    volume = np.round(market.volume * scale * np.exp(0.9 * level + noise), 3)
    return BarSeries(symbol, interval, times.copy(), open_, high, low, close, np.maximum(volume, 0.001))


def _bridge(start: FloatArray, end: FloatArray, sigma: FloatArray, uniform: FloatArray, sign: int) -> FloatArray:
    """Maximum (sign 1) or minimum (-1) of a Brownian bridge, by inversion of its distribution."""
    spread = np.sqrt((end - start) ** 2 - 2 * sigma**2 * np.log1p(-uniform))
    return np.asarray((start + end + sign * spread) / 2)

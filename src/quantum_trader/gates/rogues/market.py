"""Markets to try models on: five simulated ones, or windows of prices that are given.

What a simulated market draws, for symbol i and bar t:

- shock = sqrt(c) f + sqrt(1 - c) e, the common f and the own e being Student t with 5 degrees of freedom, scaled to
  variance 1; c = .45, in the common-factor market .9;
- log volatility = a common slow AR(1) plus an own fast AR(1) (stochastic volatility after Taylor, 1986, "Modelling
  Financial Time Series");
- return = volatility (shock + drift), and the drift is
  neutral, common: none, so that nothing can be foreseen;
  bull: a constant .04, with which 12 bars rise in about 55 % of cases;
  crash: none, but over 36 bars somewhere in the middle half of the window -.8 with threefold volatility, which then
  decays over days;
  momentum: .05 times the exponential mean of the last shocks, scaled to variance 1.

What a model can know of the future is planted by looking at it, in the same way on simulated and on real prices
(`Market.insight`): no price is changed for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from quantum_trader.core.labels import HORIZON
from quantum_trader.gates.panel import returns_of
from quantum_trader.gates.volatility import Volatility
from quantum_trader.gates.whole_policy import EvidencePolicy

FloatArray = NDArray[np.float64]

PERSISTENCE: Final = 0.96
"""Of every view from bar to bar: half of it is gone after 17 bars."""

REAL: Final = "real"
"""Name of the market of given prices."""

_VOLATILITY: Final = 0.0014
_DEGREES: Final = 5
_CRASH_BARS: Final = 36
_CRASH_DRIFT: Final = -0.8
_AFTERMATH: Final = 600.0
_MOMENTUM: Final = 0.05
_LEAST: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """Prices, and what models of it have in common.

    Attributes:
        log_price: Shape (bars, symbols), log closes; NaN where a bar is missing.
        z: Shape (bars, symbols), returns in units of their recent volatility; 0 where not known.
        tilt: Mean log-odds of a rise that models trained on such a market state.
        kinship: Share of a view's variance that is the same for all symbols.
    """

    log_price: FloatArray
    z: FloatArray
    tilt: float = 0.0
    kinship: float = 0.18

    @classmethod
    def of(cls, log_price: FloatArray, tilt: float = 0.0, kinship: float = 0.18) -> Self:
        """The market of prices of shape (bars, symbols)."""
        returns = returns_of(log_price, log_price[0])
        z, _ = Volatility(log_price.shape[1], EvidencePolicy()).extend(returns)
        return cls(log_price, z, tilt, kinship)

    @classmethod
    def window(cls, log_price: FloatArray, bars: int, rng: np.random.Generator) -> Self:
        """A window of so many bars somewhere in given prices.

        Raises:
            ValueError: if there are not as many.
        """
        if len(log_price) < bars:
            raise ValueError(f"{len(log_price)} bars of prices, {bars} are needed")
        first = int(rng.integers(0, len(log_price) - bars + 1))
        return cls.of(log_price[first : first + bars])

    @property
    def bars(self) -> int:
        """Bars."""
        return len(self.log_price)

    @property
    def symbols(self) -> int:
        """Symbols."""
        return int(self.log_price.shape[1])

    def insight(self, own: bool = False) -> FloatArray:
        """What a perfect seer sees: the exponential mean of the coming returns, shape (bars, symbols).

        Its variance is 1 where nothing drifts; a crash does not make all else small, as it is cut off at 3.

        Args:
            own: Only of what a symbol does beyond the mean of all.
        """
        z = self.z - self.z.mean(axis=1, keepdims=True) if own else self.z
        ahead = np.zeros_like(z)
        ahead[:-1] = lfilter([1.0], [1.0, -PERSISTENCE], z[:0:-1], axis=0)[::-1]
        scale = np.sqrt(1 - PERSISTENCE**2) / max(float(z.std()), _LEAST)
        return np.asarray(np.clip(scale * ahead, -3.0, 3.0))

    def momentum(self) -> FloatArray:
        """The exponential mean of the past returns, shape (bars, symbols), scaled by what unit shocks would give."""
        past: FloatArray = lfilter([np.sqrt(1 - PERSISTENCE**2)], [1.0, -PERSISTENCE], self.z, axis=0)
        return past

    def coming(self, bars: int = HORIZON, after: int = 0) -> FloatArray:
        """The sum of returns t + after + 1 to t + after + bars of every bar t, shape (bars, symbols), variance 1."""
        total = np.cumsum(np.vstack([np.zeros((1, self.symbols)), self.z, np.zeros((bars + after, self.symbols))]), 0)
        start = np.arange(self.bars) + after + 1
        return _scaled(total[start + bars] - total[start])


def autoregression(rng: np.random.Generator, bars: int, columns: int, persistence: float = PERSISTENCE) -> FloatArray:
    """Gaussian AR(1) columns of variance 1 from the first bar on, shape (bars, columns)."""
    steps = rng.standard_normal((bars, columns))
    steps[1:] *= np.sqrt(1 - persistence**2)
    walk: FloatArray = lfilter([1.0], [1.0, -persistence], steps, axis=0)
    return walk


@dataclass(frozen=True, slots=True)
class _Draws:
    """What every simulated market is made of, each of shape (bars, symbols)."""

    shock: FloatArray
    volatility: FloatArray


def _draws(rng: np.random.Generator, bars: int, symbols: int, correlation: float) -> _Draws:
    scale = np.sqrt((_DEGREES - 2) / _DEGREES)
    common = rng.standard_t(_DEGREES, (bars, 1)) * scale
    own = rng.standard_t(_DEGREES, (bars, symbols)) * scale
    slow, fast = autoregression(rng, bars, 1, 0.99), autoregression(rng, bars, symbols, 0.95)
    volatility = _VOLATILITY * np.exp(0.35 * slow + 0.25 * fast)
    return _Draws(np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own, volatility)


def _neutral(rng: np.random.Generator, bars: int, symbols: int) -> Market:
    draws = _draws(rng, bars, symbols, 0.45)
    return Market.of(np.cumsum(draws.volatility * draws.shock, axis=0))


def _bull(rng: np.random.Generator, bars: int, symbols: int) -> Market:
    draws = _draws(rng, bars, symbols, 0.45)
    return Market.of(np.cumsum(draws.volatility * (draws.shock + 0.04), axis=0), tilt=0.25)


def _crash(rng: np.random.Generator, bars: int, symbols: int) -> Market:
    draws = _draws(rng, bars, symbols, 0.45)
    first = int(rng.integers(bars // 4, 3 * bars // 4))
    since = np.arange(bars) - first
    calm = np.where(since < 0, 0.0, np.exp(-np.maximum(since - _CRASH_BARS, 0) / _AFTERMATH))
    falling = (since >= 0) & (since < _CRASH_BARS)
    volatility = draws.volatility * (1.0 + 2.0 * calm)[:, None]
    return Market.of(np.cumsum(volatility * (draws.shock + np.where(falling, _CRASH_DRIFT, 0.0)[:, None]), axis=0))


def _momentum(rng: np.random.Generator, bars: int, symbols: int) -> Market:
    draws = _draws(rng, bars, symbols, 0.45)
    past = lfilter([np.sqrt(1 - PERSISTENCE**2)], [1.0, -PERSISTENCE], draws.shock, axis=0)
    drift = _MOMENTUM * np.vstack([np.zeros((1, symbols)), past[:-1]])
    return Market.of(np.cumsum(draws.volatility * (draws.shock + drift), axis=0))


def _common(rng: np.random.Generator, bars: int, symbols: int) -> Market:
    draws = _draws(rng, bars, symbols, 0.9)
    return Market.of(np.cumsum(draws.volatility * draws.shock, axis=0), kinship=0.8)


SIMULATED: Final[dict[str, Callable[[np.random.Generator, int, int], Market]]] = {
    "neutral": _neutral,
    "bull": _bull,
    "crash": _crash,
    "momentum": _momentum,
    "common": _common,
}
"""Makers of the simulated markets by name: generator, bars, symbols."""


def _scaled(values: FloatArray) -> FloatArray:
    spread = float(values.std())
    return values / spread if spread > 0 else values

"""TA-Lib on one window: the raw values that features are made of, at the last bar and over the last 128 bars.

Indicators are evaluated on the window alone: an EMA of 200 starts inside the window, in training too.
"""

import inspect
from types import SimpleNamespace

import talib

from quantum_trader.core.bars import FloatArray

RETURN_LAGS = (1, 3, 6, 12, 24, 48, 96, 288)

# TA-Lib's functions without their wrapper, which looks for pandas and polars at every call (a third of the time).
_FUNCTIONS = (
    "ADOSC ADX AROONOSC ATR BBANDS CCI EMA KAMA LINEARREG_SLOPE LN MACD MFI MINUS_DI PLUS_DI ROC ROCP RSI SMA STDDEV "
    "STOCH TRIX ULTOSC WILLR"
)
# LN is the C library's log; numpy's would differ with the processor's vector unit.
ta = SimpleNamespace(**{name: inspect.unwrap(getattr(talib, name)) for name in _FUNCTIONS.split()})

TALIB_VERSION = str(vars(talib)["__ta_version__"], "ascii").split(" ", maxsplit=1)[0]

# fmt: off
TAILS = (
    "open", "high", "low", "close", "volume", "close_before", "volume_mean_20", "rsi_14", "macd_hist", "bb_upper",
    "bb_lower", "ema_50",
)
"""Raw values over the last 128 bars."""

LASTS = (
    *(f"close_{lag}" for lag in RETURN_LAGS if lag > 1),
    "ema_12", "ema_26", "ema_200", "sma_20", "kama_30", "macd", "macd_signal", "adx_14", "plus_di_14", "minus_di_14",
    "aroon_25", "slope_24", "trix_15", "rsi_6", "cci_20", "willr_14", "stoch_k", "stoch_d", "ultosc", "roc_10",
    "atr_14", "bb_middle", "std_24", "std_96", "volume_mean_96", "mfi_14", "adosc",
)
"""Raw values at the last bar."""
# fmt: on


def fill(window: FloatArray, lasts: FloatArray, tails: FloatArray) -> None:
    """Evaluate every indicator on one window.

    Args:
        window: Open, high, low, close, volume, shape (5, 512), each row contiguous.
        lasts: Filled; shape (len(LASTS),).
        tails: Filled; shape (len(TAILS), 128).
    """
    _, high, low, close, volume = window
    macd, macd_signal, macd_hist = ta.MACD(close, 12, 26, 9)
    bb_upper, bb_middle, bb_lower = ta.BBANDS(close, 20, 2.0, 2.0)
    stoch_k, stoch_d = ta.STOCH(high, low, close, 14, 3, 0, 3, 0)
    # ROCP is the simple return; its own warm-up is left out, because one NaN spreads through TA-Lib's running sums.
    moves = ta.ROCP(close, 1)[1:]
    last = (
        ta.EMA(close, 12),
        ta.EMA(close, 26),
        ta.EMA(close, 200),
        ta.SMA(close, 20),
        ta.KAMA(close, 30),
        macd,
        macd_signal,
        ta.ADX(high, low, close, 14),
        ta.PLUS_DI(high, low, close, 14),
        ta.MINUS_DI(high, low, close, 14),
        ta.AROONOSC(high, low, 25),
        ta.LINEARREG_SLOPE(close, 24),
        ta.TRIX(close, 15),
        ta.RSI(close, 6),
        ta.CCI(high, low, close, 20),
        ta.WILLR(high, low, close, 14),
        stoch_k,
        stoch_d,
        ta.ULTOSC(high, low, close, 7, 14, 28),
        ta.ROC(close, 10),
        ta.ATR(high, low, close, 14),
        bb_middle,
        ta.STDDEV(moves, 24),
        ta.STDDEV(moves, 96),
        ta.SMA(volume, 96),
        ta.MFI(high, low, close, volume, 14),
        ta.ADOSC(high, low, close, volume, 3, 10),
    )
    lasts[:] = [close[-1 - lag] for lag in RETURN_LAGS if lag > 1] + [values[-1] for values in last]
    bars = tails.shape[1]
    over_time = (ta.SMA(volume, 20), ta.RSI(close, 14), macd_hist, bb_upper, bb_lower, ta.EMA(close, 50))
    tails[:5] = window[:, -bars:]
    tails[5] = close[-bars - 1 : -1]
    tails[6:] = [values[-bars:] for values in over_time]

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


def fill_tails(window: FloatArray, tails: FloatArray) -> tuple[float, float, float]:
    """Evaluate what the sequence is made of, on one window.

    Args:
        window: Open, high, low, close, volume, shape (5, 512), each row contiguous.
        tails: Filled; shape (len(TAILS), 128).

    Returns:
        What came with it and belongs to the lasts: ``macd``, ``macd_signal`` and ``bb_middle``, for `fill_lasts`.
    """
    close, volume = window[3], window[4]
    macd, macd_signal, macd_hist = ta.MACD(close, 12, 26, 9)
    bb_upper, bb_middle, bb_lower = ta.BBANDS(close, 20, 2.0, 2.0)
    bars = tails.shape[1]
    over_time = (ta.SMA(volume, 20), ta.RSI(close, 14), macd_hist, bb_upper, bb_lower, ta.EMA(close, 50))
    tails[:5] = window[:, -bars:]
    tails[5] = close[-bars - 1 : -1]
    tails[6:] = [values[-bars:] for values in over_time]
    return macd[-1], macd_signal[-1], bb_middle[-1]


def fill_lasts(window: FloatArray, given: tuple[float, float, float], lasts: FloatArray) -> None:
    """Evaluate what only the row is made of, on one window.

    Args:
        window: Shape (5, 512), each row contiguous.
        given: What `fill_tails` returned for this window.
        lasts: Filled; shape (len(LASTS),).
    """
    _, high, low, close, volume = window
    macd, macd_signal, bb_middle = given
    stoch_k, stoch_d = ta.STOCH(high, low, close, 14, 3, 0, 3, 0)
    # ROCP is the simple return; its own warm-up is left out, because one NaN spreads through TA-Lib's running sums.
    moves = ta.ROCP(close, 1)[1:]
    lasts[:] = (
        *(close[-1 - lag] for lag in RETURN_LAGS if lag > 1),
        ta.EMA(close, 12)[-1],
        ta.EMA(close, 26)[-1],
        ta.EMA(close, 200)[-1],
        ta.SMA(close, 20)[-1],
        ta.KAMA(close, 30)[-1],
        macd,
        macd_signal,
        ta.ADX(high, low, close, 14)[-1],
        ta.PLUS_DI(high, low, close, 14)[-1],
        ta.MINUS_DI(high, low, close, 14)[-1],
        ta.AROONOSC(high, low, 25)[-1],
        ta.LINEARREG_SLOPE(close, 24)[-1],
        ta.TRIX(close, 15)[-1],
        ta.RSI(close, 6)[-1],
        ta.CCI(high, low, close, 20)[-1],
        ta.WILLR(high, low, close, 14)[-1],
        stoch_k[-1],
        stoch_d[-1],
        ta.ULTOSC(high, low, close, 7, 14, 28)[-1],
        ta.ROC(close, 10)[-1],
        ta.ATR(high, low, close, 14)[-1],
        bb_middle,
        ta.STDDEV(moves, 24)[-1],
        ta.STDDEV(moves, 96)[-1],
        ta.SMA(volume, 96)[-1],
        ta.MFI(high, low, close, volume, 14)[-1],
        ta.ADOSC(high, low, close, volume, 3, 10)[-1],
    )

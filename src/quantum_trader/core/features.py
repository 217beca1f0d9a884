"""Features: one pure function of the last 512 closed bars, called by training and by service alike.

The tabular row (for the trees) and the sequence (for the networks) come from the same window arrays. Every feature is
free of the price's and the volume's scale, none is cumulative over history (no OBV, no VPT), and all are float32.
Indicators are TA-Lib's, evaluated on the window alone: an EMA of 200 starts inside the window, in training too.
"""

import hashlib
import inspect
import json
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import talib
from numpy.typing import NDArray

from quantum_trader.core.bars import FIELDS, WINDOW, FloatArray
from quantum_trader.core.errors import FeatureError

VERSION = 1
SEQUENCE_LENGTH = 128
RETURN_LAGS = (1, 3, 6, 12, 24, 48, 96, 288)

SEQUENCE_NAMES = ("ret_1", "range", "body", "volume_20", "rsi_14", "macd_hist", "bb_position", "ema_50")

_FLOOR = 1e-12
"""Denominators at or below this count as zero, and the quotient as zero: a flat market has no spread to divide by."""

Float32Array = NDArray[np.float32]

_TAIL = slice(-SEQUENCE_LENGTH, None)

# TA-Lib's functions without their wrapper, which looks for pandas and polars at every call (a third of the time).
_FUNCTIONS = (
    "ADOSC ADX AROONOSC ATR BBANDS CCI EMA KAMA LINEARREG_SLOPE LN MACD MFI MINUS_DI PLUS_DI ROC ROCP RSI SMA STDDEV "
    "STOCH TRIX ULTOSC WILLR"
)
ta = SimpleNamespace(**{name: inspect.unwrap(getattr(talib, name)) for name in _FUNCTIONS.split()})


@dataclass(frozen=True)
class FeatureSchema:
    """Names, order, window and versions of the features; two schemas are equal where their digests are."""

    names: tuple[str, ...]
    sequence_names: tuple[str, ...]
    sequence_length: int
    window: int
    version: int
    talib: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the schema as sorted, compact JSON: 64 hexadecimal characters."""
        fields = {
            "names": self.names,
            "sequence_names": self.sequence_names,
            "sequence_length": self.sequence_length,
            "window": self.window,
            "version": self.version,
            "talib": self.talib,
        }
        return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Features:
    """What models see of one symbol at one bar.

    Attributes:
        row: Shape (F,), in the order of `SCHEMA.names`.
        sequence: Shape (128, 8), oldest bar first, channels in the order of `SCHEMA.sequence_names`.
        atr_fraction: Average true range over 14 bars as a share of the last close.
    """

    row: Float32Array
    sequence: Float32Array
    atr_fraction: float

    @property
    def input_hash(self) -> str:
        """First 16 hexadecimal characters of the SHA-256 over row and sequence bytes."""
        digest = hashlib.sha256(self.row.tobytes())
        digest.update(self.sequence.tobytes())
        return digest.hexdigest()[:16]


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Quotient that is 0 where the denominator is about zero; NaN stays NaN."""
    tiny = np.abs(denominator) <= _FLOOR
    if not tiny.any():
        return numerator / denominator
    return np.where(tiny, numerator * 0.0, numerator / np.where(tiny, 1.0, denominator))


def _columns(window: FloatArray) -> dict[str, FloatArray]:
    """Every feature over the last 128 bars of the window, each of shape (128,), in schema order.

    Indicators run over the whole window; only what follows them is cut to the bars that are used.
    """
    open_, high, low, close, volume = window
    columns: dict[str, FloatArray] = {}
    columns |= _returns(close)
    columns |= _candles(open_[_TAIL], high[_TAIL], low[_TAIL], close[_TAIL])
    columns |= _trend(high, low, close)
    columns |= _momentum(high, low, close)
    columns |= _volatility(high, low, close)
    columns |= _volume(high, low, close, volume)
    return columns


def _returns(close: FloatArray) -> dict[str, FloatArray]:
    # TA-Lib's LN is the C library's log, the same on every processor; numpy's differs with the vector unit in use.
    # The log of the quotient, not a difference of logs: it is free of the price's scale to the last bit.
    n, last = len(close), close[_TAIL]
    return {f"ret_{lag}": ta.LN(last / close[n - SEQUENCE_LENGTH - lag : n - lag]) for lag in RETURN_LAGS}


def _candles(open_: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray) -> dict[str, FloatArray]:
    return {
        "range": (high - low) / close,
        "body": (close - open_) / close,
        "upper_wick": (high - np.maximum(open_, close)) / close,
        "lower_wick": (np.minimum(open_, close) - low) / close,
    }


def _trend(high: FloatArray, low: FloatArray, close: FloatArray) -> dict[str, FloatArray]:
    last = close[_TAIL]
    line, signal, hist = ta.MACD(close, 12, 26, 9)
    return {
        **{f"ema_{period}": last / ta.EMA(close, period)[_TAIL] - 1.0 for period in (12, 26, 50, 200)},
        "sma_20": last / ta.SMA(close, 20)[_TAIL] - 1.0,
        "kama_30": last / ta.KAMA(close, 30)[_TAIL] - 1.0,
        "macd": line[_TAIL] / last,
        "macd_signal": signal[_TAIL] / last,
        "macd_hist": hist[_TAIL] / last,
        "adx_14": ta.ADX(high, low, close, 14)[_TAIL] / 100.0,
        "plus_di_14": ta.PLUS_DI(high, low, close, 14)[_TAIL] / 100.0,
        "minus_di_14": ta.MINUS_DI(high, low, close, 14)[_TAIL] / 100.0,
        "aroon_25": ta.AROONOSC(high, low, 25)[_TAIL] / 100.0,
        "slope_24": ta.LINEARREG_SLOPE(close, 24)[_TAIL] / last,
        "trix_15": ta.TRIX(close, 15)[_TAIL],
    }


def _momentum(high: FloatArray, low: FloatArray, close: FloatArray) -> dict[str, FloatArray]:
    slow_k, slow_d = ta.STOCH(high, low, close, 14, 3, 0, 3, 0)
    return {
        "rsi_6": ta.RSI(close, 6)[_TAIL] / 100.0,
        "rsi_14": ta.RSI(close, 14)[_TAIL] / 100.0,
        "cci_20": ta.CCI(high, low, close, 20)[_TAIL] / 100.0,
        "willr_14": ta.WILLR(high, low, close, 14)[_TAIL] / 100.0,
        "stoch_k": slow_k[_TAIL] / 100.0,
        "stoch_d": slow_d[_TAIL] / 100.0,
        "ultosc": ta.ULTOSC(high, low, close, 7, 14, 28)[_TAIL] / 100.0,
        "roc_10": ta.ROC(close, 10)[_TAIL] / 100.0,
    }


def _volatility(high: FloatArray, low: FloatArray, close: FloatArray) -> dict[str, FloatArray]:
    last = close[_TAIL]
    upper, middle, lower = (band[_TAIL] for band in ta.BBANDS(close, 20, 2.0, 2.0))
    # ROCP is the simple return; its own warm-up is left out, because one NaN spreads through TA-Lib's running sums.
    moves = ta.ROCP(close, 1)[1:]
    return {
        "atr_14": ta.ATR(high, low, close, 14)[_TAIL] / last,
        "bb_width": (upper - lower) / middle,
        "bb_position": _ratio(last - lower, upper - lower),
        "std_24": ta.STDDEV(moves, 24)[_TAIL],
        "std_96": ta.STDDEV(moves, 96)[_TAIL],
    }


def _volume(high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray) -> dict[str, FloatArray]:
    mean_20, mean_96 = ta.SMA(volume, 20)[_TAIL], ta.SMA(volume, 96)[_TAIL]
    # Relative to its own mean and through log(1 + x), so that a burst of hundredfold volume stays in range.
    return {
        "volume_20": ta.LN(1.0 + _ratio(volume[_TAIL], mean_20)),
        "volume_96": ta.LN(1.0 + _ratio(volume[_TAIL], mean_96)),
        "mfi_14": ta.MFI(high, low, close, volume, 14)[_TAIL] / 100.0,
        "adosc": _ratio(ta.ADOSC(high, low, close, volume, 3, 10)[_TAIL], mean_20),
    }


def _schema() -> FeatureSchema:
    names = tuple(_columns(np.ones((5, WINDOW))))
    version = str(vars(talib)["__ta_version__"], "ascii").split(" ", maxsplit=1)[0]
    return FeatureSchema(names, SEQUENCE_NAMES, SEQUENCE_LENGTH, WINDOW, VERSION, version)


SCHEMA = _schema()


def compute(window: FloatArray) -> Features:
    """Features of the last bar of a window.

    Args:
        window: Open, high, low, close, volume of 512 closed bars without a gap, shape (5, 512), oldest first.

    Raises:
        FeatureError: if the shape differs or any value or feature is not finite; the first such one is named.
    """
    if window.shape != (5, WINDOW):
        raise FeatureError(f"window of shape {window.shape}: features need (5, {WINDOW})")
    whole = np.isfinite(window)
    # Looked for here, because TA-Lib skips leading NaNs: such a window would give finite numbers of a shorter one.
    if not whole.all():
        raise FeatureError(f"window: {FIELDS[int(whole.all(axis=1).argmin())]} is not finite")
    columns = _columns(np.ascontiguousarray(window))
    row = np.array([column[-1] for column in columns.values()], dtype=np.float32)
    sequence = np.empty((SEQUENCE_LENGTH, len(SEQUENCE_NAMES)), dtype=np.float32)
    for channel, name in enumerate(SEQUENCE_NAMES):
        sequence[:, channel] = columns[name]
    if not (np.isfinite(row).all() and np.isfinite(sequence).all()):
        finite = np.concatenate([np.isfinite(row), np.isfinite(sequence).all(axis=0)])
        name = (SCHEMA.names + SEQUENCE_NAMES)[int(finite.argmin())]
        raise FeatureError(f"feature {name} is not finite")
    return Features(row, sequence, float(columns["atr_14"][-1]))

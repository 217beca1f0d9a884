"""Features: one pure function of the last 512 closed bars, called by training and by service alike.

The tabular row (for the trees) and the sequence (for the networks) come from the same window arrays. Every feature is
free of the price's and the volume's scale, none is cumulative over history (no OBV, no VPT), and all are float32.
A window's features do not depend on the windows that are computed beside it: formulas work value by value.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.bars import FIELDS, WINDOW, FloatArray
from quantum_trader.core.errors import FeatureError
from quantum_trader.core.indicators import LASTS, RETURN_LAGS, TAILS, TALIB_VERSION, fill_lasts, fill_tails, ta

VERSION = 1
SEQUENCE_LENGTH = 128

SEQUENCE_NAMES = ("ret_1", "range", "body", "volume_20", "rsi_14", "macd_hist", "bb_position", "ema_50")

_FLOOR = 1e-12
"""Denominators at or below this count as zero, and the quotient as zero: a flat market has no spread to divide by."""

Float32Array = NDArray[np.float32]
Raw = dict[str, FloatArray]


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


@dataclass(frozen=True, slots=True)
class FeatureArrays:
    """Features of n windows.

    Attributes:
        rows: Shape (n, F), in the order of `SCHEMA.names`.
        sequences: Shape (n, 128, 8), oldest bar first, channels in the order of `SCHEMA.sequence_names`.
        atr_fractions: Shape (n,), average true range over 14 bars as a share of the last close.
        problems: By window, what is not finite; no model may see such a window, and all its values are NaN.
    """

    rows: Float32Array
    sequences: Float32Array
    atr_fractions: FloatArray
    problems: dict[int, str]

    def __iter__(self) -> Iterator[Features]:
        parts = zip(self.rows, self.sequences, self.atr_fractions.tolist(), strict=True)
        return (Features(row, sequence, atr) for row, sequence, atr in parts)


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Quotient that is 0 where the denominator is about zero; NaN stays NaN."""
    tiny = np.abs(denominator) <= _FLOOR
    if not tiny.any():
        return numerator / denominator
    return np.where(tiny, numerator * 0.0, numerator / np.where(tiny, 1.0, denominator))


def _log(values: FloatArray) -> FloatArray:
    """Natural logarithm, value by value, any shape."""
    logs: FloatArray = ta.LN(values.ravel())
    return logs.reshape(values.shape)


def _burst(volume: FloatArray, mean: FloatArray) -> FloatArray:
    """Volume relative to its own mean, through log(1 + x): a burst of hundredfold volume stays in range."""
    return _log(1.0 + _ratio(volume, mean))


def _channels(raw: Raw) -> Raw:
    """The sequence's channels over the last 128 bars, each of shape (n, 128)."""
    close = raw["close"]
    return {
        "ret_1": _log(close / raw["close_before"]),
        "range": (raw["high"] - raw["low"]) / close,
        "body": (close - raw["open"]) / close,
        "volume_20": _burst(raw["volume"], raw["volume_mean_20"]),
        "rsi_14": raw["rsi_14"] / 100.0,
        "macd_hist": raw["macd_hist"] / close,
        "bb_position": _ratio(close - raw["bb_lower"], raw["bb_upper"] - raw["bb_lower"]),
        "ema_50": close / raw["ema_50"] - 1.0,
    }


def _row(raw: Raw) -> Raw:
    """The row's features at the last bar, each of shape (n,), in schema order; `raw` holds the channels' too."""
    return _returns(raw) | _candles(raw) | _trend(raw) | _momentum(raw) | _volatility(raw) | _volume(raw)


def _returns(raw: Raw) -> Raw:
    # The log of the quotient, not a difference of logs: it is free of the price's scale to the last bit.
    longer = {f"ret_{lag}": _log(raw["close"] / raw[f"close_{lag}"]) for lag in RETURN_LAGS if lag > 1}
    return {"ret_1": raw["channel_ret_1"], **longer}


def _candles(raw: Raw) -> Raw:
    open_, high, low, close = raw["open"], raw["high"], raw["low"], raw["close"]
    return {
        "range": raw["channel_range"],
        "body": raw["channel_body"],
        "upper_wick": (high - np.maximum(open_, close)) / close,
        "lower_wick": (np.minimum(open_, close) - low) / close,
    }


def _trend(raw: Raw) -> Raw:
    close = raw["close"]
    return {
        "ema_12": close / raw["ema_12"] - 1.0,
        "ema_26": close / raw["ema_26"] - 1.0,
        "ema_50": raw["channel_ema_50"],
        "ema_200": close / raw["ema_200"] - 1.0,
        "sma_20": close / raw["sma_20"] - 1.0,
        "kama_30": close / raw["kama_30"] - 1.0,
        "macd": raw["macd"] / close,
        "macd_signal": raw["macd_signal"] / close,
        "macd_hist": raw["channel_macd_hist"],
        "adx_14": raw["adx_14"] / 100.0,
        "plus_di_14": raw["plus_di_14"] / 100.0,
        "minus_di_14": raw["minus_di_14"] / 100.0,
        "aroon_25": raw["aroon_25"] / 100.0,
        "slope_24": raw["slope_24"] / close,
        "trix_15": raw["trix_15"],
    }


def _momentum(raw: Raw) -> Raw:
    return {
        "rsi_6": raw["rsi_6"] / 100.0,
        "rsi_14": raw["channel_rsi_14"],
        "cci_20": raw["cci_20"] / 100.0,
        "willr_14": raw["willr_14"] / 100.0,
        "stoch_k": raw["stoch_k"] / 100.0,
        "stoch_d": raw["stoch_d"] / 100.0,
        "ultosc": raw["ultosc"] / 100.0,
        "roc_10": raw["roc_10"] / 100.0,
    }


def _volatility(raw: Raw) -> Raw:
    return {
        "atr_14": raw["atr_14"] / raw["close"],
        "bb_width": (raw["bb_upper"] - raw["bb_lower"]) / raw["bb_middle"],
        "bb_position": raw["channel_bb_position"],
        "std_24": raw["std_24"],
        "std_96": raw["std_96"],
    }


def _volume(raw: Raw) -> Raw:
    return {
        "volume_20": raw["channel_volume_20"],
        "volume_96": _burst(raw["volume"], raw["volume_mean_96"]),
        "mfi_14": raw["mfi_14"] / 100.0,
        "adosc": _ratio(raw["adosc"], raw["volume_mean_20"]),
    }


_FLAT = np.ones((5, WINDOW))


def _window_problem(window: FloatArray) -> str | None:
    if window.shape != (5, WINDOW):
        return f"window of shape {window.shape}: features need (5, {WINDOW})"
    whole = np.isfinite(window)
    # Looked for here, because TA-Lib skips leading NaNs: such a window would give finite numbers of a shorter one.
    return None if whole.all() else f"window: {FIELDS[int(whole.all(axis=1).argmin())]} is not finite"


class Computation:
    """Features of the last bars of n windows, in two steps: the sequences are ready long before the rows.

    Args:
        windows: Each open, high, low, close, volume of 512 closed bars without a gap, shape (5, 512), oldest first.

    Attributes:
        sequences: Shape (n, 128, 8); NaN where a window or its sequence is not finite. Never changed afterwards.
    """

    def __init__(self, windows: Sequence[FloatArray]) -> None:
        self._problems = {i: problem for i, window in enumerate(windows) if (problem := _window_problem(window))}
        # A broken window is replaced by a flat one: no indicator meets it, and its values are erased below.
        usable = (_FLAT if i in self._problems else window for i, window in enumerate(windows))
        self._windows = [np.ascontiguousarray(window) for window in usable]
        self._tails = np.empty((len(TAILS), len(windows), SEQUENCE_LENGTH))
        # What overflows float32 is infinite, and refused as that.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            self._beside = [fill_tails(window, self._tails[:, i]) for i, window in enumerate(self._windows)]
            self._channels = _channels(dict(zip(TAILS, self._tails, strict=True)))
            named = [self._channels[name] for name in SEQUENCE_NAMES]
            self.sequences: Float32Array = np.stack(named, axis=2).astype(np.float32)
        self._finite: NDArray[np.bool_] = np.all(np.isfinite(self.sequences), axis=1)
        self.sequences[[*self._problems, *np.flatnonzero(~self._finite.all(axis=1)).tolist()]] = np.nan

    def finish(self) -> FeatureArrays:
        """Evaluate the rows as well; a window that gives no finite features is named among the problems."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            row = self.row()
            rows = np.stack(list(row.values()), axis=1).astype(np.float32)
        finite = np.concatenate([np.isfinite(rows), self._finite], axis=1)
        problems = {**self._problems}
        for i in np.flatnonzero(~finite.all(axis=1)).tolist():
            problems[i] = f"feature {(SCHEMA.names + SEQUENCE_NAMES)[int(finite[i].argmin())]} is not finite"
        erased = list(problems)
        rows[erased] = np.nan
        sequences = self.sequences
        if not np.isnan(sequences[erased]).all():
            # Somebody may look at the first ones still.
            sequences = sequences.copy()
            sequences[erased] = np.nan
        return FeatureArrays(rows, sequences, row["atr_14"], problems)

    def row(self) -> Raw:
        """The row's features, each of shape (n,), in float64 and in schema order."""
        lasts = np.empty((len(LASTS), len(self._windows)))
        for i, window in enumerate(self._windows):
            fill_lasts(window, self._beside[i], lasts[:, i])
        raw = {name: np.ascontiguousarray(tail[:, -1]) for name, tail in zip(TAILS, self._tails, strict=True)}
        raw |= dict(zip(LASTS, lasts, strict=True))
        raw |= {f"channel_{name}": values[:, -1] for name, values in self._channels.items()}
        return _row(raw)


def _schema() -> FeatureSchema:
    names = tuple(Computation([_FLAT]).row())
    return FeatureSchema(names, SEQUENCE_NAMES, SEQUENCE_LENGTH, WINDOW, VERSION, TALIB_VERSION)


SCHEMA = _schema()


def compute_batch(windows: Sequence[FloatArray]) -> FeatureArrays:
    """Features of the last bars of n windows; a window that gives no finite features is named among the problems.

    Args:
        windows: Each open, high, low, close, volume of 512 closed bars without a gap, shape (5, 512), oldest first.
    """
    return Computation(windows).finish()


def compute(window: FloatArray) -> Features:
    """Features of the last bar of one window, shape (5, 512).

    Raises:
        FeatureError: if the shape differs or any value or feature is not finite; the first such one is named.
    """
    arrays = compute_batch([window])
    if arrays.problems:
        raise FeatureError(arrays.problems[0])
    return next(iter(arrays))

"""Features as a usual bot computes them: pandas over the last 200 bars of one symbol, indicator by indicator.

The same kinds and the same number of features as `quantum_trader.core.features`, written as the common indicator
recipes are. Vectorised wherever pandas offers it; `rolling.apply` only where it does not (CCI's mean deviation,
Aroon's position of the extreme), and there on raw arrays.
"""

import numpy as np
import pandas as pd

BARS = 200
SEQUENCE = ["ret_1", "range", "body", "volume_20", "rsi_14", "macd_hist", "bb_position", "ema_50"]
SEQUENCE_LENGTH = 128

_LAGS = {1: 1, 3: 3, 6: 6, 12: 12, 24: 24, 48: 48, 96: 96, 288: 144}
"""By name: 200 bars do not reach back 288, so that one looks at half of it."""

_TIME = pd.Series(np.arange(BARS, dtype=np.float64))


def usual_features(bars: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The last row as a frame of F columns, and the sequence (128, 8) as float32.

    Args:
        bars: Columns open, high, low, close, volume; the last 200 rows are used.
    """
    frame = bars.tail(BARS).reset_index(drop=True)
    true_range = _true_range(frame)
    columns = {**_returns(frame), **_trend(frame, true_range), **_momentum(frame, true_range)}
    columns |= {**_volatility(frame, true_range), **_volume(frame)}
    features = pd.DataFrame(columns).replace([np.inf, -np.inf], np.nan).ffill().fillna(0.0)
    sequence = features[SEQUENCE].tail(SEQUENCE_LENGTH).to_numpy(dtype=np.float32, copy=True)
    return features.iloc[[-1]], sequence


def _true_range(frame: pd.DataFrame) -> pd.Series:
    before = frame["close"].shift(1)
    spans = [frame["high"] - frame["low"], (frame["high"] - before).abs(), (frame["low"] - before).abs()]
    return pd.concat(spans, axis=1).max(axis=1)


def _wilder(series: pd.Series, period: int) -> pd.Series:
    return series.ewm(alpha=1.0 / period, adjust=False).mean()


def _ema(series: pd.Series, period: int) -> pd.Series:
    return series.ewm(span=period, adjust=False).mean()


def _returns(frame: pd.DataFrame) -> dict[str, pd.Series]:
    open_, high, low, close = (frame[name] for name in ("open", "high", "low", "close"))
    body = frame[["open", "close"]]
    return {
        **{f"ret_{name}": np.log(close / close.shift(lag)) for name, lag in _LAGS.items()},
        "range": (high - low) / close,
        "body": (close - open_) / close,
        "upper_wick": (high - body.max(axis=1)) / close,
        "lower_wick": (body.min(axis=1) - low) / close,
    }


def _trend(frame: pd.DataFrame, true_range: pd.Series) -> dict[str, pd.Series]:
    high, low, close = frame["high"], frame["low"], frame["close"]
    macd = _ema(close, 12) - _ema(close, 26)
    signal = _ema(macd, 9)
    up, down = high.diff(), -low.diff()
    atr = _wilder(true_range, 14)
    plus = 100 * _wilder(up.where((up > down) & (up > 0), 0.0), 14) / atr
    minus = 100 * _wilder(down.where((down > up) & (down > 0), 0.0), 14) / atr
    triple = _ema(_ema(_ema(close, 15), 15), 15)
    since_high = high.rolling(26).apply(np.argmax, raw=True)
    since_low = low.rolling(26).apply(np.argmin, raw=True)
    return {
        **{f"ema_{period}": close / _ema(close, period) - 1.0 for period in (12, 26, 50, 200)},
        "sma_20": close / close.rolling(20).mean() - 1.0,
        "kama_30": close / _kama(close, 30) - 1.0,
        "macd": macd / close,
        "macd_signal": signal / close,
        "macd_hist": (macd - signal) / close,
        "adx_14": _wilder(100 * (plus - minus).abs() / (plus + minus), 14) / 100,
        "plus_di_14": plus / 100,
        "minus_di_14": minus / 100,
        "aroon_25": (since_high - since_low) / 25,
        "slope_24": close.rolling(24).cov(_TIME) / _TIME.rolling(24).var() / close,
        "trix_15": triple.pct_change() * 100,
    }


def _kama(close: pd.Series, period: int) -> pd.Series:
    efficiency = (close - close.shift(period)).abs() / close.diff().abs().rolling(period).sum()
    constants = ((efficiency * (2 / 3 - 2 / 31) + 2 / 31) ** 2).tolist()
    values = close.tolist()
    out = [np.nan] * len(values)
    last = values[period - 1]
    for i in range(period, len(values)):
        last += constants[i] * (values[i] - last)
        out[i] = last
    return pd.Series(out)


def _momentum(frame: pd.DataFrame, true_range: pd.Series) -> dict[str, pd.Series]:
    high, low, close = frame["high"], frame["low"], frame["close"]
    typical = (high + low + close) / 3
    deviation = typical.rolling(20).apply(_mean_deviation, raw=True)
    top, bottom = high.rolling(14).max(), low.rolling(14).min()
    stoch_k = (100 * (close - bottom) / (top - bottom)).rolling(3).mean()
    pressure = close - pd.concat([low, close.shift(1)], axis=1).min(axis=1)
    averages = [pressure.rolling(n).sum() / true_range.rolling(n).sum() for n in (7, 14, 28)]
    return {
        "rsi_6": _rsi(close, 6),
        "rsi_14": _rsi(close, 14),
        "cci_20": (typical - typical.rolling(20).mean()) / (0.015 * deviation) / 100,
        "willr_14": -(top - close) / (top - bottom),
        "stoch_k": stoch_k / 100,
        "stoch_d": stoch_k.rolling(3).mean() / 100,
        "ultosc": (4 * averages[0] + 2 * averages[1] + averages[2]) / 7,
        "roc_10": close.pct_change(10),
    }


def _mean_deviation(window: np.ndarray) -> float:
    return float(np.abs(window - window.mean()).mean())


def _rsi(close: pd.Series, period: int) -> pd.Series:
    change = close.diff()
    gain, loss = _wilder(change.clip(lower=0.0), period), _wilder(-change.clip(upper=0.0), period)
    return 1.0 - 1.0 / (1.0 + gain / loss)


def _volatility(frame: pd.DataFrame, true_range: pd.Series) -> dict[str, pd.Series]:
    close = frame["close"]
    middle, spread = close.rolling(20).mean(), close.rolling(20).std()
    moves = close.pct_change()
    return {
        "atr_14": _wilder(true_range, 14) / close,
        "bb_width": 4 * spread / middle,
        "bb_position": (close - middle + 2 * spread) / (4 * spread),
        "std_24": moves.rolling(24).std(),
        "std_96": moves.rolling(96).std(),
    }


def _volume(frame: pd.DataFrame) -> dict[str, pd.Series]:
    high, low, close, volume = frame["high"], frame["low"], frame["close"], frame["volume"]
    mean_20 = volume.rolling(20).mean()
    typical = (high + low + close) / 3
    flow, rises = typical * volume, typical.diff() > 0
    gained = flow.where(rises, 0.0).rolling(14).sum()
    accumulated = (volume * ((close - low) - (high - close)) / (high - low)).fillna(0.0).cumsum()
    return {
        "volume_20": np.log1p(volume / mean_20),
        "volume_96": np.log1p(volume / volume.rolling(96).mean()),
        "mfi_14": gained / flow.rolling(14).sum(),
        "adosc": (_ema(accumulated, 3) - _ema(accumulated, 10)) / mean_20,
    }

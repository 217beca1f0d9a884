import dataclasses

import numpy as np

from quantum_trader.core.bars import BarSeries
from quantum_trader.market.files import read_bars
from quantum_trader.market.quality import Defect, examine
from quantum_trader.market.simulator import DEFAULT_START_MS, simulate

STEP = 300_000


def changed(series: BarSeries, **columns: dict[int, float]) -> BarSeries:
    copies = {}
    for name, values in columns.items():
        copies[name] = getattr(series, name).copy()
        for index, value in values.items():
            copies[name][index] = value
    return dataclasses.replace(series, **copies)


def test_a_sound_series_has_no_defects():
    series = simulate(100, 1, ["BTC/USDT"])["BTCUSDT"]
    quality = examine(series)
    assert (quality.bars, quality.missing, quality.zero_volume, quality.defects) == (100, 0, 0, [])
    assert quality.largest_move == np.abs(np.diff(series.close) / series.close[:-1]).max()


def test_defects_are_counted_by_rule_with_their_first_bar():
    series = simulate(100, 1, ["BTC/USDT"])["BTCUSDT"]
    broken = changed(series, close={10: np.nan}, volume={20: -1.0, 30: 0.0}, high={40: 1.0, 41: 1.0})
    defects = examine(broken).defects
    at = {10: "a value is not finite", 20: "volume is negative", 40: "high < max(open, close)"}
    assert defects == [
        Defect("BTCUSDT", rule, 2 if bar == 40 else 1, DEFAULT_START_MS + bar * STEP) for bar, rule in at.items()
    ]
    assert examine(broken).zero_volume == 1


def test_order_is_examined_too():
    series = simulate(10, 1, ["BTC/USDT"])["BTCUSDT"]
    times = series.ts_open.copy()
    times[5], times[8] = times[4], times[1]
    quality = examine(dataclasses.replace(series, ts_open=times))
    assert [(defect.rule, defect.count) for defect in quality.defects] == [("duplicate", 1), ("out of order", 1)]
    assert quality.gaps == []


def test_the_known_halt_is_found(shared):
    series = read_bars(shared / "data" / "bars_5m_spot_2023.parquet", ["BTC/USDT"])["BTCUSDT"]
    quality = examine(series)
    assert (quality.zero_volume, quality.missing, quality.defects) == (14, 16, [])

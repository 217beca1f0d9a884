import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.core.bars import interval_ms, timeframe_name
from quantum_trader.core.errors import ConfigError
from quantum_trader.market.simulator import DEFAULT_START_MS, simulate
from quantum_trader.market.timerange import TimeRange, parse_timerange

JANUARY, FEBRUARY = 1_767_225_600_000, 1_769_904_000_000


@pytest.mark.parametrize(
    ("text", "start", "stop"),
    [
        ("20260101-20260201", JANUARY, FEBRUARY),
        ("20260101-", JANUARY, None),
        ("-20260201", None, FEBRUARY),
        ("1767225600-1769904000", JANUARY, FEBRUARY),
        ("1767225600000-", JANUARY, None),
        ("20260101-1769904000", JANUARY, FEBRUARY),
    ],
)
def test_freqtrades_forms(text, start, stop):
    assert parse_timerange(text) == TimeRange(start, stop)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected START-STOP"),
        ("-", "expected START-STOP"),
        ("20260101", "expected START-STOP"),
        ("2026-01-01", "expected START-STOP"),
        ("20260101-20260201-", "expected START-STOP"),
        ("\u0662\u0660260101-", "expected START-STOP"),
        ("20260230-", "20260230 is no day"),
        ("20260201-20260101", "ends before it starts"),
        ("20260201-20260201", "ends before it starts"),
    ],
)
def test_other_forms_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_timerange(text)


@given(st.integers(0, 60), st.integers(0, 60))
def test_a_cut_holds_what_opens_in_the_range(start, stop):
    series = simulate(50, 1, ["BTC/USDT"])["BTCUSDT"]
    at = [DEFAULT_START_MS + 300_000 * bar for bar in (start, stop)]
    cut = TimeRange(*at).cut(series)
    assert cut.ts_open.tolist() == [time for time in series.ts_open.tolist() if at[0] <= time < at[1]]
    assert np.array_equal(TimeRange().cut(series).ts_open, series.ts_open)


@given(st.integers(1, 50), st.sampled_from("mhd"))
def test_names_of_timeframes_are_read_back(number, unit):
    interval = interval_ms(f"{number}{unit}")
    assert interval_ms(timeframe_name(interval)) == interval


def test_seconds_have_no_name():
    with pytest.raises(ConfigError, match="whole minutes"):
        timeframe_name(90_000)

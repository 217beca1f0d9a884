from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.core import errors
from quantum_trader.core.errors import BarError, QuantumError, format_ms

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(ts_ms=st.integers(-2_208_988_800_000, 7_258_118_400_000))
def test_a_time_is_written_as_the_calendar_says(ts_ms: int) -> None:
    moment = EPOCH + timedelta(milliseconds=ts_ms)
    precision = "milliseconds" if ts_ms % 1000 else "seconds"
    assert format_ms(ts_ms) == moment.isoformat(timespec=precision).replace("+00:00", "Z")


@pytest.mark.parametrize("ts_ms", [951_782_400_000, 951_868_799_999, 4_107_542_400_000])
def test_leap_days_are_there_and_only_where_the_calendar_has_them(ts_ms: int) -> None:
    days = {951_782_400_000: "2000-02-29T00:00:00Z", 951_868_799_999: "2000-02-29T23:59:59.999Z"}
    assert format_ms(ts_ms) == days.get(ts_ms, "2100-03-01T00:00:00Z")


def test_every_error_a_user_can_meet_has_one_base() -> None:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(found) > 5
    assert all(issubclass(kind, QuantumError) for kind in found)


def test_a_bar_error_is_one_line_of_symbol_time_and_rule() -> None:
    assert str(BarError("BTCUSDT", 1_767_321_393_250, "off the grid")) == (
        "bar BTCUSDT 2026-01-02T02:36:33.250Z: off the grid"
    )

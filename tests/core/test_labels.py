import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.core.strategies import INTERVAL, random_series

from quantum_trader.core.bars import BarSeries
from quantum_trader.core.labels import DELAY, HORIZON, UNKNOWN, forward_returns, labels


def brute_return(series: BarSeries, i: int, horizon: int, delay: int) -> float:
    """By looking every bar of the span up by its time."""
    closes = dict(zip(series.ts_open.tolist(), series.close.tolist(), strict=True))
    start = int(series.ts_open[i])
    span = [start + k * INTERVAL for k in range(horizon + delay + 1)]
    if not all(ts in closes for ts in span):
        return float("nan")
    return float(np.log(closes[span[delay + horizon]]) - np.log(closes[span[delay]]))


def test_the_label_looks_twelve_bars_ahead_from_one_bar_after_the_decision() -> None:
    assert (HORIZON, DELAY) == (12, 1)


@given(
    n=st.integers(1, 50),
    seed=st.integers(0, 20),
    holes=st.sets(st.integers(1, 49), max_size=3),
    horizon=st.integers(1, 6),
    delay=st.integers(0, 3),
)
def test_outcomes_are_those_of_a_brute_force_and_unknown_across_gaps(
    n: int, seed: int, holes: set[int], horizon: int, delay: int
) -> None:
    series = random_series(n, seed, holes=tuple(hole for hole in holes if hole < n))
    expected = np.array([brute_return(series, i, horizon, delay) for i in range(n)])
    np.testing.assert_array_equal(forward_returns(series, horizon, delay), expected)
    known = [UNKNOWN if np.isnan(value) else int(value > 0) for value in expected]
    assert labels(series, horizon, delay).tolist() == known


def test_the_tail_whose_outcome_has_not_come_is_unknown() -> None:
    found = labels(random_series(40))
    assert (found[: 40 - 13] != UNKNOWN).all()
    assert (found[40 - 13 :] == UNKNOWN).all()
    assert (labels(random_series(13)) == UNKNOWN).all()


def test_a_price_that_does_not_move_is_no_rise() -> None:
    flat = np.ones(30)
    ts_open = INTERVAL * np.arange(30)
    series = BarSeries("X", INTERVAL, ts_open, flat, flat, flat, flat, flat)
    assert labels(series)[:17].tolist() == [0] * 17


def test_a_label_uses_nothing_before_its_entry() -> None:
    series = random_series(40)
    moved = BarSeries(
        *(series.symbol, series.interval, series.ts_open, series.open, series.high, series.low),
        close=np.concatenate([series.close[:11] * 3.0, series.close[11:]]),
        volume=series.volume,
    )
    assert forward_returns(moved)[10:].tobytes() == forward_returns(series)[10:].tobytes()
    assert forward_returns(moved)[9] != forward_returns(series)[9]

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.core.strategies import INTERVAL, START, output_of, random_series

from quantum_trader.archive.codes import column
from quantum_trader.archive.columns import to_table
from quantum_trader.archive.join import outcomes, roles, samples
from quantum_trader.core.bars import BarSeries
from quantum_trader.core.decision import DecisionRecord, Occasion, decide, shadow_votes
from quantum_trader.core.errors import ConfigError
from quantum_trader.core.labels import DELAY, HORIZON
from quantum_trader.core.policy import VotePolicy

SYMBOLS = ("BTCUSDT", "ETHUSDT")


def record(symbol: str, ts_open: int, p_up: float = 0.6, *, shadow: bool = True) -> DecisionRecord:
    occasion = Occasion("5m", [symbol], [ts_open], [ts_open + INTERVAL], [100.0], [0.01], ["0" * 16])
    voters = {"xgb": output_of([p_up]), "lgbm": output_of([p_up])}
    decision = decide(occasion, voters, VotePolicy())[0]
    beside = {"patchtst": shadow_votes(output_of([1.0 - p_up]))[0]} if shadow else {}
    return DecisionRecord(decision=decision, shadows=beside, reasons={}, ts_decision=ts_open + INTERVAL)


def brute_outcome(series: BarSeries, ts_open: int) -> float:
    """Look every bar between decision and outcome up by its time."""
    closes = dict(zip(series.ts_open.tolist(), series.close.tolist(), strict=True))
    span = [ts_open + k * INTERVAL for k in range(HORIZON + DELAY + 1)]
    if any(ts not in closes for ts in span):
        return float("nan")
    return float(np.log(closes[span[-1]]) - np.log(closes[span[DELAY]]))


@settings(max_examples=60)
@given(
    where=st.lists(st.tuples(st.sampled_from(SYMBOLS), st.integers(-3, 45)), min_size=1, max_size=12),
    holes=st.sets(st.integers(1, 39), max_size=2),
)
def test_outcomes_are_those_of_a_brute_force(where: list[tuple[str, int]], holes: set[int]) -> None:
    bars = {
        symbol: random_series(40, seed, symbol=symbol, holes=tuple(holes) if seed else ())
        for seed, symbol in enumerate(SYMBOLS)
    }
    keys = [(symbol, START + bar * INTERVAL) for symbol, bar in where]
    table = to_table([record(*key) for key in keys])
    expected = [brute_outcome(bars[symbol], ts_open) for symbol, ts_open in keys]
    np.testing.assert_array_equal(outcomes(table, bars), expected)


@settings(max_examples=40)
@given(
    where=st.lists(st.tuples(st.sampled_from(SYMBOLS), st.integers(0, 39)), min_size=1, max_size=10, unique=True),
    data=st.data(),
)
def test_a_sample_does_not_depend_on_the_order_of_decisions(where: list[tuple[str, int]], data: st.DataObject) -> None:
    bars = {symbol: random_series(60, seed, symbol=symbol) for seed, symbol in enumerate(SYMBOLS)}
    written = [record(symbol, START + bar * INTERVAL, 0.5 + bar / 100) for symbol, bar in where]
    shuffled = data.draw(st.permutations(written))
    for model, sample in samples(to_table(written), bars).items():
        other = samples(to_table(shuffled), bars)[model]
        assert sample.bars == other.bars
        rows = [sorted(zip(s.bar.tolist(), s.symbol.tolist(), s.p_up.tolist(), strict=True)) for s in (sample, other)]
        assert rows[0] == rows[1]


class TestSamples:
    def test_hold_every_model_that_took_part_and_no_other(self) -> None:
        bars = {"BTCUSDT": random_series(60)}
        table = to_table([record("BTCUSDT", START + bar * INTERVAL, shadow=bar > 3) for bar in range(10)])
        assert set(samples(table, bars)) == {"xgb", "lgbm", "patchtst"}
        assert roles(table) == {"xgb": {"voter"}, "lgbm": {"voter"}, "patchtst": {"shadow"}}

    def test_a_decision_whose_bar_has_not_come_has_no_outcome(self) -> None:
        series = random_series(20)
        table = to_table([record("BTCUSDT", START + bar * INTERVAL) for bar in range(25)])
        known = ~np.isnan(outcomes(table, {"BTCUSDT": series}))
        assert known.tolist() == [bar + HORIZON + DELAY < 20 for bar in range(25)]

    def test_without_decisions_there_is_nothing_to_judge(self) -> None:
        with pytest.raises(ConfigError, match="no decisions in the window: there is nothing to judge"):
            samples(to_table([]), {"BTCUSDT": random_series(20)})

    def test_decisions_on_a_symbol_without_bars_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="decisions on ETHUSDT, but the bars hold only BTCUSDT"):
            samples(to_table([record("ETHUSDT", START)]), {"BTCUSDT": random_series(20)})
        with pytest.raises(ConfigError, match="hold only nothing"):
            samples(to_table([record("ETHUSDT", START)]), {})

    def test_bars_of_another_length_are_refused(self) -> None:
        series = random_series(20)
        hourly = BarSeries(
            *(series.symbol, 3_600_000, series.ts_open * 12, series.open, series.high, series.low, series.close),
            series.volume,
        )
        with pytest.raises(ConfigError, match=r"different bar lengths: \[300000, 3600000\] ms"):
            samples(to_table([record("BTCUSDT", START)]), {"BTCUSDT": hourly})


@given(values=st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=5))
def test_a_column_gives_nan_where_there_is_no_number(values: list[float | None]) -> None:
    assume(any(value is None for value in values))
    table = to_table([record("BTCUSDT", START) for _ in values])
    at = table.schema.get_field_index("patchtst.p_up")
    found = column(table.set_column(at, table.schema.field(at), pa.array(values, pa.float64())), "patchtst.p_up")
    np.testing.assert_array_equal(found, [np.nan if value is None else value for value in values])

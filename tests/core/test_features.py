import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.core.strategies import random_series, real_series

from quantum_trader.core import features
from quantum_trader.core.bars import FIELDS, WINDOW, BarSeries, BarWindow
from quantum_trader.core.errors import FeatureError
from quantum_trader.core.features import (
    RETURN_LAGS,
    SCHEMA,
    SEQUENCE_LENGTH,
    SEQUENCE_NAMES,
    Computation,
    Features,
    compute,
)

CRASH = 1_760_130_000_000
"""2025-10-10T21:00Z: the largest liquidation on record, minutes of twofold ranges."""


def window_of(seed: int = 0) -> NDArray[np.float64]:
    return random_series(WINDOW, seed).matrix()


def same(one: Features, other: Features) -> bool:
    return (
        one.row.tobytes() == other.row.tobytes()
        and one.sequence.tobytes() == other.sequence.tobytes()
        and one.atr_fraction == other.atr_fraction
    )


class TestTheSchema:
    def test_is_pinned_because_another_one_invalidates_every_artefact(self) -> None:
        # Every artefact stores this digest and refuses to load under another. If this line has to change, every
        # trained model has to be trained again: raise features.VERSION and say so in the change log.
        assert SCHEMA.digest == "3d663e120f925fb9b870428422b07dea430c72a206b99f69b06b27028ac229b8"

    def test_changes_its_digest_with_every_field(self) -> None:
        changed = {
            "names": SCHEMA.names[::-1],
            "sequence_names": SCHEMA.sequence_names[::-1],
            "sequence_length": 127,
            "window": 513,
            "version": SCHEMA.version + 1,
            "talib": "0.0.0",
        }
        assert set(changed) == {field.name for field in dataclasses.fields(SCHEMA)}
        digests = {dataclasses.replace(SCHEMA, **{name: value}).digest for name, value in changed.items()}
        assert len(digests | {SCHEMA.digest}) == len(changed) + 1

    def test_holds_at_least_24_indicators_of_talib_beside_returns_ranges_and_volume(self) -> None:
        plain = {f"ret_{lag}" for lag in RETURN_LAGS} | {"range", "body", "upper_wick", "lower_wick"}
        plain |= {"volume_20", "volume_96"}
        assert plain < set(SCHEMA.names)
        assert len(set(SCHEMA.names) - plain) >= 24
        assert set(SEQUENCE_NAMES) <= set(SCHEMA.names)
        assert len(set(SCHEMA.names)) == len(SCHEMA.names)

    def test_holds_no_feature_that_accumulates_over_history(self) -> None:
        # OBV, AD and VPT grow for ever: their value says how long the window is, not what the market does.
        assert not {"OBV", "AD", "SAR"} & set(vars(features.ta))
        rising, volume = window_of(), np.full(WINDOW, 7.0)
        ratio = 1.001 ** np.arange(WINDOW)
        for i, factor in enumerate((1.0, 1.001, 0.999, 1.0)):
            rising[i] = 100.0 * ratio * factor
        rising[4] = volume
        sequence = compute(rising).sequence
        # In a market that only repeats its last step, a feature that is not cumulative has settled.
        np.testing.assert_allclose(sequence, np.broadcast_to(sequence[-1], sequence.shape), atol=2e-3)


class TestTheNumbers:
    def test_have_the_shapes_and_type_that_models_are_built_for(self) -> None:
        found = compute(window_of())
        assert found.row.shape == (len(SCHEMA.names),)
        assert found.sequence.shape == (128, 8) == (SEQUENCE_LENGTH, len(SEQUENCE_NAMES))
        assert found.row.dtype == found.sequence.dtype == np.float32
        assert found.sequence.flags.c_contiguous

    def test_of_row_and_sequence_come_from_the_same_arrays(self) -> None:
        found = compute(window_of(3))
        for channel, name in enumerate(SEQUENCE_NAMES):
            assert found.row[SCHEMA.names.index(name)] == found.sequence[-1, channel]
        assert np.float32(found.atr_fraction) == found.row[SCHEMA.names.index("atr_14")]

    def test_are_what_their_names_say(self) -> None:
        window = window_of(5)
        open_, high, low, close, volume = window
        row = dict(zip(SCHEMA.names, compute(window).row.tolist(), strict=True))
        for lag in RETURN_LAGS:
            assert row[f"ret_{lag}"] == pytest.approx(np.log(close[-1] / close[-1 - lag]), rel=1e-5)
        assert row["range"] == pytest.approx((high[-1] - low[-1]) / close[-1], rel=1e-5)
        assert row["body"] == pytest.approx((close[-1] - open_[-1]) / close[-1], rel=1e-5)
        assert row["sma_20"] == pytest.approx(close[-1] / close[-20:].mean() - 1, rel=1e-4)
        assert row["volume_20"] == pytest.approx(np.log1p(volume[-1] / volume[-20:].mean()), rel=1e-5)
        moves = np.diff(close) / close[:-1]
        assert row["std_24"] == pytest.approx(moves[-24:].std(), rel=1e-5)
        assert row["bb_position"] == pytest.approx(
            (close[-1] - close[-20:].mean() + 2 * close[-20:].std()) / (4 * close[-20:].std()), rel=1e-4
        )
        changes = np.diff(close)
        assert 0 < row["rsi_14"] < 1
        assert (row["rsi_6"] > 0.5) == (changes[-6:].sum() > 0) or abs(row["rsi_6"] - 0.5) < 0.2


class TestFeaturesArePure:
    def test_the_same_window_gives_the_same_bytes_and_is_not_written_to(self) -> None:
        window = window_of()
        before = window.copy()
        first = compute(window)
        compute(window_of(1))
        assert same(compute(window), first)
        np.testing.assert_array_equal(window, before)

    def test_views_and_other_memory_layouts_give_the_same_bytes(self) -> None:
        series = random_series(WINDOW + 40)
        matrix = series.matrix()
        view = matrix[:, 17 : 17 + WINDOW]
        assert same(compute(view), compute(view.copy()))
        assert same(compute(np.asfortranarray(view)), compute(view.copy()))

    def test_what_lies_before_the_last_512_bars_changes_nothing(self) -> None:
        series = random_series(WINDOW + 20)
        matrix = series.matrix()
        altered = matrix.copy()
        altered[:, :20] *= 5.0
        windows = [BarWindow("BTCUSDT", series.interval), BarWindow("BTCUSDT", series.interval)]
        for window, values in zip(windows, (matrix, altered), strict=True):
            fields = (values[i] for i in range(5))
            for bar in BarSeries("BTCUSDT", series.interval, series.ts_open, *fields):
                window.push(bar)
        assert same(compute(windows[0].matrix()), compute(windows[1].matrix()))

    @pytest.mark.parametrize("bars_back", [0, 1, 30, 96, 127, 200, 288, 400, 500, 511])
    def test_every_bar_inside_the_window_can_change_them(self, bars_back: int) -> None:
        window = window_of(2)
        altered = window.copy()
        altered[:4, -1 - bars_back] *= 1.2
        assert not same(compute(window), compute(altered))

    @given(seed=st.integers(0, 10), power=st.integers(-30, 20))
    def test_a_power_of_two_on_every_price_changes_no_bit(self, seed: int, power: int) -> None:
        window = window_of(seed)
        scaled = window.copy()
        scaled[:4] = np.ldexp(scaled[:4], power)
        assert same(compute(window), compute(scaled))

    @given(seed=st.integers(0, 10), power=st.integers(-20, 30))
    def test_a_power_of_two_on_the_volume_changes_no_bit(self, seed: int, power: int) -> None:
        window = window_of(seed)
        scaled = window.copy()
        scaled[4] = np.ldexp(scaled[4], power)
        assert same(compute(window), compute(scaled))

    @given(seed=st.integers(0, 5), price=st.floats(1e-6, 1e6), volume=st.floats(1e-3, 1e9))
    def test_any_other_unit_of_price_and_volume_changes_only_rounding(
        self, seed: int, price: float, volume: float
    ) -> None:
        window = window_of(seed)
        scaled = window * np.array([price] * 4 + [volume])[:, None]
        np.testing.assert_allclose(compute(scaled).row, compute(window).row, rtol=1e-4, atol=1e-5)


class TestOddMarketsGiveFiniteFeatures:
    def test_a_market_that_does_not_move_or_trade(self) -> None:
        flat = np.full((5, WINDOW), 3.7)
        flat[4] = 0.0
        found = compute(flat)
        assert np.isfinite(found.row).all()
        assert found.atr_fraction == 0.0
        row = dict(zip(SCHEMA.names, found.row.tolist(), strict=True))
        assert (row["ret_1"], row["bb_width"], row["bb_position"], row["volume_20"], row["adosc"]) == (0, 0, 0, 0, 0)

    @given(
        seed=st.integers(0, 5),
        start=st.integers(0, WINDOW - 1),
        length=st.integers(1, WINDOW),
        what=st.sampled_from(["volume", "price", "both"]),
    )
    def test_stretches_without_volume_or_movement(self, seed: int, start: int, length: int, what: str) -> None:
        window = window_of(seed)
        stop = start + length
        if what != "price":
            window[4, start:stop] = 0.0
        if what != "volume":
            window[:4, start:stop] = window[3, start]
        found = compute(window)
        assert np.isfinite(found.row).all()
        assert np.isfinite(found.sequence).all()
        # A halt of the exchange must not leave a number that no market gives, such as 0.0 divided by nearly 0.0.
        assert np.abs(found.sequence).max() < 100.0

    def test_a_crash_to_a_hundredth_and_back(self) -> None:
        window = window_of()
        window[:4, 400:403] /= 100.0
        assert np.isfinite(compute(window).row).all()


class TestAWindowThatIsNoneIsRefused:
    @pytest.mark.parametrize(("field", "name"), list(enumerate(FIELDS)))
    @pytest.mark.parametrize("at", [0, 1, 250, 511])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_with_the_name_of_the_field_that_is_not_finite(self, field: int, name: str, at: int, value: float) -> None:
        # At bar 0 too: TA-Lib skips leading NaNs, and would answer for a shorter window as if it were whole.
        window = window_of()
        window[field, at] = value
        with pytest.raises(FeatureError, match=f"^window: {name} is not finite$"):
            compute(window)

    def test_with_the_name_of_the_feature_where_finite_values_give_none(self) -> None:
        window = window_of()
        window[4] = 1e308
        with pytest.raises(FeatureError, match=r"^feature mfi_14 is not finite$"):
            compute(window)

    @pytest.mark.parametrize("shape", [(5, WINDOW - 1), (5, WINDOW + 1), (4, WINDOW), (5, 0), (WINDOW, 5)])
    def test_with_both_shapes_where_it_has_another(self, shape: tuple[int, int]) -> None:
        with pytest.raises(FeatureError, match=r"window of shape .*: features need \(5, 512\)"):
            compute(np.ones(shape))


class TestTheTwoSteps:
    def test_give_the_sequences_that_the_whole_computation_gives(self) -> None:
        computation = Computation([window_of(seed) for seed in range(3)])
        early = computation.sequences.copy()
        whole = computation.finish()
        assert whole.problems == {}
        assert early.tobytes() == whole.sequences.tobytes() == computation.sequences.tobytes()

    def test_leave_a_sequence_as_it_was_handed_out_where_only_the_row_turns_out_to_be_broken(self) -> None:
        burst, broken = window_of(), window_of(1)
        burst[4] = 1e308
        broken[0, 7] = np.nan
        computation = Computation([window_of(), burst, broken])
        early = computation.sequences.copy()
        whole = computation.finish()
        assert sorted(whole.problems) == [1, 2]
        assert np.isfinite(early[:2]).all()
        assert np.isnan(early[2]).all()
        assert computation.sequences.tobytes() == early.tobytes()
        assert np.isnan(whole.sequences[1:]).all()
        assert np.isnan(whole.rows[1:]).all()
        assert whole.sequences[0].tobytes() == early[0].tobytes()


def training_equals_live(series: BarSeries, every: int = 1) -> list[int]:
    """Compare each `every`-th row of a series sliced whole against a window fed bar by bar; the rows compared."""
    matrix = series.matrix()
    live = BarWindow(series.symbol, series.interval)
    ends = set(series.window_ends().tolist())
    compared = []
    for i, bar in enumerate(series):
        live.push(bar)
        assert live.ready == (i in ends)
        if live.ready and i % every == 0:
            trained = compute(matrix[:, i - WINDOW + 1 : i + 1])
            assert same(trained, compute(live.matrix())), f"{series.symbol} row {i}"
            compared.append(i)
    return compared


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 100), hole=st.integers(1, 600))
def test_training_rows_equal_live_rows_around_gaps(seed: int, hole: int) -> None:
    series = random_series(1200, seed, holes=(hole,))
    assume(len(series.window_ends()))
    assert len(training_equals_live(series, every=7)) > 0


@pytest.mark.slow
def test_training_rows_equal_live_rows_on_every_real_bar_of_a_symbol(shared: Path) -> None:
    series = real_series(shared, "BTCUSDT")
    series.check()
    compared = training_equals_live(series)
    assert len(compared) == len(series.window_ends()) > 80_000
    assert (series.volume[compared] == 0).any(), "the real zero-volume bars are among them"
    assert np.isin(CRASH, series.ts_open[compared]), "the crash of 2025-10-10 is among them"


@pytest.mark.slow
@pytest.mark.parametrize("symbol", ["ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT"])
def test_training_rows_equal_live_rows_on_a_sample_of_the_other_symbols(shared: Path, symbol: str) -> None:
    series = real_series(shared, symbol)
    series.check()
    assert len(training_equals_live(series, every=37)) > 2000


def test_zero_volume_bars_and_the_crash_give_equal_rows(shared: Path) -> None:
    series = real_series(shared, "SOLUSDT")
    for at in [*np.flatnonzero(series.volume == 0).tolist(), int(np.searchsorted(series.ts_open, CRASH))]:
        assert len(training_equals_live(series.slice(at - WINDOW, at + 30))) == 31

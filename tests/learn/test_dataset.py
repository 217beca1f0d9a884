"""The training set: served features and known outcomes only, whatever the number of processes."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.learn.conftest import INTERVAL, market

from quantum_trader.core.bars import WINDOW, BarSeries
from quantum_trader.core.errors import TrainingError
from quantum_trader.core.features import compute
from quantum_trader.core.labels import labels
from quantum_trader.learn.dataset import Dataset, DatasetOptions, bars_digest, build_dataset


def _without(series: BarSeries, at: int) -> BarSeries:
    keep = np.delete(np.arange(len(series)), at)
    columns = (getattr(series, name)[keep] for name in ("ts_open", "open", "high", "low", "close", "volume"))
    return BarSeries(series.symbol, series.interval, *columns)


def test_every_row_is_what_service_computes_from_its_window(bars: dict[str, BarSeries], dataset: Dataset) -> None:
    for i in range(0, len(dataset), 97):
        series = bars[dataset.symbols[dataset.symbol[i]]]
        end = int(np.searchsorted(series.ts_open, dataset.ts[i]))
        features = compute(series.matrix()[:, end - WINDOW + 1 : end + 1])
        assert dataset.rows[i].tobytes() == features.row.tobytes()
        assert dataset.sequences[i].tobytes() == features.sequence.tobytes()
        assert dataset.y[i] == labels(series)[end]


def test_real_bars_give_the_rows_that_service_computes(shared: Path) -> None:
    table = pq.read_table(shared / "data" / "bars_5m_um.parquet", filters=[("symbol", "=", "SOLUSDT")])
    table = table.slice(0, 1_000)
    columns = (table[name].to_numpy() for name in ("open", "high", "low", "close", "volume"))
    series = BarSeries("SOLUSDT", INTERVAL, table["open_time"].cast("int64").to_numpy(), *columns)
    built = build_dataset({"SOLUSDT": series}, DatasetOptions(workers=1))
    assert len(built) == 1_000 - WINDOW + 1 - 13
    for i in range(0, len(built), 41):
        features = compute(series.matrix()[:, i : i + WINDOW])
        assert built.rows[i].tobytes() == features.row.tobytes()
        assert built.sequences[i].tobytes() == features.sequence.tobytes()


def test_rows_are_in_order_of_time_then_symbol(dataset: Dataset) -> None:
    order = np.lexsort((dataset.symbol, dataset.ts))
    assert (order == np.arange(len(dataset))).all()
    assert dataset.timeframe == "5m"
    assert set(np.unique(dataset.y)) == {0, 1}


def test_the_number_of_processes_changes_nothing() -> None:
    many = {"BTCUSDT": market("BTCUSDT", 7_000, 1)}
    seen: list[tuple[str, int, int]] = []
    alone = build_dataset(many, DatasetOptions(workers=1))
    together = build_dataset(many, DatasetOptions(workers=2), lambda *step: seen.append(step))
    for name in ("rows", "sequences", "y", "ts", "symbol"):
        assert getattr(alone, name).tobytes() == getattr(together, name).tobytes()
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1] == ("features", len(alone), len(alone))


def test_no_row_spans_a_gap() -> None:
    series = _without(market("BTCUSDT", 1_400, 1), 700)
    built = build_dataset({"BTCUSDT": series}, DatasetOptions(workers=1))
    missing = series.ts_open[699] + INTERVAL
    for ts in built.ts:
        assert not ts - (WINDOW - 1) * INTERVAL <= missing <= ts + 13 * INTERVAL
    assert len(built) == (700 - WINDOW + 1 - 13) + (699 - WINDOW + 1 - 13)


def test_a_stride_takes_the_same_instants_of_every_symbol() -> None:
    both = {"A": market("A", 900, 1), "B": _without(market("B", 900, 2), 100)}
    built = build_dataset(both, DatasetOptions(stride=5, workers=1))
    assert ((built.ts // INTERVAL) % 5 == 0).all()
    own = [set(built.ts[built.symbol == index]) for index in range(2)]
    assert own[1] < own[0]


def test_max_rows_bounds_the_rows(bars: dict[str, BarSeries], dataset: Dataset) -> None:
    assert len(dataset) <= 2_600
    small = build_dataset(bars, DatasetOptions(max_rows=300, workers=1))
    assert 200 < len(small) <= 302


def test_a_window_without_finite_features_is_left_out_and_counted() -> None:
    series = market("BTCUSDT", 700, 1)
    # So large that an indicator's ratio overflows float32: service refuses such a window too.
    series.volume[600] = 1e300
    built = build_dataset({"BTCUSDT": series}, DatasetOptions(workers=1))
    assert built.refused > 0
    assert len(built) + built.refused == 700 - WINDOW + 1 - 13
    assert np.isfinite(built.rows).all()
    assert np.isfinite(built.sequences).all()


def test_the_digest_is_of_the_bars_not_of_their_order(bars: dict[str, BarSeries]) -> None:
    assert bars_digest(bars) == bars_digest(dict(reversed(bars.items())))
    changed = {**bars, "BTCUSDT": market("BTCUSDT", 1_800, 9)}
    assert bars_digest(changed) != bars_digest(bars)


def test_too_few_bars_say_so() -> None:
    with pytest.raises(TrainingError, match="no window of 512 bars"):
        build_dataset({"BTCUSDT": market("BTCUSDT", 520, 1)})
    with pytest.raises(TrainingError, match="no bars"):
        build_dataset({})


@pytest.mark.parametrize("wrong", [{"stride": 0}, {"workers": 0}, {"horizon": 0}, {"max_rows": 0}])
def test_options_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(TrainingError, match="dataset"):
        DatasetOptions(**wrong)

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.core.honest import SYMBOLS, Stats, reference, rows_of, served, statistics_of
from tests.core.strategies import real_series

from quantum_trader.core.bars import WINDOW
from quantum_trader.core.drift import (
    FAR,
    FAR_COUNT,
    OSCILLATOR_FAR,
    OSCILLATORS,
    QUICK,
    SPAN,
    STUCK,
    DriftMonitor,
    Reference,
)
from quantum_trader.core.features import SCHEMA, SEQUENCE_NAMES, Float32Array

F = len(SCHEMA.names)
HERE = SCHEMA.names.index

Fault = Callable[[Float32Array], Float32Array]


def plain(names: tuple[str, ...] = SCHEMA.names) -> Reference:
    """Deciles 1 to 9 for every feature."""
    return Reference.of({name: Stats(1.0, tuple(float(k) for k in range(1, 10))) for name in names})


def row(**values: float) -> Float32Array:
    """One row whose features lie in the middle unless named."""
    made = np.full((1, F), 5.5, dtype=np.float32)
    for name, value in values.items():
        made[0, HERE(name)] = value
    return made


def varied(t: int) -> Float32Array:
    """One row that walks through the tenths, each once in ten bars."""
    return np.full((1, F), t % 10 + 0.5, dtype=np.float32)


def test_a_reference_is_in_the_schemas_order_and_ignores_what_the_schema_does_not_know() -> None:
    stats = {name: Stats(1.0, tuple(float(HERE(name)) + k for k in range(9))) for name in ("rsi_14", "ret_1")}
    made = Reference.of({**stats, "of_another_schema": Stats(1.0, (0.0,) * 9)})
    assert made.names == ("ret_1", "rsi_14")
    assert made.deciles[0].tolist() == [HERE("ret_1"), HERE("rsi_14")]
    assert made.widths.tolist() == [8.0, 8.0]


def test_a_reference_needs_nine_deciles() -> None:
    with pytest.raises(ValueError, match="ret_1: expected 9 deciles"):
        Reference.of({"ret_1": Stats(1.0, (0.0, 1.0))})


def test_a_range_without_width_has_the_standard_deviations_or_almost_none() -> None:
    flat = Reference.of({"ret_1": Stats(0.5, (0.0,) * 9), "ret_3": Stats(0.0, (0.0,) * 9)})
    assert flat.widths[0] == 0.5
    assert 0.0 < flat.widths[1] < 1e-9


def test_without_a_reference_nothing_drifts() -> None:
    monitor = DriftMonitor(Reference.of({}))
    for _ in range(SPAN + 1):
        assert monitor.observe(["BTCUSDT"], row()) == [""]


def test_a_group_of_nobody_is_nothing() -> None:
    assert DriftMonitor(plain()).observe([], np.zeros((0, F), dtype=np.float32)) == []


def test_a_varied_market_does_not_drift() -> None:
    monitor = DriftMonitor(plain())
    assert all(monitor.observe(["BTCUSDT"], varied(t)) == [""] for t in range(200))


def test_a_stuck_row_is_found_at_the_24th_bar() -> None:
    monitor = DriftMonitor(plain())
    found = [monitor.observe(["BTCUSDT"], row())[0] for _ in range(SPAN)]
    assert found[: SPAN - 1] == [""] * (SPAN - 1)
    assert f"mean distance of {F} features from training is 0.90" in found[-1]


@pytest.mark.parametrize("name", sorted(QUICK))
def test_a_stuck_quick_feature_is_found_and_named(name: str) -> None:
    monitor = DriftMonitor(plain())
    for t in range(2 * SPAN):
        found = monitor.observe(["BTCUSDT"], np.where(np.arange(F) == HERE(name), 5.5, varied(t)).astype(np.float32))
    assert found == [f"{name} in one tenth of the training values for {SPAN} bars"]


def test_a_slow_feature_may_stay_where_it_is() -> None:
    monitor = DriftMonitor(plain())
    for t in range(2 * SPAN):
        stuck = np.where(np.arange(F) == HERE("ema_200"), 5.5, varied(t)).astype(np.float32)
        assert monitor.observe(["BTCUSDT"], stuck) == [""]


@pytest.mark.parametrize(("name", "times"), [("std_24", FAR), ("rsi_14", OSCILLATOR_FAR)])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_feature_is_far_outside_from_its_bound_on_and_at_the_sixth_bar(name: str, times: float, side: int) -> None:
    # The middle eight tenths are 1 to 9, so 8 wide.
    bound = 9.0 + 8.0 * times if side > 0 else 1.0 - 8.0 * times
    within, outside = DriftMonitor(plain()), DriftMonitor(plain())
    for t in range(FAR_COUNT - 1):
        values = varied(t)
        values[0, HERE(name)] = bound + side
        assert outside.observe(["BTCUSDT"], values) == [""]
    for t in range(FAR_COUNT):
        values = varied(t)
        values[0, HERE(name)] = bound
        assert within.observe(["BTCUSDT"], values) == [""]
    values[0, HERE(name)] = bound + side
    assert outside.observe(["BTCUSDT"], values) == [f"{name} far outside the training range, at 6 of 24 bars"]


def test_slow_features_that_are_all_stuck_have_drifted_together() -> None:
    monitor = DriftMonitor(plain(("ema_200", "std_96")))
    found = [monitor.observe(["BTCUSDT"], row())[0] for _ in range(SPAN)]
    assert found == [""] * (SPAN - 1) + ["mean distance of 2 features from training is 0.90"]


def test_far_values_count_for_24_bars_and_no_longer() -> None:
    monitor = DriftMonitor(plain())
    for t in range(10 * SPAN):
        values = varied(t)
        values[0, HERE("ret_1")] = 1_000.0 if t % 5 == 0 else values[0, HERE("ret_1")]
        assert monitor.observe(["BTCUSDT"], values) == [""], t
    found = [bool(monitor.observe(["BTCUSDT"], row(ret_1=1_000.0))[0]) for _ in range(FAR_COUNT)]
    assert found[-1]
    found = [bool(monitor.observe(["BTCUSDT"], varied(t))[0]) for t in range(2 * SPAN)]
    assert found[0]
    assert not any(found[SPAN:])


def test_symbols_do_not_touch_each_other_and_may_come_in_any_order() -> None:
    monitor, alone = DriftMonitor(plain()), DriftMonitor(plain())
    for t in range(3 * SPAN):
        names = ["BTCUSDT", "ETHUSDT"] if t % 2 else ["ETHUSDT", "BTCUSDT"]
        rows = {"BTCUSDT": row(), "ETHUSDT": varied(t)}
        together = monitor.observe(names, np.concatenate([rows[name] for name in names]))
        assert together[names.index("ETHUSDT")] == ""
        assert together[names.index("BTCUSDT")] == alone.observe(["BTCUSDT"], row())[0]


def distances_by_definition(values: NDArray[np.float64], deciles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kuiper's distance of each column of SPAN values, from the definition."""
    out = []
    for column, own in zip(values.T, deciles.T, strict=True):
        excess = [np.mean(column <= d) - (k + 1) / 10 for k, d in enumerate(own)]
        out.append(max(0.0, *excess) + max(0.0, *(-e for e in excess)))
    return np.array(out)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.5, 3.0, 60.0]))
def test_what_is_kept_up_bar_by_bar_is_what_the_definition_says(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    names = ("ret_1", "rsi_14", "std_24")
    against, monitor = plain(names), DriftMonitor(plain(names))
    columns = [HERE(name) for name in names]
    held: dict[str, list[NDArray[np.float32]]] = {"A": [], "B": []}
    for _ in range(60):
        symbols = [symbol for symbol in held if rng.random() < 0.8]
        # Values on the deciles themselves too.
        rows = np.round(rng.normal(5.0, spread, (len(symbols), F)) * 2).astype(np.float32) / 2
        for i, (symbol, said) in enumerate(zip(symbols, monitor.observe(symbols, rows), strict=True)):
            held[symbol].append(rows[i, columns])
            last = np.array(held[symbol][-SPAN:], dtype=np.float64)
            distances = distances_by_definition(last, against.deciles) if len(last) == SPAN else np.zeros(len(names))
            times = np.array([FAR, OSCILLATOR_FAR, FAR])
            far = ((last < 1 - 8 * times) | (last > 9 + 8 * times)).sum(axis=0) >= FAR_COUNT
            stuck = distances[0] >= STUCK - 1e-9
            assert bool(said) == bool(far.any() or stuck or distances.mean() >= STUCK - 1e-9), said


def bars_until_found(rows: Float32Array, fault: Fault, against: Reference, before: int = SPAN) -> NDArray[np.float64]:
    """Of trials, shape (bars, trials, F), at which bar of the fault each is found; infinite where it is not.

    The first `before` bars of each are served as they are.
    """
    monitor, symbols = DriftMonitor(against), [str(i) for i in range(rows.shape[1])]
    found = np.full(len(symbols), np.inf)
    for t, group in enumerate(rows):
        if t < before:
            assert not any(monitor.observe(symbols, group)), "honest rows drift"
            continue
        said = np.array([bool(text) for text in monitor.observe(symbols, fault(group))])
        found = np.where(said & np.isinf(found), t - before + 1, found)
    return found


def scaled(name: str, factor: float) -> Fault:
    return lambda rows: np.where(np.arange(F) == HERE(name), rows * np.float32(factor), rows)


def swapped(one: str, other: str) -> Fault:
    order = list(range(F))
    order[HERE(one)], order[HERE(other)] = HERE(other), HERE(one)
    return lambda rows: rows[:, order]


def standardised(against: Float32Array) -> Fault:
    mean, std = against.mean(axis=0), against.std(axis=0)
    return lambda rows: ((rows - mean) / std).astype(np.float32)


FAULTS: dict[str, Fault] = {
    "all zero": lambda rows: np.zeros_like(rows),
    "columns reversed": lambda rows: np.ascontiguousarray(rows[:, ::-1]),
    "columns shifted by one": lambda rows: np.roll(rows, 1, axis=1),
    "ret_1 x 100": scaled("ret_1", 100),
    "std_24 x 100": scaled("std_24", 100),
    "rsi_14 x 100": scaled("rsi_14", 100),
    "rsi_14 and macd swapped": swapped("rsi_14", "macd"),
    "ret_1 and adx_14 swapped": swapped("ret_1", "adx_14"),
    "volume_20 and atr_14 swapped": swapped("volume_20", "atr_14"),
}


def trials(n: int, rows: Float32Array, bars: int = 2 * SPAN) -> Float32Array:
    """n stretches of bars from rows of shape (T, symbols, F), evenly spread, shape (bars, n, F)."""
    starts = np.linspace(0, len(rows) - bars, n).astype(int)
    return np.stack([rows[start : start + bars, i % rows.shape[1]] for i, start in enumerate(starts)], axis=1)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_found_within_24_bars(fault: str) -> None:
    bars = bars_until_found(trials(60, served()), FAULTS[fault], reference())
    assert np.mean(bars <= SPAN) >= 0.95, sorted(bars)


def test_features_standardised_twice_are_found_within_24_bars() -> None:
    fault = standardised(served().reshape(-1, F))
    assert bars_until_found(trials(60, served()), fault, reference()).max() <= SPAN


def test_a_constant_row_is_found_with_the_eight_channels_of_the_networks() -> None:
    channels = tuple(SEQUENCE_NAMES)
    every = reference()
    few = Reference.of(
        {
            name: Stats(1.0, tuple(every.deciles[:, every.names.index(name)].tolist()))
            for name in every.names
            if name in channels
        }
    )
    bars = bars_until_found(trials(20, served()), lambda rows: np.zeros_like(rows), few)
    assert bars.max() <= SPAN


def test_the_classes_of_features_are_features() -> None:
    assert set(SCHEMA.names) >= QUICK | OSCILLATORS


@pytest.mark.slow
def test_real_bars_drift_in_a_crash_only_and_faults_on_them_are_found(shared: Path) -> None:
    """Statistics of eight months, served on the next two; the crash is that of 2025-10-10 21:15."""
    crash = 1_760_130_900_000
    series = {symbol: real_series(shared, symbol) for symbol in SYMBOLS}
    cut = int(np.searchsorted(series["BTCUSDT"].ts_open, 1_756_684_800_000))
    train = [rows_of(bars, WINDOW, cut - WINDOW, 10) for bars in series.values()]
    against = Reference.of(statistics_of(np.concatenate(train)))
    rest = len(series["BTCUSDT"]) - cut
    rows = np.stack([rows_of(bars, cut + 1, rest) for bars in series.values()], axis=1)
    monitor, alarmed = DriftMonitor(against), []
    for t, group in enumerate(rows):
        if any(monitor.observe(SYMBOLS, group)):
            alarmed.append(int(series["BTCUSDT"].ts_open[cut + t]))
    assert alarmed
    assert {crash <= ts <= crash + 86_400_000 for ts in alarmed} == {True}
    calm = rows[: 30 * 288]
    for name, fault in FAULTS.items():
        bars = bars_until_found(trials(100, calm), fault, against)
        assert np.mean(bars <= SPAN) >= 0.9, name

"""How often are the alarms of input honesty wrong, how soon do they see a fault, and what do they cost?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import combinations, cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import SEED, real_file
from benchmarks.harness import Workplace, paired
from benchmarks.tables import Block, Table, Target, at_least, at_most, seconds
from quantum_trader.core.alarms import Alarm, AlarmName, Board
from quantum_trader.core.bars import WINDOW, BarSeries, FloatArray
from quantum_trader.core.decision import DecisionRecord, Occasion, decide, shadow_votes
from quantum_trader.core.drift import SPAN, DriftMonitor, Reference
from quantum_trader.core.errors import format_ms
from quantum_trader.core.features import SCHEMA, SEQUENCE_NAMES, Float32Array, compute_batch
from quantum_trader.core.hashes import input_hashes
from quantum_trader.core.honesty import ANSWER_STEP, FROZEN_RUN, Honesty
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import ModelOutput, Thresholds
from quantum_trader.market.files import read_bars
from quantum_trader.market.simulator import simulate
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.inference import OnnxModel
from quantum_trader.models.manifest import FeatureStatistics

F = len(SCHEMA.names)
STRIDE = 10
"""Every tenth bar of the training part is enough for its deciles."""

BLOCK = 256
DAY_MS = 86_400_000
TREES = ("xgb", "lgbm")

Fault = Callable[[Float32Array], Float32Array]


@dataclass(frozen=True)
class Market:
    """Bars, and which of them are the training part and which are served; days, the end exclusive."""

    label: str
    file: str
    train: tuple[str, str]
    serve: tuple[str, str]


MARKETS = (
    Market("futures, 5m", "bars_5m_um.parquet", ("2025-01-01", "2025-09-01"), ("2025-09-01", "2025-11-01")),
    Market("spot, 5m", "bars_5m_spot_2023.parquet", ("2022-12-01", "2023-06-01"), ("2023-06-01", "2023-10-01")),
    Market(
        "spot, 5m, one month", "bars_5m_spot_2023.parquet", ("2022-12-01", "2023-01-01"), ("2023-01-01", "2023-04-01")
    ),
    Market("futures, 1h", "bars_1h_um.parquet", ("2023-01-01", "2024-01-01"), ("2024-01-01", "2025-11-01")),
)
MINUTES = "bars_1m_um.parquet"
CALM = ("2025-09-01", "2025-10-10")
"""Served days before the crash: faults are planted here, where nothing else alarms."""


def run(place: Workplace) -> list[Block]:
    """Measure."""
    path = real_file()
    markets = _markets(path.parent if path else None, place)
    rates, notes, worst, home = _false_alarms(markets, place)
    faults, goals = _faults(home, path.parent / MINUTES if path else None, place)
    tables = [rates, faults, _frozen(home, place), _cost(place)]
    goals = [at_most("days of 30 on which an input-drift of 5 symbols begins, futures 5m", worst, 1.0), *goals]
    return [Block("honesty", "input honesty: false alarms, faults, cost", tables, goals, notes)]


@dataclass(frozen=True)
class Prepared:
    """A market ready to be served.

    Attributes:
        series: All bars, by symbol.
        training: Rows of the training part, shape (n, F).
        times: Open times of the served bars that all symbols have, shape (T,).
        rows: Their features, shape (T, symbols, F).
    """

    market: Market
    series: Mapping[str, BarSeries]
    training: Float32Array
    times: NDArray[np.int64]
    rows: Float32Array

    @property
    def reference(self) -> Reference:
        """Of the training part."""
        return _reference(self.training)


def _markets(folder: Path | None, place: Workplace) -> Iterator[Prepared]:
    if folder is None:
        market = Market("SIMULATED, 5m", "", ("2025-01-01", "2025-02-01"), ("2025-02-01", "2025-04-01"))
        yield _prepared(market, simulate(90 * 288, SEED), place)
        return
    for market in MARKETS:
        yield _prepared(market, read_bars(folder / market.file), place)


def _prepared(market: Market, series: Mapping[str, BarSeries], place: Workplace) -> Prepared:
    place.progress(f"features of {market.label}", 0, 1)
    (begin, end), (first, last) = map(_ms, market.train), map(_ms, market.serve)
    if place.quick:
        last = first + 2 * DAY_MS
    training = [_rows(bars, begin, end, STRIDE)[1] for bars in series.values()]
    served = [_rows(bars, first, last) for bars in series.values()]
    times = served[0][0]
    for ts, _ in served[1:]:
        times = np.intersect1d(times, ts)
    rows = np.stack([rows[np.isin(ts, times)] for ts, rows in served], axis=1)
    return Prepared(market, series, np.concatenate(training), times, rows)


def _ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


def _rows(bars: BarSeries, ts_from: int, ts_to: int, step: int = 1) -> tuple[NDArray[np.int64], Float32Array]:
    """Open times and features of the bars in [ts_from, ts_to) whose window is whole."""
    matrix, ends = bars.matrix(), bars.window_ends()
    ends = ends[(bars.ts_open[ends] >= ts_from) & (bars.ts_open[ends] < ts_to)][::step]
    return bars.ts_open[ends], _features([matrix[:, end - WINDOW + 1 : end + 1] for end in ends.tolist()])


def _features(windows: Sequence[FloatArray]) -> Float32Array:
    blocks = [windows[start : start + BLOCK] for start in range(0, len(windows), BLOCK)]
    return np.concatenate([compute_batch([np.ascontiguousarray(w) for w in block]).rows for block in blocks])


def _reference(rows: Float32Array, names: Sequence[str] = SCHEMA.names) -> Reference:
    """As the trainer's statistics give it."""
    values = rows.astype(np.float64)
    deciles = np.quantile(values, np.arange(1, 10) / 10, axis=0).T.tolist()
    parts = zip(SCHEMA.names, values.mean(axis=0).tolist(), values.std(axis=0).tolist(), deciles, strict=True)
    return Reference.of({n: FeatureStatistics(mean, std, tuple(d)) for n, mean, std, d in parts if n in names})


# False alarms: served as they are, through the whole monitor.


def _false_alarms(markets: Iterator[Prepared], place: Workplace) -> tuple[Table, list[str], float, Prepared]:
    rows, notes, home, worst = [], [], None, 0.0
    for prepared in markets:
        raised = _served_honestly(prepared, place)
        days = len(prepared.times) * next(iter(prepared.series.values())).interval / DAY_MS
        drifts = [ts for ts, alarm in raised if alarm.name == AlarmName.INPUT_DRIFT]
        others = len(raised) - len(drifts)
        began = sorted({format_ms(ts)[:10] for ts in drifts})
        # A short serving part, as in a quick run, is no less than a month.
        monthly = len(began) / max(days / 30, 1.0)
        market = prepared.market
        counts = (str(len(drifts)), str(len(began)), f"{monthly:.2f}", str(others))
        rows.append((market.label, *map(_span, (market.train, market.serve)), *counts))
        if began:
            notes.append(f"{market.label}: the input-drift alarms began on {', '.join(began)}")
        if home is None:
            home, worst = prepared, monthly
    if home is None:
        raise RuntimeError("no market to serve")
    columns = ("bars of 5 symbols", "trained on", "served", "input-drift", "on days", "days in 30", "other alarms")
    return Table(columns, rows), notes, worst, home


def _span(days: tuple[str, str]) -> str:
    return f"{days[0]} to {days[1]}"


def _served_honestly(prepared: Prepared, place: Workplace) -> list[tuple[int, Alarm]]:
    """Alarms that were raised, with the bar's open time; the models' answers vary from bar to bar."""
    honesty, board, rng = Honesty({"xgb": prepared.reference}), Board(), np.random.default_rng(SEED)
    symbols, raised = list(prepared.series), []
    for t, (ts, rows) in enumerate(zip(prepared.times.tolist(), prepared.rows, strict=True)):
        changes = board.update("honesty", honesty.observe(rows, _records(ts, symbols, rows, ("xgb",), rng)))
        raised += [(ts, alarm) for alarm in changes.raised]
        if t % 1_000 == 0:
            place.progress(f"serving {prepared.market.label}", t, len(prepared.times))
    return raised


def _records(
    ts: int, symbols: Sequence[str], rows: Float32Array, voters: Sequence[str], rng: np.random.Generator
) -> list[DecisionRecord]:
    """Records of one group as the service makes them, PatchTST in shadow; answers are drawn."""
    n, hashes = len(symbols), input_hashes(rows)
    occasion = Occasion("5m", symbols, [ts] * n, [ts + 1] * n, [1.0] * n, [0.01] * n, hashes)
    outputs = {m: ModelOutput.of(rng.uniform(0.3, 0.7, n), Thresholds(0.55, 0.45), "a" * 64) for m in voters}
    answer = ModelOutput.of(rng.uniform(0.3, 0.7, n), Thresholds(0.55, 0.45), "b" * 64)
    beside = shadow_votes(replace(answer, input_hashes=tuple(hashes)))
    decisions = decide(occasion, outputs, VotePolicy(min_consensus=1))
    return [
        DecisionRecord(decision=decision, shadows={"patchtst": beside[i]}, reasons={}, ts_decision=ts)
        for i, decision in enumerate(decisions)
    ]


# Faults: after an honest day's part, each in many places at once.


def _faults(home: Prepared, minutes: Path | None, place: Workplace) -> tuple[Table, list[Target]]:
    calm = home.rows[home.times < _ms(CALM[1])] if home.market.file else home.rows
    mean, std = home.training.mean(axis=0), home.training.std(axis=0)
    per_feature, pairs = place.rounds(20), list(combinations(range(F), 2))
    columns = np.repeat(np.arange(F), per_feature)
    found = {
        "all features zero": _found(home, _places(calm, 200), np.zeros_like),
        "features standardised before they are given": _found(
            home, _places(calm, 200), lambda rows: ((rows - mean) / std).astype(np.float32)
        ),
        "columns shifted by one": _found(home, _places(calm, 200), lambda rows: np.roll(rows, 1, axis=1)),
        "one feature x 100, each in turn": _found(home, _places(calm, len(columns)), _scaled(columns, 100.0)),
        "one feature x 0.01, each in turn": _found(home, _places(calm, len(columns)), _scaled(columns, 0.01)),
        "two columns swapped, every pair": _found(home, _places(calm, len(pairs)), _swapped(np.array(pairs))),
    }
    found |= {label: _monitored(home, rows) for label, rows in _unit_faults(home, place.rounds(60)).items()}
    if minutes is not None:
        found["1m bars for a 5m model"] = _monitored(home, _minute_rows(minutes, place.rounds(40)))
    rows = []
    for label, bars in found.items():
        seen = bars[bars <= SPAN]
        median = f"{np.median(seen):.0f}" if len(seen) else "none"
        rows.append((label, str(len(bars)), f"{np.mean(bars <= SPAN):.1%}", median))
    goals = [
        at_least(f"{label}: seen within {SPAN} bars", 100 * float(np.mean(found[label] <= SPAN)), 95.0, "{:.1f} %")
        for label in list(found)[:4]
    ]
    return Table(("fault", "planted", f"seen within {SPAN} bars", "median bars, where seen"), rows), goals


def _places(rows: Float32Array, n: int) -> Float32Array:
    """Stretches of twice SPAN bars, evenly spread over time and symbols, shape (2 SPAN, n, F)."""
    starts = np.linspace(0, len(rows) - 2 * SPAN, n).astype(int)
    return np.stack([rows[start : start + 2 * SPAN, i % rows.shape[1]] for i, start in enumerate(starts)], axis=1)


def _found(home: Prepared, rows: Float32Array, fault: Fault) -> FloatArray:
    """At which bar of the fault each place is seen; infinite where it is not. The first SPAN bars are honest."""
    return _monitored(home, np.concatenate([rows[:SPAN], np.stack([fault(group) for group in rows[SPAN:]])]))


def _monitored(home: Prepared, rows: Float32Array) -> FloatArray:
    monitor, names = DriftMonitor(home.reference), [str(i) for i in range(rows.shape[1])]
    found = np.full(len(names), np.inf)
    for t, group in enumerate(rows, 1):
        said = np.array([bool(text) for text in monitor.observe(names, group)])
        found = np.where(said & np.isinf(found) & (t > SPAN), t - SPAN, found)
    return found


def _scaled(columns: NDArray[np.int64], factor: float) -> Fault:
    def fault(rows: Float32Array) -> Float32Array:
        rows = rows.copy()
        rows[np.arange(len(rows)), columns] *= np.float32(factor)
        return rows

    return fault


def _swapped(pairs: NDArray[np.int64]) -> Fault:
    def fault(rows: Float32Array) -> Float32Array:
        rows, each = rows.copy(), np.arange(len(rows))[:, None]
        rows[each, pairs] = rows[each, pairs[:, ::-1]]
        return rows

    return fault


def _unit_faults(home: Prepared, n: int) -> dict[str, Float32Array]:
    """Bars whose prices or volumes change their unit at one bar: every window holds both units."""
    last = _ms(CALM[1]) if home.market.file else int(home.times[-1])
    stretches: dict[str, list[Float32Array]] = {
        "prices x 100 from one bar on": [],
        "volumes x 1,000 from one bar on": [],
    }
    for i in range(n):
        bars = list(home.series.values())[i % len(home.series)].between(int(home.times[0]), last)
        start = int(np.linspace(0, len(bars) - WINDOW - 2 * SPAN, n)[i])
        matrix = bars.matrix()[:, start : start + WINDOW + 2 * SPAN - 1]
        for label, fields, factor in zip(stretches, (slice(0, 4), slice(4, 5)), (100.0, 1000.0), strict=True):
            faulty = matrix.copy()
            faulty[fields, WINDOW + SPAN - 1 :] *= factor
            stretches[label].append(_features([faulty[:, end : end + WINDOW] for end in range(2 * SPAN)]))
    return {label: np.stack(rows, axis=1) for label, rows in stretches.items()}


def _minute_rows(path: Path, n: int) -> Float32Array:
    """Stretches of 2 SPAN one-minute bars, shape (2 SPAN, n, F)."""
    series = list(read_bars(path).values())
    stretches = []
    for i in range(n):
        bars = series[i % len(series)]
        ends = bars.window_ends()
        start = int(ends[int(np.linspace(0, len(ends) - 2 * SPAN - 1, n)[i])])
        matrix = bars.matrix()
        stretches.append(_features([matrix[:, e - WINDOW + 1 : e + 1] for e in range(start, start + 2 * SPAN)]))
    return np.stack(stretches, axis=1)


# Frozen output: how long honest trees repeat themselves.


def _frozen(home: Prepared, place: Workplace) -> Table:
    from quantum_trader.learn.dataset import DatasetOptions, build_dataset
    from quantum_trader.learn.options import TrainOptions
    from quantum_trader.learn.train import train_model

    place.progress("fitting trees for their longest runs", 0, 1)
    bars = 3_000 if place.quick else 9_000
    dataset = build_dataset(
        {name: series.slice(0, bars) for name, series in home.series.items()}, DatasetOptions(workers=1)
    )
    rows = []
    for model in TREES:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        folder = train_model(model, dataset, TrainOptions.demo(), place.folder / "honesty", now)
        served = OnnxModel(load_artefact(folder))
        runs = np.concatenate([_runs(served.predict(home.rows[:, i])) for i in range(home.rows.shape[1])])
        rows.append(
            (f"{model}, trained as the demo's", f"{runs.sum():,}", str(runs.max()), str((runs >= FROZEN_RUN).sum()))
        )
    return Table(("equal answers in a row", "answers", "longest run", f"runs of {FROZEN_RUN}, the alarm's"), rows)


def _runs(p_up: FloatArray) -> NDArray[np.int64]:
    breaks = np.flatnonzero(np.abs(np.diff(p_up)) > ANSWER_STEP) + 1
    return np.diff(np.concatenate([[0], breaks, [len(p_up)]]))


def _cost(place: Workplace) -> Table:
    """One group, four models of which two read the row and two the sequence."""
    rng = np.random.default_rng(SEED)
    training = rng.normal(size=(2_000, F)).astype(np.float32)
    whole, channels = _reference(training), _reference(training, SEQUENCE_NAMES)
    sides: dict[str, Callable[[], object]] = {}
    for n in (5, 50, 500):
        symbols = [f"S{i}" for i in range(n)]
        honesty = Honesty({"xgb": whole, "lgbm": whole, "nhits": channels, "patchtst": channels})
        groups = []
        for t in range(SPAN + 1):
            rows = rng.normal(size=(n, F)).astype(np.float32)
            groups.append((rows, _records(t, symbols, rows, ("xgb", "lgbm", "nhits"), rng)))
        sides[f"{n} symbols"] = _observer(honesty, groups)
    found = paired(sides, place.rounds(15), "honesty", place.progress)
    return Table(("one group, four models", "time"), [(side, seconds(found.median(side))) for side in sides])


def _observer(honesty: Honesty, groups: Sequence[tuple[Float32Array, list[DecisionRecord]]]) -> Callable[[], object]:
    turns = cycle(groups)
    return lambda: honesty.observe(*next(turns))

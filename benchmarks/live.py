"""How long does one bar of 1, 5, 50 and 500 symbols take, against the usual per-symbol loop with the same weights?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch

from benchmarks.data import INTERVAL_MS, simulated
from benchmarks.harness import Samples, Workplace, paired
from benchmarks.tables import Block, Table, Target, at_least, at_most, seconds
from benchmarks.usual_loop import Inputs, LeanModels, OneByOne, UsualModels, answer_all, decide_all
from quantum_trader.core.bars import FIELDS, BarSeries, BarWindow
from quantum_trader.core.decision import Decision, Occasion
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import DISPLAY_NAMES, MODELS, ModelOutput
from quantum_trader.engine.deciding import FeatureBatch, decide_batch, feature_batch, predict
from quantum_trader.models.inference import BATCH_ROWS, OnnxModel

SYMBOLS = (1, 5, 50, 500)
ROUNDS = {1: 31, 5: 15, 50: 7, 500: 3}
MODELS_GOAL = {50: 20.0, 500: 20.0}
ALL_GOAL = {5: 5.0, 500: 40.0}
ALONE_GOAL_S = 0.025
_BARS = 600


class Ours:
    """The engine's deciding path on whole windows: features, four voters, vote."""

    def __init__(self, voters: dict[str, OnnxModel], series: Sequence[BarSeries]) -> None:
        self._voters, self._policy = voters, VotePolicy()
        self._last = [bars.bar(len(bars) - 1) for bars in series]
        self._windows = [_window(bars) for bars in series]
        self.batch = feature_batch([window.matrix() for window in self._windows])

    def decide(self, n: int) -> list[Decision]:
        """End to end for the first n symbols."""
        batch = feature_batch([window.matrix() for window in self._windows[:n]])
        bars = self._last[:n]
        occasion = Occasion(
            timeframe="5m",
            symbols=[bar.symbol for bar in bars],
            ts_open=[bar.ts_open for bar in bars],
            ts_close=[bar.ts_close for bar in bars],
            prices=[bar.close for bar in bars],
            atr_fractions=batch.atr_fractions,
            input_hashes=batch.input_hashes,
        )
        decisions, _ = decide_batch(occasion, batch, self._voters, self._policy)
        return decisions

    def models(self, batch: FeatureBatch) -> dict[str, ModelOutput]:
        """The four models alone."""
        return {name: predict(model, batch) for name, model in self._voters.items()}

    def model(self, name: str, batch: FeatureBatch) -> ModelOutput:
        """One model alone."""
        return predict(self._voters[name], batch)

    def part(self, n: int) -> FeatureBatch:
        """Features of the first n symbols, computed beforehand."""
        whole = self.batch
        return FeatureBatch(whole.rows[:n], whole.sequences[:n], whole.atr_fractions[:n], whole.input_hashes[:n])


def _window(bars: BarSeries) -> BarWindow:
    window = BarWindow(bars.symbol, INTERVAL_MS)
    for bar in bars:
        window.push(bar)
    return window


@dataclass(frozen=True)
class Sides:
    """Who is compared, and on what; the inputs are ours, computed beforehand, for the comparison of models alone."""

    ours: Ours
    usual: UsualModels
    lean: LeanModels
    frames: Sequence[pd.DataFrame]
    inputs: Sequence[Inputs]


def run(place: Workplace) -> list[Block]:
    """Measure."""
    counts = SYMBOLS[:-1] if place.quick else SYMBOLS
    most = max(counts)
    place.progress("simulating bars", 0, 1)
    series = list(simulated(most, _BARS).values())
    ours = Ours(place.models.served(), series)
    sides = Sides(
        ours,
        UsualModels(place.models.originals),
        LeanModels(place.models.originals),
        [pd.DataFrame({name: getattr(bars, name) for name in FIELDS}) for bars in series],
        [Inputs.of(row, sequence) for row, sequence in zip(ours.batch.rows, ours.batch.sequences, strict=True)],
    )
    default_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = {n: _models_alone(place, sides, n) for n in counts}
        whole = {n: _end_to_end(place, sides, n) for n in counts}
        by_model = _by_model(place, sides, most)
    finally:
        torch.set_num_threads(default_threads)
    threaded = _threaded(place, sides, min(50, most))
    notes = [
        place.models.described(),
        f"largest |dp| between the loop and ours over the {most} symbols of this run: {_difference(sides, most):.1e}",
        "the loop hands one-row frames to `predict_proba`; the lean loop calls the boosters on plain arrays; both run "
        "the networks eagerly, one symbol at a time",
        "targets are judged on the loop; which loop is taken decides the verdict of the models alone: against the lean "
        f"one it would be {alone[most].ratio('lean', 'ours'):.1f} x at {most} symbols",
        f"one thread on all sides (onnxruntime, XGBoost, LightGBM, torch); with torch's own choice of "
        f"{default_threads} threads the loop's models take {seconds(threaded)} for {min(50, most)} symbols instead of "
        f"{seconds(alone[min(50, most)].median('loop'))}",
        "end to end the loop computes its features with pandas over the last 200 bars, ours with TA-Lib over 512; "
        "all sides hold their bars in memory; none talks to a bus",
        f"ours pads every batch to {BATCH_ROWS} rows: one symbol costs what {BATCH_ROWS} cost",
        "elsewhere, not in this run: FreqAI's live path (LightGBM alone, 380 features, 2 pairs, 3 timeframes) took 659 "
        "to 773 ms a candle and pair on a 2-core machine",
    ]
    tables = [_alone_table(alone), _whole_table(whole), by_model]
    return [Block("live", "live: one bar of n symbols, four models", tables, _targets(alone, whole), notes)]


def _models_alone(place: Workplace, sides: Sides, n: int) -> Samples:
    part, inputs = sides.ours.part(n), sides.inputs[:n]
    calls = {
        "loop": lambda: answer_all(sides.usual, inputs),
        "ours": lambda: sides.ours.models(part),
        "lean": lambda: answer_all(sides.lean, inputs),
    }
    return paired(calls, place.rounds(ROUNDS[n]), f"models alone, {n} symbols", place.progress)


def _end_to_end(place: Workplace, sides: Sides, n: int) -> Samples:
    frames = sides.frames[:n]
    calls = {"loop": lambda: decide_all(sides.usual, frames), "ours": lambda: sides.ours.decide(n)}
    # By now both sides are warm; at 500 symbols a call of the loop more would only cost time.
    warm_up = n < max(SYMBOLS)
    return paired(calls, place.rounds(ROUNDS[n]), f"end to end, {n} symbols", place.progress, warm_up=warm_up)


def _by_model(place: Workplace, sides: Sides, n: int) -> Table:
    part, inputs = sides.ours.part(n), sides.inputs[:n]
    rows = []
    for name in MODELS:
        calls: dict[str, Callable[[], object]] = {
            "loop": partial(_ask_each, sides.usual, name, inputs),
            "lean": partial(_ask_each, sides.lean, name, inputs),
            "ours": partial(sides.ours.model, name, part),
        }
        found = paired(calls, place.rounds(3), f"{DISPLAY_NAMES[name]}, {n} symbols", place.progress)
        rows.append((f"{DISPLAY_NAMES[name]}, {n} symbols", *_cells(found, "loop", "lean")))
    return Table(("one model alone", *_HEAD, *_LEAN_HEAD), rows)


def _ask_each(models: OneByOne, model: str, inputs: Sequence[Inputs]) -> list[float]:
    return [models.answer(model, one) for one in inputs]


def _threaded(place: Workplace, sides: Sides, n: int) -> float:
    """Seconds of the loop's models with torch's own number of threads."""
    calls = {"loop": lambda: answer_all(sides.usual, sides.inputs[:n])}
    return paired(calls, place.rounds(3), f"models alone, {n} symbols, torch's threads", place.progress).median("loop")


def _difference(sides: Sides, n: int) -> float:
    theirs = answer_all(sides.usual, sides.inputs[:n])
    mine = sides.ours.models(sides.ours.part(n))
    gaps = [np.abs(mine[name].p_up - np.array([answer[name] for answer in theirs])).max() for name in MODELS]
    return float(max(gaps))


_HEAD = ("loop", "ours", "ratio")
_LEAN_HEAD = ("lean loop", "ratio")


def _cells(found: Samples, loop: str, *lean: str) -> tuple[str, ...]:
    cells = [seconds(found.median(loop)), seconds(found.median("ours")), f"{found.ratio(loop, 'ours'):.1f} x"]
    for side in lean:
        cells += [seconds(found.median(side)), f"{found.ratio(side, 'ours'):.1f} x"]
    return tuple(cells)


def _alone_table(alone: dict[int, Samples]) -> Table:
    rows = [(str(n), *_cells(found, "loop", "lean")) for n, found in alone.items()]
    return Table(("symbols, models alone", *_HEAD, *_LEAN_HEAD), rows)


def _whole_table(whole: dict[int, Samples]) -> Table:
    return Table(("symbols, end to end", *_HEAD), [(str(n), *_cells(found, "loop")) for n, found in whole.items()])


def _targets(alone: dict[int, Samples], whole: dict[int, Samples]) -> list[Target]:
    models = [
        at_least(f"models alone, {n} symbols", alone[n].ratio("loop", "ours"), goal)
        for n, goal in MODELS_GOAL.items()
        if n in alone
    ]
    everything = [
        at_least(f"end to end, {n} symbols", whole[n].ratio("loop", "ours"), goal)
        for n, goal in ALL_GOAL.items()
        if n in whole
    ]
    median_ms = whole[1].median("ours") * 1000
    return [*models, *everything, at_most("one symbol alone", median_ms, ALONE_GOAL_S * 1000, "{:.1f} ms")]

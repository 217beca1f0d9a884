"""How long does one bar of 1, 5, 50 and 500 symbols take, against the usual per-symbol loop with the same weights?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from benchmarks.data import INTERVAL_MS, simulated
from benchmarks.harness import Samples, Workplace, paired
from benchmarks.tables import Block, Table, Target, at_least, at_most, seconds
from benchmarks.usual_loop import UsualModels, answer_all, decide_all
from quantum_trader.core.bars import FIELDS, BarSeries, BarWindow
from quantum_trader.core.decision import Decision, Occasion
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import DISPLAY_NAMES, MODELS, ModelOutput
from quantum_trader.engine.deciding import FeatureBatch, decide_batch, feature_batch, predict
from quantum_trader.models.inference import OnnxModel

SYMBOLS = (1, 5, 50, 500)
ROUNDS = {1: 31, 5: 21, 50: 9, 500: 5}
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


def run(place: Workplace) -> list[Block]:
    """Measure."""
    counts = SYMBOLS[:-1] if place.quick else SYMBOLS
    most = max(counts)
    place.progress("simulating bars", 0, 1)
    series = list(simulated(most, _BARS).values())
    ours = Ours(place.models.served(), series)
    loop = UsualModels(place.models.originals)
    frames = [pd.DataFrame({name: getattr(bars, name) for name in FIELDS}) for bars in series]
    default_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = {n: _models_alone(place, ours, loop, n) for n in counts}
        whole = {n: _end_to_end(place, ours, loop, frames[:n]) for n in counts}
        by_model = _by_model(place, ours, loop, most)
    finally:
        torch.set_num_threads(default_threads)
    threaded = _models_alone(place, ours, loop, 50)
    notes = [
        place.models.described(),
        f"largest |dp| between the two sides over the {most} symbols of this run: {_difference(ours, loop, most):.1e}",
        "one thread on both sides (onnxruntime 1, torch.set_num_threads(1), XGBoost and LightGBM 1 thread); with "
        f"torch's own choice of {default_threads} the loop's models take {seconds(threaded.median('loop'))} for 50 "
        f"symbols instead of {seconds(alone[50].median('loop'))}",
        "the loop computes its features with pandas over the last 200 bars, ours with TA-Lib over 512; "
        "both sides hold their bars in memory; neither talks to a bus",
        "ours pads every batch to 32 rows: one symbol costs what 32 cost",
        "elsewhere, not in this run: FreqAI's live path (LightGBM alone, 380 features, 2 pairs, 3 timeframes) took 659 "
        "to 773 ms a candle and pair on a machine like this",
    ]
    tables = [_table(alone, whole), by_model]
    return [Block("live", "live: one bar of n symbols, four models", tables, _targets(alone, whole), notes)]


def _models_alone(place: Workplace, ours: Ours, loop: UsualModels, n: int) -> Samples:
    part = ours.part(n)
    sides = {"loop": lambda: answer_all(loop, part.rows, part.sequences), "ours": lambda: ours.models(part)}
    return paired(sides, place.rounds(ROUNDS[n]), f"models alone, {n} symbols", place.progress)


def _end_to_end(place: Workplace, ours: Ours, loop: UsualModels, frames: Sequence[pd.DataFrame]) -> Samples:
    n = len(frames)
    sides = {"loop": lambda: decide_all(loop, frames), "ours": lambda: ours.decide(n)}
    # By now both sides are warm; at 500 symbols a call of the loop more would only cost time.
    warm_up = n < max(SYMBOLS)
    return paired(sides, place.rounds(ROUNDS[n]), f"end to end, {n} symbols", place.progress, warm_up=warm_up)


def _by_model(place: Workplace, ours: Ours, loop: UsualModels, n: int) -> Table:
    part = ours.part(n)
    inputs = list(zip(part.rows, part.sequences, strict=True))
    rows = []
    for name in MODELS:
        sides = {
            "loop": lambda name=name: [loop.answer(name, row, sequence) for row, sequence in inputs],
            "ours": lambda name=name: ours.model(name, part),
        }
        found = paired(sides, place.rounds(3), f"{DISPLAY_NAMES[name]}, {n} symbols", place.progress)
        rows.append((f"{DISPLAY_NAMES[name]}, {n} symbols", *_cells(found)))
    return Table(("model alone", "loop", "ours", "ratio"), rows)


def _difference(ours: Ours, loop: UsualModels, n: int) -> float:
    part = ours.part(n)
    theirs = answer_all(loop, part.rows, part.sequences)
    mine = ours.models(part)
    gaps = [np.abs(mine[name].p_up - np.array([answer[name] for answer in theirs])).max() for name in MODELS]
    return float(max(gaps))


def _cells(found: Samples) -> tuple[str, str, str]:
    return seconds(found.median("loop")), seconds(found.median("ours")), f"{found.ratio('loop', 'ours'):.1f} x"


def _table(alone: dict[int, Samples], whole: dict[int, Samples]) -> Table:
    rows = [(f"{n}", *_cells(alone[n]), *_cells(whole[n])) for n in alone]
    head = ("models: loop", "models: ours", "ratio", "end to end: loop", "end to end: ours", "ratio")
    return Table(("symbols", *head), rows)


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

"""How much does a replay with all four models cost beyond its kernels: features and four model batches?

Kernels alone: one process, one thread, nothing else running, computes the features and asks the four models for the
same bars in the same batches of 32, and does nothing with the answers. With both cores used at their best, replay can
take no less than that time divided by the number of worker processes. The wall time of replay is everything from the
call to the renamed Parquet file: starting the workers, loading the models, handing over, vote, records, writing.
"""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import replay_bars
from benchmarks.harness import Crew, Workplace
from benchmarks.tables import Block, Table, at_most, rate, seconds
from quantum_trader.core.bars import WINDOW, BarSeries, FloatArray
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import MODELS, Role
from quantum_trader.engine.deciding import feature_batch, predict
from quantum_trader.engine.replay import CHUNK, ReplayModel, replay
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.inference import OnnxModel

WORKERS = 2
GOAL = 1.3
DECISIONS, QUICK_DECISIONS = 10_000, 800


def run(place: Workplace) -> list[Block]:
    """Measure."""
    bounded = _measure(place, "replay", QUICK_DECISIONS if place.quick else DECISIONS, place.rounds(3))
    return [bounded, _measure(place, "replay-full", None, 1)] if place.full else [bounded]


@dataclass(frozen=True)
class Work:
    """What a process of the kernel measurement computes.

    Attributes:
        paths: Artefacts by model.
        series: Bars by symbol.
        share: Which of the batches, and of how many processes.
    """

    paths: Mapping[str, Path]
    series: Mapping[str, BarSeries]
    share: tuple[int, int]


def _measure(place: Workplace, name: str, decisions: int | None, rounds: int) -> Block:
    paths = place.models.paths
    series, source = replay_bars(decisions)
    n = sum(len(bars.window_ends()) for bars in series.values())
    kernels, both, walls, ratios = [], [], [], []
    parts: list[Mapping[str, float]] = []
    with Crew(1) as one, Crew(WORKERS) as several:
        for crew in (one, several):
            crew.work(_load, [paths] * crew.size)
        for turn in range(rounds):
            done = 3 * turn
            place.progress(f"{name}: kernels alone", done, 3 * rounds)
            shift = one.work(_kernels, [Work(paths, series, (0, 1))])
            parts.append(shift.results[0])
            kernels.append(sum(shift.results[0].values()))
            place.progress(f"{name}: kernels on {WORKERS} cores", done + 1, 3 * rounds)
            both.append(several.work(_kernels, [Work(paths, series, (i, WORKERS)) for i in range(WORKERS)]).wall_s)
            place.progress(f"{name}: replay", done + 2, 3 * rounds)
            walls.append(_replay(series, paths, place.folder / "replay" / "decisions.parquet", n))
            ratios.append(walls[-1] / (kernels[-1] / WORKERS))
    wall, ratio = statistics.median(walls), statistics.median(ratios)
    middle = {key: statistics.median(part[key] for part in parts) for key in parts[0]}
    rows = [(f"kernel: {key}", seconds(value), seconds(value / n), "") for key, value in middle.items()]
    total, shared = statistics.median(kernels), statistics.median(both)
    rows += [
        ("kernels, sum, one process alone", seconds(total), seconds(total / n), rate(n / total)),
        (f"the same kernels by {WORKERS} processes at once", seconds(shared), seconds(shared / n), rate(n / shared)),
        (f"replay, {WORKERS} workers, to Parquet", seconds(wall), seconds(wall / n), rate(n / wall)),
    ]
    goal = at_most(f"wall / (sum of kernels / {WORKERS})", ratio, GOAL, "{:.2f} x")
    notes = [
        f"{n:,} decisions on {source}; median of {rounds} rounds; all four models vote",
        f"the goal divides the kernels' sum by {WORKERS}, as if two busy cores were each as fast as one alone; against "
        f"the same kernels run by {WORKERS} processes at once replay takes {wall / shared:.2f} x",
        place.models.described(),
    ]
    table = Table(("", "time", "per decision", "decisions"), rows)
    return Block(name, f"{name}: {n:,} bars, four models", [table], [goal], notes)


_loaded: dict[str, OnnxModel] = {}


def _load(paths: Mapping[str, Path]) -> None:
    for name in MODELS:
        _loaded[name] = OnnxModel(load_artefact(paths[name]))
        _loaded[name].warm_up()


def _kernels(work: Work) -> dict[str, float]:
    """Seconds in features and in each model over a share of the batches."""
    spent = dict.fromkeys(("features", *MODELS), 0.0)
    mine, of = work.share
    for number, windows in enumerate(_batches(work.series)):
        if number % of != mine:
            continue
        started = time.perf_counter()
        batch = feature_batch(windows)
        ended = time.perf_counter()
        spent["features"] += ended - started
        for name, model in _loaded.items():
            started = ended
            predict(model, batch)
            ended = time.perf_counter()
            spent[name] += ended - started
    return spent


def _batches(series: Mapping[str, BarSeries]) -> list[list[FloatArray]]:
    batches: list[list[FloatArray]] = []
    for bars in series.values():
        matrix, ends = bars.matrix(), bars.window_ends().tolist()
        for start in range(0, len(ends), CHUNK):
            batches.append([matrix[:, end - WINDOW + 1 : end + 1] for end in ends[start : start + CHUNK]])
    return batches


def _replay(series: Mapping[str, BarSeries], paths: Mapping[str, Path], target: Path, n: int) -> float:
    from quantum_trader.archive.columns import to_table
    from quantum_trader.archive.store import DecisionFile

    cast = [ReplayModel(name, paths[name], Role.VOTER) for name in MODELS]
    written = 0
    started = time.monotonic()
    with DecisionFile(target) as file:
        for records in replay(series, "5m", cast, VotePolicy(), workers=WORKERS):
            file.write(to_table(records))
            written += len(records)
    wall = time.monotonic() - started
    if written != n:
        raise RuntimeError(f"replay wrote {written} of {n} decisions")
    return wall

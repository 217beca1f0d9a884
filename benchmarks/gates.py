"""What does the whole verdict cost, by the number of predictions, and what to go on with it cycle by cycle?

Each size is judged in a process of its own that reads the files first, so that its peak memory is the verdict's alone.
The answers are random numbers with a little skill, the votes, columns and files are the real ones.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from benchmarks.data import INTERVAL_MS
from benchmarks.gate_data import SHADOW, make_past
from benchmarks.harness import Crew, Workplace
from benchmarks.tables import Block, Table, at_most, megabytes, seconds
from quantum_trader.archive.case import case_of, judge_case
from quantum_trader.archive.store import NUMBERS, DecisionFile, read_decisions
from quantum_trader.archive.window import Join
from quantum_trader.core.predictions import DEFAULT_WEIGHTS
from quantum_trader.gates.judge import judge_trial
from quantum_trader.gates.sample import CYCLE
from quantum_trader.gates.trial import Trial
from quantum_trader.gates.verdict import Verdict
from quantum_trader.market.files import read_bars, write_bars

SYMBOLS = 50
SIZES = (10_000, 100_000, 1_000_000, 5_000_000)
MONTH = (30 * 288, 5)
"""Bars of 5 minutes in 30 days, and symbols."""

_ROUNDS = 5
_WEIGHT = DEFAULT_WEIGHTS[SHADOW]


@dataclass(frozen=True)
class _Work:
    """One past to make, or to judge."""

    folder: Path
    bars: int
    symbols: int
    rounds: int


@dataclass(frozen=True)
class _Taken:
    """Medians in seconds; memory in bytes."""

    read_s: float
    verdict_s: float
    peak: int


@dataclass(frozen=True)
class _Steps:
    """Medians in seconds of one cycle's step of a verdict that goes on, and of the same verdict from scratch."""

    cycles: int
    early_s: float
    late_s: float
    verdict_s: float
    whole_s: float


def run(place: Workplace) -> list[Block]:
    """Measure."""
    sizes = SIZES[:2] if place.quick else SIZES
    taken: dict[str, _Taken] = {}
    works = {f"{size:,}": _work(place, size // SYMBOLS, SYMBOLS) for size in sizes}
    month = f"30 days, {MONTH[1]} symbols ({MONTH[0] * MONTH[1]:,})"
    works[month] = _work(place, *MONTH)
    for done, (name, work) in enumerate(works.items()):
        place.progress("making and judging predictions", done, len(works))
        _alone(_make, work)
        taken[name] = _alone(_judge, work)
    largest = max(size for size in sizes if size <= 1_000_000)
    steps = _alone(_go_on, works[f"{largest:,}"])
    return [_block(place, taken, month, largest, steps)]


def _block(place: Workplace, taken: dict[str, _Taken], month: str, largest: int, steps: _Steps) -> Block:
    rows = [
        (name, seconds(found.read_s), seconds(found.verdict_s), f"{_micros(found, name):.2f}", megabytes(found.peak))
        for name, found in taken.items()
    ]
    onward = [
        ("a cycle's decisions and bars added, first tenth", seconds(steps.early_s)),
        ("a cycle's decisions and bars added, last tenth", seconds(steps.late_s)),
        (f"the verdict at the end of cycle {steps.cycles}", seconds(steps.verdict_s)),
        (f"the same verdict from all {largest:,} predictions", seconds(steps.whole_s)),
    ]
    first, last = f"{largest:,}", f"{max(SIZES):,}"
    targets = [
        at_most(f"{first} predictions, s", taken[first].verdict_s, 10.0),
        at_most(f"{first} predictions, peak memory, GB", taken[first].peak / 1e9, 2.0, "{:.2f}"),
        at_most("30 days of 5 symbols, s", taken[month].verdict_s, 2.0, "{:.2f}"),
    ]
    if last in taken:
        growth = _micros(taken[last], last) / _micros(taken[first], first)
        targets.append(at_most(f"time of one prediction, {last} against {first}", growth, 1.25, "{:.2f} x"))
    notes = [
        f"{SYMBOLS} symbols; the four models, three of them voters; medians of {place.rounds(_ROUNDS)} verdicts "
        "after one that is not counted, one at 5,000,000",
        "reading: Parquet decisions (the columns that the gates read) and bars; the chain of predictions is not "
        "followed here",
        "verdict: from tables to the verdict with every line, all cycles looked at; memory: the most that the process "
        "held, Python and libraries, reading and all verdicts included",
        "going on: one process takes cycle after cycle of the file, as `quantum gates --follow` does, first and last "
        "tenth in turns; it ends with the verdict that the whole file gives, to the last bit of its evidence",
    ]
    return Block(
        "gates",
        "gates: the whole verdict",
        [
            Table(("predictions", "reading", "verdict", "µs each", "peak memory"), rows),
            Table(("going on, cycle by cycle", "time"), onward),
        ],
        targets,
        notes,
    )


def _work(place: Workplace, bars: int, symbols: int) -> _Work:
    folder = place.folder / "gates" / f"{bars}-{symbols}"
    folder.mkdir(parents=True)
    return _Work(folder, bars, symbols, 1 if bars * symbols > 1_000_000 else place.rounds(_ROUNDS))


def _micros(found: _Taken, name: str) -> float:
    """Microseconds of a prediction; the number stands in the row's name."""
    count = name.rpartition("(")[2].rstrip(")").replace(",", "")
    return 1e6 * found.verdict_s / int(count)


def _alone(call: Callable[[_Work], Any], work: _Work) -> Any:
    """What a function gives in a fresh process."""
    with Crew(1) as crew:
        return crew.work(call, [work]).results[0]


def _make(work: _Work) -> None:
    past = make_past(work.bars, work.symbols)
    with DecisionFile(work.folder / "decided" / "decisions.parquet") as file:
        file.write(past.table)
    write_bars(work.folder / "bars.parquet", past.bars)


def _judge(work: _Work) -> _Taken:
    started = time.perf_counter()
    table = read_decisions(work.folder / "decided", NUMBERS)
    bars = read_bars(work.folder / "bars.parquet")
    read_s = time.perf_counter() - started
    samples = []
    for _ in range(work.rounds + (work.rounds > 1)):
        started = time.perf_counter()
        judge_case(case_of(table, bars, SHADOW, _WEIGHT))
        samples.append(time.perf_counter() - started)
    return _Taken(read_s, statistics.median(samples[1:] or samples), _peak())


def _go_on(work: _Work) -> _Steps:
    past = _Past(work)
    cycles = work.bars // CYCLE
    tenth = max(1, cycles // 10)
    late, early = _Onward(past), _Onward(past)
    for _ in range(cycles - tenth):
        late.step()
    # In turns, so that a busy minute is not taken for growth.
    steps = [(early.step(), late.step()) for _ in range(tenth)]
    verdicts, onward = _median(lambda: judge_trial(late.trial, symbols=past.symbols, bar_ms=INTERVAL_MS), work.rounds)
    wholes, whole = _median(lambda: judge_case(case_of(past.table, past.bars, SHADOW, _WEIGHT)), work.rounds)
    if _told(onward) != _told(whole):
        raise ValueError("the verdict that went on is another than the whole one")
    firsts, lasts = zip(*steps, strict=True)
    return _Steps(cycles, statistics.median(firsts), statistics.median(lasts), verdicts, wholes)


class _Past:
    """A past read back from its files."""

    def __init__(self, work: _Work) -> None:
        self.table = read_decisions(work.folder / "decided", NUMBERS)
        self.bars = read_bars(work.folder / "bars.parquet")
        self.symbols = sorted(self.bars)
        self.ts_first: int = pc.min(self.table["ts_open"]).as_py()


class _Onward:
    """A trial that takes a past cycle by cycle."""

    def __init__(self, past: _Past) -> None:
        self._past, self._cycle = past, 0
        self._join = Join(SHADOW, past.symbols, past.ts_first, INTERVAL_MS, _WEIGHT)
        self._trial: Trial | None = None

    @property
    def trial(self) -> Trial:
        """The sums so far."""
        if self._trial is None:
            raise ValueError("no cycle yet")
        return self._trial

    def step(self) -> float:
        """Take the next cycle; seconds."""
        rows = CYCLE * len(self._past.symbols)
        started = time.perf_counter()
        part = self._past.table.slice(self._cycle * rows, rows)
        self._cycle += 1
        portion = self._join.portion(part, self._past.bars, self._cycle * CYCLE)
        self._trial = self._trial or Trial(len(self._past.symbols), self._join.electorate)
        self._trial.extend(portion.sample, portion.panel)
        return time.perf_counter() - started


def _median(call: Callable[[], Verdict], rounds: int) -> tuple[float, Verdict]:
    """Median seconds of a call, and what it gave."""
    samples: list[float] = []
    for _ in range(rounds):
        started = time.perf_counter()
        result = call()
        samples.append(time.perf_counter() - started)
    return statistics.median(samples), result


def _told(verdict: Verdict) -> tuple[object, ...]:
    """What has to be the same; the reasons name symbols and voters, and are given fewer names here."""
    whole = verdict.whole
    assert whole is not None
    return verdict.state, [line.state for line in (*verdict.gates, *whole.checks)], whole.log_e


def _peak() -> int:
    """Most memory that this process held, bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024

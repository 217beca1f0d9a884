"""What every benchmark shares: sides that take turns, processes that start together, and the work place.

Numbers of a noisy machine are compared only within one run: the sides of a comparison take turns (A B A B), a ratio is
taken within each round, and medians are reported. Every side is called once before it is timed. The garbage collector
stays on, as in service, and is run before each sample, so that no side pays for another's litter.
"""

import gc
import math
import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from rich.console import Console

if TYPE_CHECKING:
    from benchmarks.models import RealModels

SHORTEST_SAMPLE_S = 0.02
"""A sample repeats its call until it is at least about this long: the clock and the scheduler are then noise."""

BARRIER_TIMEOUT_S = 120.0


class Progress(Protocol):
    """Told how far a benchmark is."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say that `done` of `total` rounds of a stage are over."""


@dataclass(frozen=True)
class Samples:
    """Seconds of one call, by side, one value a round."""

    seconds: Mapping[str, Sequence[float]]

    def median(self, side: str) -> float:
        """Median seconds of one call."""
        return statistics.median(self.seconds[side])

    def ratio(self, slow: str, fast: str) -> float:
        """Median over the rounds of slow / fast within the round."""
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)
        return statistics.median(a / b for a, b in pairs)


def paired(
    sides: Mapping[str, Callable[[], object]], rounds: int, stage: str, progress: Progress, *, warm_up: bool = True
) -> Samples:
    """Time calls in turns.

    Args:
        sides: What is compared, by name.
        rounds: How often every side is sampled.
        stage: For the progress line.
        progress: Told after each round.
        warm_up: Call every side once first; without it each sample is one call.
    """
    calls = {name: _calls_per_sample(call) if warm_up else 1 for name, call in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name, call in sides.items():
            gc.collect()
            started = time.perf_counter()
            for _ in range(calls[name]):
                call()
            seconds[name].append((time.perf_counter() - started) / calls[name])
        progress(stage, turn + 1, rounds)
    return Samples(seconds)


def _calls_per_sample(call: Callable[[], object]) -> int:
    once = _timed(call)
    # A short first call was mostly warming up; a long one has said enough.
    if once < SHORTEST_SAMPLE_S:
        once = _timed(call)
    return max(1, math.ceil(SHORTEST_SAMPLE_S / max(once, 1e-9)))


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@dataclass(frozen=True)
class Shift:
    """What processes that worked at the same time brought back.

    Attributes:
        wall_s: From the first one's start to the last one's end, by the clock that all processes share.
        results: One each, in the order of the arguments.
    """

    wall_s: float
    results: list[Any]


class Crew:
    """Fresh processes that start each piece of work together; none has imported what the parent has."""

    def __init__(self, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.size = size
        self._pool = ProcessPoolExecutor(size, context, initializer=_join_crew, initargs=(context.Barrier(size),))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def work(self, call: Callable[..., Any], arguments: Sequence[Any]) -> Shift:
        """Call a module's function with one argument in each process, all at the same moment."""
        if len(arguments) != self.size:
            raise ValueError(f"{len(arguments)} arguments for a crew of {self.size}")
        futures = [self._pool.submit(_together, call, argument) for argument in arguments]
        done = [future.result() for future in futures]
        wall = max(end for _, end, _ in done) - min(start for start, _, _ in done)
        return Shift(wall, [result for _, _, result in done])


_crew: dict[str, Any] = {}


def _join_crew(barrier: Any) -> None:
    # Ctrl-C in a terminal reaches the whole group: the crew goes home at once and without a word; the parent reports.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    _crew["barrier"] = barrier


def _together(call: Callable[..., Any], argument: Any) -> tuple[float, float, Any]:
    gc.collect()
    # Whoever waits here cannot take a second piece of work, so every process gets exactly one.
    _crew["barrier"].wait(BARRIER_TIMEOUT_S)
    started = time.monotonic()
    result = call(argument)
    return started, time.monotonic(), result


@dataclass
class Workplace:
    """What a benchmark is given.

    Attributes:
        folder: For files; removed at the end.
        quick: A few rounds of small work, to see that everything runs; its numbers say nothing.
        full: Replay the whole file of bars.
        install: Also install the serving package into a fresh environment; downloads packages.
        console: For lines that stay.
        progress: For the line that moves.
    """

    folder: Path
    quick: bool
    full: bool
    install: bool
    console: Console
    progress: Progress = field(repr=False)

    def rounds(self, usual: int) -> int:
        """How many rounds: the usual number, or 2 in a quick run."""
        return min(usual, 2) if self.quick else usual

    @cached_property
    def models(self) -> "RealModels":
        """Four real models, trained on the first use and shared by the benchmarks of this run."""
        from benchmarks.models import build

        return build(self.folder / "models", self.progress)

"""Paired timing: what a shadow costs per bar, from two engines that decided the same bars in turns. Pure statistics.

- A bar's two times stand beside each other, so what moves a whole machine cancels in their ratio. The median of the
  ratios is the figure.
- Neighbouring bars are not independent on a busy machine, so the interval draws whole blocks of them.
- A bar counts as *breaker open* if its shadow had missed so often before that nobody waited, and missed again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantum_trader.core.predictions import Cause, Status
from quantum_trader.engine.breaker import Breaker

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_BLOCK = 10
_DRAWS = 2_000
_SEED = 20260101


@dataclass(frozen=True)
class Goals:
    """What the timing of an engine with a shadow has to keep, against one without.

    Attributes:
        ratio: Highest median of the paired ratios, as a mean over faults.
        ratio_open: The same over the bars at which the breaker was open.
        grace_ms: So much may the 99th percentile rise, in milliseconds; the grace of the run.
        allowance: So far above its goal may the median of one pair of processes lie. Such pairs differ, and what else
            the host runs moves them for seconds; docs/how-to/certify.md says by how much.
    """

    ratio: float = 1.05
    ratio_open: float = 1.02
    grace_ms: float = 20.0
    allowance: float = 0.03


@dataclass(frozen=True)
class Latency:
    """Percentiles of n times, milliseconds; of few times the high ones are hardly more than the largest."""

    n: int
    p50: float
    p99: float
    p999: float
    largest: float


@dataclass(frozen=True)
class Ratio:
    """Median of n paired ratios, with its 95 % interval."""

    n: int
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Timing:
    """Both sides of a comparison.

    Attributes:
        off: Without a shadow.
        on: With it.
        ratio: On against off, bar by bar.
        ratio_open: The same where the breaker was open; None where it never was.
        ratio_met: Whether the median ratio keeps its goal, with the allowance for one pair of processes.
        p99_met: Whether the 99th percentile does.
        open_met: Whether the median ratio with the breaker open does, likewise; true where it never was.
    """

    off: Latency
    on: Latency
    ratio: Ratio
    ratio_open: Ratio | None
    ratio_met: bool
    p99_met: bool
    open_met: bool

    @property
    def met(self) -> bool:
        """Whether all goals are kept."""
        return self.ratio_met and self.p99_met and self.open_met


def compare(off_ms: ArrayLike, on_ms: ArrayLike, opened: ArrayLike, goals: Goals) -> Timing:
    """Judge the times of n bars.

    Args:
        off_ms: Milliseconds without a shadow, shape (n,), n >= 1.
        on_ms: Milliseconds with it, of the same bars.
        opened: Bars at which the breaker was open (`breaker_open`), shape (n,).
        goals: What has to be kept.
    """
    off, on = np.asarray(off_ms, dtype=np.float64), np.asarray(on_ms, dtype=np.float64)
    where = np.asarray(opened, dtype=np.bool_)
    slow, fast = latency(on), latency(off)
    ratio = paired_ratio(off, on)
    ratio_open = paired_ratio(off[where], on[where]) if where.any() else None
    return Timing(
        off=fast,
        on=slow,
        ratio=ratio,
        ratio_open=ratio_open,
        ratio_met=ratio.median <= goals.ratio + goals.allowance,
        p99_met=slow.p99 <= fast.p99 + goals.grace_ms,
        open_met=ratio_open is None or ratio_open.median <= goals.ratio_open + goals.allowance,
    )


def latency(times_ms: ArrayLike) -> Latency:
    """Percentiles of n >= 1 times in milliseconds.

    Raises:
        ValueError: if there are none, or one is no positive number.
    """
    times = _positive(times_ms)
    p50, p99, p999 = np.quantile(times, (0.5, 0.99, 0.999)).tolist()
    return Latency(len(times), p50, p99, p999, float(times.max()))


def paired_ratio(off_ms: ArrayLike, on_ms: ArrayLike, *, block: int = _BLOCK, seed: int = _SEED) -> Ratio:
    """Median of on / off over n >= 1 bars, with a block bootstrap's interval.

    Args:
        off_ms: Shape (n,).
        on_ms: Of the same bars.
        block: Neighbouring bars that are drawn together.
        seed: Of the draws: the same times give the same interval.

    Raises:
        ValueError: if the two differ in length, are empty, or hold something else than positive numbers.
    """
    off, on = _positive(off_ms), _positive(on_ms)
    if off.shape != on.shape:
        raise ValueError(f"{len(off)} times without a shadow and {len(on)} with one are no pairs")
    ratios = on / off
    n = len(ratios)
    rng = np.random.default_rng(seed)
    size = min(block, n)
    # Blocks wrap around, so that the first and the last bar are drawn as often as any other.
    starts = rng.integers(0, n, (_DRAWS, -(-n // size), 1))
    drawn = ((starts + np.arange(size)) % n).reshape(_DRAWS, -1)[:, :n]
    low, high = np.quantile(np.median(ratios[drawn], axis=1), (0.025, 0.975)).tolist()
    return Ratio(n, float(np.median(ratios)), low, high)


def breaker_open(answers: Sequence[tuple[Status, str]], misses: int = 3) -> BoolArray:
    """At which bars nobody waited because the shadow had missed too often, shape (n,).

    Args:
        answers: Status and cause (the word a reason begins with) of the shadow at each bar, in their order.
        misses: So many misses one after the other open the breaker.

    A bar whose answer came is not among them, whoever waited: an open breaker leaves no trace in it.
    """
    breaker = Breaker(misses, 0.0)
    opened = np.zeros(len(answers), dtype=np.bool_)
    for i, (status, cause) in enumerate(answers):
        if status in (Status.OK, Status.REFUSED):
            breaker.answered(0.0)
            continue
        if breaker.open and cause == Cause.GRACE:
            # It was waited for: an answer that came after its bar, but in time, had closed the breaker again.
            breaker.answered(0.0)
        opened[i] = breaker.open
        breaker.missed()
    return opened


def _positive(times_ms: ArrayLike) -> FloatArray:
    times = np.asarray(times_ms, dtype=np.float64)
    if times.ndim != 1 or not len(times) or not (np.isfinite(times) & (times > 0)).all():
        raise ValueError("times: expected at least one positive number of milliseconds")
    return times

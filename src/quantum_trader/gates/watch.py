"""After promotion: is the model still what it was promoted for, and is the engine no worse off with it?

- The CUSUM of the blocks' x rings when their mean has left the promoted one: W = max(0, W) - mu x + mu^2 / 2 with mu
  half the promoted mean (GATES.md, "After promotion").
- Guards compare the time since promotion with the time before: consensus, agreement, contention (BUY against SELL),
  failed answers, latency. A guard without decisions on either side concludes nothing.
- DEMOTE: the CUSUM rings or a guard is breached, at once and however short the watch.
- WATCHING: otherwise, until the watch's bars are over, its blocks are there and decisions were taken.
- KEEP: otherwise, naming the guards that had nothing to compare with. The watch ends with one of these two in writing,
  never by falling silent.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quantum_trader.gates.distance import index_of
from quantum_trader.gates.result import GateResult, GateState, finite
from quantum_trader.gates.whole_policy import WatchPolicy

FloatArray = NDArray[np.float64]

SECTION = "watch"

CUSUM = "CUSUM"
CONSENSUS = "Consensus"
AGREEMENT = "Agreement"
CONTENTION = "Contention"
ERRORS = "Errors"
LATENCY = "Latency"


class Cusum:
    """Evidence that a mean has fallen from mu or more to nothing, block by block."""

    def __init__(self, mu: float, odds: float) -> None:
        """A start without a past.

        Args:
            mu: Mean that is still good, positive.
            odds: It rings above the logarithm of this.

        Raises:
            ValueError: if mu is not positive, since then nothing can fall.
        """
        if not mu > 0:
            raise ValueError(f"cusum: mu must be positive, got {mu}")
        self.mu: Final = mu
        self.threshold: Final = math.log(odds)
        self.value = 0.0
        self.blocks = 0
        self.first_alarm: int | None = None
        """Block, from 0, at which it first rang."""

    def extend(self, x: FloatArray) -> FloatArray:
        """W after each of the next blocks, same shape."""
        out = np.empty(len(x))
        for k, value in enumerate(x.tolist()):
            self.value = max(0.0, self.value) - self.mu * value + self.mu**2 / 2
            out[k] = self.value
            if self.first_alarm is None and self.value > self.threshold:
                self.first_alarm = self.blocks
            self.blocks += 1
        return out


@dataclass(frozen=True, slots=True)
class Conduct:
    """How the engine behaved over some time.

    Attributes:
        decisions: Number of them.
        consensus: Decisions by number of agreeing voters, from 0.
        agreeing: Decisions that have the model's action.
        contended: Decisions on which both BUY and SELL were voted.
        failed: Answers of the model that were late, missing, failed or refused.
        latency_p99_ms: 99th percentile from the bar's close to the intent; NaN where it is not known.
    """

    decisions: int
    consensus: tuple[int, ...]
    agreeing: int
    contended: int
    failed: int
    latency_p99_ms: float = math.nan


def promoted_mean(x: FloatArray) -> float:
    """Mean of the blocks' x from the first one on that said something; NaN where none did.

    Blocks that say nothing later count: the CUSUM counts them too.

    >>> promoted_mean(np.array([0.0, 0.0, 0.5, 0.0, 0.1])), promoted_mean(np.zeros(3))
    (0.19999999999999998, nan)
    """
    spoke = np.flatnonzero(x)
    return float(x[spoke[0] :].mean()) if len(spoke) else math.nan


class WatchState(StrEnum):
    """What the watch says."""

    WATCHING = "WATCHING"
    KEEP = "KEEP"
    DEMOTE = "DEMOTE"


@dataclass(frozen=True, slots=True)
class WatchVerdict:
    """A written verdict of the watch.

    Attributes:
        state: See the module.
        summary: One sentence.
        lines: One for the CUSUM and for each guard.
        bars: Bars watched.
        policy: Its thresholds.
    """

    state: WatchState
    summary: str
    lines: tuple[GateResult, ...]
    bars: int
    policy: WatchPolicy

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        lines = [line.to_dict() for line in self.lines]
        return finite({"state": self.state.value, "summary": self.summary, "bars": self.bars}) | {
            "lines": lines,
            "policy": asdict(self.policy),
        }


def watch(
    x: FloatArray,
    promoted_mean: float,
    before: Conduct,
    after: Conduct,
    bars: int,
    policy: WatchPolicy,
    block_bars: int,
) -> WatchVerdict:
    """The verdict on a promoted model.

    Args:
        x: Shape (blocks,), its blocks since the promotion.
        promoted_mean: Mean of its blocks when it was promoted.
        before: The engine in the time before the promotion.
        after: The engine since.
        bars: Bars since the promotion.
        policy: Thresholds.
        block_bars: Bars of a block.
    """
    lines = (_cusum_line(x, promoted_mean, policy), *_guards(before, after, policy))
    broken = [line for line in lines if line.state is GateState.FAIL]
    missing = policy.bars // block_bars - len(x)
    if broken:
        state, summary = WatchState.DEMOTE, f"DEMOTE to shadow: {'; '.join(line.reason for line in broken)}"
    elif bars < policy.bars or missing > 0:
        left = max(policy.bars - bars, missing * block_bars)
        state, summary = WatchState.WATCHING, f"WATCHING: nothing is wrong after {bars} bars, {left} more to go."
    elif not after.decisions:
        state, summary = WatchState.WATCHING, f"WATCHING: in {bars} bars there was not one decision to judge by."
    else:
        state, summary = WatchState.KEEP, f"KEEP: nothing was wrong in {bars} bars and {len(x)} blocks."
        blind = [line.name for line in lines if line.state is GateState.INSUFFICIENT]
        summary += f" Not compared: {', '.join(blind)}." if blind else ""
    return WatchVerdict(state, summary, lines, bars, policy)


def _cusum_line(x: FloatArray, promoted_mean: float, policy: WatchPolicy) -> GateResult:
    cusum = Cusum(policy.drift_share * promoted_mean, policy.alarm_odds)
    cusum.extend(x)
    rung = cusum.first_alarm is not None
    said = f"rang at block {cusum.first_alarm}" if rung else "is silent"
    reason = f"The CUSUM {said}: W = {cusum.value:.2f}, it rings above {cusum.threshold:.2f}."
    state = GateState.FAIL if rung else GateState.PASS if len(x) else GateState.INSUFFICIENT
    rule = f"W <= ln {policy.alarm_odds:g}"
    return _line(CUSUM, state, cusum.value, math.nan, len(x), cusum.threshold, rule, reason)


def _guards(before: Conduct, after: Conduct, policy: WatchPolicy) -> tuple[GateResult, ...]:
    disagreeing = before.decisions - before.agreeing, after.decisions - after.agreeing
    return (
        _consensus(before, after, policy),
        _share(AGREEMENT, "decisions against the model", disagreeing, before, after, policy),
        _share(
            CONTENTION, "decisions with BUY against SELL", (before.contended, after.contended), before, after, policy
        ),
        _share(ERRORS, "failed answers", (before.failed, after.failed), before, after, policy),
        _latency(before, after, policy),
    )


def _consensus(before: Conduct, after: Conduct, policy: WatchPolicy) -> GateResult:
    seats = max(len(before.consensus), len(after.consensus))
    if not before.decisions or not after.decisions:
        reason = f"Consensus cannot be compared: {before.decisions} decisions before, {after.decisions} since."
        return _line(CONSENSUS, GateState.INSUFFICIENT, math.nan, math.nan, after.decisions, math.nan, "", reason)
    index = index_of(_padded(before.consensus, seats), _padded(after.consensus, seats))
    # Of samples of one distribution the index is about (seats - 1) (1 / n + 1 / m): a few decisions say nothing.
    noise = (seats - 1) * (1 / before.decisions + 1 / after.decisions)
    threshold = policy.shift_psi + policy.guard_z * noise
    state = _judged(index, threshold)
    reason = f"The distribution of consensus moved by {index:.3f} (stability index), {threshold:.3f} is the limit."
    rule = f"stability index of consensus <= {policy.shift_psi:g} and its noise"
    return _line(CONSENSUS, state, index, math.nan, after.decisions, threshold, rule, reason)


def _padded(counts: Sequence[int], length: int) -> FloatArray:
    """Counts of so many seats, half a decision more in each: an empty seat among few decisions is no shift."""
    return np.array([*counts, *[0] * (length - len(counts))], dtype=np.float64) + 0.5


def _share(
    name: str, what: str, counts: tuple[int, int], before: Conduct, after: Conduct, policy: WatchPolicy
) -> GateResult:
    """A share may rise by a slack and by what chance explains."""
    n, m = before.decisions, after.decisions
    if not n or not m:
        reason = f"No {what} can be counted: {n} decisions before the promotion, {m} since."
        return _line(name, GateState.INSUFFICIENT, math.nan, math.nan, m, math.nan, f"share of {what}", reason)
    was, now = counts[0] / n, counts[1] / m
    pooled = (counts[0] + counts[1]) / (n + m)
    se = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    threshold = min(1.0, was + policy.guard_slack + policy.guard_z * se)
    reason = f"The share of {what} went from {was:.1%} to {now:.1%}, {threshold:.1%} is the limit."
    rule = f"share of {what} <= before + {policy.guard_slack:g} + {policy.guard_z:g} standard errors"
    return _line(name, _judged(now, threshold), now, se, m, threshold, rule, reason)


def _latency(before: Conduct, after: Conduct, policy: WatchPolicy) -> GateResult:
    threshold = policy.latency_ratio * before.latency_p99_ms
    reason = (
        f"The 99th percentile of latency went from {before.latency_p99_ms:.1f} ms to {after.latency_p99_ms:.1f} ms, "
        f"{threshold:.1f} ms is the limit."
    )
    rule = f"99th percentile of latency <= {policy.latency_ratio:g} times that before"
    state = _judged(after.latency_p99_ms, threshold)
    return _line(LATENCY, state, after.latency_p99_ms, math.nan, after.decisions, threshold, rule, reason)


def _judged(value: float, limit: float) -> GateState:
    if math.isnan(value) or math.isnan(limit):
        return GateState.INSUFFICIENT
    return GateState.FAIL if value > limit else GateState.PASS


def _line(
    name: str, state: GateState, value: float, se: float, n: int, threshold: float, rule: str, reason: str
) -> GateResult:
    return GateResult(
        name=name,
        state=state,
        value=value,
        se=se,
        n=n,
        n_effective=float(n),
        cycles=0,
        threshold=threshold,
        rule=rule,
        reason=reason,
        more_events=None if state is GateState.INSUFFICIENT else 0,
        more_cycles=None if state is GateState.INSUFFICIENT else 0,
        section=SECTION,
    )

"""One check at every cycle's end: its number, its error and what it concludes, as arrays; any end makes a line."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quantum_trader.gates.policy import ContractPolicy
from quantum_trader.gates.result import GateResult, GateState

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

PASS, OPEN, FAIL = GateState.PASS.number, GateState.INSUFFICIENT.number, GateState.FAIL.number

Words = Callable[[int], str]


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A check at the end of cycles 0 to k - 1; every array has shape (k,).

    Attributes:
        name: Of the check.
        section: B, C or D.
        rule: The comparison in words.
        state: PASS, OPEN or FAIL, as numbers.
        value: The number; NaN where there is none.
        se: Its standard error; NaN where it has none.
        n: Events (evidence: blocks) that it is made of.
        n_effective: Independent ones with the same standard error.
        cycles: Cycles with one of them.
        threshold: What the number is compared with.
        reason: Says why, one sentence, for the end of a cycle.
        more: How many times its present cycles would settle an open check, for the end of a cycle; infinite where
            more of the same does not.
    """

    name: str
    section: str
    rule: str
    state: NDArray[np.int8]
    value: FloatArray
    se: FloatArray
    n: FloatArray
    n_effective: FloatArray
    cycles: FloatArray
    threshold: FloatArray
    reason: Words
    more: Callable[[int], float] = lambda _: np.inf

    def line(self, end: int, events: int) -> GateResult:
        """The line at one end; `events` so far turn the cycles that are still needed into events."""
        state = {number.number: number for number in GateState}[int(self.state[end])]
        line = GateResult(
            name=self.name,
            state=state,
            value=float(self.value[end]),
            se=float(self.se[end]),
            n=int(self.n[end]),
            n_effective=float(self.n_effective[end]),
            cycles=int(self.cycles[end]),
            threshold=float(self.threshold[end]),
            rule=self.rule,
            reason=self.reason(end),
            section=self.section,
        )
        if state is not GateState.INSUFFICIENT:
            return line
        factor = self.more(end)
        if not np.isfinite(factor):
            return replace(line, more_events=None, more_cycles=None)
        cycles = max(1, int(np.ceil((end + 1) * (factor - 1.0))))
        return replace(line, more_events=int(np.ceil(cycles * events / (end + 1))), more_cycles=cycles)


def states(holds: BoolArray, fails: BoolArray) -> NDArray[np.int8]:
    """PASS where it holds, FAIL where it fails, OPEN elsewhere."""
    return np.where(fails, FAIL, np.where(holds, PASS, OPEN)).astype(np.int8)


def floored(track: Track, n: IntArray, policy: ContractPolicy) -> Track:
    """The track, open wherever the sample as a whole is too small for any conclusion.

    Args:
        track: Any.
        n: Shape (k,), events of each cycle.
        policy: Its `min_events` and `min_cycles`.
    """
    events, cycles = np.cumsum(n), np.cumsum(n > 0)
    enough = (events >= policy.min_events) & (cycles >= policy.min_cycles)

    def reason(end: int) -> str:
        if enough[end]:
            return track.reason(end)
        return (
            f"Nothing is concluded yet: events {events[end]} of at least {policy.min_events}, "
            f"cycles {cycles[end]} of at least {policy.min_cycles}."
        )

    def more(end: int) -> float:
        if enough[end]:
            return track.more(end)
        if not events[end]:
            return np.inf
        return max(policy.min_events / float(events[end]), policy.min_cycles / float(cycles[end]))

    return replace(track, state=np.where(enough, track.state, OPEN).astype(np.int8), reason=reason, more=more)


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Sums s of sizes m at every cycle's end as a ratio with its clustered standard error; shape (k,) each."""

    value: FloatArray
    se: FloatArray
    n: FloatArray
    cycles: FloatArray

    @property
    def n_effective(self) -> FloatArray:
        """Independent events with the same standard error, were they a share's."""
        variance = np.square(self.se)
        known = variance > 0
        spread = self.value * (1.0 - self.value)
        return np.where(known, spread / np.where(known, variance, 1.0), self.cycles)


def shares(successes: IntArray, sizes: IntArray) -> Shares:
    """Ratios from parts of cycles, shape (2k - 1,): early and late in turn, the last cycle's late part not known yet.

    se = sqrt(sum_k (s_k - p m_k)^2) / sum_k m_k; the products are sums of whole numbers and so exact.
    """
    early_s, early_m = successes[0::2].astype(float), sizes[0::2].astype(float)
    late_s, late_m = np.append(successes[1::2], 0).astype(float), np.append(sizes[1::2], 0).astype(float)
    s, m = early_s + late_s, early_m + late_m

    def at_ends(full: FloatArray, part: FloatArray) -> FloatArray:
        return np.cumsum(full) - full + part

    total, n = at_ends(s, early_s), at_ends(m, early_m)
    p = total / np.where(n > 0, n, np.nan)
    scatter = (
        at_ends(s * s, early_s * early_s)
        - 2 * p * at_ends(s * m, early_s * early_m)
        + p * p * at_ends(m * m, early_m * early_m)
    )
    se = np.sqrt(np.maximum(scatter, 0.0)) / np.where(n > 0, n, np.nan)
    exact = (p == 0.0) | (np.abs(p) == 1.0)
    used = at_ends((m > 0).astype(float), (early_m > 0).astype(float))
    return Shares(p, np.where(exact, 0.0, se), n, used)


def whole_cycles(values: IntArray) -> IntArray:
    """Counts of whole cycles as parts for `shares`: nothing comes late."""
    parts = np.zeros(2 * len(values) - 1, values.dtype)
    parts[0::2] = values
    return parts

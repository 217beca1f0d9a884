"""Would a vote have helped? Five checks at every cycle's end (GATES.md, section D).

- Brier gain: the pool of voters and model predicts better than the voters alone, both recalibrated. A loss that is
  significant fails; one that is not stays open.
- After-cost difference: the counterfactual vote did not cost money. Never sufficient alone.
- By symbol, by regime: no slice is significantly worse off, errors shared out among the slices.
- Recent: the last third of the blocks still goes the right way.

None of section D concludes anything before the contract's least number of events and cycles.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from quantum_trader.gates.counterfactual import REGIMES, Gains
from quantum_trader.gates.evidence import blocks_read
from quantum_trader.gates.track import Track, floored, states
from quantum_trader.gates.whole_policy import DeploymentPolicy, EvidencePolicy, Policy

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BRIER_GAIN = "Brier Gain"
AFTER_COST = "After-cost Difference"
BY_SYMBOL = "By Symbol"
BY_REGIME = "By Regime"
RECENT = "Recent"

DEPLOYMENT = (BRIER_GAIN, AFTER_COST, BY_SYMBOL, BY_REGIME, RECENT)
"""By name, in the order of every report."""


def deployment_tracks(
    gains: Gains, x: FloatArray, policy: Policy, name_of: Callable[[int], str] = str
) -> tuple[Track, ...]:
    """The five at the end of every complete cycle, in the order of DEPLOYMENT; `name_of` names a symbol."""
    checks = policy.deployment
    counted = gains.n.sum(axis=1).astype(np.int64)
    tracks = (
        brier_track(gains, checks),
        after_cost(gains, checks),
        _slices(BY_SYMBOL, "symbol", gains.n, gains.gain, checks, name_of),
        _slices(BY_REGIME, "regime", gains.regime_n, gains.regime_gain, checks, REGIMES.__getitem__),
        recent(x, len(counted), checks, policy.evidence),
    )
    return tuple(floored(track, counted, policy.contract) for track in tracks)


def brier_track(gains: Gains, policy: DeploymentPolicy) -> Track:
    """Cumulative Brier gain of the pool over the voters, both recalibrated on resolved events."""
    total, se, z = _cumulated(gains.gain.sum(axis=1))
    fails = z <= policy.gain_fail_z
    n = np.cumsum(gains.n.sum(axis=1))

    def reason(k: int) -> str:
        tail = "a vote would have helped" if total[k] > 0 else "a loss" if fails[k] else "no gain, no sure loss"
        return f"The pooled score gains {total[k]:+.4f} of squared error over {n[k]:.0f} events (z {z[k]:.2f}): {tail}."

    return Track(
        name=BRIER_GAIN,
        section="D",
        rule="cumulative Brier gain of the pooled score > 0",
        state=states((total > 0) & (n > 0), fails),
        value=total,
        se=se,
        n=n,
        n_effective=_effective(n, np.cumsum(gains.gain_squares), se),
        cycles=np.cumsum(gains.n.sum(axis=1) > 0).astype(np.float64),
        threshold=np.zeros(len(total)),
        reason=reason,
    )


def after_cost(gains: Gains, policy: DeploymentPolicy) -> Track:
    """After-cost log return of the decisions with its vote less that without."""
    total, se, z = _cumulated(gains.pnl)
    n = np.cumsum(gains.n.sum(axis=1))
    holds = (z > policy.pnl_z) & (n > 0)

    def reason(k: int) -> str:
        tail = "no sure loss" if holds[k] else "a loss"
        return f"With its vote decisions would have earned {total[k]:+.4f} more after costs (z {z[k]:.2f}): {tail}."

    return Track(
        name=AFTER_COST,
        section="D",
        rule=f"z of the after-cost difference > {policy.pnl_z:g}",
        state=states(holds, (z <= policy.pnl_z) & (n > 0)),
        value=total,
        se=se,
        n=n,
        n_effective=_effective(n, np.cumsum(gains.pnl_squares), se),
        cycles=np.cumsum(gains.n.sum(axis=1) > 0).astype(np.float64),
        threshold=policy.pnl_z * se,
        reason=reason,
    )


def slice_threshold(slices: IntArray, alpha: float) -> FloatArray:
    """-z(1 - alpha / N) for N slices, same shape; NaN for none."""
    some = slices > 0
    return np.where(some, ndtri(alpha / np.where(some, slices, 1)), np.nan)


def _slices(
    name: str, kind: str, n: FloatArray, gain: FloatArray, policy: DeploymentPolicy, named: Callable[[int], str]
) -> Track:
    """The worst z of a Brier gain among slices; n and gain of shape (cycles, slices)."""
    _, _, z = _cumulated(gain)
    seen = np.cumsum(n, axis=0)
    judged = (seen > 0).sum(axis=1)
    threshold = slice_threshold(judged, policy.slice_alpha)
    shown = np.where(seen > 0, z, np.inf)
    worst = shown.argmin(axis=1)
    lowest = np.where(judged > 0, shown.min(axis=1), np.nan)
    fails = lowest < threshold
    total = seen.sum(axis=1)

    def reason(k: int) -> str:
        if not judged[k]:
            return f"No {kind} has a resolved event yet."
        tail = "it is surely worse off" if fails[k] else "none is surely worse off"
        return f"Of {judged[k]} {kind}s {named(int(worst[k]))} gains least, z {lowest[k]:.2f}: {tail}."

    return Track(
        name=name,
        section="D",
        rule=f"Brier gain of every {kind}: z >= -z(1 - {policy.slice_alpha:g} / {kind}s)",
        state=states(lowest >= threshold, fails),
        value=lowest,
        se=np.where(judged > 0, 1.0, np.nan),
        n=total,
        n_effective=np.cumsum(n.sum(axis=1) > 0).astype(np.float64),
        cycles=np.cumsum(n.sum(axis=1) > 0).astype(np.float64),
        threshold=threshold,
        reason=reason,
        more=lambda k: (k + 2.0) / (k + 1.0),
    )


def recent(x: FloatArray, cycles: int, policy: DeploymentPolicy, evidence: EvidencePolicy) -> Track:
    """Sum of x over the last part of the blocks, in roots of its sum of squares."""
    read = blocks_read(cycles, evidence)
    length = np.floor((read - policy.recent_blocks) * policy.recent_share).astype(np.int64)
    length = np.maximum(policy.recent_blocks, length)
    ready = read >= length
    start = np.where(ready, read - length, 0)
    sums, squares = (np.concatenate([[0.0], np.cumsum(column)]) for column in (x, x * x))
    total, square = sums[read] - sums[start], squares[read] - squares[start]
    spoke = np.concatenate([[0], np.cumsum(x != 0)])
    n = (spoke[read] - spoke[start]).astype(np.float64)
    ready &= (n > 0) & (square > 0)
    z = np.where(ready, total, np.nan) / np.sqrt(np.where(ready, square, 1.0))

    def reason(k: int) -> str:
        if read[k] < length[k]:
            return f"{read[k]} blocks are complete, {length[k]} are needed."
        if not ready[k]:
            return f"In the last {length[k]} blocks it held nothing of its own."
        tail = "still the right way" if z[k] >= policy.recent_z else "not clearly the right way"
        return f"The last {length[k]} blocks sum to {z[k]:.2f} roots of their squares: {tail}."

    return Track(
        name=RECENT,
        section="D",
        rule=f"sum of x over the last blocks >= {policy.recent_z:g} roots of their sum of squares",
        state=states(ready & (z >= policy.recent_z), ready & (z <= policy.recent_fail_z)),
        value=z,
        se=np.where(ready, 1.0, np.nan),
        n=length.astype(np.float64),
        n_effective=n,
        cycles=np.arange(1, cycles + 1, dtype=np.float64),
        threshold=np.full(cycles, policy.recent_z),
        reason=reason,
        more=lambda k: float((policy.recent_z / z[k]) ** 2) if ready[k] and z[k] > 0 else np.inf,
    )


def _cumulated(per_cycle: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Running sum, its standard error (root of the running sum of squares) and z, 0 where there is no error."""
    total, se = np.cumsum(per_cycle, axis=0), np.sqrt(np.cumsum(np.square(per_cycle), axis=0))
    return total, se, total / np.where(se > 0, se, 1.0)


def _effective(n: FloatArray, squares: FloatArray, se: FloatArray) -> FloatArray:
    """Independent events with the same standard error; 0 where nothing varies."""
    return np.asarray(n * squares / np.where(se > 0, np.square(se), np.inf))

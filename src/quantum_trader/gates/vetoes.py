"""Five vetoes at every cycle's end: any of them keeps a model from a vote, however good it looks (GATES.md, section B).

- Coverage: it answers, on time, nearly always.
- Degenerate output: its outputs vary, and not only from symbol to symbol.
- Redundant: it is no copy of the ensemble or of a voter.
- Homogeneous: it relates to the ensemble alike on every symbol; a sign flipped on one stands out.
- Leak alarm: it is right too often, or mostly over the bar that an honest model cannot trade. Once rung it stays so.

None concludes anything before the contract's least number of events and cycles.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from quantum_trader.gates.tallies import Outputs
from quantum_trader.gates.track import Track, floored, shares, states, whole_cycles
from quantum_trader.gates.veto_sums import Hits, Moments, Repeats, correlations
from quantum_trader.gates.whole_policy import Policy, VetoPolicy

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

COVERAGE = "Coverage"
DEGENERATE = "Degenerate Output"
REDUNDANT = "Redundant"
HOMOGENEOUS = "Homogeneous"
LEAK = "Leak Alarm"

VETOES = (COVERAGE, DEGENERATE, REDUNDANT, HOMOGENEOUS, LEAK)
"""By name, in the order of every report."""


def veto_tracks(
    outputs: Outputs,
    repeats: Repeats,
    moments: Moments,
    hits: Hits,
    policy: Policy,
    name_of: Callable[[int], str] = str,
) -> tuple[Track, ...]:
    """The five at the end of every complete cycle, in the order of VETOES; `name_of` names a symbol."""
    vetoes, floor = policy.vetoes, policy.contract
    judged = (
        degenerate(outputs, repeats, moments, vetoes),
        redundant(outputs, moments, vetoes),
        homogeneous(moments, vetoes, name_of),
    )
    # A model that never answers has no valid event; its coverage is known all the same.
    return (
        floored(coverage(outputs, vetoes), outputs.rows, floor),
        *(floored(track, outputs.valid, floor) for track in judged),
        leak(hits, vetoes),
    )


def coverage(outputs: Outputs, policy: VetoPolicy) -> Track:
    """Share of events with a valid output on time."""
    found = shares(whole_cycles(outputs.valid), whole_cycles(outputs.rows))
    enough = found.value >= policy.coverage_min
    return Track(
        name=COVERAGE,
        section="B",
        rule=f"share of events with a valid output on time >= {policy.coverage_min:g}",
        state=states(enough, found.value < policy.coverage_min),
        value=found.value,
        se=found.se,
        n=found.n,
        n_effective=found.n_effective,
        cycles=found.cycles,
        threshold=np.full(len(enough), policy.coverage_min),
        reason=lambda k: f"It answered {found.value[k]:.1%} of {found.n[k]:.0f} events validly and on time.",
    )


def degenerate(outputs: Outputs, repeats: Repeats, moments: Moments, policy: VetoPolicy) -> Track:
    """Distinct values, the commonest, the longest streak, the variance within symbols."""
    share = within_share(moments)
    streak = np.maximum.accumulate(repeats.streak)
    few, common = repeats.distinct < policy.distinct_min, repeats.top_share > policy.top_share_max
    stuck, between = streak > policy.streak_max, ~(share >= policy.within_share_min)
    n = np.minimum(np.cumsum(outputs.valid), policy.recent_events).astype(np.float64)

    def reason(k: int) -> str:
        said = (
            f"{repeats.distinct[k]} distinct values and {repeats.top_share[k]:.1%} for the commonest of the last "
            f"{n[k]:.0f}, at most {streak[k]} equal ones in a row on one symbol, "
            f"{_percent(share[k])} of the variance within symbols"
        )
        wrong = {
            f"fewer than {policy.distinct_min} distinct": few[k],
            f"more than {policy.top_share_max:.0%} for one value": common[k],
            f"more than {policy.streak_max} in a row": stuck[k],
            f"less than {policy.within_share_min:.0%} within symbols": between[k],
        }
        broken = [words for words, holds in wrong.items() if holds]
        return f"{said}: {', '.join(broken) if broken else 'its outputs vary'}."

    nothing = np.full(len(n), np.nan)
    bad = few | common | stuck | between
    return Track(
        name=DEGENERATE,
        section="B",
        rule=f"share of the commonest of the last {policy.recent_events} outputs <= {policy.top_share_max:g}, and more",
        state=states(~bad, bad),
        value=repeats.top_share,
        se=nothing,
        n=n,
        n_effective=n,
        cycles=np.cumsum(outputs.valid > 0).astype(np.float64),
        threshold=np.full(len(n), policy.top_share_max),
        reason=reason,
    )


def within_share(moments: Moments) -> FloatArray:
    """Share of the variance of p to date that lies within symbols, shape (cycles,); NaN where there is none."""
    n, total, square = np.moveaxis(np.cumsum(moments.p, axis=0), -1, 0)
    within = (square - np.square(total) / np.maximum(n, 1.0)).sum(axis=1)
    events, mean = n.sum(axis=1), total.sum(axis=1)
    whole = square.sum(axis=1) - np.square(mean) / np.maximum(events, 1.0)
    varies = np.maximum.accumulate(moments.highest) > np.minimum.accumulate(moments.lowest)
    varies &= whole > 0
    return np.where(varies, within / np.where(varies, whole, 1.0), np.nan)


def redundant(outputs: Outputs, moments: Moments, policy: VetoPolicy) -> Track:
    """The largest correlation of its log-odds with the ensemble's score or a voter's."""
    ensemble = np.cumsum(moments.score.sum(axis=1), axis=0)[:, None, :]
    found = correlations(np.concatenate([ensemble, np.cumsum(moments.voters, axis=0)], axis=1))
    nearest = found.argmax(axis=1)
    r = found.max(axis=1)
    cycles = np.cumsum(outputs.valid > 0).astype(np.float64)
    compared = np.cumsum(moments.voters[:, :, 0], axis=0).max(axis=1, initial=0.0) > 0
    fails = compared & (r >= policy.correlation_max)

    def reason(k: int) -> str:
        if not compared[k]:
            return "No voter voted where it answered: there is nothing to compare it with."
        whom = "the ensemble's score" if nearest[k] == 0 else f"voter {nearest[k]}"
        tail = "it says little of its own" if fails[k] else "it is no copy"
        return f"Its log-odds correlate most with {whom}, {r[k]:.3f}: {tail}."

    return Track(
        name=REDUNDANT,
        section="B",
        rule=f"largest correlation with the ensemble's score or a voter < {policy.correlation_max:g}",
        state=states(compared & ~fails, fails),
        value=np.where(compared, r, np.nan),
        se=(1.0 - np.square(r)) / np.sqrt(np.where(compared & (cycles > 3), cycles - 3, np.nan)),
        n=np.cumsum(outputs.valid).astype(np.float64),
        n_effective=cycles,
        cycles=cycles,
        threshold=np.full(len(r), policy.correlation_max),
        reason=reason,
    )


def homogeneity(r: FloatArray, cycles: FloatArray, enough: int = 0) -> FloatArray:
    """(atanh r_i - median) sqrt(cycles_i - 3) of every symbol in the last axis, same shape.

    NaN for a symbol with fewer than `enough` cycles, or with 3 or fewer; it is not part of the median either.
    """
    judged = (cycles >= enough) & (cycles > 3)
    height = np.where(judged, np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)), np.nan)
    centre = np.full((*r.shape[:-1], 1), np.nan)
    some = judged.any(axis=-1)
    centre[some, 0] = np.nanmedian(height[some], axis=-1)
    return np.asarray((height - centre) * np.sqrt(np.where(judged, cycles - 3, 0.0)))


def homogeneous(moments: Moments, policy: VetoPolicy, name_of: Callable[[int], str] = str) -> Track:
    """The symbol whose correlation with the ensemble's score lies farthest from the median symbol's."""
    cycles = np.cumsum(moments.score[:, :, 0] > 0, axis=0).astype(np.float64)
    z = homogeneity(correlations(np.cumsum(moments.score, axis=0)), cycles, policy.homogeneity_cycles)
    distance = np.where(np.isnan(z), -1.0, np.abs(z))
    worst, judged = distance.argmax(axis=1), (~np.isnan(z)).sum(axis=1)
    compared = np.cumsum(moments.voters[:, :, 0], axis=0).max(axis=1, initial=0.0) > 0
    judged = np.where(compared, judged, 0)
    largest = np.where(judged > 0, distance.max(axis=1), np.nan)
    fails = largest > policy.homogeneity_z
    n = np.cumsum(moments.score[:, :, 0].sum(axis=1))

    def reason(k: int) -> str:
        if not compared[k]:
            return "No voter voted where it answered: there is nothing to compare its symbols by."
        if not judged[k]:
            return f"No symbol has outputs in {policy.homogeneity_cycles} cycles yet."
        tail = "it behaves differently there" if fails[k] else "symbols are alike"
        return (
            f"Of {judged[k]} symbols {name_of(int(worst[k]))} differs most from the median in its correlation with the "
            f"ensemble's score, by {largest[k]:.2f} standard errors: {tail}."
        )

    def more(k: int) -> float:
        most = float(cycles[k].max(initial=0.0))
        return policy.homogeneity_cycles / most if most and compared[k] else np.inf

    return Track(
        name=HOMOGENEOUS,
        section="B",
        rule=f"each symbol's correlation within {policy.homogeneity_z:g} standard errors of the median symbol's",
        state=states(largest <= policy.homogeneity_z, fails),
        value=largest,
        se=np.where(judged > 0, 1.0, np.nan),
        n=n,
        n_effective=cycles.max(axis=1),
        cycles=cycles.max(axis=1),
        threshold=np.full(len(largest), policy.homogeneity_z),
        reason=reason,
        more=more,
    )


def leak(hits: Hits, policy: VetoPolicy) -> Track:
    """Hit rates too good to be true, with or without the entry delay, or gone with the delay."""
    delayed, undelayed = shares(hits.delayed, hits.n), shares(hits.undelayed, hits.n)
    gap = shares(hits.undelayed - hits.delayed, hits.n)
    high = np.zeros(len(gap.value), np.bool_)
    for rate in (delayed, undelayed):
        high |= rate.value - policy.leak_se * rate.se > policy.leak_hit_rate
    # The edge that the entry delay takes away is larger than honest forecasts lose.
    vanishes = (gap.value > policy.leak_delay_z * gap.se) & (gap.value > 0)
    vanishes &= delayed.value - 0.5 < policy.leak_edge_share * (undelayed.value - 0.5)
    ready = gap.cycles >= policy.leak_cycles
    rung = np.logical_or.accumulate(ready & (high | vanishes))
    first = int(np.argmax(rung))

    def reason(k: int) -> str:
        if not ready[k]:
            return f"BUY and SELL with an outcome fill {gap.cycles[k]:.0f} cycles, {policy.leak_cycles} are needed."
        rates = f"It hits {delayed.value[k]:.1%} after the entry delay and {undelayed.value[k]:.1%} without it"
        if rung[k]:
            return f"{rates}: too good to be honest since the end of cycle {first + 1}, and the alarm stays."
        return f"{rates}: nothing that an honest forecast could not reach."

    def more(k: int) -> float:
        return policy.leak_cycles / float(gap.cycles[k]) if gap.cycles[k] else np.inf

    return Track(
        name=LEAK,
        section="B",
        rule=f"hit rate - {policy.leak_se:g} standard errors <= {policy.leak_hit_rate:g}, and not lost with the delay",
        state=states(ready & ~rung, rung),
        value=delayed.value,
        se=delayed.se,
        n=delayed.n,
        n_effective=delayed.n_effective,
        cycles=delayed.cycles,
        threshold=np.full(len(rung), policy.leak_hit_rate),
        reason=reason,
        more=more,
    )


def _percent(share: float) -> str:
    return "none" if np.isnan(share) else f"{share:.1%}"

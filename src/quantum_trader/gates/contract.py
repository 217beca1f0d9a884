"""The contract: four gates over one sample, each PASS, FAIL or INSUFFICIENT (GATES.md, section A).

- Nothing passes or fails on fewer than `min_events` valid events or `min_cycles` cycles, or on a sample with faults.
- A share or a standard deviation is INSUFFICIENT while its clustered standard error is above its limit.
- Calibration looks at outcomes of BUY and SELL only, and its own events must fill `min_cycles` cycles: over a single
  cycle the clustered standard error of any slope is exactly zero, and everything would pass.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from quantum_trader.core.predictions import Action
from quantum_trader.gates import clustered
from quantum_trader.gates.clustered import Estimate
from quantum_trader.gates.legacy import LegacyOutcome, legacy_gates
from quantum_trader.gates.policy import DEFAULT, PLAIN, ContractPolicy
from quantum_trader.gates.result import (
    ACTION_DIVERSITY,
    CALIBRATION,
    CONFIDENCE_SPREAD,
    GATES,
    SHADOW_CORRELATION,
    GateResult,
    GateState,
)
from quantum_trader.gates.sample import Sample
from quantum_trader.gates.tallies import Outcomes, Outputs
from quantum_trader.gates.trend import Bucket, table_of


def contract_gates(sample: Sample, policy: ContractPolicy = DEFAULT) -> tuple[GateResult, ...]:
    """The four gates on every valid event of a sample, in the order of GATES.

    Anyone may look at any time; the verdict is taken at cycle ends only (see `verdict`).
    """
    faults = sample.faults()
    if faults:
        return tuple(blank(name, f"The data is broken: {faults[0]}.", None) for name in GATES)
    if policy.rule == PLAIN:
        return _plain_lines(legacy_of(sample, policy), policy)
    cycle, cycles = clustered.codes(sample.cycle)
    settled = sample.settled
    outcomes = Outcomes.of(sample.take(settled), cycle[settled], cycles, policy.bucket_edges)
    return gates_of(Outputs.of(sample, cycle, cycles), outcomes, policy)


def gates_of(outputs: Outputs, outcomes: Outcomes, policy: ContractPolicy = DEFAULT) -> tuple[GateResult, ...]:
    """The four gates from cycles' sums, a row of both per cycle."""
    n, cycles = int(outputs.valid.sum()), int(np.count_nonzero(outputs.valid))
    if not n:
        return tuple(blank(name, "There is no valid event.", policy) for name in GATES)
    gates = (
        _action_diversity(outputs, policy),
        _confidence_spread(outputs, policy),
        _shadow_correlation(outputs, policy),
        _calibration(outcomes, n, cycles, policy),
    )
    return tuple(with_floor(gate, n, cycles, policy) for gate in gates)


def legacy_of(sample: Sample, policy: ContractPolicy) -> LegacyOutcome:
    """The plain rule on the valid events of a sample."""
    events = sample.take(sample.valid)
    return legacy_gates(events.action, events.confidence, events.ensemble, policy)


def _action_diversity(outputs: Outputs, policy: ContractPolicy) -> GateResult:
    shares = {
        action: clustered.ratio_of_sums(outputs.actions[:, action - Action.SELL], outputs.valid)
        for action in reversed(Action)
    }
    largest = max(shares.values(), key=lambda share: share.value)
    states = [_state(share, policy.se_max, share.value <= policy.share_max) for share in shares.values()]
    if GateState.FAIL in states:
        state, shown = GateState.FAIL, largest
    elif GateState.INSUFFICIENT in states:
        state, shown = GateState.INSUFFICIENT, max(shares.values(), key=lambda share: share.se)
    else:
        state, shown = GateState.PASS, largest
    listed = ", ".join(f"{action.name} {share.value:.1%}" for action, share in shares.items())
    tail = {
        GateState.PASS: f"none is above {policy.share_max:.0%}",
        GateState.FAIL: f"the largest is above {policy.share_max:.0%}",
        GateState.INSUFFICIENT: _too_wide(shown, policy.se_max),
    }[state]
    rule = f"share of each action <= {policy.share_max:g}"
    line = _line(ACTION_DIVERSITY, state, largest, policy.share_max, rule, f"{listed}: {tail}.")
    return _needing(line, shown, policy.se_max)


def _confidence_spread(outputs: Outputs, policy: ContractPolicy) -> GateResult:
    spread = clustered.spread_of_sums(outputs.confidence, constant=outputs.constant)
    wide = spread.value >= policy.spread_min - policy.spread_slack
    state = _state(spread, policy.spread_se_max, wide)
    tail = {
        GateState.PASS: f"at least {policy.spread_min:g}",
        GateState.FAIL: f"under {policy.spread_min:g}",
        GateState.INSUFFICIENT: _too_wide(spread, policy.spread_se_max),
    }[state]
    rule = f"standard deviation of confidence >= {policy.spread_min:g}"
    reason = f"Confidence varies by {spread.value:.4f}: {tail}."
    return _needing(
        _line(CONFIDENCE_SPREAD, state, spread, policy.spread_min, rule, reason), spread, policy.spread_se_max
    )


def _shadow_correlation(outputs: Outputs, policy: ContractPolicy) -> GateResult:
    agreement = clustered.ratio_of_sums(outputs.agreeing, outputs.valid)
    state = _state(agreement, policy.se_max, agreement.value >= policy.agreement_min)
    tail = {
        GateState.PASS: f"at least {policy.agreement_min:.0%}",
        GateState.FAIL: f"under {policy.agreement_min:.0%}",
        GateState.INSUFFICIENT: _too_wide(agreement, policy.se_max),
    }[state]
    rule = f"agreement with the ensemble >= {policy.agreement_min:g}"
    reason = f"It takes the ensemble's action in {agreement.value:.1%} of events: {tail}."
    return _needing(
        _line(SHADOW_CORRELATION, state, agreement, policy.agreement_min, rule, reason), agreement, policy.se_max
    )


@dataclass(frozen=True, slots=True)
class _Finding:
    """What Calibration concludes; `factor` times its present events would settle it, None where more do not help."""

    state: GateState
    reason: str
    factor: float | None = 1.0


def _calibration(outcomes: Outcomes, n: int, cycles: int, policy: ContractPolicy) -> GateResult:
    table = table_of(outcomes.bucket_n, outcomes.bucket_hits, policy.bucket_edges, policy.bucket_events)
    slope = clustered.slope_of_sums(outcomes.powers, outcomes.hits, constant=outcomes.constant)
    if slope.clusters < policy.min_cycles:
        reason = f"BUY and SELL with an outcome fill {slope.clusters} cycles, {policy.min_cycles} are needed."
        factor = policy.min_cycles / slope.clusters if slope.clusters else None
        finding = _Finding(GateState.INSUFFICIENT, reason, factor)
    else:
        finding = _judge_trend(table, slope, policy)
    rule = f"hit rate rises with confidence: slope z >= {policy.trend_z:g}, no drop z < {policy.drop_z_pass:g}"
    line = _line(CALIBRATION, finding.state, slope, policy.trend_z * slope.se, rule, finding.reason)
    line = replace(line, z=slope.z, buckets=table)
    if finding.state is not GateState.INSUFFICIENT:
        return line
    more = None if finding.factor is None else max(1, math.ceil(n * (finding.factor - 1.0)))
    return needs(line, more, n, cycles)


def _judge_trend(table: tuple[Bucket, ...], slope: Estimate, policy: ContractPolicy) -> _Finding:
    """GATES.md, G4, in its order; the estimates of `factor` shrink a standard error with the root of the events."""
    z, drop = slope.z, min((bucket.z for bucket in table if not math.isnan(bucket.z)), default=0.0)
    counted = sum(bucket.counted for bucket in table)
    if z <= -policy.trend_z:
        return _Finding(GateState.FAIL, f"The surer it is the less often it is right: trend z {z:.2f}.")
    if counted < policy.buckets_needed:
        return _too_few_buckets(table, counted, policy)
    if drop < policy.drop_z_fail:
        return _Finding(GateState.FAIL, f"Accuracy drops from one confidence bucket to the next: z {drop:.2f}.")
    if drop < policy.drop_z_pass:
        reason = f"Accuracy may drop from one confidence bucket to the next (z {drop:.2f}): neither sure nor excluded."
        return _Finding(GateState.INSUFFICIENT, reason, (policy.drop_z_fail / drop) ** 2)
    if z >= policy.trend_z:
        return _Finding(GateState.PASS, f"The surer it is the more often it is right: trend z {z:.2f}, no drop.")
    reason = f"No trend of accuracy with confidence is shown yet: z {z:.2f}, {policy.trend_z:g} is needed."
    # A trend that points the wrong way, or none, does not become the right one by waiting.
    return _Finding(GateState.INSUFFICIENT, reason, (policy.trend_z / z) ** 2 if z > 0 else None)


def _too_few_buckets(table: tuple[Bucket, ...], counted: int, policy: ContractPolicy) -> _Finding:
    needed, enough = policy.buckets_needed, policy.bucket_events
    sizes = sorted((bucket.n for bucket in table), reverse=True)
    reason = f"{counted} confidence buckets hold {enough} or more settled BUY and SELL, {needed} are needed."
    smallest = sizes[needed - 1] if needed <= len(sizes) else 0
    return _Finding(GateState.INSUFFICIENT, reason, enough / smallest if smallest else None)


def _state(estimate: Estimate, se_max: float, holds: bool) -> GateState:
    if estimate.se > se_max:
        return GateState.INSUFFICIENT
    return GateState.PASS if holds else GateState.FAIL


def _too_wide(estimate: Estimate, se_max: float) -> str:
    return f"a standard error of {estimate.se:.4f} is above {se_max:g}"


def _line(name: str, state: GateState, estimate: Estimate, threshold: float, rule: str, reason: str) -> GateResult:
    return GateResult(
        name=name,
        state=state,
        value=estimate.value,
        se=estimate.se,
        n=estimate.n,
        n_effective=estimate.n_effective,
        cycles=estimate.clusters,
        threshold=threshold,
        rule=rule,
        reason=reason,
    )


def _needing(line: GateResult, widest: Estimate, se_max: float) -> GateResult:
    """An INSUFFICIENT line with n ((se / limit)^2 - 1) more events."""
    if line.state is not GateState.INSUFFICIENT:
        return line
    more = math.ceil(widest.n * ((widest.se / se_max) ** 2 - 1.0)) if se_max > 0 else None
    return needs(line, more, widest.n, widest.clusters)


def needs(line: GateResult, more_events: int | None, n: int, cycles: int) -> GateResult:
    """The line with what it still needs, in cycles at the present rate too."""
    more_cycles = None if more_events is None else math.ceil(more_events * cycles / max(n, 1))
    return replace(line, more_events=more_events, more_cycles=more_cycles)


def with_floor(line: GateResult, n: int, cycles: int, policy: ContractPolicy) -> GateResult:
    """INSUFFICIENT where the sample as a whole is too small for any conclusion."""
    if n >= policy.min_events and cycles >= policy.min_cycles:
        return line
    more_cycles = max(0, policy.min_cycles - cycles)
    more_events = max(policy.min_events - n, math.ceil(more_cycles * n / cycles), line.more_events or 0)
    more_cycles = max(more_cycles, math.ceil(more_events * cycles / n))
    reason = (
        f"Nothing is concluded yet: valid events {n} of at least {policy.min_events}, "
        f"cycles {cycles} of at least {policy.min_cycles}."
    )
    line = replace(line, state=GateState.INSUFFICIENT, reason=reason)
    return replace(line, more_events=more_events, more_cycles=more_cycles)


def blank(name: str, reason: str, policy: ContractPolicy | None) -> GateResult:
    """A line without a number; with a policy, one that needs the policy's whole minimum."""
    return GateResult(
        name=name,
        state=GateState.INSUFFICIENT,
        value=math.nan,
        se=math.nan,
        n=0,
        n_effective=0.0,
        cycles=0,
        threshold=math.nan,
        rule="",
        reason=reason,
        more_events=policy.min_events if policy else None,
        more_cycles=policy.min_cycles if policy else None,
    )


def _plain_lines(outcome: LegacyOutcome, policy: ContractPolicy) -> tuple[GateResult, ...]:
    if not outcome.n:
        return tuple(blank(name, "There is no valid event.", policy) for name in GATES)
    numbers = (
        (outcome.diverse, outcome.max_share, policy.share_max, "largest share <="),
        (outcome.spread_out, outcome.spread, policy.spread_min, "standard deviation of confidence >="),
        (outcome.correlated, outcome.agreement, policy.agreement_min, "agreement with the ensemble >="),
        (outcome.calibrated, math.nan, math.nan, "agreement does not drop between buckets"),
    )
    lines = (
        GateResult(
            name=name,
            state=GateState.PASS if passed else GateState.FAIL,
            value=value,
            se=math.nan,
            n=outcome.n,
            n_effective=math.nan,
            cycles=0,
            threshold=threshold,
            rule=f"{words} {threshold:g}" if not math.isnan(threshold) else words,
            reason="By the plain rule, which knows no standard errors.",
            buckets=outcome.buckets if name == CALIBRATION else (),
        )
        for name, (passed, value, threshold, words) in zip(GATES, numbers, strict=True)
    )
    return tuple(lines)

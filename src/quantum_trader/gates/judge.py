"""The whole verdict: PROMOTE, REJECT, HOLD or INVALID over sections A to D, and why.

- It is taken at the last complete cycle's end: later events and outcomes are not seen.
- INVALID: sample or panel have faults, or the policy is not the one whose digest was recorded beforehand.
- PROMOTE: at that end the contract passes and every veto, the evidence and every deployment check pass.
- REJECT: otherwise, where the contract or any check fails. Only the leak alarm is for ever.
- HOLD: otherwise; every open item says how much more it needs.

Who looks at every cycle's end sees the first PROMOTE when it falls (`Whole.held_at`). Who looks later is told of it,
but what no longer holds promotes nothing.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from quantum_trader.gates.contract import blank, contract_gates, gates_of
from quantum_trader.gates.counterfactual import FlipSummary
from quantum_trader.gates.deployment import DEPLOYMENT, deployment_tracks
from quantum_trader.gates.events import portions
from quantum_trader.gates.evidence import EVIDENCE, blocks_read, evidence
from quantum_trader.gates.legacy import LegacyOutcome, plain_rule
from quantum_trader.gates.panel import Panel
from quantum_trader.gates.policy import LEGACY
from quantum_trader.gates.result import CONFIDENCE_SPREAD, GATES, GateResult, GateState
from quantum_trader.gates.sample import CYCLE, Sample
from quantum_trader.gates.tallies import Outputs
from quantum_trader.gates.track import PASS, Track
from quantum_trader.gates.trend import table_of
from quantum_trader.gates.trial import Sums, Trial
from quantum_trader.gates.verdict import Verdict, VerdictState, Whole, contract_state, need_of, notes_of
from quantum_trader.gates.vetoes import VETOES, veto_tracks
from quantum_trader.gates.watch import promoted_mean
from quantum_trader.gates.whole_policy import WHOLE, Policy

SCOPE = "contract, vetoes, evidence and deployment checks"

_PORTION = 250_000
"""Events that are worked on at once."""

_SECTIONS = {**dict.fromkeys(VETOES, "B"), EVIDENCE: "C", **dict.fromkeys(DEPLOYMENT, "D")}


def judge(
    sample: Sample,
    panel: Panel,
    policy: Policy = WHOLE,
    recorded_digest: str | None = None,
    *,
    version: int | None = None,
    symbols: Sequence[str] = (),
    bar_ms: int | None = None,
) -> Verdict:
    """Judge one model by everything.

    Args:
        sample: Its events; `bars` tells how long was observed.
        panel: The voters at these events, and the prices.
        policy: Thresholds.
        recorded_digest: Of the policy, as recorded before the window; any other policy makes the verdict INVALID.
        version: Of the model in its lineage, from 1; each spends less alpha. None where it has no lineage.
        symbols: Names of the symbols, for the reasons.
        bar_ms: Length of a bar; with it needs are said in days too.
    """
    trial = Trial(panel.symbols, panel.electorate, policy)
    for portion in portions(sample, panel, _PORTION):
        trial.extend(*portion)
    return judge_trial(trial, recorded_digest, version=version, symbols=symbols, bar_ms=bar_ms)


def judge_trial(
    trial: Trial,
    recorded_digest: str | None = None,
    *,
    version: int | None = None,
    symbols: Sequence[str] = (),
    bar_ms: int | None = None,
) -> Verdict:
    """The same of a trial that goes on: equal to `judge` of all its events, without reading one of them again."""
    policy, faults = trial.policy, trial.faults
    if recorded_digest is not None and recorded_digest != policy.digest:
        faults += (f"the policy's digest is {policy.digest[:12]}, recorded beforehand was {recorded_digest[:12]}",)
    if faults:
        return _invalid(trial, faults, version)
    if not trial.cycles:
        return _before_the_first(trial, version, bar_ms)
    sums, end = trial.sums, trial.cycles - 1
    tracks = _tracks(trial, sums, version, symbols)
    gates = _contract_at(sums, end, policy)
    events = int(sums.outputs.rows.sum())
    checks = tuple(track.line(end, events) for track in tracks)
    contract = contract_state([gate.state for gate in gates], policy.contract.passes_needed)
    held = _first_held(sums, tracks, policy)
    path = next(track.value for track in tracks if track.name == EVIDENCE)
    whole = Whole(
        checks=checks,
        policy=policy,
        version=version,
        log_e=tuple(path.tolist()),
        block_mean=promoted_mean(trial.blocks.x[: blocks_read(trial.cycles, policy.evidence)[-1]]),
        held_at=held,
        flips=FlipSummary.of(sums.flips, sums.gains),
    )
    return Verdict(
        state=_state(contract, checks),
        contract=contract,
        scope=SCOPE,
        summary=_summary(contract, checks, trial.cycles),
        gates=gates,
        rows=events,
        valid=int(sums.outputs.valid.sum()),
        cycles=trial.cycles,
        bars=trial.cycles * CYCLE,
        policy=policy.contract,
        faults=(),
        needs=_needs(gates, checks, bar_ms),
        notes=_notes(contract, gates, checks, held, trial.cycles),
        plain=_plain(sums.outputs),
        whole=whole,
    )


def _tracks(trial: Trial, sums: Sums, version: int | None, symbols: Sequence[str]) -> tuple[Track, ...]:
    def name_of(symbol: int) -> str:
        return symbols[symbol] if symbol < len(symbols) else f"number {symbol}"

    policy, x = trial.policy, trial.blocks.x
    return (
        *veto_tracks(sums.outputs, sums.repeats, sums.moments, sums.hits, policy, name_of),
        evidence(x, trial.cycles, policy.evidence, version),
        *deployment_tracks(sums.gains, x, policy, name_of),
    )


def _contract_at(sums: Sums, end: int, policy: Policy) -> tuple[GateResult, ...]:
    """The contract's lines at the end of a cycle."""
    return gates_of(sums.outputs.upto(end + 1), sums.outcomes.cycles_at(end), policy.contract)


def _first_held(sums: Sums, tracks: tuple[Track, ...], policy: Policy) -> int | None:
    """Bars at the end of the first cycle at which everything held."""
    others = np.all([track.state == PASS for track in tracks], axis=0)
    for end in np.flatnonzero(others).tolist():
        states = [gate.state for gate in _contract_at(sums, end, policy)]
        if contract_state(states, policy.contract.passes_needed) is GateState.PASS:
            return int(end + 1) * CYCLE
    return None


def _state(contract: GateState, checks: tuple[GateResult, ...]) -> VerdictState:
    states = {contract, *(check.state for check in checks)}
    if GateState.FAIL in states:
        return VerdictState.REJECT
    return VerdictState.HOLD if GateState.INSUFFICIENT in states else VerdictState.PROMOTE


def _summary(contract: GateState, checks: tuple[GateResult, ...], cycles: int) -> str:
    state = _state(contract, checks)
    when = f"at the end of cycle {cycles}"
    if state is VerdictState.PROMOTE:
        return f"PROMOTE: the contract, {len(VETOES)} vetoes, the evidence and {len(DEPLOYMENT)} checks pass {when}."
    named = {"the contract": contract, **{check.name: check.state for check in checks}}
    failed = [name for name, found in named.items() if found is GateState.FAIL]
    undecided = [name for name, found in named.items() if found is GateState.INSUFFICIENT]
    if failed:
        return f"REJECT: {', '.join(failed)} failed {when}."
    return f"HOLD: {', '.join(undecided)} still open {when}."


def _needs(gates: Sequence[GateResult], checks: Sequence[GateResult], bar_ms: int | None) -> tuple[str, ...]:
    return tuple(need_of(line, bar_ms) for line in (*gates, *checks) if line.state is GateState.INSUFFICIENT)


def _notes(
    contract: GateState, gates: tuple[GateResult, ...], checks: tuple[GateResult, ...], held: int | None, cycles: int
) -> tuple[str, ...]:
    notes = notes_of(contract, gates)
    failed = [gate.name for gate in gates if gate.state is GateState.FAIL]
    rest = all(check.state is GateState.PASS for check in checks)
    if notes and failed == [CONFIDENCE_SPREAD] and rest:
        notes += (f"{CONFIDENCE_SPREAD} is what blocks a model that passes all vetoes, the evidence and all checks.",)
    if held is not None and not (contract is GateState.PASS and rest):
        notes += (f"Everything held at the end of cycle {held // CYCLE} of {cycles}, and no longer does.",)
    return notes


def _plain(outputs: Outputs) -> LegacyOutcome | None:
    """The plain rule on the same events; None where there is no valid one."""
    n = int(outputs.valid.sum())
    if not n:
        return None
    total, square = np.cumsum(outputs.confidence[:, 1:3], axis=0)[-1] / n
    buckets = table_of(outputs.plain_n, outputs.plain_agreeing, LEGACY.bucket_edges, LEGACY.bucket_events)
    spread = 0.0 if outputs.constant else float(np.sqrt(max(square - total**2, 0.0)))
    return plain_rule(int(outputs.actions.sum(axis=0).max()), spread, int(outputs.agreeing.sum()), n, buckets)


def _blanks(reason: str, policy: Policy | None) -> tuple[GateResult, ...]:
    contract = policy.contract if policy else None
    return tuple(replace(blank(name, reason, contract), section=section) for name, section in _SECTIONS.items())


def _before_the_first(trial: Trial, version: int | None, bar_ms: int | None) -> Verdict:
    """No cycle is complete: the contract's lines show what there is, and nothing is concluded."""
    policy, seen = trial.policy, trial.waiting
    gates = contract_gates(seen, policy.contract)
    checks = _blanks("No cycle is complete yet.", policy)
    contract = contract_state([gate.state for gate in gates], policy.contract.passes_needed)
    return Verdict(
        state=VerdictState.HOLD,
        contract=contract,
        scope=SCOPE,
        summary=f"HOLD: nothing is concluded before the first cycle of {CYCLE} bars is complete.",
        gates=gates,
        rows=len(seen),
        valid=int(seen.valid.sum()),
        cycles=0,
        bars=trial.bars,
        policy=policy.contract,
        faults=(),
        needs=_needs(gates, checks, bar_ms),
        notes=(),
        plain=None,
        whole=Whole(checks, policy, version, (), None, None),
    )


def _invalid(trial: Trial, faults: tuple[str, ...], version: int | None) -> Verdict:
    policy, reason = trial.policy, f"The data is broken: {faults[0]}."
    return Verdict(
        state=VerdictState.INVALID,
        contract=GateState.INSUFFICIENT,
        scope=SCOPE,
        summary=f"INVALID: {faults[0]}.",
        gates=tuple(blank(name, reason, None) for name in GATES),
        rows=0,
        valid=0,
        cycles=trial.bars // CYCLE,
        bars=trial.bars // CYCLE * CYCLE,
        policy=policy.contract,
        faults=faults,
        needs=(),
        notes=(),
        plain=None,
        whole=Whole(_blanks(reason, None), policy, version, (), None, None),
    )

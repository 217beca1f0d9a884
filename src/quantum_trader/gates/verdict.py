"""What a verdict is, and the one over the contract alone: REJECT, HOLD or INVALID, and why.

- It is taken at the last complete cycle's end: later events and outcomes are not seen. Before the first cycle's end
  the lines show what there is, and conclude nothing.
- INVALID: the sample has faults, or the policy is not the one whose digest was recorded beforehand.
- REJECT: the contract is failed: so many gates FAIL that the remaining ones cannot make up the number.
- HOLD: everything else, a passed contract too; every open item says how much more it needs.

PROMOTE needs sections A to D of GATES.md together. Sections B (vetoes), C (evidence) and D (deployment checks) are not
judged here, and what was not judged has not passed: this verdict never is PROMOTE, and its exit code never 0. The
verdict over all sections is `judge.judge`.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from quantum_trader.gates.contract import contract_gates, legacy_of
from quantum_trader.gates.counterfactual import FlipSummary
from quantum_trader.gates.legacy import LegacyOutcome
from quantum_trader.gates.policy import DEFAULT, LEGACY, PLAIN, ContractPolicy
from quantum_trader.gates.result import CONFIDENCE_SPREAD, GateResult, GateState, finite
from quantum_trader.gates.sample import CYCLE, Sample
from quantum_trader.gates.whole_policy import Policy

MS_PER_DAY = 86_400_000

CONTRACT_ONLY = "contract only"
PLAIN_ONLY = "contract only, plain rule"

_CAVEAT = "vetoes, evidence and deployment checks are not judged yet, so no promotion follows from it"


class VerdictState(StrEnum):
    """How a judgement ends."""

    PROMOTE = "PROMOTE"
    REJECT = "REJECT"
    HOLD = "HOLD"
    INVALID = "INVALID"

    @property
    def exit_code(self) -> int:
        """Of the process that reports it: 0, 2, 3 and 4."""
        return {"PROMOTE": 0, "REJECT": 2, "HOLD": 3, "INVALID": 4}[self.value]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement with everything it rests on.

    Attributes:
        state: PROMOTE only where all sections were judged (see `judge`).
        contract: Whether the contract (section A) passes, fails or is insufficient.
        scope: What was judged.
        summary: One sentence for people.
        gates: The four lines of the contract.
        rows: Events up to the judged cycle end, missing outputs included.
        valid: Events with an output among them.
        cycles: Complete cycles observed.
        bars: Bars up to the judged cycle end.
        policy: The contract's thresholds.
        faults: Broken rules of the sample or the policy; empty unless INVALID.
        needs: What each open item needs, a sentence each.
        notes: What a reader should know besides.
        plain: What the plain rule says of the same events, for comparison; None if INVALID.
        whole: What besides the contract was judged; None for the contract alone.
    """

    state: VerdictState
    contract: GateState
    scope: str
    summary: str
    gates: tuple[GateResult, ...]
    rows: int
    valid: int
    cycles: int
    bars: int
    policy: ContractPolicy
    faults: tuple[str, ...]
    needs: tuple[str, ...]
    notes: tuple[str, ...]
    plain: LegacyOutcome | None
    whole: "Whole | None" = None

    @property
    def exit_code(self) -> int:
        """Of the process that reports it."""
        return self.state.exit_code

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the same for the same sample and policy; None where a number is not finite."""
        content = {
            "state": self.state.value,
            "exit_code": self.exit_code,
            "contract": self.contract.value,
            "scope": self.scope,
            "summary": self.summary,
            "gates": [gate.to_dict() for gate in self.gates],
            "events": {"rows": self.rows, "valid": self.valid, "cycles": self.cycles, "bars": self.bars},
            "policy": self.policy.to_mapping(),
            "policy_digest": self.policy.digest,
            "faults": list(self.faults),
            "needs": list(self.needs),
            "notes": list(self.notes),
            "plain_rule": None if self.plain is None else _plain_dict(self.plain),
        }
        return content if self.whole is None else content | self.whole.to_dict()


@dataclass(frozen=True, slots=True)
class Whole:
    """Sections B to D of a verdict.

    Attributes:
        checks: A line for each veto, the evidence, and each deployment check.
        policy: All thresholds.
        version: Of the judged model in its lineage; None where no lineage spends alpha.
        log_e: Logarithm of the evidence at each complete cycle's end.
        block_mean: Mean of the blocks' x up to the judged end, for the watch after a promotion; NaN without any.
        held_at: Bars at the end of the first cycle at which A to D all held; None if there was none.
        flips: What its vote would have changed; None before the first cycle's end.
    """

    checks: tuple[GateResult, ...]
    policy: Policy
    version: int | None
    log_e: tuple[float, ...]
    held_at: int | None
    flips: FlipSummary | None
    block_mean: float = math.nan

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in the keys of a verdict over all sections."""
        return {
            "checks": [check.to_dict() for check in self.checks],
            "policy": self.policy.to_mapping(),
            "policy_digest": self.policy.digest,
            "version": self.version,
            "log_e": list(self.log_e),
            "block_mean": None if math.isnan(self.block_mean) else self.block_mean,
            "held_at_bar": self.held_at,
            "flips": None if self.flips is None else finite(asdict(self.flips)),
        }


def judge_contract(sample: Sample, policy: ContractPolicy = DEFAULT, recorded_digest: str | None = None) -> Verdict:
    """Judge one model by the contract.

    Args:
        sample: Its events; `bars` tells how long was observed.
        policy: Thresholds.
        recorded_digest: Of the policy, as recorded before the window; any other policy makes the verdict INVALID.
    """
    faults = sample.faults()
    # A broken sample is not cut: what is broken may lie after the cycle's end, and then the lines would hide it.
    # Before the first cycle's end there is nothing to conclude, but the numbers so far are worth a look.
    seen = sample if faults or not sample.complete_cycles else sample.to_cycle_end()
    if recorded_digest is not None and recorded_digest != policy.digest:
        faults += (f"the policy's digest is {policy.digest[:12]}, recorded beforehand was {recorded_digest[:12]}",)
    gates = contract_gates(seen, policy)
    contract = contract_state([gate.state for gate in gates], policy.passes_needed)
    failed = contract is GateState.FAIL
    state = VerdictState.INVALID if faults else VerdictState.REJECT if failed else VerdictState.HOLD
    return Verdict(
        state=state,
        contract=contract,
        scope=PLAIN_ONLY if policy.rule == PLAIN else CONTRACT_ONLY,
        summary=_summary(contract, gates, faults, policy),
        gates=gates,
        rows=len(seen),
        valid=int(seen.valid.sum()),
        cycles=seen.complete_cycles,
        bars=seen.bars,
        policy=policy,
        faults=faults,
        needs=() if faults else tuple(need_of(gate) for gate in gates if gate.state is GateState.INSUFFICIENT),
        notes=() if faults else notes_of(contract, gates),
        plain=None if faults else legacy_of(seen, LEGACY),
    )


def _count(gates: tuple[GateResult, ...], state: GateState) -> int:
    return sum(gate.state is state for gate in gates)


def contract_state(states: Sequence[GateState], passes_needed: int) -> GateState:
    """PASS, FAIL or INSUFFICIENT of the whole contract from its gates' states.

    Too few events or cycles make every gate INSUFFICIENT: neither enough passes nor enough failures.
    """
    if states.count(GateState.PASS) >= passes_needed:
        return GateState.PASS
    if len(states) - states.count(GateState.FAIL) < passes_needed:
        return GateState.FAIL
    return GateState.INSUFFICIENT


def _summary(
    contract: GateState, gates: tuple[GateResult, ...], faults: tuple[str, ...], policy: ContractPolicy
) -> str:
    rule, scope = ("plain rule", PLAIN_ONLY) if policy.rule == PLAIN else ("contract", CONTRACT_ONLY)
    if faults:
        return f"INVALID ({scope}): {faults[0]}; {_CAVEAT}."
    passed, failed = _count(gates, GateState.PASS), _count(gates, GateState.FAIL)
    counts = f"{passed} of {len(gates)} gates pass, {failed} fail, {len(gates) - passed - failed} are insufficient"
    state, middle = {
        GateState.PASS: ("HOLD", f"the {rule} passes"),
        GateState.FAIL: ("REJECT", f"the {rule} is failed"),
        GateState.INSUFFICIENT: ("HOLD", f"the {rule} is open"),
    }[contract]
    return f"{state} ({scope}): {middle}, {counts}; {_CAVEAT}."


def need_of(gate: GateResult, bar_ms: int | None = None) -> str:
    """What an open line needs: events, cycles, bars and, if a bar's length is known, days."""
    if gate.more_events is None or gate.more_cycles is None:
        return f"{gate.name}: something else than more events of this kind. {gate.reason}"
    bars = gate.more_cycles * CYCLE
    days = "" if bar_ms is None else f", {bars * bar_ms / MS_PER_DAY:.1f} days"
    return (
        f"{gate.name}: about {gate.more_events} more events "
        f"({gate.more_cycles} cycles, {bars} bars{days}). {gate.reason}"
    )


def notes_of(contract: GateState, gates: tuple[GateResult, ...]) -> tuple[str, ...]:
    """What a reader of the contract's lines should know besides."""
    failed = [gate.name for gate in gates if gate.state is GateState.FAIL]
    if contract is GateState.PASS or failed != [CONFIDENCE_SPREAD]:
        return ()
    return (
        f"{CONFIDENCE_SPREAD} alone fails: a calibrated model under 56.8 % accuracy cannot reach its spread. "
        "The threshold is the user's to change in the policy.",
    )


def _plain_dict(outcome: LegacyOutcome) -> dict[str, Any]:
    return finite(
        {
            "ready": outcome.ready,
            "passed": outcome.passed,
            "n": outcome.n,
            "max_share": outcome.max_share,
            "spread": outcome.spread,
            "agreement": outcome.agreement,
            "gates": {
                "Action Diversity": outcome.diverse,
                "Confidence Spread": outcome.spread_out,
                "Shadow Correlation": outcome.correlated,
                "Calibration": outcome.calibrated,
            },
        }
    )

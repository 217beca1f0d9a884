"""The verdict over the contract alone: PROMOTE, REJECT, HOLD or INVALID, and why.

- It is taken at the last complete cycle's end: later events and outcomes are not seen. Before the first cycle's end
  the lines show what there is, and conclude nothing.
- INVALID: the sample has faults, or the policy is not the one whose digest was recorded beforehand.
- REJECT: the contract is failed: so many gates FAIL that the remaining ones cannot make up the number.
- HOLD: everything else, a passed contract too; every open item says how much more it needs.

PROMOTE needs sections A to D of GATES.md together. Sections B (vetoes), C (evidence) and D (deployment checks) are not
judged here, and what was not judged has not passed: this verdict never is PROMOTE, and its exit code never 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from quantum_trader.gates.contract import contract_gates, legacy_of
from quantum_trader.gates.legacy import LegacyOutcome
from quantum_trader.gates.policy import DEFAULT, LEGACY, PLAIN, ContractPolicy
from quantum_trader.gates.result import CONFIDENCE_SPREAD, GateResult, GateState, finite
from quantum_trader.gates.sample import CYCLE, Sample

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
        state: REJECT, HOLD or INVALID; PROMOTE needs the sections that are not judged yet.
        contract: Whether the contract (section A) passes, fails or is insufficient.
        scope: What was judged.
        summary: One sentence for people.
        gates: The four lines.
        rows: Events up to the judged cycle end, missing outputs included.
        valid: Events with an output among them.
        cycles: Complete cycles observed.
        bars: Bars up to the judged cycle end.
        policy: The thresholds used.
        faults: Broken rules of the sample or the policy; empty unless INVALID.
        needs: What each open item needs, a sentence each.
        notes: What a reader should know besides.
        plain: What the plain rule says of the same events, for comparison; None if INVALID.
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

    @property
    def exit_code(self) -> int:
        """Of the process that reports it."""
        return self.state.exit_code

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the same for the same sample and policy; None where a number is not finite."""
        return {
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
        needs=() if faults else tuple(_need(gate) for gate in gates if gate.state is GateState.INSUFFICIENT),
        notes=() if faults else _notes(contract, gates),
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


def _need(gate: GateResult) -> str:
    if gate.more_events is None or gate.more_cycles is None:
        return f"{gate.name}: something else than more events of this kind. {gate.reason}"
    bars = gate.more_cycles * CYCLE
    return f"{gate.name}: about {gate.more_events} more events ({gate.more_cycles} cycles, {bars} bars). {gate.reason}"


def _notes(contract: GateState, gates: tuple[GateResult, ...]) -> tuple[str, ...]:
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

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from quantum_trader.gates.policy import DEFAULT, LEGACY
from quantum_trader.gates.result import GateState
from quantum_trader.gates.sample import CYCLE, Sample
from quantum_trader.gates.verdict import CONTRACT_ONLY, Verdict, VerdictState, contract_state, judge_contract

_, REJECT, HOLD, INVALID = VerdictState
PASS, FAIL, OPEN = GateState

Make = Callable[..., Sample]


def constant(base: Sample) -> Sample:
    n = len(base)
    return replace(base, p_up=np.full(n, 0.615), confidence=np.full(n, 0.615), action=np.ones(n, np.int8))


def test_exit_codes_are_those_of_the_specification() -> None:
    assert {state.value: state.exit_code for state in VerdictState} == {
        "PROMOTE": 0, "REJECT": 2, "HOLD": 3, "INVALID": 4
    }  # fmt: skip


def test_every_combination_of_four_states() -> None:
    for states in itertools.product(GateState, repeat=4):
        contract = contract_state(states, 3)
        # What could still become of the insufficient ones, both ways.
        hopeful = [GateState.PASS if state is GateState.INSUFFICIENT else state for state in states]
        assert (contract is PASS) == (sum(state is PASS for state in states) >= 3)
        assert (contract is FAIL) == (contract_state(hopeful, 3) is FAIL)
        assert contract_state(hopeful, 3) is not OPEN


@pytest.mark.parametrize(
    ("name", "contract"),
    [
        ("frozen", FAIL), ("always_buy", FAIL), ("coin", OPEN), ("copy_ens", PASS), ("anti", FAIL),
        ("fnoise", OPEN), ("redundant", PASS), ("leak_full", PASS), ("missing20", PASS), ("flip1", PASS),
        ("quant4", PASS), ("symconst", FAIL), ("good", PASS), ("good_cal", OPEN),
    ],
)  # fmt: skip
def test_golden_study(golden: Callable[[str], Any], study: Make, name: str, contract: GateState) -> None:
    # The contract alone lets copies and leaks through, which is why no promotion follows from it.
    verdict = judge_contract(study(name))
    assert verdict.contract is contract
    assert verdict.state is (REJECT if contract is FAIL else HOLD)
    expected = golden("g11_e2e")["expected"]["neutral"][name]
    assert (contract is PASS) == expected["final_parts"]["contract"]
    assert (verdict.cycles, verdict.bars) == (128, 128 * CYCLE)


def test_the_scope_is_said_in_every_state(model: Make) -> None:
    good = model()
    verdicts = {
        REJECT: judge_contract(constant(model(herd=0.0))),
        HOLD: judge_contract(model(bars=100)),
        INVALID: judge_contract(replace(good, ensemble=np.full(len(good), 7, np.int8))),
    }
    for state, verdict in verdicts.items():
        assert verdict.state is state
        assert verdict.scope == CONTRACT_ONLY
        assert verdict.summary.startswith(f"{state.value} (contract only)")
        assert "not judged yet, so no promotion follows" in verdict.summary
        assert verdict.summary.count(".") == 1
        assert verdict.exit_code == state.exit_code


def test_a_passed_contract_alone_never_promotes(model: Make) -> None:
    # Sections B to D are not judged: what was not judged has not passed, and no script may read exit code 0.
    verdict = judge_contract(model())
    assert (verdict.contract, verdict.state, verdict.exit_code) == (PASS, HOLD, 3)
    assert "the contract passes" in verdict.summary


def test_too_little_is_held_with_what_it_needs(model: Make) -> None:
    verdict = judge_contract(model(bars=24, symbols=5))
    assert (verdict.state, verdict.cycles, verdict.bars, verdict.valid) == (HOLD, 0, 24, 120)
    assert len(verdict.needs) == 4
    # Five symbols give 120 events in this cycle; 19 cycles more at that rate.
    assert "about 2280 more events (19 cycles, 931 bars)" in verdict.needs[0]
    assert [gate.n for gate in verdict.gates[:3]] == [120] * 3


def test_dense_events_in_few_cycles_are_held(model: Make) -> None:
    # GATES.md, Planning: 5,000 dense events on 50 symbols must return HOLD.
    verdict = judge_contract(model(bars=100, symbols=50))
    assert verdict.state is HOLD
    assert verdict.valid > 4000


@pytest.mark.parametrize("p_up", [[], [math.nan] * 500])
def test_no_output_is_held(p_up: list[float]) -> None:
    n = len(p_up)
    verdict = judge_contract(Sample.of(range(n), [0] * n, p_up, [0] * n, [0] * n))
    assert (verdict.state, verdict.valid) == (HOLD, 0)


def test_a_duplicate_makes_it_invalid_wherever_it_lies(model: Make) -> None:
    base = model(bars=40 * CYCLE + 5)
    columns = {name: getattr(base, name) for name in ("bar", "symbol", "p_up", "action", "ensemble", "forward")}
    for row in (0, len(base) - 1):
        twice = Sample.of(**{k: np.append(v, v[row]) for k, v in columns.items()}, bars=base.bars)
        verdict = judge_contract(twice)
        assert verdict.state is INVALID
        assert "twice" in verdict.summary
        assert GateState.PASS not in {gate.state for gate in verdict.gates}


def test_another_policy_than_the_recorded_one_is_invalid(model: Make) -> None:
    changed = replace(DEFAULT, agreement_min=0.5)
    assert judge_contract(model(), changed, recorded_digest=changed.digest).contract is PASS
    verdict = judge_contract(model(), changed, recorded_digest=DEFAULT.digest)
    assert verdict.state is INVALID
    assert DEFAULT.digest[:12] in verdict.faults[0]


def test_it_is_taken_at_the_last_cycles_end(model: Make) -> None:
    base = model(bars=40 * CYCLE + 30)
    late = base.bar >= 40 * CYCLE
    other = replace(base, action=np.where(late, 1, base.action).astype(np.int8))
    assert judge_contract(base).to_dict() == judge_contract(other).to_dict()
    assert judge_contract(base).bars == 40 * CYCLE


def test_it_is_deterministic_and_strict_json(model: Make) -> None:
    def text(verdict: Verdict) -> str:
        return json.dumps(verdict.to_dict(), allow_nan=False, sort_keys=True)

    base = model()
    order = np.random.default_rng(0).permutation(len(base))
    columns = {name: getattr(base, name)[order] for name in ("bar", "symbol", "p_up", "action", "ensemble", "forward")}
    shuffled = Sample.of(**columns, bars=base.bars)
    assert text(judge_contract(base)) == text(judge_contract(shuffled))
    content = json.loads(text(judge_contract(base)))
    assert content["policy_digest"] == DEFAULT.digest
    assert content["scope"] == CONTRACT_ONLY
    assert [gate["state"] for gate in content["gates"]] == ["PASS"] * 4
    assert len(content["gates"][3]["buckets"]) == 5
    json.loads(text(judge_contract(model(bars=0))))
    json.loads(text(judge_contract(constant(base))))


def test_the_plain_rule_stands_beside_it(model: Make) -> None:
    # A copy of the ensemble that never varies its accuracy: ready by the plain rule after one look at a few rows.
    short = model(bars=49, herd=1.0)
    verdict = judge_contract(short)
    assert verdict.plain is not None
    assert (verdict.state, verdict.plain.ready) == (HOLD, True)
    by_plain = judge_contract(short, LEGACY)
    assert by_plain.contract is PASS
    assert (by_plain.state, by_plain.scope) == (HOLD, "contract only, plain rule")
    assert "no promotion follows" in by_plain.summary


def test_a_spread_that_alone_blocks_is_noted(study: Make, model: Make) -> None:
    assert "56.8 %" in judge_contract(study("good_cal")).notes[0]
    assert judge_contract(model()).notes == ()

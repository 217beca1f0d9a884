import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_trader.gates.deployment import BRIER_GAIN, DEPLOYMENT
from quantum_trader.gates.evidence import EVIDENCE
from quantum_trader.gates.judge import SCOPE, judge, judge_trial
from quantum_trader.gates.policy import ContractPolicy
from quantum_trader.gates.result import GATES, GateState
from quantum_trader.gates.sample import CYCLE, Sample
from quantum_trader.gates.trial import Trial
from quantum_trader.gates.verdict import Verdict, VerdictState, judge_contract
from quantum_trader.gates.vetoes import COVERAGE, DEGENERATE, HOMOGENEOUS, LEAK, REDUNDANT, VETOES
from quantum_trader.gates.whole_policy import WHOLE, EvidencePolicy, Policy

PROMOTE, REJECT, HOLD, INVALID = VerdictState
Make = Callable[..., Any]

PARTS = {
    "coverage": COVERAGE,
    "degenerate": DEGENERATE,
    "redundant": REDUNDANT,
    "leak": LEAK,
    "homog": HOMOGENEOUS,
    "evidence": EVIDENCE,
    "deployed": BRIER_GAIN,
    "pnl": "After-cost Difference",
    "slices": "By Symbol",
    "recent": "Recent",
}
"""Golden g11's names of the checks."""

STUDY = {
    "frozen": REJECT, "always_buy": REJECT, "coin": HOLD, "copy_ens": REJECT, "anti": REJECT, "fnoise": HOLD,
    "redundant": HOLD, "leak_full": REJECT, "missing20": REJECT, "flip1": REJECT, "quant4": REJECT,
    "symconst": REJECT, "good": PROMOTE, "good_cal": HOLD,
}  # fmt: skip


def text(verdict: Verdict) -> str:
    return json.dumps(verdict.to_dict(), allow_nan=False, sort_keys=True)


def by_name(verdict: Verdict) -> dict[str, Any]:
    assert verdict.whole is not None
    return {line.name: line for line in (*verdict.gates, *verdict.whole.checks)}


@pytest.mark.parametrize("name", STUDY)
def test_golden_study(golden: Callable[[str], Any], study_world: Make, name: str) -> None:
    expected = golden("g11_e2e")["expected"]["neutral"]
    assert sorted(expected) == sorted(STUDY)
    want, w = expected[name], study_world(name)
    verdict = judge(w.sample(), w.panel())
    whole, lines = verdict.whole, by_name(verdict)
    assert whole is not None
    assert verdict.state is STUDY[name]
    assert (verdict.state is PROMOTE) == want["promoted"]
    assert [gate.state.number for gate in verdict.gates] == want["contract_gates_final"]
    assert (verdict.contract is GateState.PASS) == want["final_parts"]["contract"]
    for part, check in PARTS.items():
        assert (lines[check].state is GateState.PASS) == want["final_parts"][part], part
    assert whole.log_e[-1] == pytest.approx(want["final_log_e"], abs=1e-6)
    assert max(0.0, *whole.log_e) == pytest.approx(want["max_log_e"], abs=1e-6)
    if want["promoted"]:
        # Cycles are counted from 0 there.
        assert whole.held_at == (want["promote_cycle"] + 1) * CYCLE
        # Events until then.
        assert int((w.bar < whole.held_at).sum()) == want["promote_event"]
    else:
        assert (whole.held_at, want["promote_cycle"]) == (None, -1)


@pytest.mark.parametrize("name", STUDY)
def test_golden_brier_gain(golden: Callable[[str], Any], study_world: Make, name: str) -> None:
    # It includes the last, unfinished cycle: here that cycle is completed by bars that nobody saw.
    w = study_world(name)
    bars = -(-w.bars // CYCLE) * CYCLE
    trial = Trial(10)
    padded = replace(w, bars=bars)
    trial.extend(padded.sample(), padded.panel())
    want = golden("g11_e2e")["expected"]["neutral"][name]["cum_brier_gain"]
    assert trial.sums.gains.gain.sum() == pytest.approx(want, abs=1e-7)


@pytest.fixture(scope="module")
def good(world: Make) -> Any:
    return world()


def test_a_skilful_model_is_promoted(good: Any) -> None:
    verdict = judge(good.sample(), good.panel(), WHOLE, WHOLE.digest)
    assert (verdict.state, verdict.exit_code, verdict.scope) == (PROMOTE, 0, SCOPE)
    assert verdict.summary.startswith("PROMOTE: ")
    assert verdict.needs == verdict.notes == verdict.faults == ()
    lines = by_name(verdict)
    assert list(lines) == [*GATES, *VETOES, EVIDENCE, *DEPLOYMENT]
    assert [line.section for line in lines.values()] == [*"AAAABBBBBCDDDDD"]
    for line in lines.values():
        assert line.reason.endswith(".")
        assert line.rule
        assert (line.more_events, line.more_cycles) == (0, 0)
        assert math.isfinite(line.value)
        assert math.isfinite(line.threshold)
        assert line.n > 0
        assert line.n_effective > 0


def test_one_without_skill_is_not(world: Make) -> None:
    for seed in range(5):
        w = world(seed=seed, skill=0.0)
        verdict = judge(w.sample(), w.panel())
        assert verdict.state is not PROMOTE
        assert verdict.whole is not None
        assert verdict.whole.held_at is None


def test_the_same_contract_as_by_itself(good: Any) -> None:
    # Two ways to the same four lines: from all events at once, and from the sums of cycles.
    alone = judge_contract(Sample.of(good.bar, good.symbol, good.p_up, good.action, good.ensemble, forward=moves(good)))
    whole = judge(good.sample(), good.panel())
    for one, other in zip(alone.gates, whole.gates, strict=True):
        assert (one.name, one.state, one.n, one.cycles) == (other.name, other.state, other.n, other.cycles)
        assert one.value == pytest.approx(other.value)
        assert one.se == pytest.approx(other.se)
    assert alone.plain is not None
    assert whole.plain is not None
    assert (alone.plain.ready, alone.plain.max_share) == (whole.plain.ready, whole.plain.max_share)
    assert alone.plain.spread == pytest.approx(whole.plain.spread)


def moves(w: Any) -> Any:
    prices = np.vstack([w.log_price, np.full((13, w.log_price.shape[1]), np.nan)])
    return prices[w.bar + 13, w.symbol] - prices[w.bar + 1, w.symbol]


def test_a_trial_that_goes_on_gives_the_same_verdict_at_every_step(good: Any) -> None:
    trial = Trial(6)
    for first in range(0, good.bars, 700):
        end = min(first + 700, good.bars)
        trial.extend(good.sample(first, end), good.panel(first, end))
        whole = replace(good, bars=end).take(np.flatnonzero(good.bar < end))
        cut = replace(whole, log_price=good.log_price[:end])
        assert text(judge_trial(trial)) == text(judge(cut.sample(), cut.panel()))


def test_portions_of_work_change_no_byte(good: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = text(judge(good.sample(), good.panel()))
    monkeypatch.setattr("quantum_trader.gates.judge._PORTION", 1000)
    assert text(judge(good.sample(), good.panel())) == whole


def test_a_stated_outcome_is_checked_in_every_portion(good: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # The last event of the first portion: its outcome lies in the bars of the next.
    monkeypatch.setattr("quantum_trader.gates.judge._PORTION", 1000)
    sample = good.sample()
    outcome = sample.outcome.copy()
    outcome[sample.bar == 165] = np.where(moves(good)[good.bar == 165] > 0, 0, 1)
    assert 1000 // 6 - 13 < 165 < 1000 // 6
    verdict = judge(replace(sample, outcome=outcome), good.panel())
    assert verdict.state is INVALID
    assert "outcomes are not those of the prices, the first at bar 165" in verdict.summary


def test_order_of_events_changes_no_byte(good: Any) -> None:
    shuffled = good.take(np.random.default_rng(0).permutation(len(good.bar)))
    assert text(judge(shuffled.sample(), shuffled.panel())) == text(judge(good.sample(), good.panel()))


def test_later_data_change_nothing_before_the_next_cycles_end(good: Any) -> None:
    end = 50 * CYCLE
    longer = replace(good, bars=end + 30)
    rows = np.flatnonzero(good.bar < end + 30)
    other = longer.take(rows).with_model(np.where(good.bar[rows] >= end, 0.9, good.p_up[rows]))
    now = replace(good, bars=end).take(np.flatnonzero(good.bar < end))
    assert text(judge(other.sample(), other.panel())) == text(judge(now.sample(), now.panel()))


def test_what_held_once_and_no_longer_does_promotes_nothing(good: Any) -> None:
    broken = good.with_model(np.where(good.bar >= 55 * CYCLE, 0.6, good.p_up))
    verdict = judge(broken.sample(), broken.panel())
    assert verdict.whole is not None
    assert verdict.whole.held_at is not None
    assert verdict.state is REJECT
    assert any("no longer does" in note for note in verdict.notes)


def test_a_policy_or_data_that_are_not_the_recorded_ones_are_invalid(good: Any) -> None:
    looser = Policy(contract=ContractPolicy(agreement_min=0.3))
    assert judge(good.sample(), good.panel(), looser, looser.digest).state is PROMOTE
    verdict = judge(good.sample(), good.panel(), looser, WHOLE.digest)
    assert (verdict.state, verdict.exit_code) == (INVALID, 4)
    assert WHOLE.digest[:12] in verdict.summary
    sample = good.sample()
    changed = sample.ensemble.copy()
    changed[-1] = 1 - abs(changed[-1])
    verdict = judge(replace(sample, ensemble=changed), good.panel())
    assert (verdict.state, verdict.plain) == (INVALID, None)
    assert f"the first at bar {good.bars - 1}" in verdict.summary
    assert {line.state for line in by_name(verdict).values()} == {GateState.INSUFFICIENT}
    # Whole cycles only, as everywhere.
    assert (verdict.cycles, verdict.bars) == (60, 60 * CYCLE)
    cut = replace(good, bars=good.bars - 1)
    rows = cut.take(np.flatnonzero(good.bar < cut.bars))
    short = judge(rows.sample(), rows.panel(), looser, WHOLE.digest)
    assert (short.state, short.cycles, short.bars) == (INVALID, 59, 59 * CYCLE)
    json.loads(text(verdict))


def test_a_later_version_of_a_lineage_needs_more_evidence(world: Make) -> None:
    w = world(skill=0.045)
    states = [by_name(judge(w.sample(), w.panel(), version=v))[EVIDENCE].state for v in (None, 1, 2000)]
    assert states[0] is GateState.PASS
    assert states[2] is GateState.INSUFFICIENT


def test_symbols_and_days_are_said(world: Make) -> None:
    w = world(bars=49 * 30, skill=0.0)
    names = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT")
    verdict = judge(w.sample(), w.panel(), symbols=names, bar_ms=300_000)
    assert any(name in by_name(verdict)[HOMOGENEOUS].reason for name in names)
    unnamed = judge(w.sample(), w.panel())
    assert "number " in by_name(unnamed)[HOMOGENEOUS].reason
    early = world(bars=49 * 10)
    need = judge(early.sample(), early.panel(), bar_ms=300_000).needs
    assert all("(10 cycles, 490 bars, 1.7 days)" in line for line in need if COVERAGE in line)
    assert len(need) == 15


def test_dense_events_in_few_bars_are_held(world: Make) -> None:
    # GATES.md, Planning: 5,000 dense events on 50 symbols are 8.3 hours and must return HOLD.
    w = world(bars=100, symbols=50)
    verdict = judge(w.sample(), w.panel())
    assert (verdict.state, verdict.rows) == (HOLD, 2 * CYCLE * 50)


def test_a_spread_that_alone_blocks_is_said(study_world: Make) -> None:
    w = study_world("good_cal")
    notes = judge(w.sample(), w.panel()).notes
    assert "56.8 %" in notes[0]
    assert "what blocks a model that passes all vetoes" in notes[1]


# ---- Properties, under a policy that small worlds can fail and pass ----

LENIENT = Policy(
    contract=ContractPolicy.from_mapping(
        {"min_events": 20, "min_cycles": 2, "se_max": 0.5, "spread_se_max": 0.5, "bucket_events": 2}
        | {"buckets_needed": 2, "trend_z": 0.1}
    ),
    evidence=EvidencePolicy(alpha=0.2, burn_blocks=2, refit_bars=12),
)


@given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.floats(0.0, 0.6))
@settings(max_examples=30, deadline=None)
def test_no_promotion_without_every_line(world: Make, seed: int, share: float, skill: float) -> None:
    w = world(seed=seed, bars=CYCLE * 6, symbols=3, skill=skill)
    w = w.take(np.flatnonzero(np.random.default_rng(seed).random(len(w.bar)) < share))
    verdict = judge(w.sample(), w.panel(), LENIENT)
    states = {line.state for line in by_name(verdict).values() if line.section != "A"}
    if verdict.state is PROMOTE:
        assert states == {GateState.PASS}
        assert verdict.contract is GateState.PASS
    if verdict.state is REJECT:
        assert GateState.FAIL in states or verdict.contract is GateState.FAIL
    if verdict.state is HOLD:
        assert GateState.FAIL not in states
        assert verdict.needs


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_up_and_down_are_alike(world: Make, seed: int) -> None:
    # Everything mirrored but costs and the label of a return of exactly zero, of which there is none.
    w = world(seed=seed, bars=CYCLE * 8, symbols=3)
    mirrored = replace(
        w,
        p_up=1 - w.p_up,
        action=(-w.action).astype(np.int8),
        ensemble=(-w.ensemble).astype(np.int8),
        voter_p=1 - w.voter_p,
        voter_action=(-w.voter_action).astype(np.int8),
        log_price=-w.log_price,
    )
    one, other = (judge(each.sample(), each.panel(), LENIENT) for each in (w, mirrored))
    for line, mirror in zip(by_name(one).values(), by_name(other).values(), strict=True):
        if line.name in (DEGENERATE, "After-cost Difference"):
            continue
        assert line.value == pytest.approx(mirror.value, rel=1e-6, abs=1e-9, nan_ok=True), line.name


@pytest.mark.slow
def test_without_skill_of_its_own_hardly_any_model_is_promoted(world: Make) -> None:
    # Known seeds; each model mixes the voters with noise. Ville's bound is 1 % over all looks; 3 standard errors above.
    runs, convinced, promoted = 200, 0, 0
    for seed in range(runs):
        w = world(seed=1000 + seed, bars=CYCLE * 40, symbols=4, skill=0.0)
        whole = judge(w.sample(), w.panel()).whole
        assert whole is not None
        convinced += max(whole.log_e) >= math.log(100)
        promoted += whole.held_at is not None
    assert convinced <= 0.01 * runs + 3 * math.sqrt(0.01 * runs)
    assert promoted <= convinced

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.gates.evidence import Blocks, blocks_needed, blocks_read, boundary, evidence, log_e, rho_of
from quantum_trader.gates.whole_policy import EvidencePolicy

POLICY = EvidencePolicy()
RHO = rho_of(200.0, 0.01)


def test_golden_path(golden: Callable[[str], Any]) -> None:
    vector = golden("g05_eprocess")
    expected, x = vector["expected"], np.array(vector["x"])
    assert rho_of(vector["v_opt"], vector["alpha"]) == pytest.approx(expected["rho"], rel=5e-12)
    total, variance = np.cumsum(x), np.cumsum(x * x)
    assert total == pytest.approx(np.array(expected["S"]), rel=5e-12, abs=1e-10)
    assert variance == pytest.approx(np.array(expected["V"]), rel=5e-12)
    path = log_e(total, variance, RHO)
    assert path == pytest.approx(np.array(expected["log_e"]), rel=5e-12, abs=1e-11)
    assert int(np.argmax(path >= math.log(100))) == expected["first_index_E_ge_100"]
    assert path[-1] / math.log(10) == pytest.approx(expected["final_log10_e"], rel=5e-12)


def test_golden_boundary_and_plan(golden: Callable[[str], Any]) -> None:
    expected = golden("g05_eprocess")["expected"]
    for variance, bound in expected["bound_S_at_V"].items():
        assert boundary(float(variance), RHO, 0.01) == pytest.approx(bound, rel=5e-12)
    for mean, blocks in expected["blocks_needed_by_standardised_mean_at_drift_line"].items():
        assert blocks_needed(float(mean), RHO, 0.01) == blocks


def test_nothing_seen_is_no_evidence() -> None:
    assert log_e(np.zeros(3), np.zeros(3), RHO) == pytest.approx(0.0, abs=1e-15)
    assert blocks_needed(0.0, RHO, 0.01) is None
    assert blocks_needed(-0.3, RHO, 0.01) is None
    assert blocks_needed(math.nan, RHO, 0.01) is None
    assert blocks_needed(1e-9, RHO, 0.01) is None


@given(st.floats(0.01, 1e5), st.floats(1e-6, 0.2), st.floats(1.0, 1e4))
def test_the_boundary_is_where_the_evidence_suffices(variance: float, alpha: float, optimal: float) -> None:
    rho = rho_of(optimal, min(alpha, 0.2))
    at = boundary(variance, rho, alpha)
    here, above = (log_e(np.array(at * scale), np.array(variance), rho) for scale in (1.0, 1.01))
    assert float(here) == pytest.approx(math.log(1 / alpha), abs=1e-7)
    assert float(above) > float(here)


@given(
    st.lists(st.floats(-5, 5).map(lambda v: round(v, 3)), max_size=200),
    st.lists(st.integers(0, 60), max_size=8),
)
def test_blocks_do_not_depend_on_how_they_came(g: list[float], cuts: list[int]) -> None:
    whole, parts = Blocks(EvidencePolicy(burn_blocks=2)), Blocks(EvidencePolicy(burn_blocks=2))
    values = np.array(g, dtype=float)
    whole.extend(values)
    for portion in np.split(values, sorted(min(cut, len(g)) for cut in cuts)):
        parts.extend(portion)
    assert parts.x.tobytes() == whole.x.tobytes()
    assert parts.sums.tobytes() == whole.sums.tobytes()


def test_a_block_is_measured_by_the_earlier_ones_only() -> None:
    policy = EvidencePolicy(block_bars=1, burn_blocks=2)
    blocks = Blocks(policy)
    blocks.extend(np.array([3.0, 0.0, 4.0, 10.0, 1.0]))
    # Two earlier results are there from the fourth block on: rms(3, 4), then rms(3, 4, 10).
    rms = [math.sqrt((9 + 16) / 2), math.sqrt((9 + 16 + 100) / 3)]
    assert blocks.x.tolist() == pytest.approx([0, 0, 0, 10 / rms[0], 1 / rms[1]])


def test_the_verdict_reads_blocks_that_are_complete() -> None:
    assert blocks_read(3, POLICY).tolist() == [4, 8, 12]
    # 49 bars hold 4 blocks and one bar more; at the twelfth cycle's end that is a whole block.
    assert blocks_read(12, POLICY)[-1] == 49


def test_a_later_version_needs_more() -> None:
    x = np.full(60, 0.8)
    first, second, none = (evidence(x, 12, POLICY, version) for version in (1, 2, None))
    assert none.threshold[-1] == pytest.approx(math.log(100))
    assert first.threshold[-1] == pytest.approx(math.log(math.pi**2 / 0.06))
    assert second.threshold[-1] == pytest.approx(first.threshold[-1] + math.log(4))
    assert (first.value == second.value).all()


def test_what_is_still_needed_is_about_enough() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(0.2, 1.0, 2000)
    some = evidence(x[:120], 29, POLICY, None)
    assert some.state[-1] == 0
    more = some.more(28)
    assert 1 < more < 10
    assert evidence(x, 400, POLICY, None).state[-1] == 1
    assert evidence(-x[:200], 40, POLICY, None).more(39) == math.inf


def test_the_reason_gives_the_standardised_mean_of_the_blocks_that_spoke() -> None:
    x = np.concatenate([np.zeros(9), np.tile([2.0, 1.0], 20)])
    track = evidence(x, 12, POLICY, None)
    assert track.reason(11).endswith(f"; 40 blocks have a standardised mean of {60 / math.sqrt(100 * 40):.3f}.")
    silent = evidence(np.zeros(49), 12, POLICY, None)
    assert silent.reason(11) == "E = 1, 100 is needed: nothing of its own has been held long enough to count."


def test_what_is_open_needs_at_least_one_cycle_more() -> None:
    # By its standardised mean it would suffice, but its blocks are small: their own variance is what counts.
    track = evidence(np.full(49, 0.1), 12, POLICY, None)
    assert track.state[-1] == 0
    assert track.more(11) == pytest.approx(1 + 1 / 12)


@pytest.mark.slow
def test_without_skill_the_evidence_rarely_suffices() -> None:
    # Ville: P(sup E >= 1 / alpha) <= alpha, for symmetric blocks of any, even changing, size.
    rng = np.random.default_rng(17)
    runs, length = 4000, 1500
    scale = np.exp(rng.normal(0, 1, (runs, 1))) * rng.choice([0.5, 1.0, 3.0], (runs, length))
    x = scale * rng.standard_t(4, (runs, length))
    best = log_e(np.cumsum(x, axis=1), np.cumsum(x * x, axis=1), RHO).max(axis=1)
    for alpha in (0.1, 0.01):
        promoted = int((best >= math.log(1 / alpha)).sum())
        # Three standard errors above the bound.
        assert promoted <= alpha * runs + 3 * math.sqrt(alpha * runs)
        assert promoted > 0

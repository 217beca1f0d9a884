import math
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.gates.clustered import share
from quantum_trader.gates.degenerate import measure_outputs
from quantum_trader.gates.track import shares, whole_cycles
from quantum_trader.gates.trial import Trial
from quantum_trader.gates.veto_sums import Hits, Repetition, correlations
from quantum_trader.gates.vetoes import (
    COVERAGE,
    DEGENERATE,
    HOMOGENEOUS,
    LEAK,
    REDUNDANT,
    VETOES,
    leak,
    veto_tracks,
    within_share,
)
from quantum_trader.gates.whole_policy import WHOLE, VetoPolicy

Make = Callable[..., Any]
POLICY = VetoPolicy()


def states(w: Any) -> dict[str, int]:
    """Each veto's state at the last cycle's end."""
    return {track.name: int(track.state[-1]) for track in tracks(w)}


def tracks(w: Any) -> Any:
    trial = Trial(w.log_price.shape[1])
    trial.extend(w.sample(), w.panel())
    assert trial.faults == ()
    s = trial.sums
    return veto_tracks(s.outputs, s.repeats, s.moments, s.hits, WHOLE)


@pytest.fixture(scope="module")
def base(world: Make) -> Any:
    return world(bars=49 * 40)


def test_an_honest_model_is_vetoed_by_nothing(base: Any) -> None:
    assert states(base) == dict.fromkeys(VETOES, 1)


def logit(p: Any) -> Any:
    return np.log(p / (1 - p))


def expit(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def rogue(base: Any, name: str) -> Any:
    rng, n = np.random.default_rng(1), len(base.bar)
    noise = rng.normal(0, 0.05, n)
    log_price = np.vstack([base.log_price, np.full((13, base.log_price.shape[1]), np.nan)])
    one_bar = log_price[base.bar + 1, base.symbol] - log_price[base.bar, base.symbol]
    future = log_price[base.bar + 13, base.symbol] - log_price[base.bar + 1, base.symbol]
    outputs = {
        "missing": np.where(rng.random(n) < 0.06, np.nan, base.p_up),
        "frozen": np.full(n, 0.615),
        "quantised": np.round(base.p_up * 12) / 12,
        "constant per symbol": np.clip(0.3 + 0.07 * base.symbol + noise * 0.05, 0, 1),
        "copy of the ensemble": expit(logit(base.voter_p) @ np.array([0.25, 0.25, 0.30]) / 0.8 + noise),
        "copy of a voter": expit(logit(base.voter_p[:, 1]) + noise),
        "flipped on one symbol": np.where(base.symbol == 2, 1 - base.p_up, base.p_up),
        "sees the future": expit(np.nan_to_num(future) * 400 + rng.normal(0, 0.8, n)),
        "sees the next bar": expit(np.nan_to_num(one_bar) * 700 + rng.normal(0, 0.4, n)),
    }
    return base.with_model(outputs[name])


ROGUES = {
    "missing": COVERAGE,
    "frozen": DEGENERATE,
    "quantised": DEGENERATE,
    "constant per symbol": DEGENERATE,
    "copy of the ensemble": REDUNDANT,
    "copy of a voter": REDUNDANT,
    "flipped on one symbol": HOMOGENEOUS,
    "sees the future": LEAK,
    "sees the next bar": LEAK,
}


@pytest.mark.parametrize("name", ROGUES)
def test_each_rogue_is_caught_by_its_veto_alone(base: Any, name: str) -> None:
    failed = {veto for veto, state in states(rogue(base, name)).items() if state == -1}
    assert failed == {ROGUES[name]}


def test_a_leak_of_one_bar_is_seen_by_the_delay(base: Any) -> None:
    # Its hit rate after the delay is ordinary: only the comparison shows it.
    track = tracks(rogue(base, "sees the next bar"))[4]
    assert track.value[-1] < 0.58
    assert "too good to be honest" in track.reason(39)


def test_the_leak_alarm_stays() -> None:
    # 25 cycles of perfect hits, then 500 of coin flips: the rate is honest again, the alarm is not off.
    n = np.full(2 * 525 - 1, 20)
    hits = np.where(np.arange(len(n)) < 50, 20, 10)
    track = leak(Hits(n, hits, hits), POLICY)
    assert track.state[:19].tolist() == [0] * 19
    assert (track.state[19:] == -1).all()
    assert track.value[-1] < 0.55
    assert "since the end of cycle 20" in track.reason(524)


def test_either_horizon_alone_rings_the_alarm() -> None:
    n = np.full(2 * 30 - 1, 20)
    much, half = np.full(len(n), 15), np.full(len(n), 10)
    # Right after the delay only: no edge vanishes, the rate itself is too high.
    assert leak(Hits(n, much, half), POLICY).state[-1] == -1
    assert leak(Hits(n, half, much), POLICY).state[-1] == -1
    assert leak(Hits(n, half, half), POLICY).state[-1] == 1


def test_no_buy_or_sell_is_no_clean_bill(base: Any) -> None:
    held = replace(base, action=np.zeros(len(base.bar), np.int8))
    assert states(held)[LEAK] == 0


def test_nothing_is_concluded_early(world: Make) -> None:
    few = world(bars=49 * 19)
    assert states(few) == dict.fromkeys(VETOES, 0)
    for track in tracks(few):
        line = track.line(18, 19 * 49 * 6)
        assert line.more_cycles == 1
        assert line.more_events is not None
        assert line.more_events > 0


def test_a_model_that_never_answers_lacks_coverage(base: Any) -> None:
    silent = states(base.with_model(np.full(len(base.bar), np.nan)))
    assert silent[COVERAGE] == -1
    assert set(silent.values()) == {-1, 0}


def test_a_streak_counts_for_ever_but_repeats_only_lately(base: Any) -> None:
    early = np.where((base.bar < 10) & (base.symbol == 1), 0.6, base.p_up)
    track = tracks(base.with_model(early))[1]
    assert track.state[-1] == -1
    assert "at most 10 equal ones in a row" in track.reason(39)
    fewer = np.where((base.bar < 5) & (base.symbol == 1), 0.6, base.p_up)
    assert states(base.with_model(fewer))[DEGENERATE] == 1


# ---- The sums against the plain measures ----


outputs = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([0.1, 0.2, 0.20001, 0.3, 0.9])), min_size=1, max_size=80
)


@given(outputs, st.lists(st.integers(0, 80), max_size=4), st.integers(1, 30))
def test_repetition_is_that_of_all_outputs_so_far(rows: list[tuple[int, float]], cuts: list[int], recent: int) -> None:
    symbol, p = (np.array(column) for column in zip(*rows, strict=True))
    counter = Repetition(3, replace(POLICY, recent_events=recent))
    longest = 0
    edges = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    for start, end in pairwise(edges):
        found = counter.extend(p[start:end], symbol[start:end], np.zeros(end - start, int), 1)
        longest = max(longest, int(found.streak[0]))
        seen = np.rint(p[:end] * 10_000).astype(int)
        last = seen[-recent:].tolist()
        assert found.distinct[0] == len(set(last))
        assert found.top_share[0] == max(map(last.count, last)) / len(last)
        runs = [len(list(g)) for s in range(3) for _, g in groupby(seen[symbol[:end] == s].tolist())]
        assert longest == max(runs)


def test_golden_outputs(golden: Callable[[str], Any]) -> None:
    vector = golden("g08_degenerate")
    limits = vector["limits"]
    assert (POLICY.coverage_min, POLICY.distinct_min) == (limits["coverage_min"], limits["distinct_min"])
    assert (POLICY.top_share_max, POLICY.streak_max) == (limits["top_share_max"], limits["streak_max"])
    assert POLICY.within_share_min == limits["within_share_min"]
    symbol = np.array(vector["symbol"])
    for case in vector["cases"].values():
        p = np.array([np.nan if value is None else value for value in case["p"]], dtype=float)
        there = ~np.isnan(p)
        found = Repetition(4, POLICY).extend(p[there], symbol[there], np.zeros(there.sum(), int), 1)
        expected = case["expected"]
        assert abs(int(found.distinct[0]) - expected["distinct_1e4"]) <= 1
        assert found.top_share[0] == pytest.approx(expected["top_share"])
        assert abs(int(found.streak[0]) - expected["max_streak_per_symbol"]) <= 1


def test_the_variance_within_symbols_is_the_plain_one(base: Any) -> None:
    trial = Trial(6)
    trial.extend(base.sample(), base.panel())
    assert within_share(trial.sums.moments)[-1] == pytest.approx(
        measure_outputs(base.p_up, base.symbol).within_symbol_share, rel=1e-12
    )


def test_correlations_are_pearsons_and_none_without_variance() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(3, 0.5, 400), rng.normal(0, 1, 400)
    y += x
    rows = np.array([[400, a.sum(), b.sum(), a @ a, b @ b, a @ b] for a, b in ((x, y), (x * 0 + 0.615, y), (y, y))])
    assert correlations(rows) == pytest.approx([np.corrcoef(x, y)[0, 1], 0.0, 1.0], abs=1e-12)
    assert correlations(np.zeros((2, 6))).tolist() == [0.0, 0.0]


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=80))
def test_shares_are_clustered_by_cycle(rows: list[tuple[int, bool]]) -> None:
    cycle, hit = (np.array(column) for column in zip(*sorted(rows), strict=True))
    sizes, hits = np.bincount(cycle, minlength=10), np.bincount(cycle[hit], minlength=10)
    found = shares(whole_cycles(hits), whole_cycles(sizes))
    for end in range(10):
        upto = cycle <= end
        plain = share(hit[upto], cycle[upto])
        assert found.value[end] == pytest.approx(plain.value, nan_ok=True)
        # Rounding of about 1e-16 has a root of 1e-8.
        assert found.se[end] == pytest.approx(plain.se, nan_ok=True, abs=1e-7)
        assert found.cycles[end] == plain.clusters
        if plain.se > 1e-6:
            assert found.n_effective[end] == pytest.approx(plain.n_effective, rel=1e-5)


def test_a_cycles_late_outcomes_are_not_known_at_its_end() -> None:
    # Parts: early 0, late 0, early 1.
    found = shares(np.array([1, 5, 2]), np.array([2, 5, 4]))
    assert found.value.tolist() == [1 / 2, (1 + 5 + 2) / (2 + 5 + 4)]
    assert found.n.tolist() == [2, 11]
    assert math.isnan(shares(np.array([0]), np.array([0])).value[0])

"""Paired timing: percentiles, the median ratio with its interval, the goals, and which bars had an open breaker."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantum_trader.core.predictions import Status
from quantum_trader.engine.pairing import Goals, breaker_open, compare, latency, paired_ratio

times = arrays(np.float64, st.integers(1, 60), elements=st.floats(0.01, 1e4))


def noisy(n: int, seed: int, median_ms: float = 8.0) -> np.ndarray:
    """Times with a slow drift and rare hiccups, as a shared machine gives them."""
    rng = np.random.default_rng(seed)
    drift = np.exp(0.3 * np.sin(np.arange(n) / 40))
    return median_ms * drift * rng.lognormal(0.0, 0.05, n) * np.where(rng.random(n) < 0.01, 4.0, 1.0)


def test_percentiles_of_known_times() -> None:
    found = latency(np.arange(1.0, 1002.0))
    assert (found.n, found.p50, found.p99, found.p999, found.largest) == (1001, 501.0, 991.0, 1000.0, 1001.0)


@given(times, st.floats(0.1, 10.0))
def test_a_constant_factor_is_found_exactly_whatever_the_noise(off: np.ndarray, factor: float) -> None:
    found = paired_ratio(off, off * factor)
    assert found.median == pytest.approx(factor)
    assert found.low == pytest.approx(factor)
    assert found.high == pytest.approx(factor)
    assert found.n == len(off)


@given(times, st.randoms(use_true_random=False))
def test_the_median_lies_in_its_interval_and_among_the_ratios(off: np.ndarray, rnd: object) -> None:
    on = off * np.random.default_rng(len(off)).lognormal(0.0, 0.5, len(off))
    found = paired_ratio(off, on)
    assert (on / off).min() <= found.low <= found.high <= (on / off).max()
    assert found == paired_ratio(off, on)


def test_an_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    n, true = 200, 1.04
    covered = 0
    for seed in range(200):
        off, on = noisy(n, 2 * seed), true * noisy(n, 2 * seed + 1)
        found = paired_ratio(off, on)
        covered += found.low <= true <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_a_five_percent_difference_shows_through_a_drift_of_thirty() -> None:
    off = noisy(400, 1)
    assert paired_ratio(off, 1.05 * noisy(400, 2)).low > 1.02
    assert paired_ratio(off, noisy(400, 2)).high < 1.02


@pytest.mark.parametrize("bad", [[], [0.0], [-1.0], [float("nan")], [float("inf")], [[1.0]]])
def test_what_is_no_time_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one positive number"):
        latency(bad)


def test_times_of_other_bars_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="2 times without a shadow and 3 with one"):
        paired_ratio([1.0, 2.0], [1.0, 2.0, 3.0])


def test_each_goal_is_judged_by_itself() -> None:
    off, none, goals = np.full(200, 10.0), np.zeros(200, dtype=bool), Goals(grace_ms=20.0, allowance=0.0)
    half = np.arange(200) < 90
    same = compare(off, off, none, goals)
    assert same.met
    assert same.ratio_open is None
    slower = compare(off, off * 1.06, none, goals)
    assert (slower.ratio_met, slower.p99_met, slower.open_met, slower.met) == (False, True, True, False)
    hiccups = compare(off, np.where(np.arange(200) % 40 == 0, 31.0, 10.0), none, goals)
    assert (hiccups.ratio_met, hiccups.p99_met, hiccups.open_met) == (True, False, True)
    within = compare(off, np.where(np.arange(200) % 40 == 0, 30.0, 10.0), none, goals)
    assert within.met
    opened = compare(off, np.where(half, 10.3, 10.0), half, goals)
    assert (opened.ratio_met, opened.p99_met, opened.open_met) == (True, True, False)
    assert opened.ratio_open is not None
    assert opened.ratio_open.n == 90


def test_one_pair_of_processes_has_an_allowance() -> None:
    off, half, goals = np.full(200, 10.0), np.arange(200) < 90, Goals(allowance=0.03)
    kept = compare(off, np.where(half, 10.49, 10.79), half, goals)
    assert (kept.ratio_met, kept.open_met) == (True, True)
    missed = compare(off, np.where(half, 10.51, 10.81), half, goals)
    assert (missed.ratio_met, missed.open_met) == (False, False)


def words(text: str) -> list[tuple[Status, str]]:
    known = {
        "o": (Status.OK, ""),
        "r": (Status.REFUSED, "nan"),
        "g": (Status.LATE, "grace"),
        "b": (Status.LATE, "breaker"),
        "m": (Status.MISSING, "stopped"),
        "f": (Status.FAILED, "crashed"),
    }
    return [known[letter] for letter in text]


@pytest.mark.parametrize(
    ("answers", "opened"),
    [
        ("", ""),
        ("oooo", "...."),
        ("gggbb", "...xx"),
        ("gfmm", "...x"),
        ("ggoggg", "......"),
        ("gggbobggg", "...x....."),
        ("rrrr", "...."),
        ("gggbbrggg", "...xx...."),
        # Waited for again: an answer after its bar had closed the breaker.
        ("gggbgggb", "...x...x"),
    ],
)
def test_which_bars_had_an_open_breaker(answers: str, opened: str) -> None:
    assert breaker_open(words(answers)).tolist() == [letter == "x" for letter in opened]

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.gates import clustered
from quantum_trader.gates.calibration import quantile_bins, reliability
from quantum_trader.gates.quality import quality
from quantum_trader.gates.scores import brier


def drawn(seed: int, n: int = 4000, cycles: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(5, 5, n)
    return p, (rng.random(n) < 0.2 + 0.6 * p).astype(float), rng.integers(0, cycles, n)


@given(st.integers(0, 1000), st.integers(1, 200))
def test_the_decomposition_is_exact_and_ece_is_the_curves(seed: int, n: int) -> None:
    p, y, cycle = drawn(seed, n)
    found = quality(p, y, cycle)
    parts = found.reliability.value - found.resolution.value + found.uncertainty.value + found.within.value
    assert found.brier.value == pytest.approx(parts, abs=1e-12)
    assert found.brier.value == pytest.approx(brier(p, y), abs=1e-12)
    curve = reliability(p, y, quantile_bins(p, 10), 10)
    assert found.ece.value == pytest.approx(curve.ece, abs=1e-12)
    assert found.uncertainty.value == pytest.approx(float(y.var()), abs=1e-12)


def test_the_standard_error_of_a_mean_is_the_clustered_one() -> None:
    # For a mean the jackknife and the sandwich agree but for the cycles' unequal sizes.
    p, y, cycle = drawn(1)
    assert quality(p, y, cycle).brier.se == pytest.approx(clustered.mean(np.square(p - y), cycle).se, rel=0.02)


def test_standard_errors_are_those_of_repeated_samples() -> None:
    # Known seeds; 200 worlds of 80 cycles, in which whole cycles share a shift of the outcome's frequency.
    rng = np.random.default_rng(5)
    found = []
    for _ in range(200):
        cycle = np.repeat(np.arange(80), 25)
        p = rng.beta(5, 5, len(cycle))
        shift = rng.normal(0, 0.1, 80)[cycle]
        y = (rng.random(len(cycle)) < np.clip(0.2 + 0.6 * p + shift, 0, 1)).astype(float)
        found.append(quality(p, y, cycle))
    for name in ("ece", "brier", "reliability", "resolution"):
        values = np.array([getattr(one, name).value for one in found])
        errors = np.array([getattr(one, name).se for one in found])
        assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.2), name


def test_of_a_perfect_and_of_an_ignorant_forecast() -> None:
    y = np.tile([0.0, 1.0], 500)
    cycle = np.arange(1000) // 20
    perfect, ignorant = quality(y, y, cycle), quality(np.full(1000, 0.5), y, cycle)
    assert (perfect.brier.value, perfect.ece.value, perfect.resolution.value) == (0.0, 0.0, 0.25)
    assert (ignorant.brier.value, ignorant.reliability.value, ignorant.resolution.value) == (0.25, 0.0, 0.0)
    assert ignorant.brier.se == pytest.approx(0.0, abs=1e-12)


def test_no_events_have_no_quality_and_one_cycle_no_error() -> None:
    none = np.empty(0)
    assert all(math.isnan(figure.value) for _, figure in quality(none, none, none.astype(int)).named())
    p, y, _ = drawn(2, 50)
    for _, figure in quality(p, y, np.zeros(50, int)).named():
        assert math.isfinite(figure.value)
        assert math.isnan(figure.se)


def test_the_jackknife_of_two_cycles_by_hand() -> None:
    # Left out is one cycle at a time: what remains are the two cycles' own scores.
    p, y = np.array([0.9, 0.8, 0.3, 0.4]), np.array([1.0, 0.0, 0.0, 1.0])
    scores = np.square(p - y).reshape(2, 2).mean(axis=1)
    found = quality(p, y, np.array([0, 0, 1, 1])).brier
    assert found.se == pytest.approx(abs(scores[0] - scores[1]) / 2)

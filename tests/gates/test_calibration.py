from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.gates.calibration import (
    corp,
    l2_error,
    murphy,
    platt,
    quantile_bins,
    reliability,
    uniform_bins,
)
from quantum_trader.gates.isotonic import isotonic_fit
from quantum_trader.gates.scores import auc, brier, hit_rate, log_loss, wilson

CASES = ["small60", "inflated400", "calibrated400"]

Floats = Any


def curve_of(p: Floats, y: Floats, bin_of: Floats, bins: int) -> dict[str, Any]:
    curve = reliability(p, y, bin_of, bins)
    used = curve.n > 0
    return {"frac_pos": curve.frequency[used].tolist(), "mean_pred": curve.mean_p[used].tolist()}


def measures(p: Floats, y: Floats) -> dict[str, Any]:
    """Everything golden g02 lists, under its names."""
    uniform = reliability(p, y, uniform_bins(p), 10)
    parts, fit, logistic, error = murphy(p, y), corp(p, y), platt(p, y), l2_error(p, y)
    decomposed = {"mcb": fit.miscalibration, "dsc": fit.discrimination, "unc": fit.uncertainty}
    diagnostics = {
        "miscalibration": fit.miscalibration,
        "discrimination": fit.discrimination,
        "uncertainty": fit.uncertainty,
        "score": brier(p, y),
    }
    return {
        "ece10_uniform_own": uniform.ece,
        "calibration_curve_uniform10": curve_of(p, y, uniform_bins(p), 10),
        "calibration_curve_quantile5": curve_of(p, y, quantile_bins(p), 5),
        "bin_counts": uniform.n.tolist(),
        "brier": brier(p, y),
        "log_loss": log_loss(p, y),
        "auc": auc(p, y),
        "murphy": {
            "rel": parts.reliability,
            "res": parts.resolution,
            "unc": parts.uncertainty,
            "wbv": parts.within_variance,
            "wbc": parts.within_covariance,
        },
        "corp": {**decomposed, "model_diagnostics": diagnostics},
        "isotonic_fit_first10": isotonic_fit(p, y)[:10].tolist(),
        "ucal_l2_debiased": error.debiased,
        "ucal_l2_plugin": error.plugin,
        "hit_rate": hit_rate(p, y),
        "hit_wilson95": list(wilson(round(hit_rate(p, y) * len(p)), len(p))),
        "platt_intercept_slope": [logistic.intercept, logistic.slope],
        "platt_se": [logistic.intercept_se, logistic.slope_se],
        "netcal": {"ece10": uniform.ece, "mce10": uniform.mce},
    }


def leaves(value: Any, path: str = "") -> dict[str, float]:
    """Every number in nested lists and mappings, by its path."""
    if isinstance(value, dict):
        return {k: v for key in value for k, v in leaves(value[key], f"{path}.{key}").items()}
    if isinstance(value, list):
        return {k: v for i, item in enumerate(value) for k, v in leaves(item, f"{path}[{i}]").items()}
    return {path: value}


@pytest.mark.parametrize("name", CASES)
def test_golden_case(golden: Callable[[str], Any], name: str) -> None:
    cases = golden("g02_calibration")["cases"]
    assert sorted(cases) == sorted(CASES)
    p, y = np.array(cases[name]["p"]), np.array(cases[name]["y"], dtype=float)
    # Printed with 12 significant digits; differences of numbers of order 0.1 leave 1e-12.
    assert leaves(measures(p, y)) == pytest.approx(leaves(cases[name]["expected"]), rel=5e-12, abs=2e-12)


probabilities = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=80)


def split(events: list[tuple[float, int]]) -> tuple[Floats, Floats]:
    p, y = zip(*events, strict=True)
    return np.array(p, dtype=float), np.array(y, dtype=float)


@given(probabilities)
def test_decompositions_add_up_to_the_brier_score(events: list[tuple[float, int]]) -> None:
    p, y = split(events)
    m, c = murphy(p, y), corp(p, y)
    total = m.reliability - m.resolution + m.uncertainty + m.within_variance - 2 * m.within_covariance
    assert total == pytest.approx(brier(p, y), abs=1e-12)
    assert c.miscalibration - c.discrimination + c.uncertainty == pytest.approx(brier(p, y), abs=1e-12)
    assert c.miscalibration >= -1e-12
    assert c.discrimination >= -1e-12


@given(probabilities)
def test_errors_stay_within_their_ranges(events: list[tuple[float, int]]) -> None:
    p, y = split(events)
    curve, error = reliability(p, y, uniform_bins(p), 10), l2_error(p, y)
    assert curve.n.sum() == len(p)
    assert 0 <= curve.ece <= curve.mce + 1e-12 <= 1 + 1e-9
    assert 0 <= error.debiased <= error.plugin + 1e-12
    assert np.isnan(auc(p, y)) == (y.min() == y.max())


@given(probabilities)
def test_isotonic_fit_rises_and_keeps_the_mean(events: list[tuple[float, int]]) -> None:
    p, y = split(events)
    fit = isotonic_fit(p, y)
    assert (np.diff(fit[np.argsort(p, kind="stable")]) >= -1e-12).all()
    assert fit.mean() == pytest.approx(y.mean(), abs=1e-12)
    assert all(np.ptp(fit[p == value]) == 0 for value in p)


def test_bins_hold_their_lower_edge_and_the_last_one_its_upper() -> None:
    edges = np.array([0.0, 0.1, 0.3, 0.6, 0.7, 0.9, 1.0])
    assert uniform_bins(edges).tolist() == [0, 1, 3, 6, 7, 9, 9]


@pytest.mark.parametrize(
    ("p", "y"),
    [([0.3, 0.7, 0.4], [1, 1, 1]), ([0.5] * 4, [0, 1, 0, 1]), ([0.2, 0.3, 0.7, 0.8], [0, 0, 1, 1])],
    ids=["one class", "constant", "separated"],
)
def test_platt_has_no_answer_where_there_is_none(p: list[float], y: list[int]) -> None:
    assert np.isnan(platt(np.array(p), np.array(y, dtype=float)).slope)


def test_no_events_give_no_numbers() -> None:
    nothing = np.empty(0)
    curve = reliability(nothing, nothing, uniform_bins(nothing), 10)
    values = {
        "ece": curve.ece,
        "mce": curve.mce,
        "brier": brier(nothing, nothing),
        "log_loss": log_loss(nothing, nothing),
        "auc": auc(nothing, nothing),
        "hit_rate": hit_rate(nothing, nothing),
        "murphy": murphy(nothing, nothing).reliability,
        "corp": corp(nothing, nothing).miscalibration,
        "l2": l2_error(nothing, nothing).debiased,
        "platt": platt(nothing, nothing).slope,
    }
    assert all(np.isnan(value) for value in values.values()), values
    assert wilson(0, 0) == (0.0, 1.0)


def test_being_certain_and_wrong_costs_what_a_double_can_tell() -> None:
    worst = -np.log(np.finfo(np.float64).eps)
    assert log_loss(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(worst)
    assert log_loss(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == pytest.approx(0.0, abs=1e-15)

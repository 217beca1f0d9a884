import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.core.calibration import IsotonicCurve, PlattCurve
from quantum_trader.core.errors import CalibrationError
from quantum_trader.gates.calibration_fit import (
    STANDARD,
    Method,
    RecalibrationPolicy,
    Resolved,
    fit,
    spread_conflict,
    walk_forward,
)
from quantum_trader.gates.panel import SPAN
from quantum_trader.gates.sample import CYCLE, Sample

Make = Callable[..., Sample]

SMALL = RecalibrationPolicy(platt_events=20, isotonic_events=20, min_cycles=2)


def overconfident(n: int, seed: int = 0, slope: float = 0.4, intercept: float = 0.2) -> Resolved:
    """Events of a model whose log-odds mean `slope` of themselves and `intercept` more."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0.0, 1.0, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-(intercept + slope * logit)))).astype(float)
    p = 1 / (1 + np.exp(-logit))
    return Resolved(np.arange(n) // 4, p, y, np.where(p > 0.55, 1, np.where(p < 0.45, -1, 0)).astype(np.int8))


class TestOnlyResolvedEvents:
    def test_are_taken(self, model: Make) -> None:
        sample = model(bars=CYCLE * 10)
        events = Resolved.of(sample)
        assert int(events.bar.max()) + SPAN < sample.bars
        assert len(events) == (sample.bars - SPAN) * 3
        half = Resolved.of(sample, CYCLE * 5)
        assert int(half.bar.max()) == CYCLE * 5 - SPAN - 1

    def test_so_that_nothing_later_changes_a_fit(self, model: Make) -> None:
        sample, end = model(bars=CYCLE * 60), CYCLE * 40
        late = sample.bar + SPAN >= end
        flipped = np.where(late & (sample.outcome >= 0), 1 - sample.outcome, sample.outcome).astype(np.int8)
        moved = replace(sample, outcome=flipped, forward=np.where(late, -sample.forward, sample.forward))
        shifted = replace(moved, p_up=np.where(sample.bar >= end, 0.9, sample.p_up))
        for method in Method:
            assert fit(Resolved.of(shifted, end), method) == fit(Resolved.of(sample, end), method)

    def test_and_a_missing_output_is_none(self, model: Make) -> None:
        sample = model(bars=CYCLE * 10)
        holes = replace(sample, p_up=np.where(sample.symbol == 1, np.nan, sample.p_up))
        assert len(Resolved.of(holes)) == len(Resolved.of(sample)) * 2 // 3

    def test_of_sound_data(self, model: Make) -> None:
        with pytest.raises(CalibrationError, match="nothing is fitted on broken data: 1 values of p_up"):
            Resolved.of(replace(model(bars=98), p_up=np.where(np.arange(294) == 3, 2.0, 0.5)))


class TestAFit:
    def test_by_platt_finds_the_truth(self) -> None:
        curve = fit(overconfident(200_000), Method.PLATT)
        assert isinstance(curve, PlattCurve)
        assert (curve.intercept, curve.slope) == (pytest.approx(0.2, abs=0.02), pytest.approx(0.4, abs=0.02))

    def test_by_platt_uses_his_targets(self) -> None:
        # 30 of 40 rise at the upper, 10 of 40 at the lower value; targets of 40 rises and 40 falls: 41/42 and 1/42.
        p = np.repeat([0.8, 0.2], 40)
        y = np.concatenate([np.ones(30), np.zeros(10), np.ones(10), np.zeros(30)])
        events = Resolved(np.arange(80), p, y, np.repeat([1, -1], 40).astype(np.int8))
        curve = fit(events, Method.PLATT, replace(SMALL, min_cycles=1))
        upper = (30 * 41 / 42 + 10 / 42) / 40
        assert curve(np.array([0.8, 0.2])) == pytest.approx(np.array([upper, 1 - upper]), rel=1e-9)

    def test_by_isotonic_regression_finds_the_truth(self) -> None:
        curve = fit(overconfident(200_000), Method.ISOTONIC)
        assert isinstance(curve, IsotonicCurve)
        p = np.linspace(0.1, 0.9, 9)
        truth = 1 / (1 + np.exp(-(0.2 + 0.4 * np.log(p / (1 - p)))))
        assert curve(p) == pytest.approx(truth, abs=0.02)

    def test_by_isotonic_regression_has_a_knot_for_each_block(self) -> None:
        # Means .25, .75, .5, 1: the middle two are pooled at .625; ends are kept from 0 and 1.
        p = np.repeat([0.2, 0.4, 0.5, 0.9], 4)
        y = np.array([0, 0, 0, 1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 1], float)
        events = Resolved(np.arange(16) * CYCLE, p, y, np.ones(16, np.int8))
        curve = fit(events, Method.ISOTONIC, replace(SMALL, isotonic_events=16))
        assert isinstance(curve, IsotonicCurve)
        assert curve.p == pytest.approx((0.2, 0.45, 0.9))
        assert curve.calibrated == pytest.approx((0.25, 0.625, 0.99))

    def test_by_isotonic_regression_keeps_knots_apart(self) -> None:
        # Stated probabilities that differ by a ten-billionth are one: a slope between them would be none.
        p = np.concatenate([0.5 + 1e-10 * np.arange(4), [0.9, 0.9]]).repeat(10)
        y = np.concatenate([np.zeros(10), np.ones(10)] * 3)
        events = Resolved(np.arange(60) * CYCLE, p, y, np.ones(60, np.int8))
        curve = fit(replace(events, y=np.where(p > 0.8, 1.0, y)), Method.ISOTONIC, SMALL)
        assert isinstance(curve, IsotonicCurve)
        assert curve.p == pytest.approx((0.5, 0.9))

    @given(st.integers(0, 10_000), st.integers(40, 400), st.sampled_from(list(Method)))
    def test_of_anything_is_monotone_or_refused(self, seed: int, n: int, method: Method) -> None:
        rng = np.random.default_rng(seed)
        p = np.round(rng.random(n), int(rng.integers(1, 12)))
        events = Resolved(np.arange(n), p, rng.integers(0, 2, n).astype(float), np.zeros(n, np.int8))
        try:
            curve = fit(events, method, replace(SMALL, min_cycles=1))
        except CalibrationError:
            return
        mapped = curve(np.linspace(0, 1, 1001))
        assert (np.diff(mapped) >= -4e-16).all()
        assert ((mapped >= 0) & (mapped <= 1)).all()

    def test_needs_events_and_cycles(self) -> None:
        with pytest.raises(
            CalibrationError, match="platt needs 500 resolved events in 20 cycles of 49 bars: there are"
        ):
            fit(overconfident(499), Method.PLATT)
        with pytest.raises(CalibrationError, match="isotonic needs 2000 resolved events"):
            fit(overconfident(1999), Method.ISOTONIC)
        crowded = overconfident(5000)
        with pytest.raises(CalibrationError, match="there are 5000 in 19"):
            fit(replace(crowded, bar=crowded.bar % (19 * CYCLE)), Method.PLATT)
        assert fit(replace(crowded, bar=crowded.bar % (20 * CYCLE)), Method.PLATT)

    @pytest.mark.parametrize("method", list(Method))
    @pytest.mark.parametrize(("value", "word"), [(1.0, "rise"), (0.0, "fall")])
    def test_needs_both_outcomes(self, method: Method, value: float, word: str) -> None:
        events = overconfident(8000)
        with pytest.raises(CalibrationError, match=f"every one of 8000 outcomes is a {word}"):
            fit(replace(events, y=np.full(8000, value)), method)

    @pytest.mark.parametrize("method", list(Method))
    def test_of_a_model_that_points_the_wrong_way_is_refused(self, method: Method) -> None:
        # Isotonic regression pools everything only where not even the ends rise.
        p = np.repeat([0.8, 0.2], 4000)
        y = np.concatenate([np.tile([0.0, 0.0, 1.0, 0.0], 1000), np.tile([1.0, 0.0, 1.0, 1.0], 1000)])
        with pytest.raises(CalibrationError, match="do not rise with the stated probability"):
            fit(Resolved(np.arange(8000), p, y, np.ones(8000, np.int8)), method)

    def test_of_a_constant_output_is_refused(self) -> None:
        events = replace(overconfident(8000), p=np.full(8000, 0.615))
        with pytest.raises(CalibrationError, match="do not differ"):
            fit(events, Method.PLATT)
        with pytest.raises(CalibrationError, match="one level"):
            fit(events, Method.ISOTONIC)


class TestWalkingForward:
    @pytest.mark.parametrize("method", list(Method))
    def test_repairs_an_overconfident_model(self, method: Method) -> None:
        judged = walk_forward(overconfident(40_000), method)
        assert judged.helps
        assert judged.gain.z > 5
        assert judged.after.ece.value < judged.before.ece.value / 4
        assert judged.after.reliability.value < judged.before.reliability.value / 10
        assert judged.gain.value == pytest.approx(judged.before.brier.value - judged.after.brier.value, abs=1e-12)
        assert judged.before.uncertainty == judged.after.uncertainty
        # The first part is only learned from.
        assert judged.events == 32_000

    @pytest.mark.parametrize("method", list(Method))
    def test_does_not_help_a_calibrated_one(self, method: Method) -> None:
        # Known seeds: a gain by chance at 1.645 standard errors would be 5 %, of a map that can only add noise less.
        helped = sum(walk_forward(overconfident(12_000, s, 1.0, 0.0), method).helps for s in range(20))
        assert helped <= 1

    @pytest.mark.parametrize("method", list(Method))
    def test_scores_no_part_with_its_own_outcomes(self, method: Method) -> None:
        events = overconfident(20_000)
        start = int(events.bar[16_000])
        last = events.bar >= start
        judged = walk_forward(events, method)
        flipped = replace(events, y=np.where(last, 1.0 - events.y, events.y))
        other = walk_forward(flipped, method)
        # With all the last part's outcomes flipped, its maps are the same: by hand from the past alone.
        past = events.take(events.bar + SPAN < start)
        q = fit(past, method)(events.p[last])
        y, p = events.y[last], events.p[last]

        def gained(outcome: Any) -> float:
            return float((np.square(p - outcome) - np.square(q - outcome)).sum())

        change = other.gain.value * other.events - judged.gain.value * judged.events
        assert change == pytest.approx(gained(1.0 - y) - gained(y), rel=1e-9)

    def test_leaves_the_past_out_that_is_not_resolved_when_a_part_begins(self) -> None:
        events = overconfident(20_000)
        start = int(events.bar[16_000])
        unresolved = (events.bar < start) & (events.bar + SPAN >= start)
        assert unresolved.sum() == SPAN * 4
        flipped = replace(events, y=np.where(unresolved, 1.0 - events.y, events.y))
        one, other = (walk_forward(each, Method.PLATT) for each in (events, flipped))
        p, q = events.p[unresolved], fit(events.take(events.bar + SPAN < events.bar[12_000]), Method.PLATT)
        mapped, y = q(p), events.y[unresolved]
        before = (np.square(p - y) - np.square(mapped - y)).sum()
        after = (np.square(p - 1 + y) - np.square(mapped - 1 + y)).sum()
        assert (other.gain.value - one.gain.value) * one.events == pytest.approx(after - before, rel=1e-9)

    def test_stands_by_the_stated_probability_where_the_past_gives_no_map(self) -> None:
        events = overconfident(10_000, slope=-0.4)
        judged = walk_forward(events, Method.PLATT)
        assert (judged.gain.value, judged.gain.z, judged.helps) == (0.0, 0.0, False)
        assert judged.before == judged.after

    def test_needs_a_past_and_something_to_score(self) -> None:
        with pytest.raises(CalibrationError, match="a walk-forward needs a past of 500 resolved events in 20 cycles"):
            walk_forward(overconfident(900), Method.PLATT)
        with pytest.raises(CalibrationError, match="there are 0 events in 0"):
            walk_forward(overconfident(0), Method.ISOTONIC)
        assert math.isfinite(walk_forward(overconfident(20_000), Method.ISOTONIC, STANDARD).gain.se)

    def test_scores_a_part_only_if_its_past_fills_the_cycles_too(self) -> None:
        # A hundred events a bar: events there are enough of from the beginning, cycles only from the 21st on.
        events = overconfident(49 * 60 * 100)
        events = replace(events, bar=np.arange(len(events)) // 100)
        judged = walk_forward(events, Method.PLATT)
        # Parts of twelve cycles: the past of the second is too short, that of the third is not.
        assert judged.events == 49 * 36 * 100

    def test_helps_from_exactly_its_threshold_on(self) -> None:
        events = overconfident(20_000)
        z = walk_forward(events, Method.PLATT).gain.z
        assert walk_forward(events, Method.PLATT, replace(STANDARD, gain_z=z)).helps
        assert not walk_forward(events, Method.PLATT, replace(STANDARD, gain_z=z * (1 + 1e-12))).helps


class TestTheConflict:
    def test_of_a_calibrated_spread_and_the_contract_is_said(self) -> None:
        events = overconfident(20_000)
        said = spread_conflict(events, PlattCurve(0.0, 0.2))
        assert "the contract asks for 0.05" in said
        assert "56.8%" in said
        assert said.endswith("read what the model states.")

    def test_is_silent_where_there_is_none(self) -> None:
        assert spread_conflict(overconfident(20_000), PlattCurve(0.0, 1.0)) == ""

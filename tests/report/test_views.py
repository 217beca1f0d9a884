"""What the charts draw, against plain recomputation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.archive.store import in_order
from quantum_trader.core.bars import BarSeries
from quantum_trader.gates import scores
from quantum_trader.report.frame import Frame
from quantum_trader.report.views import (
    CONFIDENCE_EDGES,
    agreement_view,
    confidence_counts,
    price_view,
    reliability_view,
    shares_view,
    wilson,
)


@pytest.fixture(scope="module")
def frame(world: Any) -> Frame:
    return Frame.of(in_order(world.table), world.bars)


@given(st.integers(1, 5000), st.data())
def test_the_interval_is_wilsons_for_whole_numbers(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    assert wilson(hits / n, float(n)) == pytest.approx(scores.wilson(hits, n))


@given(st.floats(0, 1), st.floats(0.01, 1e6))
def test_the_interval_holds_the_share(share: float, n: float) -> None:
    low, high = wilson(share, n)
    assert 0.0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1.0


def test_no_events_leave_everything_open() -> None:
    assert wilson(0.5, 0.0) == (0.0, 1.0)


def test_reliability_counts_every_event_with_an_outcome_once(frame: Frame) -> None:
    view = reliability_view(frame, "patchtst")
    columns = frame.models["patchtst"]
    known = columns.valid & ~np.isnan(frame.forward)
    assert view.n == int(known.sum()) == sum(point.n for point in view.points) == int(view.counts.sum())
    assert view.brier == pytest.approx(np.mean((columns.p_up[known] - (frame.forward[known] > 0)) ** 2))
    rises = sum(point.n * point.frequency for point in view.points)
    assert rises == pytest.approx((frame.forward[known] > 0).sum())
    for point in view.points:
        independent = wilson(point.frequency, point.n)
        # Clustering may widen an interval; it never makes it narrower than independent events would.
        assert point.low <= independent[0] + 1e-12 < independent[1] <= point.high + 1e-12


def test_reliability_of_a_constant_output_is_one_bin(frame: Frame) -> None:
    columns = frame.models["patchtst"]
    constant = Frame(
        **{name: getattr(frame, name) for name in Frame.__dataclass_fields__ if name != "models"},
        models={"patchtst": type(columns)(**_with(columns, p_up=np.where(columns.valid, 0.615, np.nan)))},
    )
    view = reliability_view(constant, "patchtst")
    assert [point.n for point in view.points] == [view.n]
    assert int(view.counts.sum()) == view.n


def _with(columns: Any, **changes: Any) -> dict[str, Any]:
    return {name: getattr(columns, name) for name in type(columns).__dataclass_fields__} | changes


def test_every_valid_answer_is_in_its_confidence_histogram(frame: Frame) -> None:
    for name, columns in frame.models.items():
        counts = confidence_counts(frame, name)
        assert counts.shape == (len(CONFIDENCE_EDGES) - 1,)
        assert int(counts.sum()) == int(columns.valid.sum())


def test_agreement_is_symmetric_and_counts_common_answers(frame: Frame) -> None:
    view = agreement_view(frame)
    assert view.names == ("xgb", "lgbm", "nhits", "patchtst", "ensemble")
    np.testing.assert_array_equal(view.share, view.share.T)
    np.testing.assert_array_equal(np.diag(view.share), 1.0)
    a, b = frame.models["xgb"], frame.models["patchtst"]
    both = a.valid & b.valid
    assert view.n[0, 3] == both.sum()
    assert view.share[0, 3] == np.mean(a.action[both] == b.action[both])


@pytest.mark.parametrize("periods", [1, 7, 60, 10_000])
def test_action_shares_of_every_period_sum_to_one(frame: Frame, periods: int) -> None:
    view = shares_view(frame, periods)
    assert len(view.edges) - 1 <= periods
    assert view.edges[0] == frame.ts_open[0]
    assert view.edges[-1] == frame.ts_open[-1] + frame.interval
    ensemble = view.shares["ensemble"]
    np.testing.assert_allclose(ensemble.sum(axis=1), 1.0)
    bars = np.diff(view.edges) / frame.interval * len(frame.names)
    counted = (ensemble * bars[:, None]).sum(axis=0)
    np.testing.assert_allclose(counted, [(frame.action == a).sum() for a in (-1, 0, 1)])


@pytest.mark.parametrize("points", [1, 50, 160, 5000])
def test_thinned_prices_keep_extremes_and_every_intent(frame: Frame, world: Any, points: int) -> None:
    series = world.bars["ETHUSDT"]
    view = price_view(frame, series, days=1.0, points=points)
    assert view is not None
    shown = series.between(int(frame.ts_open[-1]) + frame.interval - 86_400_000, int(frame.ts_open[-1]) + 1)
    assert len(view.ts) <= points
    assert np.nanmin(view.low) == shown.low.min()
    assert np.nanmax(view.high) == shown.high.max()
    assert view.close[-1] == shown.close[-1]
    assert view.ts[-1] == shown.ts_open[-1] + frame.interval
    mine = (frame.symbol == frame.names.index("ETHUSDT")) & (frame.ts_open >= shown.ts_open[0])
    assert view.buys.sum() == (frame.action[mine] == 1).sum()
    assert view.sells.sum() == (frame.action[mine] == -1).sum()


def test_missing_bars_break_the_price_line(frame: Frame, world: Any) -> None:
    whole = world.bars["ETHUSDT"]
    parts = [whole.slice(0, 200), whole.slice(300, 1030)]
    columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in ("ts_open", *_PRICES)}
    view = price_view(frame, BarSeries("ETHUSDT", whole.interval, **columns), days=30.0, points=1030)
    assert view is not None
    assert np.isnan(view.close).sum() == 100


_PRICES = ("open", "high", "low", "close", "volume")


def test_no_bars_in_the_window_is_no_price_view(frame: Frame, world: Any) -> None:
    whole = world.bars["ETHUSDT"]
    assert price_view(frame, whole.slice(1030, 1050), days=7.0) is None

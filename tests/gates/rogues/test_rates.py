import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from quantum_trader.gates.rogues.gallery import Kind
from quantum_trader.gates.rogues.measure import Result
from quantum_trader.gates.rogues.rates import Rate, pooled, rates_of


@pytest.mark.parametrize(("k", "n"), [(0, 400), (1, 400), (4, 400), (373, 400), (400, 400), (1, 1), (0, 1)])
def test_bounds_are_exact(k: int, n: int) -> None:
    rate = Rate(k, n)
    reference = binomtest(k, n).proportion_ci(method="exact")
    assert (rate.low, rate.high) == pytest.approx((reference.low, reference.high))
    # By definition: at each bound the count seen has a tail of exactly 2.5 %.
    if k:
        assert binom.sf(k - 1, n, rate.low) == pytest.approx(0.025)
    if k < n:
        assert binom.cdf(k, n, rate.high) == pytest.approx(0.025)


def test_no_repetition_has_no_rate() -> None:
    assert math.isnan(Rate(0, 0).value)
    assert pooled([]) == Rate(0, 0)
    assert pooled([Rate(1, 4), Rate(0, 6)]) == Rate(1, 10)


def result(repetition: int, model: str = "good", events: int = 0, **others: object) -> Result:
    columns = {
        "bars": 2 * events,
        "legacy_once": False,
        "legacy_all": 0,
        "legacy_last": 0,
        "settled": 100,
        "hits": 54,
        "open": ("Evidence",),
    }
    return Result(repetition=repetition, model=model, events=events, **{**columns, **others})  # type: ignore[arg-type]


def test_cells_count_what_happened() -> None:
    rows = [
        result(0, events=3_000, open=()),
        result(1, events=1_000, legacy_once=True, legacy_all=200, legacy_last=225, hits=50),
        result(2, open=("Contract", "Evidence")),
        result(0, model="coin", legacy_all=400, settled=0, hits=0),
    ]
    rates = rates_of({"neutral": rows, "bull": [result(0)]}, events=5_000)
    assert (rates.markets, [m.name for m in rates.models]) == (("neutral", "bull"), ["good", "coin"])
    (good, coin) = rates.on("neutral")
    assert good.promoted == Rate(2, 3)
    assert (good.legacy_once, good.legacy_all, good.legacy_last) == (Rate(1, 3), Rate(1, 3), Rate(1, 3))
    assert np.array_equal(good.events, [1_000, 3_000])
    assert (good.median_events, good.median_bars) == (2_000, 4_000)
    assert good.after_half == Rate(1, 3)
    assert good.accuracy == pytest.approx((54 + 50 + 54) / 300)
    assert good.open == (("Evidence", pytest.approx(2 / 3)), ("Contract", pytest.approx(1 / 3)))
    assert math.isnan(coin.accuracy)
    assert math.isnan(coin.median_events)
    assert [cell.market for cell in rates.by("good")] == ["neutral", "bull"]
    assert rates.of(Kind.ROGUE) == (coin,)

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from quantum_trader.gates.sample import Sample
from quantum_trader.gates.summary import describe


def test_numbers_of_a_small_sample_by_hand() -> None:
    summary = describe(
        Sample.of(
            bar=[0, 1, 2, 49, 50],
            symbol=[0] * 5,
            p_up=[0.7, 0.2, 0.5, 0.6, np.nan],
            action=[1, -1, 0, 1, 0],
            ensemble=[1, 1, 0, 1, 0],
            forward=[0.1, 0.1, -0.1, np.nan, 0.1],
        )
    )
    assert (summary.rows, summary.valid, summary.cycles, summary.coverage) == (5, 4, 2, 0.8)
    assert (summary.buy.value, summary.sell.value, summary.hold.value) == (0.5, 0.25, 0.25)
    assert summary.confidence.value == pytest.approx((0.7 + 0.8 + 0.5 + 0.6) / 4)
    assert summary.spread.value == pytest.approx(np.std([0.7, 0.8, 0.5, 0.6]))
    assert (summary.hit_rate.value, summary.hit_rate.n) == (0.5, 2)
    assert summary.agreement.value == 0.75
    # One cycle has 1 BUY of 3, the other 1 of 1: se = sqrt((1 - 1.5)^2 + (1 - 0.5)^2) / 4.
    assert summary.buy.se == pytest.approx(math.sqrt(0.5) / 4)


def test_shares_add_up_and_json_is_strict(model: Callable[..., Sample]) -> None:
    summary = describe(model())
    assert summary.buy.value + summary.sell.value + summary.hold.value == pytest.approx(1)
    assert 0.5 < summary.hit_rate.value < 1
    text = json.dumps(summary.to_dict(), allow_nan=False)
    assert json.loads(text)["hit_rate"]["n"] == summary.hit_rate.n


@pytest.mark.parametrize("p_up", [[], [np.nan] * 3])
def test_no_output_gives_no_numbers(p_up: list[float]) -> None:
    n = len(p_up)
    summary = describe(Sample.of(range(n), [0] * n, p_up, [0] * n, [0] * n))
    assert (summary.rows, summary.valid) == (n, 0)
    assert math.isnan(summary.buy.value)
    assert json.loads(json.dumps(summary.to_dict(), allow_nan=False))["hit_rate"]["value"] is None

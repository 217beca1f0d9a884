from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.gates import clustered
from quantum_trader.gates.legacy import legacy_gates
from quantum_trader.gates.policy import DEFAULT
from quantum_trader.gates.sample import CYCLE, LOOKBACK, Sample
from quantum_trader.gates.tallies import CENTRE, Outcomes, Outputs, stacked

rows = st.lists(
    st.tuples(st.integers(0, 5), st.integers(50, 100).map(lambda k: k / 100), st.booleans()), min_size=1, max_size=60
)


def powers(cluster: Any, values: list[Any]) -> Any:
    return np.stack([np.bincount(cluster, value, 6) for value in values], axis=1)


@given(rows)
def test_sums_give_the_clustered_estimates(events: list[tuple[int, float, bool]]) -> None:
    cluster, x, hit = (np.array(column) for column in zip(*events, strict=True))
    y, c = hit.astype(float), x - CENTRE
    constant = bool(x.min() == x.max())
    raised = powers(cluster, [c**k for k in range(5)])
    products = powers(cluster, [y * c**k for k in range(4)])
    pairs = [
        (clustered.spread_of_sums(raised, constant=constant), clustered.standard_deviation(x, cluster)),
        (
            clustered.slope_of_sums(raised, products, constant=constant),
            clustered.ols_slope(x, y, cluster),
        ),
    ]
    for found, plain in pairs:
        assert (found.n, found.clusters) == (plain.n, plain.clusters)
        assert found.value == pytest.approx(plain.value, rel=1e-9, abs=1e-9, nan_ok=True)
        assert found.se == pytest.approx(plain.se, rel=1e-6, abs=1e-9, nan_ok=True)
        if plain.se > 1e-6:
            assert found.n_effective == pytest.approx(plain.n_effective, rel=1e-5, abs=1e-6)


def test_no_event_gives_no_estimate() -> None:
    none = np.zeros((3, 5))
    assert np.isnan(clustered.spread_of_sums(none, constant=False).value)
    assert np.isnan(clustered.slope_of_sums(none, none[:, :4], constant=False).value)
    assert np.isnan(clustered.spread_of_sums(none[:0], constant=False).value)


def test_the_late_part_of_a_cycle_joins_it_at_the_next_end(model: Callable[..., Sample]) -> None:
    sample = model(bars=5 * CYCLE, symbols=2)
    settled = sample.take(sample.settled)
    part = 2 * settled.cycle + (settled.bar % CYCLE >= LOOKBACK)
    parts = Outcomes.of(settled, part, 2 * 5 - 1 + 1, DEFAULT.bucket_edges)
    whole = Outcomes.of(settled, settled.cycle, 5, DEFAULT.bucket_edges)
    at = parts.cycles_at(3)
    assert len(at.bucket_n) == 4
    assert (at.bucket_n[:3] == whole.bucket_n[:3]).all()
    assert at.powers[:3] == pytest.approx(whole.powers[:3])
    early = settled.take((settled.cycle == 3) & (settled.bar % CYCLE < LOOKBACK))
    assert at.bucket_n[3].sum() == at.powers[3, 0] == len(early)
    assert (at.highest[:3] == whole.highest[:3]).all()


def test_stacking_keeps_rows_in_order(model: Callable[..., Sample]) -> None:
    sample = model(bars=4 * CYCLE)
    whole = Outputs.of(sample, sample.cycle, 4)
    first, second = sample.take(sample.cycle < 1), sample.take(sample.cycle >= 1)
    joined = stacked([Outputs.of(first, first.cycle, 1), Outputs.of(second, second.cycle - 1, 3)])
    assert (joined.actions == whole.actions).all()
    assert joined.confidence.tobytes() == whole.confidence.tobytes()
    assert whole.actions.sum() == whole.valid.sum() == len(sample)
    plain = legacy_gates(sample.action, sample.confidence, sample.ensemble)
    assert whole.plain_n.sum(axis=0).tolist() == [bucket.n for bucket in plain.buckets]
    assert whole.plain_agreeing.sum(axis=0).tolist() == [bucket.hits for bucket in plain.buckets]


def test_constant_within_each_cycle_is_not_constant() -> None:
    # Confidences of 0.6 in the first cycle and of 0.7 in the second, and the other way round.
    for first, second in ((0.6, 0.7), (0.7, 0.6)):
        p = np.where(np.arange(2 * CYCLE) < CYCLE, first, second)
        n = len(p)
        sample = Sample.of(np.arange(n), np.zeros(n), p, np.ones(n), np.ones(n), forward=np.full(n, 0.01))
        events = np.arange(n) // CYCLE
        assert not Outputs.of(sample, events, 2).constant
        assert not Outcomes.of(sample, events, 2, (0.5, 0.65, 0.8)).constant
        assert Outputs.of(sample.take(events == 0), events[events == 0], 1).constant

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from quantum_trader.gates.distance import ks_distance, ks_p, stability_index
from quantum_trader.gates.result import GateState
from quantum_trader.gates.watch import Conduct, Cusum, WatchState, watch
from quantum_trader.gates.whole_policy import WatchPolicy

POLICY = WatchPolicy()
BEFORE = Conduct(2000, (0, 200, 900, 900), 1400, 100, 4, 20.0)


def since(**changes: Any) -> Conduct:
    return replace(Conduct(1000, (0, 100, 450, 450), 700, 50, 2, 21.0), **changes)


def judged(x: Any = None, after: Conduct | None = None, bars: int = 288) -> Any:
    blocks = np.full(24, 0.2) if x is None else np.asarray(x, dtype=float)
    return watch(blocks, 0.21, BEFORE, after or since(), bars, POLICY, 12)


def test_golden_cusum(golden: Callable[[str], Any]) -> None:
    vector = golden("g10_monitor")
    x = np.array(vector["x"])
    cusum = Cusum(vector["mu"], 2000.0)
    assert cusum.threshold == pytest.approx(vector["threshold"], rel=1e-11)
    path = np.concatenate([cusum.extend(part) for part in np.split(x, [7, 100, 101])])
    assert path == pytest.approx(np.array(vector["expected"]["W"]), rel=1e-10, abs=1e-10)
    assert cusum.first_alarm == vector["expected"]["first_alarm"]


def test_golden_distances(golden: Callable[[str], Any]) -> None:
    drift = golden("g10_monitor")["drift"]
    a, b, expected = np.array(drift["a"]), np.array(drift["b"]), drift["expected"]
    assert ks_distance(a, b) == pytest.approx(expected["ks"], rel=1e-11)
    assert ks_p(a, b) == pytest.approx(expected["ks_p_asymp"], rel=1e-9)
    assert stability_index(a, b) == pytest.approx(expected["psi_10_quantile_bins_of_a"], rel=1e-10)


def test_distances_of_degenerate_samples() -> None:
    one, none = np.ones(50), np.array([math.nan])
    assert (ks_distance(one, one), ks_p(one, one), stability_index(one, one)) == (0.0, 1.0, 0.0)
    assert ks_distance(one, one + 1) == 1.0
    assert stability_index(np.arange(50.0), one * 1e9) > 1
    for distance in (ks_distance, ks_p, stability_index):
        assert math.isnan(distance(one, none))
        assert math.isnan(distance(np.empty(0), one))


def test_a_mean_that_is_no_gain_cannot_be_watched() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Cusum(0.0, 2000.0)


def test_nothing_wrong_is_kept_only_in_writing() -> None:
    early = judged(np.full(5, 0.2), bars=60)
    assert (early.state, "228 more" in early.summary) == (WatchState.WATCHING, True)
    # The time is over, but blocks are missing: still no verdict.
    assert judged(np.full(23, 0.2)).state is WatchState.WATCHING
    kept = judged()
    assert kept.state is WatchState.KEEP
    assert {line.state for line in kept.lines} == {GateState.PASS}
    assert json.loads(json.dumps(kept.to_dict(), allow_nan=False))["state"] == "KEEP"


def test_a_mean_that_has_fallen_demotes_at_once() -> None:
    verdict = judged(np.full(40, -2.0), bars=480)
    assert verdict.state is WatchState.DEMOTE
    assert "CUSUM rang" in verdict.summary
    assert judged(np.full(10, -20.0), bars=10).state is WatchState.DEMOTE


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"consensus": (0, 900, 100, 0)}, "Consensus"),
        ({"agreeing": 300}, "Agreement"),
        ({"contended": 200}, "Contention"),
        ({"failed": 100}, "Errors"),
        ({"latency_p99_ms": 31.0}, "Latency"),
    ],
)
def test_each_guard_demotes_alone(changes: dict[str, Any], name: str) -> None:
    verdict = judged(after=since(**changes), bars=10)
    assert verdict.state is WatchState.DEMOTE
    assert [line.name for line in verdict.lines if line.state is GateState.FAIL] == [name]


def test_a_few_decisions_do_not_break_a_guard() -> None:
    few = Conduct(3, (0, 3), 1, 1, 0, 25.0)
    assert judged(np.full(1, 0.2), few, bars=3).state is WatchState.WATCHING


def test_no_decisions_conclude_nothing() -> None:
    verdict = judged(np.empty(0), Conduct(0, (), 0, 0, 0), bars=288)
    assert verdict.state is WatchState.WATCHING
    assert {line.state for line in verdict.lines} == {GateState.INSUFFICIENT}
    json.dumps(verdict.to_dict(), allow_nan=False)

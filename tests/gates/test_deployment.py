import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from quantum_trader.gates.counterfactual import Gains
from quantum_trader.gates.deployment import (
    AFTER_COST,
    BRIER_GAIN,
    BY_REGIME,
    BY_SYMBOL,
    DEPLOYMENT,
    RECENT,
    deployment_tracks,
    recent,
    slice_threshold,
)
from quantum_trader.gates.whole_policy import WHOLE, DeploymentPolicy, EvidencePolicy

CYCLES = 40
POLICY, EVIDENCE = DeploymentPolicy(), EvidencePolicy()


def gains(symbol: Any = 0.1, regime: Any = 0.1, pnl: float = 0.1, n: int = 30, cycles: int = CYCLES) -> Gains:
    """Cycles whose sums have the given mean in each symbol (three) or regime (three), and a spread of 1."""
    rng = np.random.default_rng(6)

    def around(mean: Any) -> Any:
        noise = rng.normal(0, 1, (cycles, 3))
        return noise - noise.mean(axis=0) + np.broadcast_to(mean, 3)

    return Gains(
        n=np.full((cycles, 3), float(n)),
        gain=around(symbol),
        gain_squares=np.ones(cycles),
        regime_n=np.full((cycles, 3), float(n)),
        regime_gain=around(regime),
        pnl=around(pnl)[:, 0],
        pnl_squares=np.ones(cycles),
        flip_pnl=np.zeros((cycles, 9)),
    )


def states(found: Gains, x: Any = None) -> dict[str, int]:
    blocks = np.full(len(found.pnl) * 49 // 12, 0.5) if x is None else x
    return {track.name: int(track.state[-1]) for track in deployment_tracks(found, blocks, WHOLE)}


def test_an_honest_gain_passes_everything() -> None:
    assert states(gains()) == dict.fromkeys(DEPLOYMENT, 1)


def test_a_sure_loss_fails_and_an_unsure_one_stays_open() -> None:
    assert states(gains(symbol=-0.4))[BRIER_GAIN] == -1
    assert states(gains(symbol=-0.02))[BRIER_GAIN] == 0
    # No gain at all is none, and no loss.
    nothing = replace(gains(), gain=np.zeros((CYCLES, 3)))
    assert states(nothing) == dict.fromkeys(DEPLOYMENT, 1) | {BRIER_GAIN: 0}


def test_money_may_be_lost_by_chance_only() -> None:
    assert states(gains(pnl=-0.1)) == dict.fromkeys(DEPLOYMENT, 1)
    assert states(gains(pnl=-0.5)) == dict.fromkeys(DEPLOYMENT, 1) | {AFTER_COST: -1}


def test_one_slice_that_is_surely_worse_off_fails() -> None:
    assert states(gains(symbol=(0.9, -0.5, 0.9))) == dict.fromkeys(DEPLOYMENT, 1) | {BY_SYMBOL: -1}
    assert states(gains(regime=(0.9, 0.9, -0.5))) == dict.fromkeys(DEPLOYMENT, 1) | {BY_REGIME: -1}
    # Less than the shared-out error allows: z of about -2 among three.
    assert states(gains(symbol=(0.9, -0.3, 0.9)))[BY_SYMBOL] == 1


def test_a_slice_without_events_is_no_slice() -> None:
    lonely = gains(symbol=(0.5, 0.5, 0.5))
    lonely.n[:, 1] = 0
    lonely.gain[:, 1] = 0
    track = deployment_tracks(lonely, np.ones(200), WHOLE)[2]
    assert track.threshold[-1] == pytest.approx(norm.ppf(0.05 / 2))
    assert track.value[-1] > 2
    none = replace(lonely, regime_n=np.zeros((CYCLES, 3)))
    assert states(none)[BY_REGIME] == 0


def test_thresholds_of_slices_share_the_error_out() -> None:
    found = slice_threshold(np.array([0, 1, 10, 50]), 0.05)
    assert math.isnan(found[0])
    assert found[1:] == pytest.approx(-norm.ppf(1 - 0.05 / np.array([1, 10, 50])))


def test_nothing_is_concluded_on_too_few_events_or_cycles() -> None:
    opened = dict.fromkeys(DEPLOYMENT, 0)
    assert states(gains(symbol=-0.9, n=1)) == opened
    assert states(gains(n=2)) == dict.fromkeys(DEPLOYMENT, 1)
    assert states(gains(n=1)) == opened
    assert states(gains(cycles=19)) == opened
    assert states(gains(cycles=20))[AFTER_COST] == 1
    assert states(replace(gains(), n=np.zeros((CYCLES, 3)), gain=np.zeros((CYCLES, 3)), pnl=np.zeros(CYCLES))) == opened


def recently(x: Any, cycles: int = CYCLES) -> Any:
    return recent(np.asarray(x, dtype=float), cycles, POLICY, EVIDENCE)


def test_recent_reads_the_last_third_and_at_least_two_dozen() -> None:
    # 40 cycles hold 163 blocks: the last floor((163 - 24) / 3) = 46 count.
    x = np.zeros(163)
    x[163 - 47] = 100.0
    assert recently(x).state[-1] == 0
    x[163 - 46] = 1.0
    assert (recently(x).state[-1], recently(x).value[-1]) == (1, 1.0)
    # 12 cycles hold 49 blocks: the last 24 count, not a third of 25.
    early = np.zeros(49)
    early[49 - 24] = 1.0
    assert recently(early, 12).state[-1] == 1
    assert recently(np.ones(20), 5).state[-1] == 0


@pytest.mark.parametrize(("mean", "state"), [(0.5, 1), (0.1, 0), (-0.1, 0), (-0.5, -1)])
def test_recent_fails_only_where_it_surely_points_the_wrong_way(mean: float, state: int) -> None:
    x = np.tile([1.0, -1.0], 82)[:163] + mean
    track = recently(x)
    assert track.state[-1] == state
    assert (track.more(CYCLES - 1) < math.inf) == (mean > 0)


def test_recent_knows_nothing_of_a_model_without_a_view() -> None:
    track = recently(np.zeros(163))
    assert track.state[-1] == 0
    assert "nothing of its own" in track.reason(CYCLES - 1)
    assert RECENT in DEPLOYMENT


def lines(found: Gains, x: Any = None) -> dict[str, Any]:
    blocks = np.full(len(found.pnl) * 49 // 12, 0.5) if x is None else x
    end = len(found.pnl) - 1
    return {track.name: track.line(end, 1000) for track in deployment_tracks(found, blocks, WHOLE)}


def test_cycles_without_an_answer_are_not_counted() -> None:
    # Five cycles in which the model never answered.
    found = gains()
    for part in (found.n, found.gain, found.regime_n, found.regime_gain):
        part[10:15] = 0.0
    found.pnl[10:15] = 0.0
    said = lines(found)
    assert [said[name].cycles for name in (BRIER_GAIN, AFTER_COST, BY_SYMBOL, BY_REGIME)] == [35] * 4
    assert [said[name].n for name in (BRIER_GAIN, AFTER_COST, BY_SYMBOL, BY_REGIME)] == [35 * 90] * 4


def test_a_slice_that_cannot_be_seen_yet_waits_a_cycle() -> None:
    none = replace(gains(), regime_n=np.zeros((CYCLES, 3)))
    assert (lines(none)[BY_REGIME].more_cycles, lines(none)[BY_REGIME].more_events) == (1, 25)


def test_recent_needs_the_square_of_what_is_missing_and_nothing_cures_a_wrong_way() -> None:
    x = np.tile([1.0, -1.0], 82)[:163]
    weak = recently(x + 0.1)
    z = float(weak.value[-1])
    assert weak.more(CYCLES - 1) == pytest.approx(1 / z**2)
    assert recently(x[:162].repeat(1) * 0.0, CYCLES - 1).more(CYCLES - 2) == math.inf
    # As many blocks as are needed are enough: 6 cycles hold 24 blocks.
    assert "are needed" not in recently(np.ones(24), 6).reason(5)
    assert recently(np.ones(24), 6).state[-1] == 1

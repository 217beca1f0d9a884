from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from quantum_trader.gates.evidence import Blocks, log_e, rho_of
from quantum_trader.gates.logits import Scores, scores_of
from quantum_trader.gates.overlay import Overlay
from quantum_trader.gates.volatility import Volatility
from quantum_trader.gates.whole_policy import EvidencePolicy

WEIGHTS = (0.25, 0.25, 0.30)


def part(scores: Scores, rows: Any) -> Scores:
    return Scores(scores.own[rows], scores.voters[rows], scores.ensemble[rows], scores.pooled[rows])


class Case:
    """Golden g06, its events in the order of every sample."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.expected = vector["expected"]
        self.policy = EvidencePolicy(burn_blocks=vector["burn_blocks"])
        self.returns = np.array(vector["returns"])
        self.bar, self.symbol = np.array(vector["event_bar"]), np.array(vector["event_symbol"])
        p = np.array([np.nan if value is None else value for value in vector["shadow_p"]], dtype=float)
        self.scores = scores_of(p, np.array(vector["voter_p"]), WEIGHTS, 0.2)

    def run(self, cuts: list[int]) -> tuple[Any, Any, Any, Blocks]:
        volatility, overlay = Volatility(3, self.policy), Overlay(3, 3, self.policy)
        blocks = Blocks(self.policy)
        q, g, z = [], [], []
        for start, end in zip([0, *cuts], [*cuts, len(self.returns)], strict=True):
            rows = (self.bar >= start) & (self.bar < end)
            moved, _ = volatility.extend(self.returns[start:end])
            said, earned = overlay.extend(self.bar[rows], self.symbol[rows], part(self.scores, rows), moved)
            blocks.extend(earned)
            q.append(said), g.append(earned), z.append(moved)
        return np.concatenate(q), np.concatenate(g), np.concatenate(z), blocks


@pytest.fixture(scope="module")
def case(golden: Callable[[str], Any]) -> Case:
    return Case(golden("g06_overlay"))


def test_golden_overlay(case: Case) -> None:
    q, g, z, blocks = case.run([])
    expected = case.expected
    # Printed with 12 significant digits, returns with 8 decimals.
    assert q == pytest.approx(np.array(expected["q"]), abs=1e-10)
    assert z[-1] == pytest.approx(np.array(expected["z_last_row"]), abs=1e-8)
    assert g == pytest.approx(np.array(expected["g"]), abs=1e-7)
    # The vector leaves out the last, unfinished block.
    count = len(expected["G"])
    assert blocks.sums[:count] == pytest.approx(np.array(expected["G"]), abs=1e-7)
    assert blocks.x[:count] == pytest.approx(np.array(expected["x"]), abs=1e-8)
    x = blocks.x[:count]
    path = log_e(np.cumsum(x), np.cumsum(x * x), rho_of(200.0, 0.01))
    assert path == pytest.approx(np.array(expected["log_e"]), abs=1e-8)


@pytest.mark.parametrize("cuts", [[1], [48], [47, 48, 49], [10, 10, 200], list(range(1, 400, 7))])
def test_it_does_not_depend_on_how_the_bars_came(case: Case, cuts: list[int]) -> None:
    whole, parts = case.run([]), case.run(cuts)
    for one, other in zip(whole[:3], parts[:3], strict=True):
        assert one.tobytes() == other.tobytes()
    assert whole[3].x.tobytes() == parts[3].x.tobytes()


def market(bars: int, symbols: int = 2, seed: int = 5) -> Any:
    return np.random.default_rng(seed).normal(0, 1e-3, (bars, symbols))


def earned(scores: Scores, bar: Any, symbol: Any, returns: Any) -> tuple[Any, Any]:
    policy = EvidencePolicy()
    z, _ = Volatility(returns.shape[1], policy).extend(returns)
    return Overlay(returns.shape[1], 3, policy).extend(bar, symbol, scores, z)


def grid(bars: int, symbols: int = 2) -> tuple[Any, Any]:
    bar, symbol = np.meshgrid(np.arange(bars), np.arange(symbols), indexing="ij")
    return bar.ravel(), symbol.ravel()


@pytest.mark.parametrize("weights", [(0.25, 0.25, 0.30), (0.0, 2.0, 0.0)])
def test_a_mixture_of_the_voters_says_nothing_of_its_own(weights: tuple[float, ...]) -> None:
    bar, symbol = grid(480)
    voters = np.random.default_rng(1).normal(0, 0.5, (len(bar), 3))
    mixture = voters @ np.array(weights) / sum(weights) + 0.1
    scores = Scores(mixture, voters, voters.mean(axis=1), mixture)
    q, _ = earned(scores, bar, symbol, market(480))
    # The ridge lets a little through while events are few; the scale is mostly that of the first bars, not yet fitted.
    # A view of its own would have a mean of about 0.8.
    assert np.abs(q[bar >= 240]).mean() < 0.1


def test_only_the_future_of_a_view_earns() -> None:
    bar, symbol = grid(200, 1)
    rng = np.random.default_rng(3)
    voters = rng.normal(0, 0.5, (200, 3))
    scores = Scores(rng.normal(0, 0.5, 200), voters, voters.mean(axis=1), voters.mean(axis=1))
    returns = market(200, 1)
    q, g = earned(scores, bar, symbol, returns)
    said = int(np.flatnonzero(q)[0])
    assert said >= 48
    assert np.flatnonzero(g)[0] == said + 2
    # A view is held for exactly H bars: silence afterwards earns nothing.
    quiet = scores.own.copy()
    quiet[said + 1 :] = np.nan
    _, g = earned(Scores(quiet, voters, scores.ensemble, scores.pooled), bar, symbol, returns)
    assert np.flatnonzero(g).tolist() == list(range(said + 2, said + 14))


def test_missing_outputs_and_returns_count_for_nothing() -> None:
    bar, symbol = grid(300)
    rng = np.random.default_rng(4)
    voters = rng.normal(0, 0.5, (600, 3))
    own = rng.normal(0, 0.5, 600)
    own[::7] = np.nan
    returns = market(300)
    returns[100:110, 1] = np.nan
    q, g = earned(Scores(own, voters, voters.mean(axis=1), voters.mean(axis=1)), bar, symbol, returns)
    assert np.isfinite(g).all()
    assert (q[np.isnan(own)] == 0).all()
    assert (g != 0).sum() > 200


def test_a_constant_output_says_nothing() -> None:
    bar, symbol = grid(300)
    voters = np.random.default_rng(4).normal(0, 0.5, (600, 3))
    constant = np.full(600, 0.4)
    q, _ = earned(Scores(constant, voters, voters.mean(axis=1), voters.mean(axis=1)), bar, symbol, market(300))
    # The scale holds the first 48 bars' residuals, which were taken before anything was fitted.
    assert np.abs(q[bar >= 96]).max() < 1e-2


def test_no_event_at_all() -> None:
    none = Scores(np.empty(0), np.empty((0, 3)), np.empty(0), np.empty(0))
    q, g = earned(none, np.empty(0, int), np.empty(0, int), market(60))
    assert (len(q), g.tolist()) == (0, [0.0] * 60)


def test_volatility_uses_nothing_of_its_own_bar() -> None:
    returns = market(200)
    z, sigma = Volatility(2, EvidencePolicy()).extend(returns)
    assert (z[:6] == 0).all()
    assert np.isnan(sigma[:6]).all()
    changed = returns.copy()
    changed[150:] *= 7
    other, after = Volatility(2, EvidencePolicy()).extend(changed)
    assert (other[:150] == z[:150]).all()
    assert (after[:151] == sigma[:151])[6:].all()
    assert np.abs(other).max() <= 5


def test_voters_that_say_nothing_leave_only_the_mean_to_be_taken_out() -> None:
    bar, symbol = grid(300)
    own = 0.4 + np.random.default_rng(6).normal(0, 0.3, 600)
    silent = np.zeros((600, 3))
    q, _ = earned(Scores(own, silent, np.zeros(600), own), bar, symbol, market(300))
    late = q[bar >= 96]
    # Its scale is that of 0.5, the first bars' residuals, which nothing was taken from.
    assert abs(late.mean()) < 0.1
    assert late.std() > 0.4


@pytest.mark.parametrize(("events", "speaks"), [(30, False), (31, True)])
def test_a_scale_is_that_of_more_than_thirty_residuals(events: int, speaks: bool) -> None:
    bar = np.concatenate([np.arange(events), [50]])
    own = np.random.default_rng(7).normal(0, 0.5, len(bar))
    voters = np.random.default_rng(8).normal(0, 0.5, (len(bar), 3))
    q, _ = earned(Scores(own, voters, own, own), bar, np.zeros(len(bar), int), market(60, 1))
    assert (q[-1] != 0) == speaks

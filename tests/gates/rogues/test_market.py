import numpy as np
import pytest

from quantum_trader.gates.rogues.market import SIMULATED, Market, autoregression
from quantum_trader.gates.sample import CYCLE

BARS = 6_600


def made(name: str, seed: int = 1, bars: int = BARS, symbols: int = 10) -> Market:
    return SIMULATED[name](np.random.default_rng(seed), bars, symbols)


@pytest.mark.parametrize("name", SIMULATED)
def test_the_same_seed_gives_the_same_market(name: str) -> None:
    market, again, other = made(name), made(name), made(name, seed=2)
    assert market.log_price.shape == market.z.shape == (BARS, 10)
    assert (market.bars, market.symbols) == (BARS, 10)
    assert np.isfinite(market.log_price).all()
    assert np.isfinite(market.z).all()
    assert np.array_equal(market.log_price, again.log_price)
    assert not np.array_equal(market.log_price, other.log_price)


def moves(market: Market, bars: int = 12) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    return market.log_price[bars:] - market.log_price[:-bars]


def test_neutral_is_a_market_of_clustered_and_fat_tailed_returns_that_nothing_foresees() -> None:
    returns = np.diff(made("neutral").log_price, axis=0)
    correlation = np.corrcoef(returns.T)[np.triu_indices(10, 1)].mean()
    assert 0.35 < correlation < 0.5
    size = np.abs(returns)
    assert np.mean([np.corrcoef(size[1:, i], size[:-1, i])[0, 1] for i in range(10)]) > 0.1
    assert np.mean((returns / returns.std(axis=0)) ** 4) > 5
    assert abs(np.mean([np.corrcoef(returns[1:, i], returns[:-1, i])[0, 1] for i in range(10)])) < 0.03
    assert made("neutral").tilt == 0.0


def test_each_market_is_what_it_is_called() -> None:
    seeds = range(5)
    assert 0.53 < np.mean([(moves(made("bull", seed)) > 0).mean() for seed in seeds]) < 0.58
    assert made("bull").tilt > 0
    for seed in seeds:
        crash = moves(made("crash", seed), 36)
        at = int(crash.mean(axis=1).argmin())
        assert crash[at].mean() < -0.08
        assert BARS // 4 - 36 <= at < 3 * BARS // 4 + 36
    past = [
        np.corrcoef(moves(made("momentum", s))[:-12].ravel(), moves(made("momentum", s))[12:].ravel()) for s in seeds
    ]
    assert np.mean([matrix[0, 1] for matrix in past]) > 0.03
    common = np.diff(made("common").log_price, axis=0)
    assert np.corrcoef(common.T)[np.triu_indices(10, 1)].mean() > 0.8
    assert made("common").kinship > made("neutral").kinship


def test_insight_looks_ahead_and_momentum_looks_back() -> None:
    market = made("neutral")
    insight, momentum = market.insight(), market.momentum()
    assert insight.std() == pytest.approx(1.0, abs=0.1)
    assert np.abs(insight).max() <= 3.0
    middle = slice(100, BARS - 100)
    ahead = market.coming(12, after=1)
    assert np.corrcoef(insight[middle].ravel(), ahead[middle].ravel())[0, 1] == pytest.approx(0.75, abs=0.03)
    assert abs(np.corrcoef(momentum[middle].ravel(), ahead[middle].ravel())[0, 1]) < 0.05
    # A return is in the insight of the bars before it, and in the momentum from its own bar on.
    changed = made("neutral")
    changed.z[300] += 1.0
    # In units of the same scale, away from the cut at 3.
    before, after = insight * market.z.std(), changed.insight() * changed.z.std()
    uncut = (np.abs(before) < 2.5) & (np.abs(after) < 2.5)
    assert np.allclose(before[300:][uncut[300:]], after[300:][uncut[300:]])
    assert (after[:300] > before[:300])[uncut[:300]][-50:].all()
    assert np.array_equal(changed.momentum()[:300], momentum[:300])
    assert (changed.momentum()[300:320] > momentum[300:320]).all()


def test_coming_is_the_sum_of_the_next_returns() -> None:
    market = made("neutral", bars=200, symbols=2)
    expected = np.array([[market.z[t + 2 : t + 14, i].sum() for i in range(2)] for t in range(200)])
    assert np.allclose(market.coming(12, after=1), expected / expected.std())
    assert np.allclose(market.coming(1)[:-1], market.z[1:] / np.append(market.z[1:], np.zeros((1, 2)), axis=0).std())


def test_own_insight_is_net_of_what_all_do() -> None:
    own = made("common").insight(own=True)
    assert abs(own.mean(axis=1)).max() < 0.5
    assert np.corrcoef(own[:, 0], made("common").insight()[:, 0])[0, 1] < 0.8


def test_a_window_of_given_prices_is_those_prices_and_gaps_stay_gaps() -> None:
    prices = made("neutral", symbols=3).log_price.copy()
    prices[2_000:2_010, 1] = np.nan
    rng = np.random.default_rng(4)
    market = Market.window(prices, 5_000, rng)
    first = int(np.flatnonzero(prices[:, 0] == market.log_price[0, 0])[0])
    assert np.array_equal(market.log_price, prices[first : first + 5_000], equal_nan=True)
    assert np.isfinite(market.z).all()
    assert np.isfinite(market.insight()).all()
    starts = {float(Market.window(prices, 5_000, rng).log_price[0, 0]) for _ in range(5)}
    assert len(starts) == 5
    with pytest.raises(ValueError, match="6600 bars of prices, 7000 are needed"):
        Market.window(prices, 7_000, rng)


def test_prices_that_do_not_move_are_no_error() -> None:
    market = Market.of(np.zeros((5 * CYCLE, 2)))
    assert not market.z.any()
    assert not market.insight().any()
    assert not market.coming().any()


def test_autoregression_has_variance_one_from_the_first_bar_on() -> None:
    walk = autoregression(np.random.default_rng(0), 50, 4_000, 0.96)
    assert walk.std(axis=1) == pytest.approx(1.0, abs=0.05)
    assert np.corrcoef(walk[0], walk[12])[0, 1] == pytest.approx(0.96**12, abs=0.03)

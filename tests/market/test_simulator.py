import numpy as np
import pytest

from quantum_trader.core.errors import ConfigError
from quantum_trader.market.simulator import DEFAULT_PAIRS, DEFAULT_START_MS, MARKETS, simulate


@pytest.fixture(scope="module")
def market():
    return simulate(30_000, 7)


def returns(market) -> np.ndarray:
    return np.stack([np.diff(np.log(series.close)) for series in market.values()])


def autocorrelation(values: np.ndarray, lag: int) -> float:
    return float(np.corrcoef(values[:-lag], values[lag:])[0, 1])


def momentum_hits(series) -> float:
    """Share of bars at which the exponential mean of past moves has the sign of the 12-bar return one bar later."""
    moves = np.diff(np.log(series.close))
    scaled = moves / (np.sqrt(np.convolve(moves**2, np.full(48, 1 / 48))[: len(moves)]) + 1e-12)
    mean, means = 0.0, []
    for move in scaled.tolist():
        mean = mean * 23 / 24 + move
        means.append(mean)
    log_close = np.log(series.close)
    future = log_close[14:] - log_close[2:-12]
    return float(np.mean(np.sign(np.array(means)[: len(future)]) == np.sign(future)))


def test_the_bars_obey_the_rules(market):
    assert list(market) == list(MARKETS)
    for series in market.values():
        series.check()
        assert len(series) == 30_000
        assert series.gaps() == []
        assert int(series.ts_open[0]) == DEFAULT_START_MS
        assert (series.open[1:] == series.close[:-1]).all()
        assert (series.volume > 0).all()


def test_tails_are_fat_and_volatility_clusters(market):
    for row in returns(market):
        assert np.mean((row - row.mean()) ** 4) / row.var() ** 2 > 6
        assert autocorrelation(np.abs(row), 1) > 0.15
        assert autocorrelation(np.abs(row), 100) > 0.03
        assert abs(autocorrelation(row, 1)) < 0.05


def test_symbols_move_together_and_volume_with_volatility(market):
    between = np.corrcoef(returns(market))
    assert between.min() > 0.3
    assert between[~np.eye(5, dtype=bool)].max() < 0.8
    for series in market.values():
        wide = (series.high - series.low) / series.close
        assert np.corrcoef(np.log(wide + 1e-6), np.log(series.volume))[0, 1] > 0.3


def test_prices_are_on_the_tick(market):
    for symbol, series in market.items():
        for name in ("open", "high", "low", "close"):
            prices = getattr(series, name)
            assert (prices == np.round(prices, MARKETS[symbol].decimals)).all()


def test_the_seed_decides_every_byte(market):
    again = simulate(30_000, 7)
    other = simulate(30_000, 8)
    for symbol, series in market.items():
        assert series.matrix().tobytes() == again[symbol].matrix().tobytes()
        assert series.matrix().tobytes() != other[symbol].matrix().tobytes()


def test_a_path_depends_on_neither_company_nor_length(market):
    alone = simulate(5_000, 7, ["SOL/USDT"])["SOLUSDT"]
    assert alone.matrix().tobytes() == market["SOLUSDT"].slice(0, 5_000).matrix().tobytes()


def test_momentum_is_there_as_much_as_is_asked_for():
    hits = {edge: momentum_hits(simulate(60_000, 3, ["BTC/USDT"], edge=edge)["BTCUSDT"]) for edge in (0.0, 0.05, 0.2)}
    assert 0.485 < hits[0.0] < 0.515
    assert 0.525 < hits[0.05] < 0.56
    assert hits[0.2] > 0.58


def test_any_symbol_timeframe_and_start():
    made = simulate(200, 1, ["PEPE/USDT", "DOGE/USDT:USDT"], "1h", 3_600_000)
    assert list(made) == ["PEPEUSDT", "DOGEUSDT"]
    for series in made.values():
        series.check()
        assert series.interval == 3_600_000
        assert int(series.ts_open[0]) == 3_600_000
        assert len(np.unique(series.close)) > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bars": 0}, "expected at least 1"),
        ({"seed": -1}, "negative"),
        ({"pairs": []}, "at least one pair"),
        ({"pairs": [DEFAULT_PAIRS[0], "BTCUSDT"]}, "none twice"),
        ({"start_ms": 1}, "grid"),
        ({"edge": float("nan")}, "outside"),
        ({"timeframe": "5x"}, "timeframe"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        simulate(**({"bars": 10, "seed": 1} | arguments))

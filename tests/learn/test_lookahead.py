import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from quantum_trader.core.bars import WINDOW, BarSeries
from quantum_trader.core.errors import ConfigError
from quantum_trader.core.features import SCHEMA
from quantum_trader.learn.lookahead import MARGIN, Kind, analyse, own_features, together
from quantum_trader.learn.planted_leaks import PLANTED
from quantum_trader.market.files import read_bars, write_bars
from quantum_trader.market.simulator import simulate
from quantum_trader.market.timerange import parse_timerange

EXPECTED = {
    "zscore": {Kind.FUTURE, Kind.HISTORY},
    "shift": {Kind.FUTURE},
    "centred": {Kind.FUTURE},
    "cumsum": {Kind.HISTORY},
    "ema400": {Kind.HISTORY},
}


@pytest.fixture(scope="module")
def simulated() -> BarSeries:
    return simulate(2_000, 4, ["BTC/USDT"])["BTCUSDT"]


@pytest.fixture(scope="module")
def real(shared) -> dict[str, BarSeries]:
    return read_bars(shared / "data" / "bars_5m_um.parquet", ["BTC/USDT", "XRP/USDT"], parse_timerange("20251001-"))


def found(analysis) -> dict[str, set[Kind]]:
    return {name: {finding.kind for finding in analysis.of(name)} for name in analysis.leaking}


def test_five_of_five_planted_leaks_on_simulated_bars(simulated):
    assert found(analyse(together(*PLANTED.values()), simulated)) == EXPECTED


def test_five_of_five_planted_leaks_on_real_bars(real):
    for series in real.values():
        assert found(analyse(together(*PLANTED.values()), series)) == EXPECTED


def test_each_planted_leak_is_found_at_every_single_bar(simulated):
    for seed in range(8):
        assert found(analyse(together(*PLANTED.values()), simulated, probes=1, seed=seed)) == EXPECTED


def test_our_own_features_are_clean_on_simulated_bars(simulated):
    analysis = analyse(own_features, simulated, probes=5)
    assert analysis.features == (*SCHEMA.names, "sequence")
    assert analysis.findings == ()
    assert len(analysis.probed) == 5


def test_our_own_features_are_clean_on_real_bars(real):
    for series in real.values():
        assert analyse(own_features, series, probes=4).findings == ()


def test_a_planted_leak_among_our_own_is_named_alone(simulated):
    analysis = analyse(together(own_features, PLANTED["shift"]), simulated, probes=2)
    assert analysis.leaking == ("shift",)
    finding = analysis.of("shift")[0]
    index = int(np.searchsorted(simulated.ts_open, finding.ts_open))
    assert finding.expected == simulated.close[index + 3] / simulated.close[index] - 1.0
    assert np.isnan(finding.found)
    assert (finding.symbol, finding.experiment) == ("BTCUSDT", "future cut off")


def test_a_leak_of_one_unit_in_the_last_place_is_found(simulated):
    def column(series: BarSeries) -> dict[str, np.ndarray]:
        return {"last_place": np.where(series.close[-1] > series.close, np.nextafter(1.0, 2.0), 1.0)}

    assert analyse(column, simulated).leaking == ("last_place",)


def test_a_feature_of_chance_is_not_reproducible(simulated):
    rng = np.random.default_rng(1)
    analysis = analyse(lambda series: {"chance": rng.random(len(series))}, simulated, probes=2)
    assert Kind.UNSTABLE in found(analysis)["chance"]


@pytest.mark.parametrize("memory", [WINDOW - 1, WINDOW])
def test_the_window_is_exact(simulated, memory):
    """The bar 511 before is in the window, the one 512 before is not."""

    def column(series: BarSeries) -> dict[str, np.ndarray]:
        past = np.full(len(series), np.nan)
        past[memory:] = series.close[:-memory]
        return {"past": past}

    assert found(analyse(column, simulated)) == ({} if memory < WINDOW else {"past": {Kind.HISTORY}})


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda series: {}, "no features"),
        (lambda series: {"short": series.close[1:]}, r"feature short has the shape \(\d+,\): expected one row"),
        (lambda series: 1 / 0, "feature function failed on .* bars: ZeroDivisionError"),
        (lambda series: {f"of_{len(series)}": series.close}, "gives other columns"),
        (together(PLANTED["shift"], PLANTED["shift"]), "shift is given twice"),
    ],
)
def test_functions_that_are_none(simulated, function, message):
    with pytest.raises(ConfigError, match=message):
        analyse(function, simulated)


def test_too_few_bars_without_a_gap(simulated):
    least = WINDOW + 2 * MARGIN
    assert analyse(PLANTED["shift"], simulated.slice(0, least), probes=1).leaking == ("shift",)
    with pytest.raises(ConfigError, match=f"BTCUSDT: {least - 1} bars without a gap, the analysis needs {least}"):
        analyse(PLANTED["shift"], simulated.slice(0, least - 1))
    keep = np.arange(len(simulated)) % 600 != 0
    columns = {name: getattr(simulated, name)[keep] for name in ("ts_open", "open", "high", "low", "close", "volume")}
    with pytest.raises(ConfigError, match="BTCUSDT: 599 bars without a gap"):
        analyse(PLANTED["shift"], dataclasses.replace(simulated, **columns))


def quantum(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quantum_trader.cli.main", "lookahead-analysis", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)


@pytest.fixture(scope="module")
def bars_file(simulated, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bars") / "b.parquet"
    write_bars(path, {"BTCUSDT": simulated})
    return path


def test_the_command_finds_five_of_five_and_fails(bars_file):
    done = quantum("--bars", bars_file, "--plant", "all", "--probes", 2, folder=bars_file.parent)
    assert done.returncode == 2, done.stderr
    assert "planted leaks found: 5 of 5" in done.stdout
    assert f"clean ({len(SCHEMA.names) + 1}): ret_1" in done.stdout
    for name in PLANTED:
        assert re.search(rf"^ {name} +(future leak|history dependence) +BTCUSDT", done.stdout, re.MULTILINE)


def test_the_command_passes_our_own_features(bars_file):
    done = quantum("--bars", bars_file, "--probes", 2, folder=bars_file.parent)
    assert done.returncode == 0, done.stderr
    assert "leak" not in done.stdout


def test_the_command_takes_a_users_function(bars_file):
    (bars_file.parent / "mine.py").write_text(
        "import pandas as pd\n"
        "def features(series):\n"
        "    close = pd.Series(series.close)\n"
        "    return {'honest': close.pct_change().to_numpy(), 'peek': close.shift(-1).to_numpy()}\n"
    )
    done = quantum("--bars", bars_file, "--features", "mine:features", folder=bars_file.parent)
    assert done.returncode == 2, done.stderr
    assert "clean (1): honest" in done.stdout
    assert re.search(r"^ peek +future leak", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--features", "mine"], "expected module:function"),
        (["--features", "no_such_module:f"], "no_such_module cannot be imported"),
        (["--features", "json:nothing"], "json has no function nothing"),
        (["--plant", "obv"], "no planted leak 'obv'; there are zscore, shift, centred, cumsum, ema400 and all"),
    ],
)
def test_the_command_names_mistakes(bars_file, options, message):
    done = quantum("--bars", bars_file, *options, folder=bars_file.parent)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1

"""`quantum train` as a person starts it: a process, a file of bars, artefacts."""

import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from quantum_trader.learn.dataset import DatasetOptions, build_dataset
from quantum_trader.learn.options import TrainOptions
from quantum_trader.learn.train import train_model
from quantum_trader.market.files import read_bars, write_bars
from quantum_trader.market.simulator import simulate
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.store import newest

QUANTUM = [sys.executable, "-m", "quantum_trader.cli.main"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bars_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bars") / "bars.parquet"
    write_bars(path, simulate(1_600, 3, ["BTC/USDT", "ETH/USDT"]), "simulated")
    return path


def _train(bars_file: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [*QUANTUM, "train", "--bars", str(bars_file), "--out", str(out), "--rounds", "60", *more]
    return subprocess.run(command, capture_output=True, text=True, env={"COLUMNS": "200", "PATH": "/usr/bin:/bin"})


def test_it_trains_prints_and_gives_the_model_that_another_process_gives(bars_file: Path, tmp_path: Path) -> None:
    run = _train(
        bars_file, tmp_path / "models", "--model", "xgb", "--model", "lgbm", "--balanced", "--max-rows", "1500"
    )
    assert run.returncode == 0, run.stderr
    assert "rows of BTCUSDT, ETHUSDT (5m)" in run.stdout
    dataset = build_dataset(read_bars(bars_file), DatasetOptions(max_rows=1_500, workers=1))
    for model in ("xgb", "lgbm"):
        artefact = newest(tmp_path / "models", model)
        assert artefact.digest[:16] in run.stdout
        assert str(artefact.folder) in run.stdout
        options = TrainOptions(max_rounds=60, balanced=True)
        folder = train_model(model, dataset, options, tmp_path / "again", datetime(2026, 1, 1, tzinfo=UTC))
        assert load_artefact(folder).manifest.files == artefact.manifest.files


def test_a_time_range_and_pairs_choose_the_bars(bars_file: Path, tmp_path: Path) -> None:
    series = read_bars(bars_file)["BTCUSDT"]
    first, stop = int(series.ts_open[100]), int(series.ts_open[1_500])
    run = _train(
        bars_file, tmp_path, "--model", "lgbm", "--balanced", "--pairs", "BTC/USDT", "--timerange", f"{first}-{stop}"
    )
    assert run.returncode == 0, run.stderr
    training = newest(tmp_path, "lgbm").manifest.training
    assert training is not None
    assert training.symbols == ("BTCUSDT",)
    assert training.window_first_ms == int(series.ts_open[100 + 511])


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        (["--model", "lstm"], "model 'lstm': expected one of xgb, lgbm, nhits, patchtst"),
        (["--timerange", "20990101-"], "no bars of BTCUSDT"),
        (["--epochs", "0"], "max_epochs 0 is not at least 1"),
        (["--max-rows", "100"], "part has"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(bars_file: Path, tmp_path: Path, more: list[str], rule: str) -> None:
    run = _train(bars_file, tmp_path / "models", *more)
    assert run.returncode == 1
    assert rule in run.stderr
    assert run.stderr.startswith("quantum: ")
    assert len(run.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "models").exists()


def test_ctrl_c_leaves_nothing_half_written(bars_file: Path, tmp_path: Path) -> None:
    command = [*QUANTUM, "train", "--bars", str(bars_file), "--out", str(tmp_path / "models"), "--model", "patchtst"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        # The line that says how many rows there are comes between features and training.
        assert any("rows of" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    # A shell shows 130 either way: Python ends by the signal itself where it struck inside exec() of a string, as when
    # dataclasses are made on import, although it was handled.
    assert process.returncode in (130, -signal.SIGINT), errors
    assert "nothing is half-written" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "models").exists() or list((tmp_path / "models").iterdir()) == []

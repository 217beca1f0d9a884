"""`quantum calibrate` and what is done with its file, as a person starts them."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import Result
from tests.artefacts import make_artefact, make_calibration
from tests.core.strategies import INTERVAL, START, output_of
from typer.testing import CliRunner

from quantum_trader.archive.columns import to_records, to_table
from quantum_trader.archive.store import DecisionFile, read_decisions
from quantum_trader.cli.main import build
from quantum_trader.core.bars import WINDOW, BarSeries
from quantum_trader.core.decision import DecisionRecord, Occasion, canonical, decide
from quantum_trader.core.errors import QuantumError
from quantum_trader.core.policy import VotePolicy
from quantum_trader.market.files import write_bars
from quantum_trader.market.simulator import simulate
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.calibration import load_calibration

N = 8000


def quantum(*arguments: object, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("QUANTUM_", "XGB_"))}
    command = [sys.executable, "-m", "quantum_trader.cli.main", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env={**clean, "COLUMNS": "120", **environ}, timeout=120
    )


def calibrate(*arguments: object) -> Result:
    """The same in this process, in its working folder."""
    return CliRunner().invoke(build("calibrate"), ["calibrate", *map(str, arguments)], env={"COLUMNS": "120"})


def market(seed: int = 5) -> BarSeries:
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 1e-3, N + 13)))
    ts_open = START + np.arange(N + 13) * INTERVAL
    return BarSeries("BTCUSDT", INTERVAL, ts_open, close, close, close, close, np.ones(N + 13))


def write_case(folder: Path, *, boast: float, artefacts: tuple[str, ...] = ("a",)) -> None:
    """Decisions of a model that knows a little of the return to come and boasts by a factor, and their bars."""
    series = market()
    rng = np.random.default_rng(6)
    move = np.log(series.close[13:] / series.close[1:-12]) / (1e-3 * np.sqrt(12))
    logit = 0.3 * move + rng.normal(0.0, 1.0, N)
    # With unit noise and a signal of .3: P(rise | logit) is about sigmoid(.46 logit).
    p = 1 / (1 + np.exp(-0.46 * boast * logit))
    hashes = ["0123456789abcdef"] * N
    ts_open = series.ts_open[:N].tolist()
    close_times = [ts + INTERVAL for ts in ts_open]
    where = Occasion("5m", ["BTCUSDT"] * N, ts_open, close_times, [1.0] * N, [0.01] * N, hashes)
    decided = decide(where, {"xgb": output_of(p.tolist())}, VotePolicy(min_consensus=1))
    records = []
    for i, decision in enumerate(decided):
        vote = msgspec.structs.replace(decision.votes["xgb"], artefact=artefacts[i * len(artefacts) // N] * 64)
        whole = msgspec.structs.replace(decision, votes={"xgb": vote})
        records.append(DecisionRecord(decision=whole, shadows={}, reasons={}, ts_decision=decision.ts_close))
    with DecisionFile(folder / "decided" / "decisions.parquet") as file:
        file.write(to_table(records))
    write_bars(folder / "bars.parquet", {"BTCUSDT": series})


FROM = ("--decisions", "decided", "--bars", "bars.parquet")


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_boasting_model_is_calibrated_and_its_file_loads(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_case(tmp_path, boast=4.0)
    monkeypatch.chdir(tmp_path)
    run = calibrate("xgb", *FROM, "--method", method, "--out", "x.calibration.json")
    assert run.exit_code == 0, run.output
    assert "it helps." in run.stdout
    assert "expected calibration error" in run.stdout
    setting = next(line for line in run.stdout.splitlines() if line.startswith("to use it: XGB_CALIBRATION="))
    reference = setting.partition("=")[2]
    loaded = load_calibration(reference)
    assert (loaded.model, loaded.artefact) == ("xgb", "a" * 64)
    assert loaded.curve(np.array([0.9]))[0] < 0.75
    again = calibrate("xgb", *FROM, "--method", method, "--out", "y.calibration.json")
    assert again.exit_code == 0
    assert (tmp_path / "x.calibration.json").read_bytes() == (tmp_path / "y.calibration.json").read_bytes()


def test_one_that_does_not_help_is_written_only_by_force(tmp_path: Path) -> None:
    write_case(tmp_path, boast=1.0)
    run = quantum("calibrate", "xgb", *FROM, cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith("quantum: calibration of xgb: it does not help out of sample; nothing is written")
    assert "it does not help: 1.645 is needed." in run.stdout
    assert not list(tmp_path.glob("*.json"))
    run = quantum("calibrate", "xgb", *FROM, "--force", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert b'"forced": true' in (tmp_path / "xgb.calibration.json").read_bytes()


def test_mistakes_are_one_line_each_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_case(tmp_path, boast=4.0, artefacts=("a", "b"))
    monkeypatch.chdir(tmp_path)
    cases = {
        ("lgbm", *FROM): "model 'lgbm': it took part in no decision here; those that did: xgb",
        (
            "xgb",
            *FROM,
        ): "artefacts of xgb in these decisions: aaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbb; name one with --artefact",
        ("xgb", *FROM, "--artefact", "c"): "artefacts of xgb in these decisions: none; name one with --artefact",
        ("xgb", *FROM, "--artefact", "a", "--method", "beta"): "--method 'beta': expected platt or isotonic",
        ("xgb", "--decisions", "none", "--bars", "bars.parquet"): "decisions none: no such folder",
        ("xgb", *FROM, "--artefact", "a", "--out", "x.json"): "expected a name like NAME.calibration.json",
    }
    for arguments, line in cases.items():
        run = calibrate(*arguments)
        assert isinstance(run.exception, QuantumError), run.output
        assert line in str(run.exception)
        assert "\n" not in str(run.exception)
        assert not list(tmp_path.glob("*.json*"))
    assert calibrate("xgb", *FROM, "--artefact", "aa").exit_code == 0


def test_a_replay_votes_with_it_and_changes_no_action(tmp_path: Path) -> None:
    series = simulate(WINDOW + 40, 7, ["BTC/USDT"])
    write_bars(tmp_path / "bars.parquet", series)
    artefact = make_artefact(tmp_path / "models", "xgb")
    make_artefact(tmp_path / "models", "patchtst")
    reference = make_calibration(tmp_path / "x.calibration.json", artefact)
    plain = ("replay", "--bars", "bars.parquet", "--min-consensus", "1", "--workers", "1")
    assert quantum(*plain, "--out", "raw", cwd=tmp_path).returncode == 0
    run = quantum(*plain, "--out", "mapped", "--calibration", f"xgb={reference}", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    raw, mapped = (to_records(read_decisions(tmp_path / name)) for name in ("raw", "mapped"))
    curve, digest = load_calibration(reference).curve, load_artefact(artefact).digest
    for one, other in zip(raw, mapped, strict=True):
        before, after = one.decision.votes["xgb"], other.decision.votes["xgb"]
        assert after == msgspec.structs.replace(before, p_calibrated=curve(np.array([before.p_up]))[0])
        assert (after.artefact, one.decision.action) == (digest, other.decision.action)
        assert one.decision.policy != other.decision.policy
        assert canonical(one.decision) != canonical(other.decision)
        assert one.shadows == other.shadows
    for given, line in {
        f"patchtst={reference}": "--calibration of 'patchtst': it does not vote",
        f"xgb={reference[:-1]}0": "XGBoost is meant to vote calibrated and cannot",
        "nonsense": "--calibration of 'nonsense': it does not vote",
    }.items():
        wrong = quantum(*plain, "--out", "wrong", "--calibration", given, cwd=tmp_path)
        assert wrong.returncode == 1
        assert line in wrong.stderr
        assert not (tmp_path / "wrong").exists()

"""`quantum register` on an initialised release: written once, refused clearly, and what `audit` then shows."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.artefacts import make_artefact, make_imported
from tests.e2e.harness import release

from quantum_trader.gates.whole_policy import WHOLE
from quantum_trader.models.artefact import load_artefact
from quantum_trader.release.ledger import read_entries, verify
from quantum_trader.release.ledger_entries import Registration


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quantum_trader.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={"COLUMNS": "160", "PATH": "/usr/bin:/bin"})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release(tmp_path_factory.mktemp("house")).parent


def registrations(folder: Path) -> list[Registration]:
    return [e.detail for e in read_entries(folder / "ledger.jsonl") if isinstance(e.detail, Registration)]


def test_it_is_written_from_settings_grants_and_artefacts_once(house: Path) -> None:
    env = house / "ai-engine.env"
    done = run("register", "patchtst", "--env-file", env)
    assert done.returncode == 0, done.stderr
    (said,) = registrations(house)
    shadow = load_artefact(next((house / "models").glob("patchtst_v*")))
    assert (said.artefact, said.lineage, said.version) == (
        shadow.digest,
        shadow.manifest.lineage,
        shadow.manifest.version,
    )
    assert (said.policy, said.timeframe, said.symbols[0]) == (WHOLE.digest, "5m", "BNBUSDT")
    assert said.electorate.weights == {"xgb": 0.25, "lgbm": 0.25, "nhits": 0.30}
    assert (said.electorate.shadow_weight, said.electorate.min_consensus) == (0.2, 2)
    assert said.electorate.artefacts == {
        name: load_artefact(next((house / "models").glob(f"{name}_v*"))).digest for name in ("xgb", "lgbm", "nhits")
    }
    entry = read_entries(house / "ledger.jsonl")[-1]
    assert said.window_start >= entry.when.timestamp() * 1000
    again = run("register", "patchtst", "--env-file", env)
    assert again.returncode == 0
    assert "patchtst is registered already, entry 3 of" in again.stdout
    assert len(registrations(house)) == 1
    assert "to be judged under policy" in run("audit", "list", "--env-file", env).stdout


def test_another_policy_or_a_later_window_is_another_registration(house: Path) -> None:
    env = house / "ai-engine.env"
    (house / "strict.toml").write_text("[contract]\nshare_max = 0.6\n")
    before = len(registrations(house))
    done = run("register", "patchtst", "--env-file", env, "--policy", house / "strict.toml", "--start", "2099-01-01")
    assert done.returncode == 0, done.stderr
    said = registrations(house)[-1]
    assert said.policy != WHOLE.digest
    assert said.window_start == 4_070_908_800_000
    assert len(registrations(house)) == before + 1
    same = run("register", "patchtst", "--env-file", env, "--policy", house / "strict.toml", "--start", "2099-01-01")
    assert "is registered already" in same.stdout
    assert verify(house / "ledger.jsonl") == []


def test_what_cannot_be_registered_is_one_line_and_writes_nothing(house: Path, tmp_path: Path) -> None:
    env = house / "ai-engine.env"
    (tmp_path / "odd.toml").write_text("[vetoes]\nmagic = 1\n")
    imported = make_imported(tmp_path)
    wrong = make_artefact(tmp_path, "xgb", 9)
    text = env.read_text()
    for name, path in (("imported", imported), ("wrong", wrong), ("gone", tmp_path / "gone_v20260101_000000")):
        lines = [f"PATCHTST_MODEL_PATH={path}" if "PATCHTST_MODEL" in line else line for line in text.splitlines()]
        (tmp_path / f"{name}.env").write_text("\n".join(lines) + "\n")
    before = (house / "ledger.jsonl").read_bytes()
    cases = {
        ("xgb", "--env-file", env): "model xgb: it votes already; only a shadow is registered",
        ("gru", "--env-file", env): "model 'gru': unknown",
        ("patchtst", "--env-file", env, "--start", "2020-01-01"): "has passed; a window begins now or later",
        ("patchtst", "--env-file", env, "--policy", tmp_path / "odd.toml"): "unknown key 'vetoes.magic'",
        ("patchtst", "--env-file", env, "--policy", "lenient"): "neither default nor a readable file",
        ("patchtst", "--env-file", tmp_path / "imported.env"): "it can never earn a vote",
        ("patchtst", "--env-file", tmp_path / "wrong.env"): "it is a xgb model, configured as patchtst",
        ("patchtst", "--env-file", tmp_path / "gone.env"): "no such folder",
        ("patchtst",): "PATCHTST_MODEL_PATH is not set",
    }
    for arguments, sentence in cases.items():
        done = run("register", *arguments)
        assert done.returncode == 1, arguments
        assert sentence in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert (house / "ledger.jsonl").read_bytes() == before

"""`quantum demo`, small: four models really trained, the real service, a verdict and a report at the end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from quantum_trader.models.store import list_artefacts


@pytest.mark.slow
def test_demo_tells_the_whole_story(tmp_path: Path) -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "quantum_trader.cli.main", "demo"),
            *("--out", "demo", "--train-bars", "3500", "--service-bars", "1000"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=550,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    shown = result.stdout
    assert "SIMULATED DATA" in shown
    for model in ("XGBoost", "LightGBM", "N-HiTS", "PatchTST"):
        assert f"trained   {model}" in shown
    assert "5,000 of 5,000 decisions" in shown
    assert "gave the same 5,000 decisions, byte for byte" in shown
    for gate in ("Diversity", "Spread", "Correlation", "Calibration"):
        assert gate in shown
    for line in ("Leak Alarm", "Evidence", "Brier Gain", "What blocks a promotion"):
        assert line in shown
    gallery = shown.partition("Would they be promoted?")[2]
    for rogue in ("copy-ensemble", "follower", "overconfident", "full-leak", "missing", "flipped"):
        # Long descriptions wrap; a model's row is the first line that begins with its name.
        line = next(line for line in gallery.splitlines() if line.split()[:1] == [rogue])
        assert "promotes after" in line
        assert "REJECT" in line or "HOLD" in line
    assert "PROMOTE after" in next(line for line in gallery.splitlines() if line.split()[:1] == ["good"])
    (run,) = (tmp_path / "demo").iterdir()
    html = (run / "report.html").read_text()
    assert "Evidence" in html
    assert html.count("<svg") >= 5
    intents = [json.loads(line) for line in (run / "intents.jsonl").read_text().splitlines()]
    assert intents
    assert all(intent["model_breakdown"]["patchtst"]["shadow"] is True for intent in intents)
    assert all(intent["total_models"] == 4 and intent["voters"] == 3 for intent in intents)
    artefacts = {
        entry.artefact.manifest.model: entry.artefact for entry in list_artefacts(run / "models") if entry.artefact
    }
    assert set(artefacts) == {"xgb", "lgbm", "nhits", "patchtst"}
    digests = {model: artefact.digest for model, artefact in artefacts.items()}
    assert all(intent["artefacts"] == digests for intent in intents)
    grants = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    assert {grant["detail"]["artefact"] for grant in grants} == set(digests.values()) - {digests["patchtst"]}


@pytest.mark.slow
def test_demo_catches_a_model_that_is_fed_one_constant_sequence(tmp_path: Path) -> None:
    """The failure that made a production model answer the same for every symbol for 19 hours."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "quantum_trader.cli.main", "demo", "--rogue", "constant-input"),
            *("--out", "demo", "--train-bars", "3500", "--service-bars", "60"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=550,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    shown = " ".join(result.stdout.split())
    assert "gave the same 300 decisions, byte for byte" in shown
    assert "it predicted on 1 different inputs; the market gave 300" in shown
    assert "ALARM shadow-input" in shown
    assert "ALARM constant-input" in shown
    assert "caught at bar" in shown


def test_an_unknown_rogue_is_one_line(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "quantum_trader.cli.main", "demo", "--rogue", "nobody", "--out", "demo"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("quantum: rogue nobody: unknown, expected one of ")
    assert not (tmp_path / "demo").exists()

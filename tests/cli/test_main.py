"""The command line as a person meets it: help, one-line errors, exit codes, nothing heavy loaded for `run`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from quantum_trader.cli.main import VERBS


def quantum(*arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "quantum_trader.cli.main", *arguments],
        capture_output=True,
        text=True,
        env=env,
        cwd=cwd,
        timeout=120,
    )


def test_help_names_every_verb_and_says_what_shadow_means() -> None:
    shown = quantum("--help").stdout
    assert all(verb in shown for verb in VERBS)
    assert "counts" in shown


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_explains_itself(verb: str) -> None:
    result = quantum(verb, "--help")
    assert result.returncode == 0, result.stderr
    assert "Usage: quantum" in result.stdout


def test_a_wrong_option_is_exit_code_1_because_2_is_a_verdict() -> None:
    result = quantum("gates", "--bogus")
    assert result.returncode == 1
    assert "No such option" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gates"], "give either --hours N"),
        (["gates", "--decisions", "missing", "--bars", "missing.parquet"], "missing: no such folder"),
        (["gates", "--hours", "-1"], "expected a positive number"),
        (["replay", "--bars", "missing.parquet"], "missing.parquet"),
        (["init", "--models", "missing"], "missing: no such folder"),
        (["show-config", "-c", "missing.toml"], "missing.toml: cannot be read"),
        (["feed"], "give either --bars FILE or --exchange NAME"),
        (["train", "--bars", "missing.parquet"], "missing.parquet"),
        (["lookahead-analysis", "--bars", "missing.parquet"], "missing.parquet"),
        (["bars", "missing.parquet"], "missing.parquet"),
        (["report", "--decisions", "missing", "--bars", "b.parquet"], "missing: no such folder"),
        (["demo", "--bars", "missing.parquet"], "missing.parquet"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(arguments: list[str], words: str, tmp_path: Path) -> None:
    result = quantum(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left == []


def test_show_config_hides_the_password(tmp_path: Path) -> None:
    config = tmp_path / "engine.toml"
    config.write_text('redis_url = "rediss://qt:hunter2@host:6380/0"\npairs = ["BTC/USDT"]\n')
    result = quantum("show-config", "-c", str(config))
    assert result.returncode == 0
    assert "hunter2" not in result.stdout
    assert json.loads(result.stdout)["redis_url"] == "rediss://qt:***@host:6380/0"


def test_run_imports_nothing_that_trains_or_analyses() -> None:
    heavy = "torch xgboost lightgbm sklearn onnx pandas polars pyarrow scipy ccxt matplotlib jinja2"
    script = (
        # TA-Lib looks for pandas by itself; a serving install has none.
        "import sys; sys.modules['pandas'] = None\n"
        "import quantum_trader.cli.main, quantum_trader.bootstrap, quantum_trader.settings\n"
        f"print([name for name in {heavy!r}.split() if sys.modules.get(name)])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]", result.stderr

"""A verb whose extra is not installed says which one, in one line."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.conftest import ROOT

from quantum_trader.cli.extras import EXTRA_OF, hint

WITHOUT = """
import sys

class Missing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

library = sys.argv[1]
sys.meta_path.insert(0, Missing)
sys.argv[:] = ["quantum", *sys.argv[2:]]
from quantum_trader.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("library", "arguments"),
    [
        ("pyarrow", ["bars", "x.parquet"]),
        ("scipy", ["rogues", "--repetitions", "1", "--model", "coin", "--workers", "1"]),
        ("torch", ["train", "--bars", "bars.parquet", "--model", "nhits"]),
        ("ccxt", ["download-data", "--exchange", "binanceusdm", "--timerange", "20260101-", "--out", "new.parquet"]),
        ("cryptography", ["proof", "keygen", "--out", "key"]),
        ("jinja2", ["report", "--decisions", ".", "--bars", "bars.parquet"]),
    ],
)
def test_names_the_extra(library: str, arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "quantum_trader.cli.main", "simulate-data", "--bars", "2000"]
    command += ["--out", "bars.parquet"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    command = [sys.executable, "-c", WITHOUT, library, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    wanted = (
        f"quantum: {library} is not installed, and this needs it: pip install 'quantum-trader[{EXTRA_OF[library]}]'"
    )
    assert ended.stderr.splitlines()[-1:] == [wanted], ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 1


def test_every_library_of_an_extra_is_known() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    imported = {"scikit-learn": "sklearn", "xgboost-cpu": "xgboost"}
    for extra, requirements in extras.items():
        if extra == "dev":
            continue
        for requirement in requirements:
            name = requirement.partition(">")[0].partition("=")[0]
            assert EXTRA_OF[imported.get(name, name)] == extra


def test_a_library_of_no_extra_is_a_defect_and_no_hint() -> None:
    assert hint(ModuleNotFoundError("No module named 'numpy'", name="numpy")) is None
    assert hint(ModuleNotFoundError("no name")) is None

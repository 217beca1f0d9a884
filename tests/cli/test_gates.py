"""`quantum gates` on files as `quantum replay` writes them: verdicts, exit codes, what is printed, what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import Result
from tests.archive.many import linked
from tests.e2e.harness import release
from tests.report.conftest import make_world
from typer.testing import CliRunner

from quantum_trader.archive.columns import to_records, to_table
from quantum_trader.archive.store import DecisionFile, read_decisions
from quantum_trader.cli.finish import Finish
from quantum_trader.cli.main import build
from quantum_trader.core.bars import WINDOW
from quantum_trader.core.errors import QuantumError, format_ms
from quantum_trader.gates.deployment import DEPLOYMENT
from quantum_trader.gates.judge import SCOPE
from quantum_trader.gates.policy import LEGACY
from quantum_trader.gates.sample import CYCLE
from quantum_trader.gates.verdict import PLAIN_ONLY
from quantum_trader.gates.vetoes import VETOES
from quantum_trader.gates.whole_policy import WHOLE
from quantum_trader.market.files import write_bars
from quantum_trader.market.simulator import simulate

PAIRS = ["BTC/USDT", "ETH/USDT"]
BARS = WINDOW + 21 * CYCLE
FILES = ("--decisions", "decided", "--bars", "bars.parquet")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release, bars, and the decisions of `quantum replay` on them."""
    folder = tmp_path_factory.mktemp("house")
    release(folder)
    write_bars(folder / "bars.parquet", simulate(BARS, 13, PAIRS))
    command = ["replay", "--bars", "bars.parquet", "--models", "models", "--out", "decided", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "quantum_trader.cli.main", *command], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def here(house: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The house as working folder."""
    monkeypatch.chdir(house)
    return house


def gates(*arguments: object) -> Result:
    return CliRunner().invoke(build("gates"), ["gates", *map(str, arguments)], env={"COLUMNS": "80"})


def code(result: Result) -> int:
    assert isinstance(result.exception, Finish), result.exception
    return result.exception.code


def refusal(result: Result) -> str:
    assert isinstance(result.exception, QuantumError), result.exception
    text = str(result.exception)
    assert "\n" not in text
    assert result.stdout == ""
    return text


def listing(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def no_constant(text: str) -> None:
    raise AssertionError(f"{text} in the JSON")


def verdict_of(result: Result) -> dict:
    found = json.loads(result.stdout, parse_constant=no_constant)
    assert code(result) == found["exit_code"]
    return found


def test_the_json_is_the_whole_verdict_and_the_same_twice(here: Path) -> None:
    once, again = gates(*FILES, "--json"), gates(*FILES, "--json")
    assert once.stdout == again.stdout
    found = verdict_of(once)
    assert found["state"] in ("REJECT", "HOLD")
    assert (found["model"], found["scope"], found["policy_digest"]) == ("patchtst", SCOPE, WHOLE.digest)
    assert [line["name"] for line in found["checks"]] == [*VETOES, "Evidence", *DEPLOYMENT]
    assert found["events"]["cycles"] == len(found["log_e"]) == 21
    assert found["window"]["symbols"] == ["BTCUSDT", "ETHUSDT"]
    assert set(found["voters"]) == {"xgb", "lgbm", "nhits"}
    assert any("Not registered" in remark for remark in found["remarks"])


def test_tables_keep_their_columns_in_a_pipe(here: Path) -> None:
    shown = gates(*FILES)
    found = verdict_of(gates(*FILES, "--json"))
    assert code(shown) == found["exit_code"]
    assert found["summary"] in " ".join(shown.stdout.split())
    for line in (*found["gates"], *found["checks"]):
        assert line["name"] in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) > 80


def test_the_page_is_the_same_twice(here: Path) -> None:
    code(gates(*FILES, "--html", "a.html"))
    code(gates(*FILES, "--html", "b.html"))
    page = (here / "a.html").read_bytes()
    assert page == (here / "b.html").read_bytes()
    assert page.startswith(b"<!DOCTYPE html>")
    assert b"Evidence" in page


def test_policies(here: Path) -> None:
    plain = verdict_of(gates(*FILES, "--policy", "legacy", "--json"))
    assert (plain["scope"], plain["policy_digest"]) == (PLAIN_ONLY, LEGACY.digest)
    assert "checks" not in plain
    # Any share of one action is above nothing at all, and two failed gates are too many.
    (here / "contract.toml").write_text('name = "strict"\nshare_max = 0.0\nagreement_min = 1.0\n')
    strict = verdict_of(gates(*FILES, "--policy", "contract.toml", "--json"))
    assert (strict["state"], strict["exit_code"], strict["contract"]) == ("REJECT", 2, "FAIL")
    assert (strict["policy"]["contract"]["share_max"], strict["policy"]["contract"]["name"]) == (0.0, "strict")
    assert strict["policy"]["evidence"] == WHOLE.to_mapping()["evidence"]
    (here / "sections.toml").write_text("[evidence]\nalpha = 0.05\n[contract]\nshare_max = 0.0\nagreement_min = 1.0\n")
    sections = verdict_of(gates(*FILES, "--policy", "sections.toml", "--json"))
    assert sections["policy"]["evidence"]["alpha"] == 0.05
    assert len({plain["policy_digest"], strict["policy_digest"], sections["policy_digest"], WHOLE.digest}) == 4


def test_a_part_of_the_files(here: Path) -> None:
    whole = verdict_of(gates(*FILES, "--json"))
    first = whole["window"]["ts_first"] + 2 * CYCLE * whole["window"]["bar_ms"]
    part = verdict_of(gates(*FILES, "--since", format_ms(first), "--json"))
    assert part["window"]["ts_first"] == first
    assert part["events"]["cycles"] == whole["events"]["cycles"] - 2


def test_a_plan_needs_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = gates("--plan", "--symbols", "10", "--timeframe", "5m")
    assert shown.exit_code == 0, shown.exception
    assert "10 symbols, 5m bars, every bar" in shown.stdout
    told = gates("--plan", "--symbols", "10", "--accuracy", "0.54", "--version-of-lineage", "3", "--json")
    content = json.loads(told.stdout)
    (one,) = content["forecasts"]
    assert (content["cadence"]["symbols"], content["version"], one["accuracy"]) == (10, 3, 0.54)
    assert one["days"] > 3
    unspent = json.loads(gates("--plan", "--symbols", "10", "--accuracy", "0.54", "--json").stdout)
    assert unspent["forecasts"][0]["days"] < one["days"]
    assert listing(tmp_path) == set()


def test_what_is_refused_is_one_line_and_writes_nothing(here: Path) -> None:
    (here / "odd.toml").write_text("[vetoes]\nmagic = 1\n")
    (here / "flat.toml").write_text("magic = 1\n")
    (here / "broken.toml").write_text("= 1\n")
    write_bars(here / "other.parquet", simulate(BARS, 14, ["BTC/USDT"]))
    before = listing(here)
    page = ("--html", "never.html")
    cases = {
        (*FILES, *page, "--model", "oracle"): "model 'oracle': it took part in no decision here",
        (*FILES, *page, "--since", "2030-01-01"): "no decisions in decided since 2030-01-01",
        (*FILES, *page, "--since", "soon"): "--since soon: expected a time",
        (*FILES, *page, "--policy", "odd.toml"): "unknown key 'vetoes.magic'",
        (*FILES, *page, "--policy", "flat.toml"): "unknown key 'magic'",
        (*FILES, *page, "--policy", "broken.toml"): "policy broken.toml: ",
        (*FILES, *page, "--policy", "lenient"): "neither default, legacy nor a readable file",
        (*FILES, *page, "--models", "nowhere"): "nowhere",
        (*FILES, *page, "--hours", "2"): "give either --hours N",
        ("--decisions", "decided"): "give either --hours N",
        ("--hours", "0"): "--hours 0: expected a positive number",
        ("--decisions", "decided", "--bars", "other.parquet", *page): "ETHUSDT",
        ("--decisions", "gone", "--bars", "bars.parquet", *page): "decisions gone: no such folder",
        ("--follow", *FILES): "--follow reads the stream",
        ("--follow", "--hours", "2", "--policy", "legacy"): "--follow is of the whole verdict",
        ("--plan", "--policy", "legacy"): "--plan is of the whole verdict",
        ("--plan", "--share", "0"): "share",
    }
    for arguments, sentence in cases.items():
        assert sentence in refusal(gates(*arguments)), arguments
    assert listing(here) == before


def test_a_mistake_is_exit_code_1_of_the_process(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quantum_trader.cli.main", "gates", *FILES, "--model", "oracle"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("quantum: model 'oracle'")
    assert len(done.stderr.splitlines()) == 1


def copy_with(here: Path, folder: Path, column: str, row: int, value: object) -> None:
    """The house's decisions with one value put into one row, as somebody would who knows the format."""
    table = read_decisions(here / "decided")
    values = table[column].to_pylist()
    values[row] = value
    field = table.schema.field(column)
    changed = table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))
    with DecisionFile(folder / "decided" / "decisions.parquet") as file:
        file.write(changed)


def test_a_tampered_row_is_invalid_and_named(here: Path, tmp_path: Path) -> None:
    table = read_decisions(here / "decided")
    row = 501
    symbol, ts_open = table["symbol"][row].as_py(), table["ts_open"][row].as_py()
    shadow = table["patchtst.p_up"][row].as_py()
    # The shadow's answer is in no digest of the decision, only in the chain.
    copy_with(here, tmp_path, "patchtst.p_up", row, 1.0 - shadow)
    result = gates("--decisions", tmp_path / "decided", "--bars", "bars.parquet", "--json")
    found = verdict_of(result)
    assert (found["state"], code(result)) == ("INVALID", 4)
    assert f"{symbol} 5m, bar {format_ms(ts_open)}: the record is not what its link speaks for" in found["faults"][0]
    assert found["faults"][0] in found["summary"]
    shown = gates("--decisions", tmp_path / "decided", "--bars", "bars.parquet")
    assert code(shown) == 4
    assert format_ms(ts_open) in shown.stdout


def test_a_row_that_was_taken_out_is_invalid(here: Path, tmp_path: Path) -> None:
    table = read_decisions(here / "decided")
    kept = pa.concat_tables([table.slice(0, 300), table.slice(301)])
    with DecisionFile(tmp_path / "decided" / "decisions.parquet") as file:
        file.write(kept)
    found = verdict_of(gates("--decisions", tmp_path / "decided", "--bars", "bars.parquet", "--json"))
    assert found["exit_code"] == 4
    assert any("does not follow from the record before it" in fault for fault in found["faults"])


def test_other_bars_than_were_decided_on_are_invalid(here: Path) -> None:
    write_bars(here / "walk.parquet", simulate(BARS, 99, PAIRS))
    found = verdict_of(gates("--decisions", "decided", "--bars", "walk.parquet", "--json"))
    assert found["exit_code"] == 4
    assert any("the entry price is another than the bar's close, the first BTCUSDT" in f for f in found["faults"])


def test_what_departs_from_its_registration_is_invalid(tmp_path: Path, here: Path) -> None:
    env_file = release(tmp_path)
    (tmp_path / "strict.toml").write_text("[contract]\nshare_max = 0.6\n")
    command = ["register", "patchtst", "--env-file", str(env_file), "--policy", str(tmp_path / "strict.toml")]
    done = CliRunner().invoke(build("register"), command)
    assert done.exit_code == 0, done.exception
    found = verdict_of(gates(*FILES, "--env-file", env_file, "--json"))
    assert (found["state"], found["exit_code"]) == ("INVALID", 4)
    faults = " ".join(found["faults"])
    assert "registered policy" in faults
    assert f"judged {WHOLE.digest[:16]}" in faults
    # The window, too, began before anybody had registered anything.
    assert "the window was registered from" in faults
    assert any("Registered at" in remark for remark in found["remarks"])


def test_a_good_model_is_promoted_with_exit_code_0(tmp_path: Path) -> None:
    world = make_world({"BTCUSDT": 91_000.0, "ETHUSDT": 3_100.0, "XRPUSDT": 2.07}, decisions=60 * CYCLE, skill=0.1)
    with DecisionFile(tmp_path / "decided" / "decisions.parquet") as file:
        file.write(to_table(linked(to_records(world.table))))
    write_bars(tmp_path / "bars.parquet", world.bars)
    result = gates("--decisions", tmp_path / "decided", "--bars", tmp_path / "bars.parquet", "--json")
    found = verdict_of(result)
    assert (found["state"], code(result)) == ("PROMOTE", 0)
    assert all(line["state"] == "PASS" for line in found["checks"])
    assert found["held_at_bar"] <= 60 * CYCLE

"""`quantum promote` and `quantum weight` as an operator calls them."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.release.promoting import House

from quantum_trader.clock import now_ms
from quantum_trader.release.ledger import read_entries, voting
from quantum_trader.release.ledger_entries import Grant, Promote, State, Watch, WeightChange
from quantum_trader.release.verdict_store import kept
from quantum_trader.settings import load_settings

AWAY = "redis://127.0.0.1:1/0"


class Operator:
    def __init__(self, folder: Path) -> None:
        self.house = House(folder, now_ms())
        self.restarted = folder / "restarted"
        touch = shlex.join([sys.executable, "-c", f"open({str(self.restarted)!r}, 'w')"])
        with self.house.env_file.open("a") as file:
            file.write(f"QUANTUM_REDIS_URL={AWAY}\nQUANTUM_RESTART_COMMAND={touch}\n")

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("QUANTUM_")}
        return subprocess.run(
            [sys.executable, "-m", "quantum_trader.cli.main", *words, "--env-file", str(self.house.env_file)],
            env=clean | {"COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def promote(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.call("promote", "patchtst", *words)

    def state(self) -> tuple[str | None, float, bool]:
        """Flag, weight, and whether the ledger holds a grant."""
        settings = load_settings((), self.house.env_file, {})
        granted = self.house.artefact in voting(read_entries(self.house.ledger)).get("patchtst", set())
        return settings.models["patchtst"].shadow_only, settings.vote_policy().weights["patchtst"], granted

    def details(self, kind: type) -> list:
        return [entry.detail for entry in read_entries(self.house.ledger) if isinstance(entry.detail, kind)]


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


@pytest.mark.slow
def test_a_verdict_promotes_and_the_ramp_goes_up_and_down(operator: Operator) -> None:
    house, verdict = operator.house, str(operator.house.verdict)
    done = operator.promote("--verdict", verdict, "--restart")
    assert done.returncode == 0, done.stderr + done.stdout
    assert operator.restarted.exists()
    assert "is promoted with weight 0.1" in done.stdout
    assert operator.state() == ("false", 0.1, True)
    (grant,) = [grant for grant in operator.details(Grant) if grant.model == "patchtst"]
    assert (grant.weight, grant.override) == (0.1, False)
    assert kept(house.ledger, grant.verdict) == house.verdict.read_bytes()
    (step,) = operator.details(Promote)
    assert float(step.facts["block_mean"]) > 0

    up = operator.call("weight", "patchtst", "0.25", "--verdict", verdict)
    assert (up.returncode, operator.state()[1]) == (6, 0.1)
    assert "the next step of the ramp is 0.2, not 0.25" in up.stdout
    assert operator.call("weight", "patchtst", "0.2").returncode == 6, "a step up needs a verdict"
    assert operator.call("weight", "patchtst", "0.2", "--verdict", verdict).returncode == 0
    assert operator.state() == ("false", 0.2, True)
    voter = State(role="voter", artefact=house.artefact, weight=0.2)
    found = {"model": "patchtst", "artefact": house.artefact, "before": voter, "after": voter}
    house.append(Watch(**found, facts={"state": "KEEP"}), now_ms())
    assert operator.call("weight", "patchtst", "0.25").returncode == 0
    assert operator.call("weight", "patchtst", "0.3", "--override", "because").returncode == 6, "never above the end"
    down = operator.call("weight", "patchtst", "0.05")
    assert (down.returncode, operator.state()) == (0, ("false", 0.05, True))
    assert "next restart" in down.stdout
    steps = [(step.before.weight, step.after.weight) for step in operator.details(WeightChange)]
    assert steps == [(0.1, 0.2), (0.2, 0.25), (0.25, 0.05)]
    assert operator.promote("--verdict", verdict).returncode == 6, "it votes already"


@pytest.mark.slow
def test_what_the_rules_refuse_changes_no_byte_and_says_why(operator: Operator) -> None:
    house = operator.house
    before = house.env_file.read_bytes(), house.ledger.read_bytes()
    assert operator.promote().returncode == 6
    assert "there is no verdict" in operator.promote().stdout
    house.write(state="HOLD", exit_code=3)
    refused = operator.promote("--verdict", str(house.verdict))
    assert refused.returncode == 6
    assert "the verdict is HOLD" in refused.stdout
    house.write()
    assert operator.promote("--verdict", str(house.verdict), "--weight", "0.2").returncode == 6
    house.verdict.write_text("{}")
    broken = operator.promote("--verdict", str(house.verdict))
    assert (broken.returncode, len(broken.stderr.splitlines())) == (1, 1)
    assert operator.call("weight", "patchtst", "0.05").returncode == 6, "a shadow has no weight"
    assert operator.call("promote", "patchtsd").returncode == 1
    assert (house.env_file.read_bytes(), house.ledger.read_bytes()) == before


def test_an_override_needs_a_reason_and_is_recorded_for_ever(operator: Operator) -> None:
    assert operator.promote("--override", "  ").returncode == 6
    done = operator.promote("--override", "the desk asked for it")
    assert done.returncode == 0, done.stderr
    assert "OVERRIDE, recorded for ever: there is no verdict" in done.stdout
    assert operator.state() == ("false", 0.1, True)
    (grant,) = [grant for grant in operator.details(Grant) if grant.model == "patchtst"]
    assert grant.override
    entry = read_entries(operator.house.ledger)[-1]
    assert entry.reason == "override: the desk asked for it"
    assert "there is no verdict" in entry.detail.facts["objections"]


def test_an_env_file_that_cannot_take_it_leaves_a_shadow_without_a_grant(operator: Operator) -> None:
    text = operator.house.env_file.read_text()
    quoted = text.replace("PATCHTST_SHADOW_ONLY=true", "PATCHTST_SHADOW_ONLY='true'")
    operator.house.env_file.write_text(quoted)
    before = operator.house.ledger.read_bytes()
    refused = operator.promote("--verdict", str(operator.house.verdict))
    assert refused.returncode == 1
    assert "quoted" in refused.stderr
    assert operator.house.ledger.read_bytes() == before
    assert operator.house.env_file.read_text() == quoted


def test_a_restart_that_fails_is_said_and_the_promotion_stands(operator: Operator) -> None:
    with operator.house.env_file.open("a") as file:
        file.write("QUANTUM_RESTART_COMMAND=false\n")
    done = operator.promote("--verdict", str(operator.house.verdict), "--restart")
    assert done.returncode == 1
    assert "command false: exit code 1" in done.stderr
    assert operator.state() == ("false", 0.1, True)

"""`quantum audit list|verify|at` as a person starts them."""

import json
import subprocess
import sys
from pathlib import Path

from tests.release.test_ledger_golden import HEAD, LEDGER, NEW

from quantum_trader.release.ledger import append_entries
from quantum_trader.release.ledger_entries import Grant, New


def audit(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quantum_trader.cli.main", "audit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={"COLUMNS": "160", "PATH": "/usr/bin:/bin"})


def test_list_says_who_what_when_why_before_and_after() -> None:
    done = audit("list", "--ledger", LEDGER)
    assert done.returncode == 0, done.stderr
    for part in ("operator", "quantum watch", "2026-01-18T08:10:00", "promoted on its verdict", "rollback", "first"):
        assert part in done.stdout
    raw = audit("list", "--json", "--ledger", LEDGER)
    assert raw.stdout == LEDGER.read_text()


def test_an_override_says_so_and_no_reason_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    grant = Grant(model="patchtst", artefact=NEW, weight=0.1, override=True)
    reason = "\x1b[2J [bold red]night shift[/] of the boss"
    append_entries(tmp_path / "l", [New(at="2026-01-01T00:00:00Z", by="x", reason=reason, detail=grant)])
    listed = audit("list", "--ledger", tmp_path / "l")
    assert "OVERRIDE" in listed.stdout
    assert "[bold" in listed.stdout
    assert "\x1b[2J" not in listed.stdout
    assert "OVERRIDE" in audit("at", "2026-01-02", "--ledger", tmp_path / "l").stdout


def test_verify_names_the_first_broken_line(tmp_path: Path) -> None:
    done = audit("verify", "--ledger", LEDGER)
    assert (done.returncode, done.stdout) == (0, f"{LEDGER}: 12 entries, unbroken; head {HEAD.digest}\n")
    broken = tmp_path / "ledger"
    broken.write_bytes(LEDGER.read_bytes().replace(b'"by":"operator"', b'"by":"opera7or"', 1))
    done = audit("verify", "--ledger", broken)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].startswith(f"{broken}: line 2 does not follow from line 1")
    listed = audit("list", "--ledger", broken)
    assert (listed.returncode, listed.stdout) == (1, "")
    assert listed.stderr.startswith(f"quantum: ledger {broken}: line 2 ")


def test_at_answers_what_was_voting_then() -> None:
    document = json.loads(audit("at", "2026-01-18T20:00:00Z", "--json", "--ledger", LEDGER).stdout)
    voting = {m["model"]: (m["artefact"], m["weight"]) for m in document["models"] if m["votes"]}
    assert voting == {"xgb": ("ab" * 32, 0.25), "lgbm": ("cd" * 32, 0.25), "patchtst": (NEW, 0.2)}
    shown = audit("at", "2026-01-18T21:00:00+01:00", "--ledger", LEDGER).stdout
    assert "at 2026-01-18T20:00:00+00:00" in shown
    assert NEW in shown
    assert "nothing was granted" in audit("at", "2025-01-01", "--ledger", LEDGER).stdout
    wrong = audit("at", "yesterday", "--ledger", LEDGER)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "expected ISO 8601" in wrong.stderr

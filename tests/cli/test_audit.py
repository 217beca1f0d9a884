"""`quantum audit list|verify|at` as a person starts them."""

import json
import subprocess
import sys
from pathlib import Path

from tests.release.test_ledger_golden import HEAD, LEDGER, NEW

from quantum_trader.release.appending import append
from quantum_trader.release.ledger import append_entries
from quantum_trader.release.ledger_entries import Grant, New
from quantum_trader.release.sealing import head_file
from quantum_trader.release.signing import PRIVATE_FILE, PUBLIC_FILE, generate


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
    assert (done.returncode, done.stdout) == (0, f"{LEDGER}: {HEAD.entries} entries, unbroken; head {HEAD.digest}\n")
    broken = tmp_path / "ledger"
    broken.write_bytes(LEDGER.read_bytes().replace(b'"by":"operator"', b'"by":"opera7or"', 1))
    done = audit("verify", "--ledger", broken)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].startswith(f"{broken}: line 2 does not follow from line 1")
    listed = audit("list", "--ledger", broken)
    assert (listed.returncode, listed.stdout) == (1, "")
    assert listed.stderr.startswith(f"quantum: ledger {broken}: line 2 ")


def test_with_a_key_a_cut_tail_shows(tmp_path: Path) -> None:
    ledger, new = tmp_path / "ledger.jsonl", Grant(model="xgb", artefact=NEW, weight=0.25)
    generate(tmp_path / "keys")
    for day in (1, 2, 3):
        entry = New(at=f"2026-01-0{day}T00:00:00Z", by="x", reason="y", detail=new)
        append(ledger, [entry], tmp_path / "keys" / PRIVATE_FILE)
    words = ("verify", "--ledger", ledger, "--key", tmp_path / "keys" / PUBLIC_FILE)
    done = audit(*words)
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, f"{ledger}: sealed: 3 entries, sealed {entry.at}")
    whole = ledger.read_bytes()
    ledger.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    assert audit("verify", "--ledger", ledger).returncode == 0
    done = audit(*words)
    assert done.returncode == 1
    assert "broken: the tail was cut: the head counts 3 entries, the ledger 2" in done.stdout
    ledger.write_bytes(whole)
    append_entries(ledger, [New(at="2026-01-04T00:00:00Z", by="x", reason="y", detail=new)])
    done = audit(*words)
    assert (done.returncode, "behind: 1 of 4 entries stand after the head" in done.stdout) == (0, True)
    head_file(ledger).unlink()
    assert audit(*words).returncode == 1
    assert "there is none" in audit(*words).stdout


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

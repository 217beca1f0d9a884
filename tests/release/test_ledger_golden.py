"""An example of the format, with every kind of entry: it must be read, and verify, for ever."""

from datetime import UTC, datetime
from pathlib import Path

from quantum_trader.release.ledger import Head, head, read_entries, verify, voting
from quantum_trader.release.ledger_entries import KINDS, render

LEDGER = Path(__file__).parents[1] / "golden" / "ledger" / "ledger.jsonl"
HEAD = Head(13, "e893f26581b82bb1b26e9329e9bd6f63a5b15779e694f4021ff32c2c1be61248")
XGB, LGBM, OLD, NEW = "ab" * 32, "cd" * 32, "01" * 32, "02" * 32


def test_it_verifies_against_its_head() -> None:
    assert verify(LEDGER, HEAD) == []
    assert head(LEDGER) == HEAD


def test_it_holds_every_kind_and_every_entry_has_its_one_form() -> None:
    entries = read_entries(LEDGER)
    assert {entry.kind for entry in entries} == set(KINDS)
    assert b"".join(render(entry) + b"\n" for entry in entries) == LEDGER.read_bytes()


def test_who_might_vote_when() -> None:
    entries = read_entries(LEDGER)
    first = {"xgb": {XGB}, "lgbm": {LGBM}}
    assert voting(entries, datetime(2026, 1, 1, tzinfo=UTC)) == {}
    assert voting(entries, datetime(2026, 1, 10, tzinfo=UTC)) == first
    assert voting(entries, datetime(2026, 1, 19, tzinfo=UTC)) == first | {"patchtst": {NEW}}
    assert voting(entries) == first

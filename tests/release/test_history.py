"""Who was voting when, on the golden ledger: a deployment, a promotion by ramp, a demotion, a rollback."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.release.test_ledger_golden import LEDGER, LGBM, NEW, OLD, XGB

from quantum_trader.release.history import before_and_after, standings
from quantum_trader.release.ledger import append_entries, read_entries, voting
from quantum_trader.release.ledger_entries import Grant, New, Promote, Revoke, State

AT = "2026-01-01T00:00:00Z"


def at(*when: int) -> datetime:
    return datetime(2026, 1, *when, tzinfo=UTC)


def votes(when: datetime | None) -> dict[str, tuple[str, float]]:
    found = standings(read_entries(LEDGER), when)
    return {name: (s.state.artefact, s.state.weight) for name, s in found.items() if s.state.role == "voter"}


FIRST = {"xgb": (XGB, 0.25), "lgbm": (LGBM, 0.25)}


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (at(2, 3, 4, 4), {}),
        (at(2, 3, 4, 5), FIRST),
        (at(18, 8, 9), FIRST),
        (at(18, 8, 10), FIRST | {"patchtst": (NEW, 0.1)}),
        (at(18, 20), FIRST | {"patchtst": (NEW, 0.2)}),
        (at(19, 9), FIRST),
        (None, FIRST),
    ],
)
def test_what_was_voting_then(when: datetime | None, expected: dict[str, tuple[str, float]]) -> None:
    assert votes(when) == expected
    assert {model: {digest} for model, (digest, _) in expected.items()} == voting(read_entries(LEDGER), when)


def test_a_shadow_stands_where_the_last_step_put_it() -> None:
    standing = standings(read_entries(LEDGER))["patchtst"]
    assert (standing.state, standing.since) == (State(role="shadow", artefact=OLD), 11)


def test_a_step_that_says_voter_gives_no_vote_without_a_grant(tmp_path: Path) -> None:
    voter = State(role="voter", artefact=NEW, weight=0.2)
    promote = Promote(model="patchtst", artefact=NEW, before=State(), after=voter)
    entries = append_entries(tmp_path / "l", [New(at=AT, by="x", reason="y", detail=promote)])
    assert standings(entries)["patchtst"].state == State(role="shadow", artefact=NEW)


def test_an_override_is_marked_until_its_artefact_is_granted_otherwise(tmp_path: Path) -> None:
    over = Grant(model="patchtst", artefact=NEW, weight=0.1, override=True)
    steps = [over, Revoke(model="patchtst", artefact=NEW), Grant(model="patchtst", artefact=OLD, weight=0.1)]
    new = [New(at=AT, by="x", reason="y", detail=detail) for detail in steps]
    entries = append_entries(tmp_path / "l", new)
    assert [standings(entries[:n])["patchtst"].override for n in (1, 2, 3)] == [True, True, False]
    assert "by OVERRIDE" in before_and_after(entries[0])[1]


def test_every_kind_is_put_in_words() -> None:
    words = {entry.kind: before_and_after(entry) for entry in read_entries(LEDGER)}
    assert words["deploy"] == ("none", f"shadow {NEW[:12]}")
    assert words["weight"] == (f"voter {NEW[:12]} weight 0.1", f"voter {NEW[:12]} weight 0.2")
    assert words["revoke"] == (f"may vote {NEW[:12]}", "may not vote")
    assert words["verdict"][1].startswith("PROMOTE under policy 0c0c0c0c0c0c")
    assert words["registration"][1] == "to be judged under policy 0c0c0c0c0c0c, version 2 of patchtst-5m"
    assert all(after for _, after in words.values())

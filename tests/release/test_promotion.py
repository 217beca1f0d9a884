"""What speaks against a promotion: every single defect of an otherwise good verdict is found and named."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.release.promoting import BAR_MS, House, promoting_verdict

from quantum_trader.core.errors import ConfigError
from quantum_trader.release.ledger import read_entries
from quantum_trader.release.ledger_entries import Promote, State, Verdict, Watch
from quantum_trader.release.promotion import SECTIONS, Candidate, first_weight, kept, next_weight, objections
from quantum_trader.release.verdict_report import parse_report, read_report

NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000
RAMP = (0.10, 0.20, 0.25)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path, NOW_MS)


def against(house: House, now_ms: int = NOW_MS, model: str = "patchtst", running: str = "") -> list[str]:
    candidate = Candidate(model, running or house.artefact, now_ms, DAY_MS)
    return objections(read_report(house.verdict)[0], candidate, read_entries(house.ledger))


def test_nothing_speaks_against_a_whole_fresh_verdict_of_the_registered_policy(house: House) -> None:
    assert against(house) == []


@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.parametrize("how", ["INSUFFICIENT", "FAIL", "left out", "in another section"])
def test_every_check_has_to_be_there_and_passed(house: House, name: str, how: str) -> None:
    checks = [dict(check) for check in promoting_verdict()["checks"]]
    (check,) = [check for check in checks if check["name"] == name]
    if how == "left out":
        checks.remove(check)
    elif how == "in another section":
        check["section"] = "A"
    else:
        check["state"] = how
    house.write(checks=checks)
    (said,) = against(house)
    assert name in said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"state": "HOLD", "exit_code": 3}, "is HOLD"),
        ({"exit_code": 3}, "exit code 3"),
        ({"contract": "INSUFFICIENT"}, "contract is INSUFFICIENT"),
        ({"faults": ["a price is changed"]}, "a price is changed"),
        ({"gates": []}, "Calibration"),
        ({"model": "nhits"}, "about nhits"),
        ({"artefact": "f" * 64}, "about artefact ffffffffffffffff"),
        ({"artefact": ""}, "about artefact none"),
        ({"policy_digest": "e" * 64}, "policy is eeeeeeeeeeee"),
        ({"version": 2}, "version 2"),
        ({"version": None}, "version None"),
    ],
)
def test_a_defect_of_the_verdict_is_named(house: House, changes: dict[str, Any], says: str) -> None:
    house.write(**changes)
    assert says in " ".join(against(house))


def test_a_verdict_expires_and_none_comes_from_the_future(house: House) -> None:
    assert against(house, house.end_ms + DAY_MS) == []
    assert "expired" in against(house, house.end_ms + DAY_MS + 1)[0]
    assert against(house, house.end_ms - 5_000) == []
    assert "has not been yet" in against(house, house.end_ms - 5_001)[0]


def test_another_artefact_that_runs_or_none_registered_is_named(house: House) -> None:
    said = " ".join(against(house, running="a" * 64))
    assert "aaaaaaaaaaaaaaaa runs" in said
    assert "no registration" in said


def test_a_window_that_began_before_its_registration_is_refused(house: House) -> None:
    house.register(window_start=house.first_ms + BAR_MS + 1)
    assert "before the registered" in against(house)[0]


@pytest.mark.parametrize(("state", "stands"), [("PROMOTE", True), ("HOLD", False), ("REJECT", False)])
def test_what_no_longer_holds_promotes_nothing(house: House, state: str, stands: bool) -> None:
    later = Verdict(
        model="patchtst",
        artefact=house.artefact,
        state=state,
        policy="e" * 64,
        window_start=house.first_ms,
        window_end=house.end_ms + 1,
        report="d" * 64,
    )
    house.append(later, house.end_ms + 2)
    assert (against(house) == []) == stands


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b'{"model": 1}', b'{"model": "patchtst"}'])
def test_what_is_no_verdict_is_one_line(raw: bytes) -> None:
    with pytest.raises(ConfigError, match="no whole verdict") as caught:
        parse_report(raw, "file")
    assert "\n" not in str(caught.value)


@given(st.floats(0.001, 1.0), st.floats(0.001, 1.0))
def test_no_step_up_passes_a_step_of_the_ramp_or_its_end(now: float, wanted: float) -> None:
    allowed = not next_weight(now, wanted, RAMP)
    if wanted < now:
        assert allowed
    elif allowed:
        assert wanted <= RAMP[-1]
        assert sum(now < step < wanted for step in RAMP) == 0
    assert (not first_weight(wanted, RAMP)) == (wanted <= RAMP[0])


def test_the_watchs_keep_carries_one_step_and_only_at_its_own_weight(house: House) -> None:
    candidate = Candidate("patchtst", house.artefact, NOW_MS, DAY_MS)

    def is_kept(weight: float, now_ms: int = NOW_MS) -> bool:
        at = Candidate("patchtst", house.artefact, now_ms, DAY_MS)
        return kept("patchtst", house.artefact, weight, read_entries(house.ledger), at)

    voter = State(role="voter", artefact=house.artefact, weight=0.1)
    step = {"model": "patchtst", "artefact": house.artefact, "after": voter}
    shadow = State(role="shadow", artefact=house.artefact)
    assert not is_kept(0.1)
    house.append(Promote(**step, before=shadow), NOW_MS - 3000)
    assert not is_kept(0.1)
    house.append(Watch(**step, before=voter, facts={"state": "KEEP"}), NOW_MS - 2000)
    assert is_kept(0.1)
    assert not is_kept(0.2)
    assert not is_kept(0.1, NOW_MS + DAY_MS)
    house.append(Promote(**step, before=shadow), NOW_MS - 1000)
    assert not is_kept(0.1), candidate

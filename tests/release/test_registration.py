"""What a verdict may depart from its registration in: nothing. Each departure is one sentence."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.archive.many import many_records
from tests.core.strategies import INTERVAL, START

from quantum_trader.archive.columns import to_table
from quantum_trader.core.errors import ConfigError
from quantum_trader.core.features import SCHEMA
from quantum_trader.core.policy import VotePolicy
from quantum_trader.gates.whole_policy import WHOLE
from quantum_trader.release.ledger import append_entries
from quantum_trader.release.ledger_entries import Electorate, Entry, New, Registration, Revoke
from quantum_trader.release.observed import observed
from quantum_trader.release.registration import (
    Observed,
    faults_of,
    milliseconds,
    registered,
    registration_for,
    same_registration,
)

FIRST_CLOSE = START + INTERVAL
TABLE = to_table(many_records(range(4)))
SEEN = observed(TABLE, "patchtst")

SAID = Registration(
    model="patchtst",
    artefact="c" * 64,
    lineage="patchtst",
    version=1,
    policy=WHOLE.digest,
    electorate=Electorate(
        weights={"xgb": 0.25, "lgbm": 0.25, "nhits": 0.3},
        artefacts={name: digest for name, digest in SEEN.artefacts.items()},
        shadow_weight=0.2,
        min_consensus=2,
    ),
    features=SCHEMA.digest,
    symbols=["BTCUSDT", "ETHUSDT", "SOLUSDT"],
    timeframe="5m",
    window_start=FIRST_CLOSE,
)


def entry_of(detail: Any = SAID, at: str = "2026-01-01T00:00:00Z") -> Entry:
    return Entry(seq=0, prev="0" * 64, at=at, kind=detail.KIND, by="x", reason="y", detail=detail)


def test_decisions_say_what_they_were_made_by() -> None:
    assert (
        Observed(
            artefact="c" * 64,
            window_start=FIRST_CLOSE,
            weights={"xgb": 0.25, "lgbm": 0.25, "nhits": 0.3},
            artefacts={"xgb": "x" * 64, "lgbm": "l" * 64, "nhits": "n" * 64},
            min_consensus=2,
            vote_policy=VotePolicy().digest(("xgb", "lgbm", "nhits")),
            symbols=["BTCUSDT", "ETHUSDT", "SOLUSDT"],
            timeframe="5m",
            features=SCHEMA.digest,
        )
        == SEEN
    )
    shuffled = TABLE.take([7, 3, 11, 0, 1, 2, 4, 5, 6, 8, 9, 10])
    assert observed(shuffled, "patchtst") == SEEN
    with pytest.raises(ConfigError, match="nothing to judge"):
        observed(TABLE.slice(0, 0), "patchtst")
    with pytest.raises(ConfigError, match="model xgb: it gave no answer as a shadow"):
        observed(TABLE, "xgb")


def test_a_verdict_that_keeps_to_its_registration_has_no_fault() -> None:
    assert faults_of(entry_of(), WHOLE.digest, SEEN) == ()
    later = replace(SEEN, window_start=FIRST_CLOSE + 10 * INTERVAL)
    assert faults_of(entry_of(), WHOLE.digest, later) == ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"artefact": "d" * 64}, "registered artefact cccccccccccccccc, judged dddddddddddddddd"),
        ({"features": "e" * 64}, "registered features "),
        ({"timeframe": "1h"}, "registered timeframe 5m, judged 1h"),
        ({"symbols": ["BTCUSDT"]}, "registered symbols BTCUSDT,ETHUSDT,SOLUSDT, judged BTCUSDT"),
        ({"weights": {"xgb": 0.25, "lgbm": 0.25}}, "registered weights lgbm=0.25,nhits=0.3,xgb=0.25, judged lgbm=0.25"),
        ({"min_consensus": 1}, "registered quorum 2, judged 1"),
        (
            {"vote_policy": "f" * 64},
            "registered calibrations of the vote none, judged others (vote policy ffffffffffff)",
        ),
        (
            {"artefacts": {**SEEN.artefacts, "xgb": "y" * 64}},
            f"registered voters' artefacts xgb={'x' * 12}, judged xgb={'y' * 12}",
        ),
        (
            {"window_start": FIRST_CLOSE - INTERVAL},
            "the window was registered from 2026-01-01T00:05:00Z, judged from 2026-01-01T00:00:00Z",
        ),
    ],
)
def test_every_departure_is_named_and_nothing_else(changes: dict[str, Any], sentence: str) -> None:
    (fault,) = faults_of(entry_of(), WHOLE.digest, replace(SEEN, **changes))
    assert fault.startswith(sentence)


def test_another_policy_is_named() -> None:
    (fault,) = faults_of(entry_of(), "9" * 64, SEEN)
    assert fault == f"registered policy {WHOLE.digest[:16]}, judged {'9' * 16}"


def test_calibrated_voters_are_those_that_were_registered() -> None:
    calibrations = {"xgb": "a" * 64}
    said = msgspec.structs.replace(SAID, electorate=msgspec.structs.replace(SAID.electorate, calibrations=calibrations))
    assert "calibrations" in faults_of(entry_of(said), WHOLE.digest, SEEN)[0]


def test_a_window_that_begins_before_it_was_registered_is_named() -> None:
    (fault,) = faults_of(entry_of(at="2026-01-01T00:05:00.001Z"), WHOLE.digest, SEEN)
    assert fault == "the window begins 2026-01-01T00:05:00Z, before it was registered (2026-01-01T00:05:00.001Z)"
    late = replace(SEEN, window_start=FIRST_CLOSE + INTERVAL)
    assert faults_of(entry_of(at="2026-01-01T00:05:00.001Z"), WHOLE.digest, late), "registered from the past"


def test_the_last_registration_of_the_very_artefact_counts(tmp_path: Path) -> None:
    electorate = msgspec.structs.replace(SAID.electorate, artefacts={"xgb": "a" * 64})
    said = msgspec.structs.replace(SAID, electorate=electorate)
    other = msgspec.structs.replace(said, artefact="d" * 64)
    again = msgspec.structs.replace(said, window_start=FIRST_CLOSE + INTERVAL)
    details = [said, other, again, Revoke(model="patchtst", artefact="c" * 64)]
    new = [New(at="2026-01-01T00:00:00Z", by="x", reason="y", detail=detail) for detail in details]
    entries = append_entries(tmp_path / "ledger", new)
    found = registration_for(entries, "patchtst", "c" * 64)
    assert found is not None
    assert (found.seq, registered(found)) == (2, again)
    assert registration_for(entries, "nhits", "c" * 64) is None
    assert same_registration(said, again)
    assert not same_registration(said, other)
    with pytest.raises(TypeError, match="no registration"):
        registered(entries[3])


def test_times_are_rounded_up() -> None:
    at = datetime(2026, 1, 1, 0, 0, 0, 1, UTC)
    assert milliseconds(at) == START + 1
    assert milliseconds(at.replace(microsecond=0)) == START
    assert milliseconds(at.replace(microsecond=1000)) == START + 1

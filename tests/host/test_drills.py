"""What drills draw, measure and call a raise; the drills themselves need a host (`make drills`)."""

import base64
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tests.host.drills import drawn
from tests.host.faults import KINDS, Fault
from tests.host.measures import WAYS, Record, Run, host_seconds, longest_gap, tables
from tests.host.standing import Standing, raised

from quantum_trader.release.ledger import append_entries
from quantum_trader.release.ledger_entries import Detail, Grant, New, Revoke

OLD, NEW, XGB = "a" * 64, "b" * 64, "c" * 64
GRANTS: list[Detail] = [
    Grant(model="xgb", artefact=XGB, weight=0.25),
    Grant(model="patchtst", artefact=OLD, weight=0.1),
    Grant(model="patchtst", artefact=NEW, weight=0.2),
]


def standing(folder: Path, role: str, artefact: str, details: list[Detail], weights: str = "patchtst=0.1") -> Standing:
    ledger = folder / f"{len(list(folder.iterdir()))}.jsonl"
    append_entries(ledger, [New(at="2026-01-01T00:00:00Z", by="a", reason="b", detail=one) for one in details])
    info = [("xgb", "voter", XGB), ("patchtst", role, artefact)]
    lines = [f'quantum_model_info{{artefact="{a}",model="{m}",role="{r}"}} 1.0' for m, r, a in info]
    return Standing(
        {
            "env": base64.b64encode(f"QUANTUM_WEIGHTS={weights}\n".encode()).decode(),
            "metrics": "\n".join(lines),
            "ledger": base64.b64encode(ledger.read_bytes()).decode(),
        }
    )


def test_a_seed_draws_the_same_drills_and_every_way_and_kind_equally_often() -> None:
    once, again = ([drawn(1, number) for number in range(180)] for _ in range(2))
    assert once == again
    assert once != [drawn(2, number) for number in range(180)]
    assert set(Counter(way for way, _, _ in once).values()) == {60}
    assert Counter(fault.kind for _, _, fault in once) == dict.fromkeys(KINDS, 20)


def test_a_baseline_may_vote_again_and_nobody_else(tmp_path: Path) -> None:
    before = standing(tmp_path, "voter", NEW, GRANTS)
    back = standing(tmp_path, "voter", OLD, [*GRANTS, Revoke(model="patchtst", artefact=NEW)])
    assert raised(before, back, "full") == []
    assert "votes with 0.1" in raised(before, back, "fast")[0]
    assert raised(before, standing(tmp_path, "voter", "d" * 64, GRANTS), "full") != []
    heavier = standing(tmp_path, "voter", OLD, GRANTS, "patchtst=0.25")
    assert "votes with 0.25" in raised(before, heavier, "nuclear")[0]


@pytest.mark.parametrize(
    ("details", "weights", "found"),
    [
        ([*GRANTS, Grant(model="patchtst", artefact=OLD, weight=0.1)], "patchtst=0.1", "grant written"),
        (GRANTS, "xgb=0.5,patchtst=0.1", "xgb has 0.5 instead of 0.25"),
    ],
)
def test_a_grant_or_another_models_weight_is_seen(
    tmp_path: Path, details: list[Detail], weights: str, found: str
) -> None:
    before = standing(tmp_path, "shadow", NEW, GRANTS)
    assert found in raised(before, standing(tmp_path, "shadow", NEW, details, weights), "fast")[0]


def test_times_come_from_the_journal_and_the_prober() -> None:
    events: list[dict[str, Any]] = [
        {"event": "begin", "at": "2026-01-01T00:00:00.000Z"},
        {"event": "end", "at": "2026-01-01T00:00:02.500Z"},
    ]
    span = host_seconds(events)
    assert span is not None
    assert span[1] - span[0] == 2.5
    assert host_seconds(events[:1]) is None
    gaps = [{"from": span[0] + at, "to": span[0] + at + s, "s": s} for at, s in ((-9.0, 5.0), (1.0, 0.4), (2.0, 0.9))]
    assert longest_gap(gaps, span) == 0.9
    assert longest_gap([], span) == 0.0


def test_the_tables_tell_disturbed_from_undisturbed() -> None:
    def record(number: int, kind: str, *, again: bool = False) -> Record:
        run = Run(WAYS[number % 3], ["done"], "new", 1, 1.0 + number, 0.5, 0.1, "restart", again)
        fault = Fault(kind, "rollback", "now", 0.5, "")
        return Record(number, run.what, asdict(fault), hit=True, first=run, runs=[run])

    records = [record(0, "no fault"), record(1, "network cut"), record(2, "disk full", again=True)]
    told = tables(records)
    assert "| every way, all | 3 | 2.00 |" in told
    for name in ("undisturbed", "struck, went through", "struck, failed, called again"):
        assert f"| every way, {name} | 1 |" in told
    assert "| restart, fast | 1 | 1.00 |" in told
    assert json.dumps([one.as_json() for one in records])

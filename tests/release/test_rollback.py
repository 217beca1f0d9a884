"""No rollback, from whatever state, raises the influence of anything but a baseline that held a grant before."""

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_trader.core.errors import ReleaseError
from quantum_trader.core.predictions import MODELS
from quantum_trader.models.manifest import FileEntry
from quantum_trader.release.agent import put_together
from quantum_trader.release.env_file import read_values, sha256
from quantum_trader.release.host_settings import HostSettings
from quantum_trader.release.ledger import append_entries, read_entries, voting
from quantum_trader.release.ledger_entries import Entry, Grant, New, Revoke, State
from quantum_trader.release.plans import Order, Planned
from quantum_trader.release.record import record
from quantum_trader.release.remembered import Deployment, baseline
from quantum_trader.release.rollback import influence, plan_fast, plan_full, plan_nuclear
from quantum_trader.release.snapshot import Held, Snapshot, state_of

SETTINGS = HostSettings()
ORDER = Order("20260101_000000-0a1b2c3d", "operator", "why not", {"host": "vps"})
MODEL = "patchtst"
AT = "2026-01-01T00:00:00Z"


def held(number: int, model: str = MODEL, *, known: bool = True) -> Held:
    digest = f"{number:x}" * 64
    folder = SETTINGS.models / f"{model}_v20260101_00000{number}"
    return Held(folder, digest, model, known, {"manifest.json": FileEntry(digest, 10)})


ARTEFACTS = [held(1), held(2), held(3), held(4, known=False)]
VOTER = held(9, "xgb")
OTHERS = (VOTER, held(8, "lgbm"), held(7, "nhits"))

flags = st.sampled_from(["true", "false", "False", "flase", "", None])
numbers = st.integers(0, len(ARTEFACTS) - 1)
histories = st.lists(st.tuples(st.booleans(), numbers, st.sampled_from([0.1, 0.2, 0.25])), max_size=6)
weights = st.sampled_from(["", "patchtst=0.1", "xgb=0.3,patchtst=0.25", "lgbm=0.1,nhits=0.4,patchtst=0.2"])
others = st.fixed_dictionaries({"LGBM": flags, "NHITS": flags, "XGB": st.sampled_from(["false", "true"])})


ONE = {"XGB": "false"}


def env_of(artefact: Held | None, flag: str | None, weight: str, others: Mapping[str, str | None] = ONE) -> bytes:
    lines = ["QUANTUM_LEDGER=/l", f"QUANTUM_WEIGHTS={weight}"]
    lines += [f"{one.model.upper()}_MODEL_PATH={one.folder}" for one in OTHERS if one.model.upper() in others]
    lines += [f"{name}_SHADOW_ONLY={said}" for name, said in others.items() if said is not None]
    lines += [] if artefact is None else [f"PATCHTST_MODEL_PATH={artefact.folder}"]
    lines += [] if flag is None else [f"PATCHTST_SHADOW_ONLY={flag}"]
    return ("\n".join(lines) + "\n").encode()


def grants_of_others(granted: Collection[str]) -> list[New]:
    details = [Grant(model=one.model, artefact=one.digest, weight=0.3) for one in OTHERS[1:] if one.model in granted]
    return [New(at=AT, by="a", reason="b", detail=detail) for detail in details]


def news(history: list[tuple[bool, int, float]]) -> list[New]:
    xgb = Grant(model="xgb", artefact=VOTER.digest, weight=0.25)
    details: list[Any] = [xgb]
    for granting, number, weight in history:
        digest = ARTEFACTS[number].digest
        details.append(
            Grant(model=MODEL, artefact=digest, weight=weight) if granting else Revoke(model=MODEL, artefact=digest)
        )
    return [New(at=AT, by="a", reason="b", detail=detail) for detail in details]


def snapshot(env: bytes, entries: list[Entry]) -> Snapshot:
    everything = {artefact.digest: artefact for artefact in (*ARTEFACTS, *OTHERS)}
    values = read_values(env, "e")
    named = {a.model: a for a in everything.values() if values.get(f"{a.model.upper()}_MODEL_PATH") == str(a.folder)}
    return Snapshot(env, values, entries, named, everything)


def carried_out(
    planned: Planned, before: Snapshot, ledger: Path, upto: int, backup: bytes
) -> tuple[bytes, list[Entry]]:
    """Env file and ledger after the first steps of a plan, as the agent would leave them."""
    env = before.env
    env_file = ledger.with_name("env")
    env_file.write_text(f"QUANTUM_LEDGER={ledger}\n")
    for step in planned.plan["steps"][:upto]:
        if step["kind"] == "env":
            env = put_together(backup if "from" in step else before.env, step["parts"])
            assert sha256(env) == step["after"]
        if step["kind"] == "command":
            record(env_file, step["argv"][-1], step["stdin"].encode(), AT)
    return env, read_entries(ledger)


def undone(planned: Planned, before: Snapshot) -> bytes:
    """The env file where the agent turns round after the flip."""
    (step,) = [step for step in planned.plan["steps"] if step["kind"] == "env"]
    env = put_together(before.env, step["undo"]["parts"])
    assert sha256(env) == step["undo"]["sha256"]
    return env


def planned_ways(at: Snapshot, deployment: Deployment, backup: bytes) -> list[Planned]:
    out = [plan_fast(at, MODEL, SETTINGS, ORDER)]
    with contextlib.suppress(ReleaseError):
        out.append(plan_nuclear(at, MODEL, SETTINGS, ORDER, deployment, backup))
    try:
        out.append(plan_full(at, MODEL, SETTINGS, ORDER, [deployment]))
    except ReleaseError:
        assert baseline(at.entries, MODEL, at.state_of(MODEL).artefact) is None
    return out


def granted_weight(entries: list[Entry], state: State) -> float:
    """What an artefact of the model was granted, if it still is."""
    held = 0.0
    for entry in entries:
        if isinstance(entry.detail, Grant) and entry.detail.artefact == state.artefact:
            held = entry.detail.weight
        if isinstance(entry.detail, Revoke) and entry.detail.artefact == state.artefact:
            held = 0.0
    return held


@settings(max_examples=400, deadline=None)
@given(
    history=histories,
    now=st.tuples(st.none() | numbers, flags, weights, others),
    then=st.tuples(st.none() | numbers, flags, weights, others),
    granted=st.sets(st.sampled_from(["lgbm", "nhits"])),
    deployed=numbers,
    data=st.data(),
)
def test_no_way_back_gives_anybody_more_than_a_grant_that_stood_before(
    history: list[tuple[bool, int, float]],
    now: tuple[int | None, str | None, str, dict[str, str | None]],
    then: tuple[int | None, str | None, str, dict[str, str | None]],
    granted: set[str],
    deployed: int,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    env, backup = (env_of(None if n is None else ARTEFACTS[n], *rest) for n, *rest in (now, then))
    ledger = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    append_entries(ledger, [*news(history), *grants_of_others(granted)])
    before = snapshot(env, read_entries(ledger))
    brought = ARTEFACTS[deployed]
    previous = None if then[0] is None else ARTEFACTS[then[0]]
    path = PurePosixPath("/etc/quantum/ai-engine.env.bak.20251231_000000")
    deployment = Deployment("t", brought.digest, str(brought.folder), True, previous, path, sha256(backup))
    planned = data.draw(st.sampled_from(planned_ways(before, deployment, backup)))
    steps = len(planned.plan["steps"])
    upto = data.draw(st.integers(0, steps))
    env_after, entries = carried_out(planned, before, ledger, upto, backup)
    could_vote = voting(before.entries)
    for content in (env_after, undone(planned, before)):
        after = snapshot(content, entries)
        for model in MODELS:
            old, new = influence(before.state_of(model)), influence(after.state_of(model))
            grant = granted_weight(before.entries, after.state_of(model)) if model == MODEL else 0.0
            assert new <= max(old, grant), model
            assert not new or after.state_of(model).artefact in could_vote[model]
        ran, stands = before.state_of(MODEL), after.state_of(MODEL)
        if stands.role == "voter" and stands.artefact == ran.artefact:
            # Only where nothing was done yet may what ran still vote, and never with more than it had.
            assert ran.role == "voter"
            assert upto < steps
    # A way back never writes a grant.
    assert not any(isinstance(e.detail, Grant) for e in entries[len(before.entries) :])
    if upto == steps:
        at_end = snapshot(env_after, entries)
        assert at_end.state_of(MODEL).role == planned.after.role
        if planned.plan["kind"] == "rollback-fast":
            assert at_end.state_of(MODEL).role != "voter"
        if planned.plan["kind"] == "rollback-nuclear":
            assert env_after == backup


def test_every_way_revokes_before_it_needs_the_engine(tmp_path: Path) -> None:
    append_entries(tmp_path / "l", news([(True, 0, 0.1), (True, 1, 0.2)]))
    at = snapshot(env_of(ARTEFACTS[1], "false", ""), read_entries(tmp_path / "l"))
    backup = env_of(ARTEFACTS[0], "false", "")
    gone = ARTEFACTS[1]
    deployment = Deployment("t", gone.digest, str(gone.folder), True, ARTEFACTS[0], PurePosixPath("/b"), sha256(backup))
    for planned in planned_ways(at, deployment, backup):
        kinds = [step["kind"] for step in planned.plan["steps"]]
        assert kinds.index("command") < kinds.index("restart"), planned.plan["kind"]


def test_the_fallback_of_every_way_is_shadow(tmp_path: Path) -> None:
    append_entries(tmp_path / "l", news([(True, 0, 0.1), (True, 1, 0.2)]))
    at = snapshot(env_of(ARTEFACTS[1], "false", ""), read_entries(tmp_path / "l"))
    assert at.state_of(MODEL).role == "voter"
    backup = env_of(ARTEFACTS[0], "false", "")
    gone = ARTEFACTS[1]
    deployment = Deployment("t", gone.digest, str(gone.folder), True, ARTEFACTS[0], PurePosixPath("/b"), sha256(backup))
    for planned in planned_ways(at, deployment, backup):
        values = read_values(undone(planned, at), "e")
        assert values["PATCHTST_SHADOW_ONLY"] == "true"
        assert state_of(at, MODEL, values) == State(role="shadow", artefact=ARTEFACTS[1].digest)


def entries_of(tmp_path: Path, history: list[tuple[bool, int, float]]) -> list[Entry]:
    append_entries(tmp_path / "l", news(history))
    return read_entries(tmp_path / "l")


@pytest.mark.parametrize(
    ("history", "current", "found"),
    [
        ([], 0, None),
        ([(True, 0, 0.1)], 0, None),
        ([(True, 0, 0.1), (True, 1, 0.2)], 1, (0, 0.1)),
        ([(True, 0, 0.1), (True, 1, 0.2), (True, 2, 0.25)], 2, (1, 0.2)),
        ([(True, 0, 0.1), (True, 1, 0.2), (False, 1, 0.2)], 2, (0, 0.1)),
        ([(True, 0, 0.1), (False, 0, 0.1)], 1, None),
    ],
)
def test_the_baseline_is_the_last_other_grant_that_stands(
    tmp_path: Path, history: list[tuple[bool, int, float]], current: int, found: tuple[int, float] | None
) -> None:
    wanted = None if found is None else (ARTEFACTS[found[0]].digest, found[1])
    assert baseline(entries_of(tmp_path, history), MODEL, ARTEFACTS[current].digest) == wanted


def test_a_changed_backup_is_refused() -> None:
    at = snapshot(env_of(ARTEFACTS[1], "true", ""), [])
    one = ARTEFACTS[1]
    deployment = Deployment("t", one.digest, str(one.folder), True, None, PurePosixPath("/b"), sha256(b"other"))
    with pytest.raises(ReleaseError, match="is not as it was written; nothing is changed"):
        plan_nuclear(at, MODEL, SETTINGS, ORDER, deployment, b"changed")


def test_nuclear_refuses_to_raise_another_model_and_says_by_which_line(tmp_path: Path) -> None:
    append_entries(tmp_path / "l", [*news([(True, 0, 0.1)]), *grants_of_others({"lgbm"})])
    entries = read_entries(tmp_path / "l")
    at = snapshot(env_of(ARTEFACTS[1], "true", "", {"XGB": "false", "LGBM": "true"}), entries)
    cases = [
        ("", {"XGB": "false", "LGBM": "false"}, "lgbm from shadow to voter with weight 0.25", "LGBM_SHADOW_ONLY"),
        ("xgb=0.4", {"XGB": "false", "LGBM": "true"}, "xgb from voter with weight 0.25 to voter", "QUANTUM_WEIGHTS"),
        ("patchtst=0.2", {"XGB": "false", "LGBM": "true"}, "patchtst from shadow to voter with weight 0.2", "PATCHTST"),
    ]
    for weight, others, words, line in cases:
        backup = env_of(ARTEFACTS[0], "false", weight, others)
        gone = ARTEFACTS[1]
        path = PurePosixPath("/b")
        deployment = Deployment("t", gone.digest, str(gone.folder), True, ARTEFACTS[0], path, sha256(backup))
        with pytest.raises(ReleaseError, match="nothing is changed") as refused:
            plan_nuclear(at, MODEL, SETTINGS, ORDER, deployment, backup)
        assert words in str(refused.value)
        assert line in str(refused.value)
    backup = env_of(ARTEFACTS[0], "false", "patchtst=0.1", {"XGB": "false", "LGBM": "true"})
    deployment = Deployment("t", gone.digest, str(gone.folder), True, ARTEFACTS[0], path, sha256(backup))
    assert plan_nuclear(at, MODEL, SETTINGS, ORDER, deployment, backup).after.weight == 0.1


def test_fast_needs_neither_a_ledger_nor_artefacts_nor_weights() -> None:
    env = env_of(ARTEFACTS[1], "false", "patchtst=much")
    values = read_values(env, "e")
    planned = plan_fast(Snapshot(env, values, [], {}, {}, ("no ledger",)), MODEL, SETTINGS, ORDER)
    (flip,) = [step for step in planned.plan["steps"] if step["kind"] == "env"]
    assert read_values(put_together(env, flip["parts"]), "e")["PATCHTST_SHADOW_ONLY"] == "true"

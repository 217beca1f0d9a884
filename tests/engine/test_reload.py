from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.core.errors import ConfigError
from quantum_trader.core.predictions import MODELS, Role
from quantum_trader.engine.reload import Part, Reload, Standing, plan_reload

LOADABLE = st.builds(
    Part,
    role=st.sampled_from(Role),
    digest=st.sampled_from(["a" * 64, "b" * 64]),
    path=st.sampled_from([Path("one"), Path("two")]),
    weight=st.sampled_from([0.1, 0.25]),
)
BROKEN = st.builds(
    Part, role=st.just(Role.SHADOW), digest=st.just(""), path=st.just(Path("three")), weight=st.just(0.1)
)
PARTS = st.dictionaries(st.sampled_from(MODELS), LOADABLE | BROKEN)
STANDING = st.builds(Standing, parts=PARTS, rest=st.dictionaries(st.sampled_from("gh"), st.integers(0, 1)))

VOTER = Part(Role.VOTER, "a" * 64, Path("one"), 0.25)
SHADOW = Part(Role.SHADOW, "a" * 64, Path("one"), 0.25)


def voters(standing: Standing) -> dict[str, Part]:
    return {model: part for model, part in standing.parts.items() if part.role is Role.VOTER}


def carried_out(running: Standing, wanted: Standing, plan: Reload) -> Standing:
    kept = {model: part for model, part in running.parts.items() if model not in plan.removed}
    return Standing({**kept, **{model: wanted.parts[model] for model in plan.started}}, running.rest)


def plan_of(running: Standing, wanted: Standing) -> Reload | None:
    try:
        return plan_reload(running, wanted)
    except ConfigError:
        return None


@given(STANDING, STANDING)
def test_no_reload_gives_anybody_a_vote_or_changes_a_vote_that_stays(running: Standing, wanted: Standing) -> None:
    plan = plan_of(running, wanted)
    if plan is None:
        assert voters(running)
        assert not set(voters(running)) & set(voters(wanted))
        return
    after = voters(carried_out(running, wanted, plan))
    assert after.items() <= voters(running).items()
    assert set(voters(running)) - set(after) == set(plan.demoted)
    # Whose vote was taken back has none after the reload, whatever else was changed with it.
    asked_for = {model for model, part in wanted.parts.items() if part.role is Role.SHADOW}
    assert set(after).isdisjoint(asked_for)


@given(STANDING, STANDING)
def test_everything_that_differs_is_taken_or_told(running: Standing, wanted: Standing) -> None:
    plan = plan_of(running, wanted)
    if plan is None:
        return
    after = carried_out(running, wanted, plan)
    told = " ".join((*plan.not_taken, *plan.refused))
    for model in MODELS:
        left, right = after.parts.get(model), wanted.parts.get(model)
        same = left == right or (left is not None and right is not None and left.role is right.role is Role.SHADOW)
        assert same or model in told
    again = plan_reload(after, wanted)
    assert not again.taken
    assert (again.not_taken, again.refused) == (plan.not_taken, plan.refused)


@given(STANDING)
def test_the_same_settings_change_nothing(standing: Standing) -> None:
    plan = plan_reload(standing, standing)
    assert plan == Reload()
    assert not plan.taken


def test_a_broken_new_artefact_leaves_the_old_shadow_and_takes_a_demoted_voters_vote() -> None:
    broken = Part(Role.SHADOW, "", Path("two"), 0.25, "model.onnx is missing")
    running = Standing({"xgb": VOTER, "lgbm": VOTER, "patchtst": SHADOW}, {})
    plan = plan_reload(running, Standing({"xgb": broken, "lgbm": VOTER, "patchtst": broken}, {}))
    assert (plan.demoted, plan.replaced) == (("xgb",), ())
    assert plan.refused == ("patchtst: model.onnx is missing",)


def test_the_last_voter_is_not_taken_away_in_silence() -> None:
    with pytest.raises(ConfigError, match="no voter would be left \\(xgb would be in shadow\\)"):
        plan_reload(Standing({"xgb": VOTER}, {}), Standing({"xgb": SHADOW, "lgbm": VOTER}, {}))

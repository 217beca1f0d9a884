from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_trader.gates.judge import judge
from quantum_trader.gates.legacy import legacy_gates
from quantum_trader.gates.rogues.gallery import BY_NAME, GALLERY
from quantum_trader.gates.rogues.measure import NEVER, PlainLooks, Result, measure, outputs, scene_of, tried
from quantum_trader.gates.rogues.scene import Scene, acted

SEED = 5


@pytest.mark.parametrize("name", ["coin", "missing", "frozen", "always-buy", "overconfident", "four-values"])
def test_the_plain_rule_at_every_look_is_the_plain_rule(scenes: list[Scene], name: str) -> None:
    scene = scenes[1]
    p_up, action = outputs(scene, BY_NAME[name], "neutral", 1, SEED)
    confidence = np.maximum(p_up, 1 - p_up)
    looks = PlainLooks.of(p_up, action, scene.ensemble)

    def ready(since: int, upto: int) -> bool:
        rows = slice(since, upto)
        return legacy_gates(action[rows], confidence[rows], scene.ensemble[rows]).ready

    ends = range(200, 2_001, 25)
    all_so_far = [ready(0, end) for end in ends]
    last = [ready(end - 200, end) for end in ends]
    at = np.array(ends)
    assert looks.ready(at).tolist() == all_so_far
    assert looks.ready(at, at - 200).tolist() == last
    assert looks.once() == ready(0, 200)
    cut = PlainLooks.of(p_up[:2_000], action[:2_000], scene.ensemble[:2_000])
    assert cut.first() == next((end for end, passed in zip(ends, all_so_far, strict=True) if passed), NEVER)
    assert cut.first(200) == next((end for end, passed in zip(ends, last, strict=True) if passed), NEVER)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.2, 0.44, 0.5, 0.56, 0.61, 0.72, 0.83, 0.95, np.nan]), st.integers(-1, 1)),
        min_size=1,
        max_size=60,
    )
)
def test_one_look_is_the_plain_rule_on_any_rows(rows: list[tuple[float, int]]) -> None:
    p_up = np.array([p for p, _ in rows])
    ensemble = np.array([a for _, a in rows], dtype=np.int8)
    action = acted(p_up)
    expected = legacy_gates(action, np.maximum(p_up, 1 - p_up), ensemble).ready
    assert PlainLooks.of(p_up, action, ensemble).once() == expected


def test_nothing_at_all_is_never_ready() -> None:
    nothing = np.full(300, np.nan)
    looks = PlainLooks.of(nothing, acted(nothing), np.zeros(300, np.int8))
    assert (looks.once(), looks.first(), looks.first(200)) == (False, NEVER, NEVER)


def test_a_result_is_the_verdicts(scenes: list[Scene]) -> None:
    scene = scenes[0]
    for name in ("good", "full-leak"):
        p_up, action = outputs(scene, BY_NAME[name], "neutral", 0, SEED)
        whole = judge(scene.sample(p_up, action), scene.panel).whole
        assert whole is not None
        result = tried(scene, p_up, action, model=name, repetition=0)
        held = whole.held_at or NEVER
        assert (result.bars, result.events) == (held, int((scene.bar < held).sum()))
        moves = (
            scene.market.log_price[np.minimum(scene.bar + 13, scene.panel.bars - 1), scene.symbol]
            - (scene.market.log_price[np.minimum(scene.bar + 1, scene.panel.bars - 1), scene.symbol])
        )
        settled = (action != 0) & (scene.bar + 13 < scene.panel.bars)
        assert result.settled == settled.sum()
        assert result.hits == ((action > 0) == (moves > 0))[settled].sum()
    assert result.open == ("Leak Alarm",)


def test_a_model_alone_gets_the_numbers_that_it_gets_among_others() -> None:
    scene = scene_of("momentum", 2, 11, events=1_500)
    everybody = {r.model: r for r in measure(scene, GALLERY, "momentum", 2, 11)}
    assert list(everybody) == [model.name for model in GALLERY]
    for name in ("good", "missing", "swapped"):
        assert measure(scene, [BY_NAME[name]], "momentum", 2, 11) == [everybody[name]]
    again = scene_of("momentum", 2, 11, events=1_500)
    assert measure(again, [BY_NAME["coin"]], "momentum", 2, 11) == [everybody["coin"]]
    assert all(r.repetition == 2 for r in everybody.values())


def test_rogues_are_caught_and_good_ones_are_not(scenes: list[Scene]) -> None:
    """The pattern of GATES.md's table, on a dozen repetitions."""
    promoted: dict[str, int] = {}
    plain: dict[str, int] = {}
    names = ("copy-ensemble", "full-leak", "missing", "flipped", "frozen", "weak-leak", "good")
    for repetition, scene in enumerate(scenes):
        for result in measure(scene, [BY_NAME[name] for name in names], "neutral", repetition, SEED):
            promoted[result.model] = promoted.get(result.model, 0) + (result.events > 0)
            plain[result.model] = plain.get(result.model, 0) + (result.legacy_all > 0)
    assert [promoted[name] for name in names[:5]] == [0] * 5
    assert promoted["weak-leak"] == 12
    assert promoted["good"] >= 9
    assert plain["frozen"] == 0
    assert all(plain[name] >= 10 for name in ("copy-ensemble", "missing", "flipped", "good"))


def test_results_can_be_compared() -> None:
    one = Result(0, "good", 10, 49, True, 200, 225, 100, 55, ())
    assert one == replace(one)
    assert one != replace(one, events=11)

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from quantum_trader.core.vote import Votes, vote

FIELDS = ("actions", "confidences", "consensus", "voters", "scores")


class Ballot:
    """n rows of m voters; weights are multiples of 1/40, so that real ties occur and near ones do not."""

    def __init__(
        self,
        actions: NDArray[np.int8],
        confidences: NDArray[np.float64],
        present: NDArray[np.bool_],
        steps: NDArray[np.int64],
        quorum: int,
    ) -> None:
        self.actions, self.confidences, self.present, self.steps = actions, confidences, present, steps
        self.quorum = quorum

    @property
    def weights(self) -> NDArray[np.float64]:
        return self.steps / 40

    def vote(self) -> Votes:
        return vote(self.actions, self.confidences, self.present, self.weights, self.quorum)

    def __repr__(self) -> str:
        return f"Ballot({self.__dict__})"


@st.composite
def ballots(draw: st.DrawFn) -> Ballot:
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 4)))
    return Ballot(
        draw(hnp.arrays(np.int8, shape, elements=st.integers(-1, 1))),
        draw(hnp.arrays(np.float64, shape, elements=st.floats(0.5, 1.0))),
        draw(hnp.arrays(np.bool_, shape)),
        draw(hnp.arrays(np.int64, shape[1:], elements=st.integers(1, 20))),
        draw(st.integers(1, 4)),
    )


def same(one: Votes, other: Votes) -> bool:
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in FIELDS)


def by_hand(ballot: Ballot, row: int) -> tuple[int, int, float]:
    """Action, consensus and confidence of one row, in exact arithmetic, as DESIGN's prose says it."""
    there = [m for m in range(len(ballot.steps)) if ballot.present[row, m]]
    said = {m: int(ballot.actions[row, m]) for m in there}
    scores = {action: sum(int(ballot.steps[m]) for m in there if said[m] == action) for action in (-1, 0, 1)}
    best = [action for action, score in scores.items() if score == max(scores.values())]
    action = best[0] if len(best) == 1 else 0
    if sum(said[m] == action for m in there) < ballot.quorum:
        action = 0
    agreeing = [m for m in there if said[m] == action]
    behind = sum((Fraction(int(ballot.steps[m])) for m in agreeing), Fraction())
    weighted = sum((int(ballot.steps[m]) * Fraction(float(ballot.confidences[row, m])) for m in agreeing), Fraction())
    return action, len(agreeing), float(weighted / behind) if agreeing else 0.0


class TestTheGoldenVotes:
    @pytest.mark.parametrize(("column", "names"), [("baseline", 3), ("counterfactual", 4)])
    def test_all_81_combinations_come_out_as_recorded(self, shared: Path, column: str, names: int) -> None:
        golden = json.loads((shared / "golden" / "g07_votes.json").read_text())
        rows = np.array(golden["rows"], dtype=np.int8)
        assert rows.shape == (81, 6)
        assert len({tuple(row[:4]) for row in rows.tolist()}) == 81
        weights = np.array([*golden["weights_voters"], golden["weight_shadow"]][:names])
        actions = rows[:, :names]
        found = vote(actions, np.full(actions.shape, 0.6), np.ones(actions.shape, np.bool_), weights, 1)
        np.testing.assert_array_equal(found.actions, rows[:, golden["columns"].index(column)])

    @pytest.mark.parametrize("weights", [(0.25, 0.25, 0.30, 0.20), (0.1, 0.2, 0.25, 0.05), (0.7, 0.1, 0.3, 0.5)])
    def test_a_tie_is_hold_whatever_the_order_of_the_sum(self, weights: tuple[float, ...]) -> None:
        # 0.1 + 0.2 against 0.25 + 0.05: equal on paper, not in binary.
        for order in ([0, 1, 2, 3], [2, 3, 0, 1], [3, 0, 2, 1]):
            actions = np.array([[1, 1, -1, -1]], dtype=np.int8)[:, order]
            given_weights = np.array(weights)[order]
            found = vote(actions, np.full((1, 4), 0.9), np.ones((1, 4), np.bool_), given_weights, 1)
            assert (found.actions[0], found.consensus[0], found.confidences[0]) == (0, 0, 0.0)
            np.testing.assert_allclose(found.scores[0], [0.5, 0.0, 0.5])

    def test_a_real_difference_of_weights_is_no_tie(self) -> None:
        weights = np.array([0.5, 0.5 + 1e-6])
        found = vote(np.array([[1, -1]], np.int8), np.full((1, 2), 0.9), np.ones((1, 2), np.bool_), weights, 1)
        assert found.actions[0] == -1


@given(ballot=ballots())
def test_the_vote_is_what_the_rules_give_by_hand(ballot: Ballot) -> None:
    found = ballot.vote()
    for row in range(len(ballot.actions)):
        action, agreeing, confidence = by_hand(ballot, row)
        assert (found.actions[row], found.consensus[row]) == (action, agreeing)
        assert found.confidences[row] == pytest.approx(confidence, rel=1e-12)
        assert found.voters[row] == ballot.present[row].sum()
        total = found.scores[row].sum()
        assert total == pytest.approx(1.0 if ballot.present[row].any() else 0.0)


@given(ballot=ballots(), data=st.data())
def test_the_order_of_the_voters_changes_nothing(ballot: Ballot, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(ballot.steps))))
    shuffled = Ballot(
        ballot.actions[:, order],
        ballot.confidences[:, order],
        ballot.present[:, order],
        ballot.steps[order],
        ballot.quorum,
    )
    one, other = ballot.vote(), shuffled.vote()
    for name in ("actions", "consensus", "voters"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose(one.confidences, other.confidences, rtol=1e-12)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-12)


@given(ballot=ballots(), data=st.data())
def test_what_an_absent_voter_holds_changes_no_byte(ballot: Ballot, data: st.DataObject) -> None:
    shape = ballot.actions.shape
    anything = hnp.arrays(np.float64, shape, elements=st.floats())
    actions = np.where(ballot.present, ballot.actions, data.draw(hnp.arrays(np.int8, shape))).astype(np.int8)
    confidences = np.where(ballot.present, ballot.confidences, data.draw(anything))
    other = Ballot(actions, confidences, ballot.present, ballot.steps, ballot.quorum)
    assert same(ballot.vote(), other.vote())


@given(ballot=ballots())
def test_an_absent_voter_is_as_one_that_does_not_exist(ballot: Ballot) -> None:
    found = ballot.vote()
    for row in range(len(ballot.actions)):
        there = ballot.present[row]
        alone = vote(
            ballot.actions[row : row + 1, there],
            ballot.confidences[row : row + 1, there],
            np.ones((1, there.sum()), np.bool_),
            ballot.weights[there],
            ballot.quorum,
        )
        assert all(getattr(alone, name)[0].tobytes() == getattr(found, name)[row].tobytes() for name in FIELDS)


@given(ballot=ballots(), data=st.data())
def test_a_row_does_not_depend_on_other_rows_or_their_order(ballot: Ballot, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(ballot.actions) - 1), min_size=1, max_size=8))
    part = Ballot(ballot.actions[rows], ballot.confidences[rows], ballot.present[rows], ballot.steps, ballot.quorum)
    whole, some = ballot.vote(), part.vote()
    for name in FIELDS:
        assert getattr(whole, name)[rows].tobytes() == getattr(some, name).tobytes()


@given(ballot=ballots(), scale=st.sampled_from([1e-12, 1e-9, 0.25, 40.0, 1e9, 1e12]))
def test_the_unit_of_the_weights_changes_nothing(ballot: Ballot, scale: float) -> None:
    scaled = vote(ballot.actions, ballot.confidences, ballot.present, ballot.weights * scale, ballot.quorum)
    found = ballot.vote()
    np.testing.assert_array_equal(scaled.actions, found.actions)
    np.testing.assert_array_equal(scaled.consensus, found.consensus)
    np.testing.assert_allclose(scaled.confidences, found.confidences, rtol=1e-12)
    np.testing.assert_allclose(scaled.scores, found.scores, atol=1e-12)


class TestTheQuorum:
    @pytest.mark.parametrize(("quorum", "action"), [(1, 1), (2, 1), (3, 0), (4, 0)])
    def test_holds_where_too_few_agree(self, quorum: int, action: int) -> None:
        actions = np.array([[1, 1, 0, -1]], dtype=np.int8)
        weights = np.array([0.4, 0.3, 0.2, 0.1])
        found = vote(actions, np.full((1, 4), 0.7), np.ones((1, 4), np.bool_), weights, quorum)
        assert found.actions[0] == action
        # A HOLD for want of a quorum counts those who said HOLD, not those who were outvoted.
        assert found.consensus[0] == (2 if action else 1)

    def test_counts_voters_and_not_their_weight(self) -> None:
        actions = np.array([[1, 0, 0]], dtype=np.int8)
        found = vote(actions, np.full((1, 3), 0.7), np.ones((1, 3), np.bool_), np.array([0.9, 0.05, 0.05]), 2)
        assert (found.actions[0], found.consensus[0]) == (0, 2)

    def test_is_not_reached_where_nobody_votes(self) -> None:
        found = vote(np.ones((2, 3), np.int8), np.ones((2, 3)), np.zeros((2, 3), np.bool_), np.ones(3), 1)
        assert found.actions.tolist() == found.consensus.tolist() == found.voters.tolist() == [0, 0]
        assert found.confidences.tolist() == [0.0, 0.0]
        assert not found.scores.any()


class TestAVoteThatIsNoneIsRefused:
    @pytest.mark.parametrize("weight", [0.0, -0.1, np.nan, np.inf])
    def test_for_a_weight_that_is_not_positive_and_finite(self, weight: float) -> None:
        with pytest.raises(ValueError, match="every weight must be positive and finite"):
            vote(np.ones((1, 2), np.int8), np.ones((1, 2)), np.ones((1, 2), np.bool_), np.array([0.5, weight]), 1)

    def test_for_shapes_that_differ(self) -> None:
        good = (np.ones((2, 3), np.int8), np.ones((2, 3)), np.ones((2, 3), np.bool_), np.ones(3))
        bad = (np.ones((2, 2), np.int8), np.ones((1, 3)), np.ones((3, 2), np.bool_), np.ones(4))
        for i, wrong in enumerate(bad):
            with pytest.raises(ValueError, match=r"^vote: shapes .* differ$"):
                vote(*good[:i], wrong, *good[i + 1 :], 2)

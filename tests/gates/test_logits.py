import math

import numpy as np
import pytest

from quantum_trader.gates.logits import scores_of


def test_certainty_has_the_log_odds_of_what_is_nearest_to_it() -> None:
    found = scores_of(np.array([1.0, 0.0]), np.array([[1.0], [0.0]]), (1.0,), 0.2)
    edge = math.log((1 - 1e-12) / 1e-12)
    assert found.voters[:, 0] == pytest.approx([edge, -edge], rel=1e-6)
    # The model's is kept within 1e-6 in the pool, and within 4 everywhere else.
    own = math.log((1 - 1e-6) / 1e-6)
    assert found.pooled == pytest.approx([0.8 * edge + 0.2 * own, -0.8 * edge - 0.2 * own], rel=1e-6)
    assert found.own.tolist() == [4.0, -4.0]


def test_a_voter_that_abstained_neither_says_nor_weighs() -> None:
    p = 1 / (1 + math.exp(-1.0))
    found = scores_of(np.full(2, np.nan), np.array([[p, np.nan], [np.nan, np.nan]]), (0.25, 0.75), 0.2)
    assert found.voters.tolist() == [[pytest.approx(1.0), 0.0], [0.0, 0.0]]
    assert found.ensemble == pytest.approx([1.0, 0.0])
    assert found.pooled == pytest.approx([1.0, 0.0])

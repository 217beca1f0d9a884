import pytest

from quantum_trader.core.calibration import Calibration, PlattCurve
from quantum_trader.core.errors import ConfigError
from quantum_trader.core.policy import IntentPolicy, VotePolicy

BAD = [0.0, -1.0, float("nan"), float("inf")]


@pytest.mark.parametrize("weight", BAD)
def test_a_weight_that_is_no_positive_number_is_refused_by_its_models_name(weight: float) -> None:
    with pytest.raises(ConfigError, match=rf"^weight of lgbm: {weight} is not a positive number$"):
        VotePolicy({"xgb": 0.5, "lgbm": weight})


def test_a_weight_of_an_unknown_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^weight of 'gru': unknown model, expected one of xgb, lgbm"):
        VotePolicy({"gru": 0.5})


@pytest.mark.parametrize("quorum", [0, -1])
def test_a_quorum_of_nobody_is_refused(quorum: int) -> None:
    with pytest.raises(ConfigError, match=r"^min_consensus: -?\d is not at least 1$"):
        VotePolicy(min_consensus=quorum)


@pytest.mark.parametrize("name", ["position_size_usd", "leverage", "stop_atr", "take_atr"])
@pytest.mark.parametrize("value", BAD)
def test_sizes_and_stops_are_positive_numbers(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}: {value} is not a positive number$"):
        IntentPolicy(**{name: value})


def test_two_policies_do_not_share_their_weights() -> None:
    one, other = VotePolicy(), VotePolicy()
    assert one.weights == other.weights
    assert one.weights is not other.weights


def test_a_digest_is_pinned_because_decisions_are_compared_by_it() -> None:
    # The order in which voters are named does not matter; the numbers do.
    voters = ("xgb", "lgbm", "nhits")
    assert VotePolicy().digest(voters) == VotePolicy().digest(voters[::-1])
    assert VotePolicy().digest(voters) == "0c5c6a682a2821d52442e68a8f61be9465aad18afaeccc3f8107c96da5cfe5ff"


def test_a_calibration_of_another_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^calibration of lgbm: it is one of xgb$"):
        VotePolicy(calibrations={"lgbm": Calibration("d" * 64, "xgb", "a" * 64, PlattCurve(0.0, 1.0))})

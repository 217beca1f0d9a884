"""Options of a training run."""

import pytest

from quantum_trader.core.errors import TrainingError
from quantum_trader.core.predictions import MODELS
from quantum_trader.learn.options import TrainOptions


def test_patchtst_is_balanced_by_default_and_the_others_are_not() -> None:
    assert [model for model in MODELS if TrainOptions().balances(model)] == ["patchtst"]
    assert all(TrainOptions(balanced=True).balances(model) for model in MODELS)
    assert not any(TrainOptions(balanced=False).balances(model) for model in MODELS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_epochs": 0},
        {"patience": 0},
        {"max_rounds": 0},
        {"threads": 0},
        {"batch_size": 31},
        {"samples_per_epoch": 100},
        {"parity_rows": 9_999},
        {"version": 0},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(TrainingError, match=next(iter(wrong))):
        TrainOptions(**wrong)

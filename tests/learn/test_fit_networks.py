"""The fit: best weights restored, batches balanced, the same twice."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_trader.core.errors import TrainingError
from quantum_trader.learn import fit_networks
from quantum_trader.learn.dataset import Dataset
from quantum_trader.learn.fit_networks import NetworkFit, Sequences, batches, deterministic, fit_network, log_loss
from quantum_trader.learn.networks import logits, torch_threads
from quantum_trader.learn.options import TrainOptions
from quantum_trader.learn.progress import silent
from quantum_trader.learn.splits import time_split

OPTIONS = TrainOptions(max_epochs=6, samples_per_epoch=512, patience=2, stopping_rows=200)


@pytest.fixture(scope="module")
def data(dataset: Dataset) -> Sequences:
    split = time_split(dataset.ts, dataset.y, 13 * dataset.interval)
    return Sequences(dataset.sequences, dataset.y, split.train, split.validation)


def _fit(data: Sequences, options: TrainOptions = OPTIONS, balanced: bool = False) -> NetworkFit:
    return fit_network("nhits", data, balanced, options, silent)


def test_the_best_weights_are_really_restored(data: Sequences, monkeypatch: pytest.MonkeyPatch) -> None:
    # At this rate the loss first falls and then explodes, so that the last weights are not the best.
    monkeypatch.setitem(fit_networks.LEARNING_RATES, "nhits", 5e-3)
    fit = _fit(data)
    assert fit.best_epoch == int(np.argmin(fit.log_losses))
    assert fit.best_epoch < len(fit.log_losses) - 1, "the fit must have gone on after its best epoch"
    watched = data.validation[:: -(-len(data.validation) // OPTIONS.stopping_rows)]
    # As many threads as the fit had: on some processors another number sums in another order.
    with torch_threads(OPTIONS.threads):
        again = log_loss(logits(fit.network, data.x, watched), data.y[watched])
    assert again == pytest.approx(fit.log_losses[fit.best_epoch], abs=1e-12)
    # And they are the weights that a fit ending there has.
    shorter = _fit(data, replace(OPTIONS, max_epochs=fit.best_epoch + 1))
    for name, value in shorter.network.state_dict().items():
        assert torch.equal(value, fit.network.state_dict()[name]), name


def test_it_stops_after_its_patience(data: Sequences, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fit_networks.LEARNING_RATES, "nhits", 5e-3)
    fit = _fit(data, replace(OPTIONS, max_epochs=40))
    assert len(fit.log_losses) == fit.best_epoch + 1 + OPTIONS.patience


@pytest.mark.parametrize("balanced", [False, True])
def test_the_same_seed_gives_the_same_weights(data: Sequences, balanced: bool) -> None:
    short = replace(OPTIONS, max_epochs=1)
    torch.manual_seed(1)
    first = _fit(data, short, balanced).network.state_dict()
    torch.manual_seed(2)
    second = _fit(data, short, balanced).network.state_dict()
    other = _fit(data, replace(short, seed=5), balanced).network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_it_learns_a_regularity_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fit_networks.LEARNING_RATES, "nhits", 2e-3)
    rng = np.random.default_rng(0)
    x = np.zeros((3_000, 128, 8), dtype=np.float32)
    x[:, :, 0] = rng.standard_normal((3_000, 128))
    y = (x[:, -16:, 0].mean(axis=1) > 0).astype(np.int8)
    data = Sequences(x, y, np.arange(2_400), np.arange(2_400, 3_000))
    fit = _fit(data, replace(OPTIONS, max_epochs=12, samples_per_epoch=2_304, stopping_rows=600))
    assert min(fit.log_losses) < 0.5, "the log-loss of a coin is 0.693"


def test_training_leaves_torch_as_it_was(data: Sequences) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with deterministic(7, before[1] + 1):
        torch.randn(3)
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())


def test_a_fit_that_explodes_is_an_error(data: Sequences) -> None:
    broken = replace(data, x=np.full_like(data.x, np.nan))
    with pytest.raises(TrainingError, match="log-loss is nan"):
        _fit(broken)


@settings(max_examples=60, deadline=None)
@given(rises=st.integers(1, 300), falls=st.integers(1, 300), half=st.integers(1, 32), samples=st.integers(64, 700))
def test_balanced_batches_are_half_and_half(rises: int, falls: int, half: int, samples: int) -> None:
    y = np.r_[np.ones(rises, np.int8), np.zeros(falls, np.int8)]
    drawn = list(batches(y, 2 * half, samples, balanced=True, rng=np.random.default_rng(0)))
    assert len(drawn) == samples // 2 // half
    for batch in drawn:
        assert len(batch) == 2 * half
        assert y[batch].sum() == half
    counts = np.bincount(np.concatenate(drawn), minlength=len(y))
    # No row of a class comes back before every other one of it had its turn.
    for side, size in ((slice(None, rises), rises), (slice(rises, None), falls)):
        assert counts[side].max() <= -(-len(drawn) * half // size)


def test_unbalanced_batches_are_rows_without_return() -> None:
    y = np.zeros(1_000, np.int8)
    drawn = np.concatenate(list(batches(y, 64, 960, balanced=False, rng=np.random.default_rng(0))))
    assert len(np.unique(drawn)) == len(drawn) == 960


def test_log_loss_is_the_textbook_s_and_does_not_overflow() -> None:
    logit, y = np.array([-2.0, 0.0, 1.5]), np.array([0, 1, 1], np.int8)
    p = 1 / (1 + np.exp(-logit))
    assert log_loss(logit, y) == pytest.approx(-np.mean(np.log(np.where(y == 1, p, 1 - p))))
    assert log_loss(np.array([1e4]), np.array([0], np.int8)) == 1e4

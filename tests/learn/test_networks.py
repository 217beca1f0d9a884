"""The scaler inside a network."""

import numpy as np
import torch

from quantum_trader.learn.networks import CLIP, Scaled, channel_statistics, logits


def test_the_scaler_centres_scales_and_cuts() -> None:
    mean, std = np.linspace(-1, 1, 8), np.linspace(0.5, 2, 8)
    scaled = Scaled(torch.nn.Identity(), mean, std)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((6, 128, 8)) * 3
    answer = scaled(torch.tensor(values, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(answer, np.clip((values - mean) / std, -CLIP, CLIP), atol=1e-5)
    crash = scaled(torch.full((1, 128, 8), 1e9)).numpy()
    assert (crash == CLIP).all()


def test_a_channel_that_does_not_vary_is_not_divided() -> None:
    scaled = Scaled(torch.nn.Identity(), np.ones(8), np.zeros(8))
    assert torch.equal(scaled(torch.full((1, 128, 8), 3.0)), torch.full((1, 128, 8), 2.0))


def test_the_scaler_knows_the_given_rows_only() -> None:
    rng = np.random.default_rng(0)
    sequences = (rng.standard_normal((300, 128, 8)) * 2 + 5).astype(np.float32)
    sequences[100:] = 1e6
    mean, std = channel_statistics(sequences, np.arange(100))
    np.testing.assert_allclose(mean, sequences[:100].mean(axis=(0, 1), dtype=np.float64))
    np.testing.assert_allclose(std, sequences[:100].std(axis=(0, 1), dtype=np.float64), rtol=1e-6)


def test_logits_come_in_the_order_of_the_rows() -> None:
    class Sum(torch.nn.Module):
        def forward(self, sequences: torch.Tensor) -> torch.Tensor:
            return sequences[:, 0, 0]

    sequences = np.zeros((1_300, 128, 8), dtype=np.float32)
    sequences[:, 0, 0] = np.arange(1_300)
    assert logits(Sum(), sequences).tolist() == list(range(1_300))
    assert logits(Sum(), sequences, np.array([5, 3, 1_299])).tolist() == [5, 3, 1_299]

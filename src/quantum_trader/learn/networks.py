"""What the networks share: a scaler fitted on the training part and carried inside, and their probabilities."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantum_trader.core.bars import IntArray
from quantum_trader.core.features import Float32Array
from quantum_trader.learn.nhits import NHiTS
from quantum_trader.learn.patchtst import PatchTST

NETWORKS: dict[str, Callable[[], nn.Module]] = {"nhits": NHiTS, "patchtst": PatchTST}

CLIP = 8.0
"""Standard deviations beyond which an input is cut: a crash saturates a network, it does not carry it off."""

_TINY = 1e-6
_EVALUATION_ROWS = 512
_SCALER_ROWS = 4096


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Torch on a fixed number of threads; as it was before, afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Scaled(nn.Module):
    """A network behind its scaler: sequences as the features give them, (B, 128, 8), to logits (B,).

    Args:
        network: Takes scaled sequences.
        mean: Of each channel over the training part, shape (8,).
        std: Likewise; a channel that does not vary is not divided.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, mean: NDArray[np.float64], std: NDArray[np.float64]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(1.0 / np.where(std > _TINY, std, 1.0), dtype=torch.float32))

    def forward(self, sequences: Tensor) -> Tensor:
        """Logits of a batch."""
        scaled = torch.clamp((sequences - self.mean) * self.scale, -CLIP, CLIP)
        logits: Tensor = self.network(scaled)
        return logits


class Probability(nn.Module):
    """A network's probability of a rise, (B, 128, 8) to (B,): what is exported."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, sequences: Tensor) -> Tensor:
        """Probabilities of a batch."""
        return torch.sigmoid(self.network(sequences))


def channel_statistics(sequences: Float32Array, rows: IntArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel over given rows of (m, 128, 8), both of shape (8,), float64."""
    total, square, count = np.zeros(sequences.shape[2]), np.zeros(sequences.shape[2]), 0
    for start in range(0, len(rows), _SCALER_ROWS):
        part = sequences[rows[start : start + _SCALER_ROWS]].reshape(-1, sequences.shape[2]).astype(np.float64)
        total += part.sum(axis=0)
        square += (part * part).sum(axis=0)
        count += len(part)
    mean = total / count
    return mean, np.sqrt(np.maximum(square / count - mean * mean, 0.0))


def logits(network: nn.Module, sequences: Float32Array, rows: IntArray | None = None) -> NDArray[np.float64]:
    """Logits in evaluation mode of n sequences (n, 128, 8), or of the given rows of them, shape (n,)."""
    rows = np.arange(len(sequences)) if rows is None else rows
    network.eval()
    out = np.empty(len(rows), dtype=np.float64)
    with torch.inference_mode():
        for start in range(0, len(rows), _EVALUATION_ROWS):
            batch = sequences[rows[start : start + _EVALUATION_ROWS]]
            out[start : start + len(batch)] = network(torch.from_numpy(batch)).numpy()
    return out

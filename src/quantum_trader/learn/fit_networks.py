"""The networks' fit: AdamW, seeded, deterministic, stopped early on validation log-loss, best weights restored."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from quantum_trader.core.bars import IntArray
from quantum_trader.core.errors import TrainingError
from quantum_trader.core.features import Float32Array
from quantum_trader.learn.networks import NETWORKS, Scaled, channel_statistics, logits, torch_threads
from quantum_trader.learn.options import TrainOptions
from quantum_trader.learn.progress import Progress

LEARNING_RATES = {"nhits": 2e-4, "patchtst": 1e-4}
WEIGHT_DECAY = 1e-2
_MAX_NORM = 1.0


@dataclass(frozen=True)
class Sequences:
    """Sequences (m, 128, 8) and labels (m,) of a dataset, and which rows of it belong to which part."""

    x: Float32Array
    y: NDArray[np.int8]
    train: IntArray
    validation: IntArray


@dataclass(frozen=True)
class NetworkFit:
    """A fitted network.

    Attributes:
        network: With the weights of `best_epoch`, in evaluation mode.
        log_losses: On the validation rows that were watched, after each epoch.
        best_epoch: Index into `log_losses`.
    """

    network: Scaled
    log_losses: tuple[float, ...]
    best_epoch: int


@contextmanager
def deterministic(seed: int, threads: int) -> Iterator[None]:
    """Torch seeded, on deterministic algorithms and a fixed number of threads; as it was before, afterwards."""
    was_strict = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]), torch_threads(threads):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was_strict)


def log_loss(logit: NDArray[np.float64], y: NDArray[np.int8]) -> float:
    """Mean of -log p(y) from logits: log(1 + exp(z)) - y z, without overflow; NaN where a logit is."""
    with np.errstate(invalid="ignore"):
        return float(np.mean(np.logaddexp(0.0, logit) - y * logit))


def batches(
    y: NDArray[np.int8], size: int, samples: int, balanced: bool, rng: np.random.Generator
) -> Iterator[IntArray]:
    """Row numbers of one epoch's batches, `samples` in all, the last incomplete one left out.

    Without balance every row comes once before any comes twice; with it, half of each batch is drawn from each class,
    likewise exhausting a class before it repeats.
    """
    if not balanced:
        order = _cycled(np.arange(len(y)), samples, rng)
        for start in range(0, samples - size + 1, size):
            yield order[start : start + size]
        return
    half = size // 2
    down, up = (_cycled(np.flatnonzero(y == side), samples // 2, rng) for side in (0, 1))
    for start in range(0, samples // 2 - half + 1, half):
        yield rng.permutation(np.concatenate([down[start : start + half], up[start : start + half]]))


def _cycled(rows: IntArray, wanted: int, rng: np.random.Generator) -> IntArray:
    rounds = -(-wanted // len(rows))
    return np.concatenate([rng.permutation(rows) for _ in range(rounds)])[:wanted]


def fit_network(model: str, data: Sequences, balanced: bool, options: TrainOptions, progress: Progress) -> NetworkFit:
    """Train a network.

    Args:
        model: ``nhits`` or ``patchtst``.
        data: The scaler is fitted on its training rows only.
        balanced: Whether batches are half rises, half falls.
        options: Epochs, samples, patience, seed, threads.
        progress: Told after every batch.
    """
    with deterministic(options.seed, options.threads):
        network = Scaled(NETWORKS[model](), *channel_statistics(data.x, data.train))
        return _fit(network, model, data, balanced, options, progress)


def _fit(
    network: Scaled, model: str, data: Sequences, balanced: bool, options: TrainOptions, progress: Progress
) -> NetworkFit:
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATES[model], weight_decay=WEIGHT_DECAY)
    rng = np.random.default_rng(options.seed)
    samples = options.samples_per_epoch or len(data.train)
    samples = max(options.batch_size, min(samples, len(data.train)))
    losses: list[float] = []
    best, best_state = 0, deepcopy(network.state_dict())
    steps = samples // options.batch_size
    stage = f"{model}: batches"
    watched = data.validation[:: -(-len(data.validation) // options.stopping_rows)]
    for epoch in range(options.max_epochs):
        network.train()
        drawn = batches(data.y[data.train], options.batch_size, samples, balanced, rng)
        for step, chosen in enumerate(drawn):
            _step(network, optimiser, data, data.train[chosen])
            progress(stage, epoch * steps + step + 1, options.max_epochs * steps)
        losses.append(log_loss(logits(network, data.x, watched), data.y[watched]))
        if not np.isfinite(losses[epoch]):
            raise TrainingError(f"{model}: the validation log-loss is {losses[epoch]} after epoch {epoch + 1}")
        if epoch == 0 or losses[epoch] < losses[best]:
            best, best_state = epoch, deepcopy(network.state_dict())
        elif epoch - best >= options.patience:
            break
    progress(stage, len(losses) * steps, len(losses) * steps)
    network.load_state_dict(best_state)
    return NetworkFit(network.eval(), tuple(losses), best)


def _step(network: Scaled, optimiser: torch.optim.Optimizer, data: Sequences, rows: IntArray) -> None:
    target = torch.from_numpy(data.y[rows].astype(np.float32))
    optimiser.zero_grad(set_to_none=True)
    loss = nn.functional.binary_cross_entropy_with_logits(network(torch.from_numpy(data.x[rows])), target)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(network.parameters(), _MAX_NORM)
    optimiser.step()

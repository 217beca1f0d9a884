"""How a model is trained: one frozen value, everything in it bounded."""

from dataclasses import dataclass

from quantum_trader.core.errors import TrainingError
from quantum_trader.learn.parity import MIN_ROWS as MIN_PARITY_ROWS

BALANCED_BY_DEFAULT = frozenset({"patchtst"})


@dataclass(frozen=True)
class TrainOptions:
    """Options of one training run.

    Attributes:
        seed: Of everything that is drawn.
        balanced: 50/50 per batch for networks, equal class weight for trees; None is the model's own default
            (on for PatchTST).
        max_epochs: Of a network.
        samples_per_epoch: Rows drawn in one epoch of a network; None takes as many as the training part has.
        stopping_rows: Validation rows, evenly spaced, that a network's early stop looks at; metrics use all.
        patience: Epochs without a better validation log-loss before a network stops.
        batch_size: Rows per step of a network.
        max_rounds: Trees at most.
        threads: Of the training libraries; part of reproducibility, so it is not taken from the machine. Two threads
            are 1.7 times as fast on two idle cores, but wait for each other by spinning: with one other busy process
            on the machine 7 times slower than one thread.
        parity_rows: Rows of the parity proof, at least 10,000.
        lineage: Line of retrainings; None makes one of model, timeframe and label.
        version: Number within the lineage; None is one more than the highest beside it.
    """

    seed: int = 20260101
    balanced: bool | None = None
    max_epochs: int = 30
    samples_per_epoch: int | None = 65_536
    stopping_rows: int = 16_384
    patience: int = 4
    batch_size: int = 256
    max_rounds: int = 600
    threads: int = 1
    parity_rows: int = 12_000
    lineage: str | None = None
    version: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_epochs", "stopping_rows", "patience", "max_rounds", "threads"):
            if getattr(self, name) < 1:
                raise TrainingError(f"training: {name} {getattr(self, name)} is not at least 1")
        if self.batch_size < 2 or self.batch_size % 2:
            raise TrainingError(f"training: batch_size {self.batch_size} is not an even number")
        if self.samples_per_epoch is not None and self.samples_per_epoch < self.batch_size:
            raise TrainingError(f"training: samples_per_epoch {self.samples_per_epoch} is less than one batch")
        if self.parity_rows < MIN_PARITY_ROWS:
            raise TrainingError(f"training: parity_rows {self.parity_rows} is not at least {MIN_PARITY_ROWS}")
        if self.version is not None and self.version < 1:
            raise TrainingError(f"training: version {self.version} is not at least 1")

    @classmethod
    def demo(cls, seed: int = 20260101) -> "TrainOptions":
        """Bounded for the demo: the four models together in about half a minute of one core.

        Balanced for every model: a window of a few weeks has a drift, and a weak model would learn that alone.
        """
        return cls(
            seed=seed,
            balanced=True,
            max_epochs=3,
            stopping_rows=2_500,
            samples_per_epoch=8_192,
            patience=2,
            max_rounds=300,
            parity_rows=10_000,
        )

    def balances(self, model: str) -> bool:
        """Whether classes are balanced for a model."""
        return model in BALANCED_BY_DEFAULT if self.balanced is None else self.balanced

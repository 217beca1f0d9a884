"""From windows to decisions: the one path that service, replay and certificate share.

Features, voters and vote are evaluated row by row at fixed shapes, so how bars were grouped into batches does not
show in a decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from quantum_trader.core.bars import FloatArray
from quantum_trader.core.decision import Decision, Occasion, ShadowVote, decide
from quantum_trader.core.features import Computation, Float32Array
from quantum_trader.core.hashes import hashes_of_both, input_hashes
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import Action, Cause, ModelOutput, Status, because
from quantum_trader.models.inference import OnnxModel


@dataclass(frozen=True)
class FeatureBatch:
    """What models see of n symbols at their bars.

    Attributes:
        rows: float32, shape (n, F); NaN where the features of a window are not finite.
        sequences: float32, shape (n, 128, 8); NaN likewise.
        atr_fractions: Length n; 0 where the features are not finite.
        input_hashes: Of what all models together see, length n; empty text where the features are not finite.
        reasons: By row, why there are no features.
        sequence_hashes: Of the sequences as they left for the shadows, length n; where they were not hashed, none.
    """

    rows: Float32Array
    sequences: Float32Array
    atr_fractions: list[float]
    input_hashes: list[str]
    reasons: dict[int, str] = field(default_factory=dict)
    sequence_hashes: tuple[str, ...] = ()

    def inputs(self, uses: str) -> Float32Array:
        """The array that a model of this kind sees: ``row`` or ``sequence``."""
        return self.rows if uses == "row" else self.sequences

    def hashes(self, uses: str) -> tuple[str, ...]:
        """Of what a shadow of this kind was given, length n."""
        known = self.sequence_hashes if uses == "sequence" else ()
        return known or input_hashes(self.inputs(uses))


def feature_batch(windows: Sequence[FloatArray]) -> FeatureBatch:
    """Features of n whole windows, each of shape (5, 512)."""
    return finish_batch(Computation(windows))


def finish_batch(computation: Computation) -> FeatureBatch:
    """The features of windows whose sequences were used already."""
    arrays = computation.finish()
    # Of the sequences that were used already: those of the arrays are erased where a row is broken.
    sequence_hashes, both = hashes_of_both(computation.sequences, arrays.rows)
    atr, hashes = arrays.atr_fractions.tolist(), list(both)
    for i in arrays.problems:
        atr[i], hashes[i] = 0.0, ""
    return FeatureBatch(arrays.rows, arrays.sequences, atr, hashes, arrays.problems, sequence_hashes)


def predict(model: OnnxModel, batch: FeatureBatch) -> ModelOutput:
    """A model's answers; an exception is its failure on every row, recorded and counted, never a crash of others."""
    inputs = batch.inputs(model.uses)
    try:
        p_up = model.predict(inputs)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        return ModelOutput.none(len(inputs), Status.FAILED, model.digest, because(Cause.ERROR, reason))
    return _with_feature_reasons(ModelOutput.of(p_up, model.thresholds, model.digest), batch)


def _with_feature_reasons(output: ModelOutput, batch: FeatureBatch) -> ModelOutput:
    """The output without an answer, and with the true reason, on rows whose features are not finite."""
    if not batch.reasons:
        return output
    statuses, reasons = list(output.statuses), list(output.reasons)
    p_up, actions = output.p_up.copy(), output.actions.copy()
    for row, why in batch.reasons.items():
        statuses[row], reasons[row] = Status.REFUSED, because(Cause.FEATURES, why)
        p_up[row], actions[row] = np.nan, Action.HOLD
    return replace(output, p_up=p_up, actions=actions, statuses=tuple(statuses), reasons=tuple(reasons))


def without_broken_rows(votes: list[ShadowVote], batch: FeatureBatch) -> list[ShadowVote]:
    """A shadow's votes without an answer, and with the true reason, on rows whose features are not finite.

    It may have been shown such a row: its sequence leaves before the row beside it is known.
    """
    if not batch.reasons:
        return votes
    answered = (Status.OK, Status.REFUSED)
    return [
        ShadowVote.none(Status.REFUSED, vote.artefact, because(Cause.FEATURES, batch.reasons[i]), vote.input_hash)
        if i in batch.reasons and vote.status in answered
        else vote
        for i, vote in enumerate(votes)
    ]


def abstentions(row: int, outputs: Mapping[str, ModelOutput]) -> dict[str, str]:
    """Of every voter that is not OK on this row, its status and why."""
    return {
        name: f"{output.statuses[row].value}: {output.reasons[row]}"
        for name, output in outputs.items()
        if output.statuses[row] is not Status.OK
    }


def decide_batch(
    occasion: Occasion, batch: FeatureBatch, voters: Mapping[str, OnnxModel], policy: VotePolicy
) -> tuple[list[Decision], dict[str, ModelOutput]]:
    """Decisions of n rows, with every voter's output."""
    outputs = {name: predict(model, batch) for name, model in voters.items()}
    return decide(occasion, outputs, policy), outputs

"""A model's own probabilities, recalibrated as section D does it: never with an outcome that had not happened yet.

At each cycle's start a line in the log-odds is fitted to all events whose delayed horizon has ended by then (ridge on
"no skill", slope not negative; GATES.md, "Exact forms"). Until there are enough of them nothing is said.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from quantum_trader.core.labels import UNKNOWN
from quantum_trader.gates.logits import CLIP
from quantum_trader.gates.panel import SPAN
from quantum_trader.gates.sample import CYCLE, Sample
from quantum_trader.gates.whole_policy import WHOLE, DeploymentPolicy

FloatArray = NDArray[np.float64]


def walk_forward(sample: Sample, policy: DeploymentPolicy = WHOLE.deployment) -> FloatArray:
    """Recalibrated probabilities of a rise, shape (n,).

    NaN where the output is missing, or where too few outcomes were known at the start of the event's cycle.
    """
    out = np.full(len(sample), np.nan)
    valid = sample.valid
    u = np.clip(logit(np.clip(sample.p_up, 1e-12, 1.0 - 1e-12)), -CLIP, CLIP)
    slopes, intercepts = _lines(sample, u, policy)
    cycle = sample.cycle[valid]
    said = 0.5 + intercepts[cycle] + slopes[cycle] * u[valid]
    out[valid] = np.clip(said, policy.prediction_min, 1.0 - policy.prediction_min)
    return out


def _lines(sample: Sample, u: FloatArray, policy: DeploymentPolicy) -> tuple[FloatArray, FloatArray]:
    """Slope and intercept in force in each cycle, shape (cycles,); NaN where there is too little to fit."""
    known = sample.valid & (sample.outcome != UNKNOWN)
    cycles = int(sample.cycle.max(initial=-1)) + 1
    # The first cycle that starts when the event's horizon has ended.
    usable = -(-(sample.bar[known] + SPAN) // CYCLE)
    score, half = u[known], sample.outcome[known] - 0.5
    columns = (np.ones(len(score)), half, score, score * score, score * half)
    sums = [np.cumsum(np.bincount(usable, column, cycles + 2)[:cycles]) for column in columns]
    n, half_sum, *moments = sums
    mean, square, product = (moment / np.maximum(n, 1.0) for moment in moments)
    variance = square - mean * mean
    varies = variance > 1e-12 * square
    covariance = (product * n - half_sum * mean) / (n + policy.recalibration_ridge + (n == 0))
    slope = np.maximum(0.0, np.where(varies, covariance, 0.0) / np.where(varies, variance, 1.0))
    intercept = half_sum / (n + policy.recalibration_ridge + (n == 0)) - slope * mean
    enough = n >= policy.recalibration_events
    return np.where(enough, slope, np.nan), np.where(enough, intercept, np.nan)

"""Does accuracy rise from one confidence bucket to the next: the bucket table, adjacent drops, a test for trend."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Events whose confidence lies in one bucket.

    Attributes:
        low: Lower bound, held.
        high: Upper bound, held only by a bucket that ends at 1.
        n: Events.
        hits: Events whose outcome was the action's.
        counted: Whether it holds enough events for its accuracy to be compared.
        z: Of the step from the counted bucket before it; NaN where there is none.
    """

    low: float
    high: float
    n: int
    hits: int
    counted: bool
    z: float

    @property
    def accuracy(self) -> float:
        """Hits per event; NaN for an empty bucket."""
        return self.hits / self.n if self.n else math.nan


def bucket_of(confidence: FloatArray, edges: tuple[float, ...]) -> NDArray[np.int64]:
    """Index of each confidence's bucket, shape (n,); -1 where it lies in none."""
    index = np.searchsorted(edges, confidence, side="right") - 1
    last = len(edges) - 2
    top = index > last
    # Only a last bucket that ends at 1 is closed: 1 is the largest confidence there is.
    index[top] = np.where((confidence[top] == edges[-1]) & (edges[-1] == 1.0), last, -1)
    return index.astype(np.int64)


def step_z(hits_before: int, n_before: int, hits: int, n: int) -> float:
    """(a2 - a1) / sqrt(a1 (1 - a1) / n1 + a2 (1 - a2) / n2): unclustered, unpooled (GATES.md, "Exact forms").

    0 for equal accuracies; infinite where two accuracies without variance (0 and 1) differ.
    """
    before, after = hits_before / n_before, hits / n
    variance = before * (1 - before) / n_before + after * (1 - after) / n
    if after == before:
        return 0.0
    return (after - before) / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, after - before)


def bucket_table(confidence: FloatArray, hit: BoolArray, edges: tuple[float, ...], enough: int) -> tuple[Bucket, ...]:
    """The table; steps are taken between consecutive buckets among those with at least `enough` events.

    Args:
        confidence: Shape (n,).
        hit: Shape (n,).
        edges: Ascending, k + 1 of them for k buckets.
        enough: Events that make a bucket count.
    """
    index = bucket_of(confidence, edges)
    inside = index >= 0
    n = np.bincount(index[inside], minlength=len(edges) - 1)
    return table_of(n[None, :], np.bincount(index[inside & hit], minlength=len(edges) - 1)[None, :], edges, enough)


def table_of(
    sizes: NDArray[np.int64], hit_counts: NDArray[np.int64], edges: tuple[float, ...], enough: int
) -> tuple[Bucket, ...]:
    """The same from events and hits per cycle and bucket, both of shape (cycles, buckets)."""
    n, hits = sizes.sum(axis=0).tolist(), hit_counts.sum(axis=0).tolist()
    table: list[Bucket] = []
    before: int | None = None
    for k, (low, high) in enumerate(pairwise(edges)):
        counted = n[k] >= max(enough, 1)
        z = step_z(hits[before], n[before], hits[k], n[k]) if counted and before is not None else math.nan
        table.append(Bucket(low, high, n[k], hits[k], counted, z))
        before = k if counted else before
    return tuple(table)


def cochran_armitage(hits: NDArray[np.integer], n: NDArray[np.integer]) -> tuple[float, float]:
    """The z and two-sided p of a linear trend of the share over buckets scored 0 to k - 1 (Armitage 1955).

    The variance is the permutation one, N / (N - 1) larger than the binomial; (0, 1) where nothing can vary.
    """
    score = np.arange(len(n), dtype=np.float64)
    total, share = int(n.sum()), int(hits.sum()) / max(int(n.sum()), 1)
    spread = float((n * score**2).sum()) - float((n * score).sum()) ** 2 / max(total, 1)
    variance = share * (1 - share) * spread * total / max(total - 1, 1)
    if variance <= 0:
        return 0.0, 1.0
    z = float((score * (hits - n * share)).sum()) / math.sqrt(variance)
    return z, math.erfc(abs(z) / math.sqrt(2))

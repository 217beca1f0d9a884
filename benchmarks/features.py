"""What does one row of features cost, and how many rows a second is that on one core?"""

import numpy as np
import pandas as pd

from benchmarks.data import simulated
from benchmarks.harness import Workplace, paired
from benchmarks.tables import Block, Table, rate, seconds
from benchmarks.usual_features import BARS, usual_features
from quantum_trader.core.bars import FIELDS, WINDOW
from quantum_trader.core.features import SCHEMA, compute
from quantum_trader.engine.deciding import feature_batch
from quantum_trader.engine.replay import CHUNK


def run(place: Workplace) -> list[Block]:
    """Measure."""
    bars = next(iter(simulated(1, WINDOW + CHUNK).values()))
    matrix = bars.matrix()
    windows = [np.ascontiguousarray(matrix[:, start : start + WINDOW]) for start in range(CHUNK)]
    whole = pd.DataFrame({name: getattr(bars, name) for name in FIELDS})
    frames = [whole.iloc[start : start + WINDOW] for start in range(CHUNK)]
    sides = {
        "alone": lambda: [compute(window) for window in windows],
        "batch": lambda: feature_batch(windows),
        "pandas": lambda: [usual_features(frame) for frame in frames],
    }
    found = paired(sides, place.rounds(15), "rows", place.progress)
    labels = {
        "alone": "core.features.compute, window by window",
        "batch": f"engine.deciding.feature_batch of {CHUNK} windows, with input hashes",
        "pandas": f"usual pandas over {BARS} bars, symbol by symbol",
    }
    rows = []
    for side, label in labels.items():
        each = found.median(side) / CHUNK
        rows.append((label, seconds(each), rate(1 / each), f"{found.ratio('pandas', side):.1f} x"))
    notes = [
        f"a row is {len(SCHEMA.names)} features of the last bar and a sequence of {SCHEMA.sequence_length} bars with "
        f"{len(SCHEMA.sequence_names)} channels; ours sees {WINDOW} bars; one core",
    ]
    table = Table(("", "one row", "rows", "pandas takes"), rows)
    return [Block("features", "features: one row", [table], notes=notes)]

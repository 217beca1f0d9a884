"""What does one row of features cost, and how many rows a second is that on one core?"""

import numpy as np
import pandas as pd

from benchmarks.data import simulated
from benchmarks.harness import Workplace, paired
from benchmarks.tables import Block, Table, rate, seconds
from benchmarks.usual_features import BARS, usual_features
from quantum_trader.core.bars import FIELDS, WINDOW
from quantum_trader.core.features import SCHEMA, compute

_ROWS = 64


def run(place: Workplace) -> list[Block]:
    """Measure."""
    bars = next(iter(simulated(1, WINDOW + _ROWS).values()))
    matrix = bars.matrix()
    windows = [np.ascontiguousarray(matrix[:, start : start + WINDOW]) for start in range(_ROWS)]
    whole = pd.DataFrame({name: getattr(bars, name) for name in FIELDS})
    frames = [whole.iloc[start : start + WINDOW] for start in range(_ROWS)]
    sides = {
        "ours": lambda: [compute(window) for window in windows],
        "ours with input hash": lambda: [compute(window).input_hash for window in windows],
        "pandas": lambda: [usual_features(frame) for frame in frames],
    }
    found = paired(sides, place.rounds(15), "rows", place.progress)
    labels = {
        "ours": "core.features.compute",
        "ours with input hash": "compute and input_hash, as in service",
        "pandas": f"usual pandas over {BARS} bars",
    }
    rows = []
    for side, label in labels.items():
        each = found.median(side) / _ROWS
        rows.append((label, seconds(each), rate(1 / each), f"{found.ratio('pandas', side):.1f} x"))
    notes = [
        f"{len(SCHEMA.names)} features of the last bar and a sequence of {SCHEMA.sequence_length} bars with "
        f"{len(SCHEMA.sequence_names)} channels, from a window of {WINDOW} bars; one core",
    ]
    table = Table(("one row", "time", "rows", "against pandas"), rows)
    return [Block("features", "features: one row", [table], notes=notes)]

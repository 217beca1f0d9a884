"""Columns of an Arrow table as NumPy arrays; texts as numbers, because a million Python strings are slow and large."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """A numeric column as an array; nulls become NaN (floats) or 0 (integers)."""
    values = table[name]
    missing = np.nan if pa.types.is_floating(values.type) else 0
    filled: NDArray[Any] = pc.fill_null(values, missing).to_numpy()
    return filled


def codes(table: pa.Table, name: str) -> tuple[tuple[str, ...], IntArray]:
    """A text column as its texts, sorted, and the index of each row's among them; -1 where null.

    Only texts that occur are named. Shape of the index: (n,).
    """
    values = table[name]
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    whole = encoded.unify_dictionaries().combine_chunks()
    # Depending on its version pyarrow combines chunks to one array or to one chunk.
    array = whole if not isinstance(whole, pa.ChunkedArray) else _only(whole)
    held = np.asarray(array.dictionary.to_pylist(), dtype=object)
    at = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    used = np.flatnonzero(np.bincount(at[at >= 0], minlength=len(held)))
    names = sorted({str(held[k]) for k in used.tolist()})
    place = {text: k for k, text in enumerate(names)}
    # One more entry at the end, where -1 looks: null stays -1.
    renamed = np.full(len(held) + 1, -1, np.int64)
    for k in used.tolist():
        renamed[k] = place[str(held[k])]
    return tuple(names), renamed[at]


def _only(whole: pa.ChunkedArray) -> Any:
    if whole.num_chunks:
        return whole.chunk(0)
    return pa.array([], whole.type)

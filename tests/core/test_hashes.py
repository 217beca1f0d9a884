"""Hashes of inputs: plain SHA-256 over bytes that anybody can lay out again."""

import hashlib

import numpy as np

from quantum_trader.core.hashes import hashes_of_both, input_hashes


def test_cover_the_sequence_and_the_row_behind_it() -> None:
    rng = np.random.default_rng(1)
    sequences, rows = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 128, 8), (2, 44)))
    alone, both = hashes_of_both(sequences, rows)
    for i, (sequence, row) in enumerate(zip(sequences, rows, strict=True)):
        assert alone[i] == hashlib.sha256(sequence.tobytes()).hexdigest()[:16]
        assert both[i] == hashlib.sha256(sequence.tobytes() + row.tobytes()).hexdigest()[:16]
    assert alone == input_hashes(sequences)


def test_do_not_depend_on_how_the_memory_lies() -> None:
    wide = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    turned = np.asfortranarray(wide)
    assert input_hashes(turned) == input_hashes(wide)
    assert hashes_of_both(turned, np.asfortranarray(wide[:, 0])) == hashes_of_both(wide, wide[:, 0])

"""Hashes of what models see: by them a decision, a shadow's answer and a replay say that they speak of one input."""

import hashlib

import numpy as np

from quantum_trader.core.features import Float32Array


def input_hashes(inputs: Float32Array) -> tuple[str, ...]:
    """What one model sees of each of n symbols, as hashes.

    Args:
        inputs: float32, shape (n, F) of rows or (n, 128, 8) of sequences.

    Returns:
        Of each item the first 16 hexadecimal characters of the SHA-256 over its bytes.
    """
    return tuple([_short(hashlib.sha256(item)) for item in np.ascontiguousarray(inputs)])


def hashes_of_both(sequences: Float32Array, rows: Float32Array) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What models of sequences see of each of n symbols, and what all models together see, hashed in one go.

    Args:
        sequences: float32, shape (n, 128, 8).
        rows: float32, shape (n, F).

    Returns:
        `input_hashes` of the sequences, and the same of each sequence's bytes with its row's behind them.
    """
    digests = [hashlib.sha256(sequence) for sequence in np.ascontiguousarray(sequences)]
    alone = tuple([_short(digest) for digest in digests])
    for digest, row in zip(digests, np.ascontiguousarray(rows), strict=True):
        digest.update(row)
    return alone, tuple([_short(digest) for digest in digests])


def _short(digest: "hashlib._Hash") -> str:
    return digest.hexdigest()[:16]

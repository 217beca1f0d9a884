"""The chain of predictions: no record can be changed, taken out or put in later without it showing.

- The records of one symbol and timeframe form a chain in the order in which they were written. A record holds the link
  before it (`chain_prev`) and its own (`chain`).
- A link is SHA-256 over the link before it (32 bytes) and the record's bytes: the decision, the shadows, the reasons
  and the time, as compact JSON in declared key order, without the two links themselves.
- The first link's predecessor is `GENESIS`. A record that says so and is not the first was written after its writer
  lost the chain, or after somebody cut it: either way it begins anew there, and whoever checks says so.
"""

import hashlib

import msgspec

from quantum_trader.core.decision import DecisionRecord

GENESIS = "0" * 64
"""What stands before the first link."""

_encode = msgspec.json.Encoder().encode


def unchained(record: DecisionRecord) -> DecisionRecord:
    """The record without its place in a chain."""
    if not record.chain and not record.chain_prev:
        return record
    return msgspec.structs.replace(record, chain_prev="", chain="")


def body(record: DecisionRecord) -> bytes:
    """What a link speaks for: the record's canonical bytes."""
    return _encode(unchained(record))


def link(prev: str, content: bytes) -> str:
    """The link of a record's `body` behind another link; both as 64 hexadecimal characters.

    >>> link(GENESIS, b"{}")[:16]
    'fb1634c4e6cd4b1f'
    """
    return hashlib.sha256(bytes.fromhex(prev) + content).hexdigest()


def chained(record: DecisionRecord, prev: str) -> DecisionRecord:
    """The record behind a link."""
    return msgspec.structs.replace(record, chain_prev=prev, chain=link(prev, body(record)))


def holds(record: DecisionRecord) -> bool:
    """Whether a record is what its link speaks for."""
    return bool(record.chain_prev) and record.chain == link(record.chain_prev, body(record))

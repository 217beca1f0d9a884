"""From a shadow's bytes to a recorded answer: whatever it sends, the result is values, or one status with its cause.

- An error it reports is FAILED: error.
- Another batch's number, or bytes that are no reply, is REFUSED: shape, and ends its process: nothing it says later
  could be told apart.
- Another artefact's digest is REFUSED: digest; another number of values or hashes than rows is REFUSED: shape.
- A row whose input hash is not that of what was sent is REFUSED: input.
- A row that is NaN, infinite or outside [0, 1] is REFUSED with that cause.
"""

from dataclasses import dataclass
from functools import lru_cache

import msgspec

from quantum_trader.core.decision import ShadowVote
from quantum_trader.core.predictions import Cause, Status, Thresholds, because
from quantum_trader.engine.frames import FrameError, Reply, one_line

_decoder = msgspec.msgpack.Decoder(Reply)
_HEXADECIMAL = frozenset("0123456789abcdef")
_HASH_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Miss:
    """Why there is no answer to a whole batch."""

    status: Status
    reason: str

    def votes(self, n: int, artefact: str) -> list[ShadowVote]:
        """The same of each of n rows."""
        return [_no_answer(self.status, artefact, self.reason)] * n


# A shadow that is down has the same reason at every bar.
_no_answer = lru_cache(maxsize=64)(ShadowVote.none)


class Asked(msgspec.Struct, frozen=True):
    """What was sent: the batch's number and the hash of each of its rows' inputs."""

    number: int
    input_hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """Whose answers are awaited: the digest of the artefact and its thresholds."""

    digest: str
    thresholds: Thresholds


def read_reply(body: bytes, asked: Asked, expected: Expected) -> list[ShadowVote] | Miss:
    """Judge one reply: one vote a row, or why there is none at all.

    Raises:
        FrameError: if the bytes are no reply to this batch; the process that sent them is of no more use.
    """
    try:
        reply = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FrameError(f"its {len(body)} bytes are no reply ({one_line(str(error))})") from error
    if reply.batch != asked.number:
        raise FrameError(f"it answered batch {reply.batch}, asked was {asked.number}")
    if reply.error:
        return Miss(Status.FAILED, because(Cause.ERROR, one_line(reply.error)))
    if reply.digest != expected.digest:
        return Miss(Status.REFUSED, because(Cause.DIGEST, f"it runs artefact {one_line(reply.digest)[:16]}"))
    n = len(asked.input_hashes)
    if len(reply.p_up) != n:
        return Miss(Status.REFUSED, because(Cause.SHAPE, f"{len(reply.p_up)} values for {n} symbols"))
    if len(reply.input_hashes) != n:
        return Miss(Status.REFUSED, because(Cause.SHAPE, f"{len(reply.input_hashes)} input hashes for {n} symbols"))
    rows = zip(reply.p_up, reply.input_hashes, asked.input_hashes, strict=True)
    return [_vote(p_up, said, given, expected) for p_up, said, given in rows]


def _vote(p_up: float, said: str, given: str, expected: Expected) -> ShadowVote:
    if said == given:
        return ShadowVote.of(p_up, expected.thresholds, expected.digest, said)
    seen = said if _is_hash(said) else ""
    reason = because(Cause.INPUT, f"it saw {seen or 'no input'}, given was {given}")
    return ShadowVote.none(Status.REFUSED, expected.digest, reason, seen)


def _is_hash(text: str) -> bool:
    return len(text) == _HASH_LENGTH and _HEXADECIMAL.issuperset(text)

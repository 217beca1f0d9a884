"""What a shadow said of every row of a batch, column by column, for tests to compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from msgspec import UNSET

from quantum_trader.core.decision import ShadowVote
from quantum_trader.core.predictions import Status


@dataclass(frozen=True)
class Said:
    """The columns of a shadow's votes; `p_up` holds None where a vote has none."""

    statuses: tuple[Status, ...]
    reasons: tuple[str, ...]
    p_up: tuple[float | None, ...]
    actions: tuple[str, ...]
    input_hashes: tuple[str, ...]
    artefact: str

    @classmethod
    def of(cls, votes: Sequence[ShadowVote]) -> Self:
        """The columns of at least one vote of one artefact."""
        (artefact,) = {vote.artefact for vote in votes}
        assert all(vote.shadow and vote.p_calibrated is UNSET for vote in votes)
        return cls(
            tuple(Status(vote.status) for vote in votes),
            tuple(vote.reason for vote in votes),
            tuple(None if vote.p_up is UNSET else vote.p_up for vote in votes),
            tuple(vote.action for vote in votes),
            tuple(vote.input_hash for vote in votes),
            artefact,
        )

"""What a ledger's entries say: one shape for each kind, checked to the last key.

An entry says who did what to which artefact, when and why. Its line has one form only: the keys in their declared
order, no spaces. Shapes only ever gain keys with defaults that are left out, so that what was written stays readable.
"""

from datetime import UTC, datetime
from typing import Annotated, ClassVar

import msgspec

from quantum_trader.core.predictions import MODELS

ModelName = Annotated[str, msgspec.Meta(pattern=rf"\A({'|'.join(MODELS)})\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
MaybeDigest = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")]
Weight = Annotated[float, msgspec.Meta(gt=0.0, le=1_000_000.0)]
Time = Annotated[str, msgspec.Meta(pattern=r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)\Z")]
Text = Annotated[str, msgspec.Meta(min_length=1)]
RoleName = Annotated[str, msgspec.Meta(pattern=r"\A(voter|shadow|none)\Z")]
VerdictName = Annotated[str, msgspec.Meta(pattern=r"\A(PROMOTE|REJECT|HOLD|INVALID)\Z")]

NO_ENTRY = "0" * 64
"""What the first entry has for the digest of the one before it."""


class _Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all shapes are: frozen, and strict about their keys."""


class Grant(_Shape, frozen=True, kw_only=True):
    """A model's right to vote, for one artefact, until it is revoked.

    Attributes:
        model: Short name of the model.
        artefact: SHA-256 digest of the artefact.
        weight: Nominal weight that it votes with.
        verdict: SHA-256 of the report that it was given for; empty for first voters and overrides without one.
        override: Whether somebody gave it against or without a verdict.
    """

    KIND: ClassVar[str] = "grant"

    model: ModelName
    artefact: Digest
    weight: Weight
    verdict: MaybeDigest = ""
    override: bool = False


class Revoke(_Shape, frozen=True, kw_only=True):
    """The end of a grant: the artefact may not vote any more."""

    KIND: ClassVar[str] = "revoke"

    model: ModelName
    artefact: Digest


class Electorate(_Shape, frozen=True, kw_only=True, omit_defaults=True):
    """Who votes while a shadow is observed, and how.

    Attributes:
        weights: Nominal weight of every voter.
        artefacts: Digest of every voter's artefact.
        shadow_weight: Nominal weight that the shadow would vote with.
        min_consensus: Voters that must agree for BUY or SELL.
        calibrations: Digest of the calibration of every voter that has one; left out where none has.
    """

    weights: dict[ModelName, Weight]
    artefacts: dict[ModelName, Digest]
    shadow_weight: Weight
    min_consensus: Annotated[int, msgspec.Meta(ge=1)]
    calibrations: dict[ModelName, Digest] = {}


class Registration(_Shape, frozen=True, kw_only=True):
    """What a shadow will be judged by, written down before it is observed.

    Attributes:
        model: Short name of the shadow.
        artefact: SHA-256 digest of its artefact.
        lineage: The line of retrainings that it belongs to.
        version: Its number there, from 1, for the alpha budget.
        policy: Digest of the whole policy.
        electorate: Who votes meanwhile.
        features: Digest of the feature schema.
        symbols: Venue symbols, sorted.
        timeframe: Of the bars, such as ``5m``.
        window_start: First bar's close that counts, milliseconds since the epoch, UTC.
    """

    KIND: ClassVar[str] = "registration"

    model: ModelName
    artefact: Digest
    lineage: str
    version: Annotated[int, msgspec.Meta(ge=1)]
    policy: Digest
    electorate: Electorate
    features: Digest
    symbols: Annotated[list[Text], msgspec.Meta(min_length=1)]
    timeframe: Text
    window_start: int


class Verdict(_Shape, frozen=True, kw_only=True):
    """A verdict that was given, by the digest of its report; times are milliseconds since the epoch, UTC."""

    KIND: ClassVar[str] = "verdict"

    model: ModelName
    artefact: Digest
    state: VerdictName
    policy: Digest
    window_start: int
    window_end: int
    report: Digest


class State(_Shape, frozen=True, kw_only=True):
    """Where a model stands.

    Attributes:
        role: ``voter``, ``shadow`` or ``none``.
        artefact: Digest of its artefact; empty where there is none.
        weight: Nominal weight where it votes; 0 where that is not known.
    """

    role: RoleName = "none"
    artefact: MaybeDigest = ""
    weight: Annotated[float, msgspec.Meta(ge=0.0, le=1_000_000.0)] = 0.0


class _Change(_Shape, frozen=True, kw_only=True):
    """A step that changes where a model stands.

    Attributes:
        model: Short name of the model.
        artefact: SHA-256 digest of the artefact that the step is about.
        before: Where the model stood.
        after: Where it stands now.
        facts: Whatever else belongs to it, text by text: host, commit, times, digests of files.
    """

    model: ModelName
    artefact: MaybeDigest
    before: State
    after: State
    facts: dict[str, str] = {}


class Deploy(_Change, frozen=True, kw_only=True):
    """An artefact was brought to a host."""

    KIND: ClassVar[str] = "deploy"


class Promote(_Change, frozen=True, kw_only=True):
    """A shadow got its vote; its grant stands beside this entry."""

    KIND: ClassVar[str] = "promote"


class WeightChange(_Change, frozen=True, kw_only=True):
    """A voter's weight changed."""

    KIND: ClassVar[str] = "weight"


class Demote(_Change, frozen=True, kw_only=True):
    """A voter lost its vote."""

    KIND: ClassVar[str] = "demote"


class Rollback(_Change, frozen=True, kw_only=True):
    """An operator went back."""

    KIND: ClassVar[str] = "rollback"


class Watch(_Change, frozen=True, kw_only=True):
    """What the watch after a promotion found."""

    KIND: ClassVar[str] = "watch"


class Proof(_Shape, frozen=True, kw_only=True):
    """A proof pack was made; the pack holds the ledger up to this entry.

    Attributes:
        statement: SHA-256 of the pack's `statement.json`.
        entries: How many entries the ledger in the pack has.
        head: SHA-256 of the last of them.
        host: Where its commands ran.
    """

    KIND: ClassVar[str] = "proof"

    statement: Digest
    entries: Annotated[int, msgspec.Meta(ge=0)]
    head: Digest
    host: Text


Detail = Grant | Revoke | Registration | Verdict | Deploy | Promote | WeightChange | Demote | Rollback | Watch | Proof

KINDS: dict[str, type[Detail]] = {
    shape.KIND: shape
    for shape in (Grant, Revoke, Registration, Verdict, Deploy, Promote, WeightChange, Demote, Rollback, Watch, Proof)
}

LOWERING = frozenset({"revoke", "demote", "rollback", "watch"})
"""Kinds that take influence away: a clock that went back must not hinder them."""


class New(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that is still to be appended.

    Attributes:
        at: When, ISO 8601 in UTC.
        by: Who.
        reason: Why.
        detail: What; its shape is the entry's kind.
    """

    at: str
    by: str
    reason: str
    detail: Detail


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the ledger; `prev` is the SHA-256 of the line before it."""

    seq: int
    prev: str
    at: str
    kind: str
    by: str
    reason: str
    detail: Detail

    @property
    def when(self) -> datetime:
        """`at` as a time."""
        return moment(self.at)


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seq: Annotated[int, msgspec.Meta(ge=0)]
    prev: Digest
    at: Time
    kind: str
    by: Text
    reason: Text
    detail: msgspec.Raw


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode


def moment(at: str) -> datetime:
    """An entry's time.

    Raises:
        ValueError: if it is no time in ISO 8601.
    """
    return datetime.fromisoformat(at).astimezone(UTC)


def render(entry: Entry) -> bytes:
    """The entry's one line, without the newline."""
    return _encode(entry)


def parse(line: bytes) -> Entry:
    """The entry of a line, without its newline.

    Raises:
        ValueError: with what is wrong, if it is no entry or not in its one form.
    """
    entry = read(line)
    if render(entry) != line:
        raise ValueError("not in its one form (keys in order, no spaces, every key once)")
    return entry


def read(text: bytes) -> Entry:
    """The entry that a JSON object describes, in whatever form.

    Raises:
        ValueError: with what is wrong.
    """
    try:
        line = _decode(text)
        if line.kind not in KINDS:
            raise ValueError(f"unknown kind {line.kind!r}")
        detail = msgspec.json.decode(line.detail, type=KINDS[line.kind])
        moment(line.at)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return Entry(
        seq=line.seq, prev=line.prev, at=line.at, kind=line.kind, by=line.by, reason=line.reason, detail=detail
    )

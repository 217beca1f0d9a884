"""Pre-registration: what a shadow will be judged by, in the ledger before its observed window begins.

A verdict holds only under what was registered: the policy, the electorate, the symbols, the timeframe, the artefact,
and a window that begins where it was said that it would. Whatever differs makes the verdict INVALID.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from quantum_trader.core.errors import format_ms
from quantum_trader.core.policy import vote_digest
from quantum_trader.release.ledger_entries import Electorate, Entry, Registration


@dataclass(frozen=True, slots=True)
class Observed:
    """What the judged decisions themselves say.

    Attributes:
        artefact: Digest of the judged model's artefact.
        window_start: Close of the first judged bar, milliseconds since the epoch, UTC.
        weights: Nominal weight of every voter.
        artefacts: Digest of every voter's artefact.
        min_consensus: The quorum.
        vote_policy: Digest of the voters' weights, calibrations and quorum, as every decision holds it.
        symbols: Venue symbols.
        timeframe: Of the bars.
        features: Digest of the feature schema.
    """

    artefact: str
    window_start: int
    weights: Mapping[str, float]
    artefacts: Mapping[str, str]
    min_consensus: int
    vote_policy: str
    symbols: Sequence[str]
    timeframe: str
    features: str


def registration_for(entries: Sequence[Entry], model: str, artefact: str) -> Entry | None:
    """The last registration of an artefact; None if there is none. Its `detail` is a `Registration`."""
    for entry in reversed(entries):
        detail = entry.detail
        if isinstance(detail, Registration) and (detail.model, detail.artefact) == (model, artefact):
            return entry
    return None


def registered(entry: Entry) -> Registration:
    """What an entry from `registration_for` registers."""
    if not isinstance(entry.detail, Registration):
        raise TypeError(f"entry {entry.seq} is a {entry.kind}, no registration")
    return entry.detail


def faults_of(entry: Entry, policy: str, observed: Observed) -> tuple[str, ...]:
    """Every way in which a verdict departs from its registration, a sentence each; any makes it INVALID.

    Args:
        entry: From `registration_for`.
        policy: Digest of the policy that judges.
        observed: What the judged decisions say.
    """
    said = registered(entry)
    told = int(entry.when.timestamp() * 1000)
    facts = (
        ("policy", said.policy[:16], policy[:16], said.policy == policy),
        ("artefact", said.artefact[:16], observed.artefact[:16], said.artefact == observed.artefact),
        ("features", said.features[:16], observed.features[:16], said.features == observed.features),
        ("timeframe", said.timeframe, observed.timeframe, said.timeframe == observed.timeframe),
        *_electorate(said.electorate, observed),
        _sets("symbols", said.symbols, observed.symbols),
    )
    faults = [f"registered {name} {was}, judged {now}" for name, was, now, same in facts if not same]
    if observed.window_start < said.window_start:
        faults.append(
            f"the window was registered from {format_ms(said.window_start)}, "
            f"judged from {format_ms(observed.window_start)}"
        )
    if said.window_start < told or observed.window_start < told:
        first = format_ms(min(said.window_start, observed.window_start))
        faults.append(f"the window begins {first}, before it was registered ({entry.at})")
    return tuple(faults)


def same_registration(one: Registration, other: Registration) -> bool:
    """Whether two registrations say the same of everything but where the window begins."""
    return msgspec.structs.replace(one, window_start=0) == msgspec.structs.replace(other, window_start=0)


def milliseconds(at: datetime) -> int:
    """A time as milliseconds since the epoch, rounded up: a window must not begin before the entry that says so."""
    return -(-round(at.astimezone(UTC).timestamp() * 1_000_000) // 1000)


def _electorate(said: Electorate, observed: Observed) -> tuple[tuple[str, str, str, bool], ...]:
    weights, artefacts = dict(observed.weights), dict(observed.artefacts)
    names = sorted({*said.artefacts, *artefacts})
    plain = dict(said.weights) == weights and said.min_consensus == observed.min_consensus
    vote_policy = vote_digest(said.weights, said.min_consensus, said.calibrations)
    other = [name for name in names if said.artefacts.get(name) != artefacts.get(name)]
    return (
        ("weights", _listed(said.weights), _listed(weights), dict(said.weights) == weights),
        (
            "voters' artefacts",
            _listed({name: said.artefacts.get(name, "none")[:12] for name in other}),
            _listed({name: artefacts.get(name, "none")[:12] for name in other}),
            not other,
        ),
        ("quorum", str(said.min_consensus), str(observed.min_consensus), said.min_consensus == observed.min_consensus),
        # Where weights or quorum differ, that is said already.
        (
            "calibrations of the vote",
            _listed({name: digest[:12] for name, digest in said.calibrations.items()}) or "none",
            f"others (vote policy {observed.vote_policy[:12]})",
            not plain or observed.vote_policy == vote_policy,
        ),
    )


def _sets(name: str, was: Sequence[str], now: Sequence[str]) -> tuple[str, str, str, bool]:
    return name, ",".join(sorted(was)), ",".join(sorted(now)), set(was) == set(now)


def _listed(values: Mapping[str, object]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(values.items()))

"""The certificate of the shadow cage as a document: what was compared, what was found, and the verdict that follows.

- FAIL: a decision differed, an account did not add up, or a record or intent was not what it must be.
- SLOW: every check passed, and a time missed its goal: of one fault, or of all faults of one kind together. One fault
  is a few seconds of one pair of processes, and such pairs differ; so a kind has to keep the goal itself, a fault the
  goal with an allowance.
- PASS: everything held.

The document holds every number, the single times too, so that each verdict can be computed again from it.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

FORMAT = 2
BYTES = "decision bytes"
"""Name of the check that stands for itself."""

_NAMED = 4


class Verdict(StrEnum):
    """How a certificate ends."""

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    SLOW = "SLOW"
    FAIL = "FAIL"


EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 2, Verdict.SLOW: 3}


class Check(msgspec.Struct, frozen=True):
    """One thing that had to hold, and what was found."""

    name: str
    passed: bool
    detail: str


class Latency(msgspec.Struct, frozen=True):
    """Percentiles of n times, milliseconds."""

    n: int
    p50: float
    p99: float
    p999: float
    largest: float


class Ratio(msgspec.Struct, frozen=True):
    """Median of n paired ratios with its 95 % interval."""

    n: int
    median: float
    low: float
    high: float


class Timing(msgspec.Struct, frozen=True):
    """Bar to intent without and with the shadow; see `engine.pairing`."""

    off: Latency
    on: Latency
    ratio: Ratio
    ratio_open: Ratio | None
    ratio_met: bool
    p99_met: bool
    open_met: bool

    @property
    def mostly_open(self) -> Ratio | None:
        """The ratio with the breaker open, if it was so at most bars: a shadow that answers may miss a few too."""
        opened = self.ratio_open
        return opened if opened is not None and 2 * opened.n > self.ratio.n else None

    @property
    def missed(self) -> list[str]:
        """The goals that were not kept, in words."""
        held = {"median ratio": self.ratio_met, "99th percentile": self.p99_met, "open breaker": self.open_met}
        return [name for name, met in held.items() if not met]


class Kind(msgspec.Struct, frozen=True):
    """All faults of one kind together.

    Attributes:
        name: What their shadows do, in words.
        faults: Their names.
        ratio: Mean of their median ratios.
        error: Standard error of that mean, from how far the medians lie apart; None of one fault.
        goal: What the mean has to keep.
    """

    name: str
    faults: Sequence[str]
    ratio: float
    error: float | None
    goal: float

    @property
    def met(self) -> bool:
        """Whether it does."""
        return self.ratio <= self.goal


class Times(msgspec.Struct, frozen=True):
    """Every single time in milliseconds, in the order of the bars, and where the breaker was open."""

    off_ms: Sequence[float]
    on_ms: Sequence[float]
    breaker_open: Sequence[bool]


class FaultResult(msgspec.Struct, frozen=True):
    """One fault.

    Attributes:
        fault: Its name.
        what: What the shadow did, in words.
        decisions: Compared, on each side.
        intents: Of the engine with the shadow.
        checks: What had to hold.
        answers: How often the shadow's answer ended in which way, "ok" or "status: cause".
        timing: Against the goals.
        times: What the timing was computed from.
    """

    fault: str
    what: str
    decisions: int
    intents: int
    checks: Sequence[Check]
    answers: Mapping[str, int]
    timing: Timing
    times: Times

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return self.same_bytes and self.accounted

    @property
    def same_bytes(self) -> bool:
        """Whether the decisions' bytes were compared and were the same."""
        found = [check.passed for check in self.checks if check.name == BYTES]
        return bool(found) and all(found)

    @property
    def accounted(self) -> bool:
        """Whether every other check passed."""
        return all(check.passed for check in self.checks if check.name != BYTES)


class Program(msgspec.Struct, frozen=True):
    """What was certified: version, digest of the package's source files, commit of its checkout or nothing."""

    version: str
    code: str
    commit: str


class BarsUsed(msgspec.Struct, frozen=True):
    """The bars: file and digest, and which of them were decided. Times are milliseconds since the epoch, UTC."""

    file: str
    sha256: str
    timeframe: str
    symbols: Sequence[str]
    groups: int
    ts_first: int
    ts_last: int


class Member(msgspec.Struct, frozen=True):
    """A model that took part: role, artefact's name and digest."""

    role: str
    name: str
    digest: str


class Goals(msgspec.Struct, frozen=True):
    """What the times had to keep; see `engine.pairing`."""

    ratio: float
    ratio_open: float
    grace_ms: float
    allowance: float


class Certificate(msgspec.Struct, frozen=True):
    """The whole document.

    Attributes:
        format: Of this document.
        created: ISO 8601, UTC.
        seconds: How long the run took.
        program: What was certified.
        machine: On what, by name.
        bars: Over what.
        models: Every model, in breakdown order.
        shadow: Which of them was the shadow.
        goals: Of the times.
        control: Without a shadow on either side: how far from 1 its ratio lies is the machine's doing.
        general: Checks that concern no single fault.
        faults: In the order in which they ran.
    """

    format: int
    created: str
    seconds: float
    program: Program
    machine: Mapping[str, str]
    bars: BarsUsed
    models: Mapping[str, Member]
    shadow: str
    goals: Goals
    control: Timing
    general: Sequence[Check]
    faults: Sequence[FaultResult]

    @property
    def verdict(self) -> Verdict:
        """Computed from the checks and goals; a certificate of nothing fails."""
        general, every = (all(one.passed for one in part) for part in (self.general, self.faults))
        if not (self.decisions and general and every):
            return Verdict.FAIL
        return Verdict.SLOW if self.slow else Verdict.PASS

    @property
    def kinds(self) -> list[Kind]:
        """The faults whose shadow is waited for and answers, and those whose breaker was open at most bars."""
        answering: dict[str, float] = {}
        silent: dict[str, float] = {}
        for fault in self.faults:
            opened = fault.timing.mostly_open
            if opened is not None:
                silent[fault.fault] = opened.median
            else:
                answering[fault.fault] = fault.timing.ratio.median
        found = (
            ("those that answer", answering, self.goals.ratio),
            ("those with an open breaker", silent, self.goals.ratio_open),
        )
        return [_kind(name, medians, goal) for name, medians, goal in found if medians]

    @property
    def slow(self) -> list[str]:
        """The faults and kinds of which a time missed its goal."""
        faults = [fault.fault for fault in self.faults if fault.timing.missed]
        return faults + [f"{kind.name}, taken together" for kind in self.kinds if not kind.met]

    @property
    def decisions(self) -> int:
        """Decisions under a fault that were compared with those without a shadow and with the replay's."""
        return sum(fault.decisions for fault in self.faults)

    @property
    def failures(self) -> list[str]:
        """Every failed check in one line, with its fault."""
        found = [f"{check.name}: {check.detail}" for check in self.general if not check.passed]
        for fault in self.faults:
            found += [f"{fault.fault}, {check.name}: {check.detail}" for check in fault.checks if not check.passed]
        return found

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        word, n = self.verdict, len(self.faults)
        under = f"{self.decisions:,} decisions under {n} {'fault' if n == 1 else 'faults'} of the shadow"
        if word is Verdict.FAIL:
            return f"{word}: {self.failures[0] if self.failures else 'nothing was compared'}"
        same = f"{word}: {under} are byte for byte those without it, and those of a replay"
        if word is Verdict.PASS:
            return f"{same}; no time missed its goal."
        slow = self.slow
        which = ", ".join(slow) if len(slow) <= _NAMED else f"{len(slow)} of them"
        return f"{same}; a time missed its goal with {which}."


def _kind(name: str, medians: Mapping[str, float], goal: float) -> Kind:
    values = list(medians.values())
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Kind(name, list(medians), statistics.fmean(values), error, goal)


def encode(certificate: Certificate) -> bytes:
    """The document as JSON, the verdict and its sentence first."""
    head = {
        "verdict": certificate.verdict.value,
        "sentence": certificate.sentence,
        "decisions": certificate.decisions,
        "kinds": certificate.kinds,
    }
    return msgspec.json.format(msgspec.json.encode(head | msgspec.to_builtins(certificate)), indent=1) + b"\n"


def decode(raw: bytes) -> Certificate:
    """A document read back; what is computed from the rest (verdict, sentence, decisions, kinds) is computed again.

    Raises:
        msgspec.MsgspecError: naming the key that is wrong.
    """
    return msgspec.json.decode(raw, type=Certificate)

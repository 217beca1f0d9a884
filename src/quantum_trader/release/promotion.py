"""May this model get its vote, or more weight? Rules only: what they read is an argument, and nothing is changed here.

A verdict carries a promotion if, and only if, it

- is PROMOTE with exit code 0, over sections A to D, every check of them present and passed, without a fault;
- is about this model, the artefact that runs, and the policy and version that were registered before its window;
- ends at most so long ago as is configured, and not in the future;
- is not contradicted by a later verdict in the ledger.

Weight goes up step by step on a ramp, each step with a verdict: the promotion's own while it is fresh, or the watch's
KEEP at the present weight. It goes down at any time. Nothing goes above the ramp's end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from quantum_trader.core.errors import format_ms
from quantum_trader.gates.deployment import DEPLOYMENT
from quantum_trader.gates.evidence import EVIDENCE
from quantum_trader.gates.result import GATES
from quantum_trader.gates.vetoes import VETOES
from quantum_trader.release.ledger_entries import Demote, Entry, Promote, Registration, Verdict, Watch, WeightChange
from quantum_trader.release.verdict_report import Report

PROMOTE, KEEP = "PROMOTE", "KEEP"

CLOCK_SLACK_MS = 5_000
"""A window may end so far ahead of this machine's clock."""

SECTIONS = {**dict.fromkeys(VETOES, "B"), EVIDENCE: "C", **dict.fromkeys(DEPLOYMENT, "D")}
"""Every check that has to pass besides the contract, and its section."""


@dataclass(frozen=True)
class Candidate:
    """Who is to be promoted, and when.

    Attributes:
        model: Short name.
        running: Digest of the artefact that runs.
        now_ms: Milliseconds since the epoch.
        max_age_ms: Age of a window's end up to which a verdict counts.
    """

    model: str
    running: str
    now_ms: int
    max_age_ms: int


def objections(report: Report, candidate: Candidate, entries: Sequence[Entry]) -> list[str]:
    """Everything that speaks against a promotion by this verdict, a phrase each; empty if nothing does."""
    return [
        *_of_state(report),
        *_of_subject(report, candidate),
        *_of_registration(report, candidate, entries),
        *_of_age(report, candidate),
        *_of_later(report, candidate, entries),
    ]


def _of_state(report: Report) -> list[str]:
    content = report.content
    found = []
    if content.state != PROMOTE or content.exit_code != 0:
        found.append(f"the verdict is {content.state} (exit code {content.exit_code}), not PROMOTE")
    if content.faults:
        found.append(f"the verdict has faults: {content.faults[0]}")
    if content.contract != "PASS":
        found.append(f"its contract is {content.contract}")
    missing = sorted(set(GATES) - {line.name for line in content.gates})
    lines = {line.name: line for line in content.checks}
    missing += [name for name, section in SECTIONS.items() if name not in lines or lines[name].section != section]
    if missing:
        found.append(f"it is not over the whole of sections A to D: {', '.join(missing)} not judged")
    failed = [name for name in SECTIONS if name in lines and lines[name].state != "PASS"]
    if failed:
        found.append(f"not passed: {', '.join(failed)}")
    return found


def _of_subject(report: Report, candidate: Candidate) -> list[str]:
    content = report.content
    if content.model != candidate.model:
        return [f"it is about {content.model}, not {candidate.model}"]
    if content.artefact != candidate.running:
        return [f"it is about artefact {content.artefact[:16] or 'none'}, but {candidate.running[:16]} runs"]
    return []


def registration_of(model: str, artefact: str, entries: Sequence[Entry]) -> Registration | None:
    """The last registration of an artefact, if there is one."""
    details = (entry.detail for entry in reversed(entries))
    return next(
        (d for d in details if isinstance(d, Registration) and (d.model, d.artefact) == (model, artefact)), None
    )


def _of_registration(report: Report, candidate: Candidate, entries: Sequence[Entry]) -> list[str]:
    content = report.content
    registered = registration_of(candidate.model, candidate.running, entries)
    if registered is None:
        return [f"the ledger holds no registration of {candidate.model} {candidate.running[:16]}"]
    found = []
    if content.policy_digest != registered.policy:
        found.append(f"its policy is {content.policy_digest[:12]}, registered is {registered.policy[:12]}")
    if content.version != registered.version:
        found.append(f"it spends the alpha of version {content.version}, registered is version {registered.version}")
    if report.window_start < registered.window_start:
        found.append(
            f"its window begins {format_ms(report.window_start)}, before the registered "
            f"{format_ms(registered.window_start)}"
        )
    return found


def _of_age(report: Report, candidate: Candidate) -> list[str]:
    age = candidate.now_ms - report.window_end
    if age > candidate.max_age_ms:
        return [f"it is expired: its window ended {_span(age)} ago, the limit is {_span(candidate.max_age_ms)}"]
    if age < -CLOCK_SLACK_MS:
        return [f"its window ends {format_ms(report.window_end)}, which has not been yet"]
    return []


def _of_later(report: Report, candidate: Candidate, entries: Sequence[Entry]) -> list[str]:
    later = [
        entry.detail
        for entry in entries
        if isinstance(entry.detail, Verdict)
        and (entry.detail.model, entry.detail.artefact) == (candidate.model, candidate.running)
        and entry.detail.window_end > report.window_end
        and entry.detail.state != PROMOTE
    ]
    return [f"a later verdict says {later[-1].state} (window to {format_ms(later[-1].window_end)})"] if later else []


def first_weight(wanted: float, ramp: Sequence[float]) -> list[str]:
    """What speaks against a weight to be promoted with."""
    if not 0 < wanted <= ramp[0]:
        return [f"a promotion begins with a weight above 0 and at most {ramp[0]:g}, not {wanted:g}"]
    return []


def next_weight(now: float, wanted: float, ramp: Sequence[float]) -> list[str]:
    """What speaks against a step from one weight to another, whatever verdict there is."""
    if not wanted > 0:
        return [f"weight {wanted:g}: expected above 0; `quantum rollback` takes a vote away"]
    if wanted == now:
        return [f"the weight is {now:g} already"]
    if wanted < now:
        return []
    step = next((step for step in ramp if step > now), None)
    if step is None:
        return [f"{now:g} is at the ramp's end {ramp[-1]:g} or above"]
    return [f"the next step of the ramp is {step:g}, not {wanted:g}"] if wanted > step else []


def kept(model: str, artefact: str, weight: float, entries: Sequence[Entry], candidate: Candidate) -> bool:
    """Whether the watch ended with KEEP at this weight, with this artefact, after the last change, and lately."""
    for entry in reversed(entries):
        detail = entry.detail
        if not isinstance(detail, Promote | WeightChange | Demote | Watch) or detail.model != model:
            continue
        if not isinstance(detail, Watch):
            return False
        if detail.facts.get("state") != KEEP or (detail.artefact, detail.after.weight) != (artefact, weight):
            return False
        return entry.when.timestamp() * 1000 >= candidate.now_ms - candidate.max_age_ms
    return False


def _span(ms: int) -> str:
    return str(timedelta(seconds=ms // 1000))

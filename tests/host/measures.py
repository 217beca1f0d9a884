"""What drills measured: a record for each, and tables of them for people."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from tests.host.standing import Standing

WAYS = ("fast", "full", "nuclear")


@dataclass
class Run:
    """One deployment or one way back, with all the calls that it took.

    Attributes:
        what: ``deploy`` or a way back.
        results: How its transactions ended on the host, oldest first.
        outcome: new, old, or shadow (a way back that failed).
        calls: How often the operator had to call.
        near_s: From call to exit, of all calls.
        host_s: From begin to end in the agent's journal.
        gap_s: The longest time without readiness meanwhile.
        path: reload or restart, by the engine's process.
        again: It failed first, and was called again once the operator had mended what was damaged or full.
    """

    what: str
    results: list[str] = field(default_factory=list)
    outcome: str = ""
    calls: int = 0
    near_s: float = 0.0
    host_s: float | None = None
    gap_s: float | None = None
    path: str = ""
    again: bool = False


@dataclass
class Record:
    """One drill."""

    number: int
    way: str
    fault: dict[str, Any]
    hit: bool | None = None
    role: str = ""
    refused: bool = False
    first: Run | None = None
    runs: list[Run] = field(default_factory=list)
    failure: str = ""

    @property
    def disturbed(self) -> bool:
        """Whether its fault struck the way back."""
        return self.fault["kind"] != "no fault" and self.fault["phase"] == "rollback" and bool(self.hit)

    @property
    def back(self) -> Run | None:
        """Its way back."""
        return next((run for run in reversed(self.runs) if run.what in WAYS and run.outcome == "new"), None)

    def line(self) -> str:
        """For the eye, while it runs."""
        kind = self.fault["kind"]
        where = "" if kind == "no fault" else f"in {self.fault['phase']}{'' if self.hit else ' (missed)'}"
        told = [
            f"{run.what} {run.outcome} {run.near_s:.1f} s" + (f" x{run.calls}" * (run.calls > 1)) for run in self.runs
        ]
        back = self.back
        gap = "" if back is None else f"; host {back.host_s or 0:.2f} s, gap {back.gap_s or 0:.2f} s, {back.path}"
        failed = f"; FAILED: {self.failure}" if self.failure else ""
        return f"{self.number:4} {kind:17} {where:20} {', '.join(told)}{gap}{failed}"

    def as_json(self) -> dict[str, Any]:
        """For the file."""
        return {**asdict(self), "disturbed": self.disturbed}


def host_seconds(events: Sequence[dict[str, Any]]) -> tuple[float, float] | None:
    """When a transaction began and ended, seconds since the epoch."""
    at = {event["event"]: datetime.fromisoformat(event["at"]).timestamp() for event in events}
    return (at["begin"], at["end"]) if {"begin", "end"} <= set(at) else None


def longest_gap(gaps: Iterable[dict[str, Any]], span: tuple[float, float]) -> float:
    """Of those that lie in a span of time, whole or in part."""
    return max((gap["s"] for gap in gaps if gap["to"] > span[0] and gap["from"] < span[1]), default=0.0)


def path_of(before: Standing, after: Standing) -> str:
    """How the engine took it."""
    return "reload" if before.told["pid"] == after.told["pid"] else "restart"


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Number, p50, p99 and largest."""
    low, high = np.percentile(values, [50, 99])
    return {"n": len(values), "p50": float(low), "p99": float(high), "max": float(max(values))}


def tables(records: Sequence[Record]) -> str:
    """Everything for a page of Markdown."""
    return "\n\n".join((_faults(records), _times(records), _paths(records)))


def _faults(records: Sequence[Record]) -> str:
    kinds = sorted({(r.fault["kind"], r.fault["phase"] if r.fault["kind"] != "no fault" else "") for r in records})
    lines = [
        "| fault | in | struck | drills | new at once | came back or to shadow first |",
        "|---|---|---|---|---|---|",
    ]
    for kind, phase in kinds:
        of = [r for r in records if r.fault["kind"] == kind and phase in (r.fault["phase"], "")]
        ended = Counter(r.first.outcome for r in of if r.first is not None)
        hits = sum(bool(r.hit) for r in of) if phase else "-"
        lines.append(f"| {kind} | {phase} | {hits} | {len(of)} | {ended['new']} | {ended['old'] + ended['shadow']} |")
    return "\n".join(lines)


def _times(records: Sequence[Record]) -> str:
    lines = _head("rollback")
    choices: list[tuple[str, Callable[[Record], bool]]] = [("all", lambda _: True)]
    choices += [
        ("undisturbed", lambda r: not r.disturbed),
        ("struck, went through", lambda r: r.disturbed and not _again(r)),
    ]
    choices += [("struck, failed, called again", lambda r: r.disturbed and _again(r))]
    for name, chosen in choices:
        for way in ("", *WAYS):
            backs = [r.back for r in records if chosen(r)]
            runs = [run for run in backs if run is not None and way in (run.what, "")]
            if runs:
                lines.append(_row(f"{f'--{way}' if way else 'every way'}, {name}", runs))
    return "\n".join(lines)


def _again(record: Record) -> bool:
    return record.back is not None and record.back.again


def _paths(records: Sequence[Record]) -> str:
    lines = _head("the engine took it by")
    for what in ("deploy", *WAYS):
        for path in ("reload", "restart"):
            runs = [run for r in records for run in r.runs if (run.what, run.path, run.outcome) == (what, path, "new")]
            if runs:
                lines.append(_row(f"{path}, {what}", runs))
    return "\n".join(lines)


def _head(what: str) -> list[str]:
    measured = (f"{name} p50 | p99 | max" for name in ("call to exit, s", "on the host, s", "gap, s"))
    return [f"| {what} | n | {' | '.join(measured)} |", f"|{'---|' * 11}"]


def _row(name: str, runs: Sequence[Run]) -> str:
    cells = [name, str(len(runs))]
    for values in ([r.near_s for r in runs], [r.host_s for r in runs], [r.gap_s for r in runs]):
        known = [value for value in values if value is not None]
        found = quantiles(known) if known else {}
        cells += [f"{found[key]:.2f}" if found else "-" for key in ("p50", "p99", "max")]
    return f"| {' | '.join(cells)} |"

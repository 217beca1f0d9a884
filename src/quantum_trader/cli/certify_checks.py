"""What must hold of two engines that decided the same bars, one of them with a faulty shadow. Pure.

- Every decision's bytes are the same with the shadow, without it, and in a replay without a server.
- For every model, the decisions are the sum of its answers, by the server's tally and by the records alike.
- The shadow's answers are what the fault must give, and nothing that it cannot give.
- Every intent is the other side's intent, plus the shadow's entry, marked as one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from quantum_trader.cli.certify_engines import Comparison, Side
from quantum_trader.core.decision import Decision, DecisionRecord, canonical
from quantum_trader.core.errors import format_ms
from quantum_trader.core.predictions import Status, cause_of
from quantum_trader.engine.faults import Fault
from quantum_trader.report.certificate import BYTES, Check

WORDS = {
    Fault.HEALTHY: "works as it should",
    Fault.SLEEPING: "takes a second for every batch",
    Fault.HUNG: "stops itself (SIGSTOP) at its first batch",
    Fault.CRASH_ON_7TH: "aborts at the seventh bar of each life",
    Fault.CRASH_ON_EVERY: "aborts at every bar",
    Fault.MEMORY: "takes memory until it is killed",
    Fault.NAN: "answers NaN",
    Fault.INFINITE: "answers infinities",
    Fault.OUTPUT_10MB: "answers ten megabytes",
    Fault.WRONG_SHAPE: "answers one value too many",
    Fault.MUTATING: "overwrites its input, and tries to overwrite its artefact",
    Fault.STDOUT: "writes to standard output without end",
    Fault.EXIT_IN_IMPORT: "exits before anything is loaded",
}

_SLOW = {"late: grace", "late: breaker"}
_DOWN = {"missing: starting", "missing: stopped"}
_HUNG = {"late: breaker", "late: hung", "missing: hung", *_DOWN}

ANSWERS: dict[Fault, tuple[set[str], set[str]]] = {
    Fault.HEALTHY: ({"ok"}, _SLOW),
    Fault.SLEEPING: ({"late: grace"}, {"late: breaker"}),
    Fault.HUNG: ({"late: grace"}, _HUNG),
    Fault.CRASH_ON_7TH: ({"ok", "missing: stopped"}, {"failed: crashed", *_SLOW, *_DOWN}),
    Fault.CRASH_ON_EVERY: ({"missing: stopped"}, {"failed: crashed", *_SLOW, *_DOWN}),
    # A virtual machine may have to fetch every page first: then its first life ends over what it computes.
    Fault.MEMORY: ({"missing: stopped"}, {"failed: crashed", *_SLOW, *_HUNG}),
    Fault.NAN: ({"refused: nan"}, _SLOW),
    Fault.INFINITE: ({"refused: infinite"}, _SLOW),
    Fault.OUTPUT_10MB: ({"missing: stopped"}, {"refused: too-large", *_SLOW, *_DOWN}),
    Fault.WRONG_SHAPE: ({"refused: shape"}, _SLOW),
    Fault.MUTATING: ({"refused: input"}, _SLOW),
    Fault.STDOUT: ({"late: grace"}, _HUNG),
    Fault.EXIT_IN_IMPORT: ({"missing: stopped"}, {"missing: starting"}),
}
"""For each fault the answers that must occur, and those that may. The late ones may where a machine is slow."""


def checks(both: Comparison, replayed: Mapping[str, Decision], shadow: str, fault: Fault) -> list[Check]:
    """Everything that must hold of one comparison.

    Args:
        both: What the two engines left behind.
        replayed: The same bars' decisions by id, without a server.
        shadow: The model that is a shadow on the second side.
        fault: What was wrong with it.
    """
    return [
        _bytes(both, replayed),
        _accounting(both.on, shadow),
        _answers(both.on, shadow, fault),
        _intents(both, shadow),
    ]


def answer_words(records: Sequence[DecisionRecord], shadow: str) -> dict[str, int]:
    """How often the shadow's answer ended in which way, the most frequent first."""
    found = Counter(answer_word(record, shadow) for record in records)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def answer_word(record: DecisionRecord, shadow: str) -> str:
    """How one answer of the shadow ended: ``ok``, or its status and cause."""
    vote = record.shadows.get(shadow)
    if vote is None:
        return "no record"
    return vote.status if vote.status == Status.OK else f"{vote.status}: {cause_of(vote.reason)}"


def _bytes(both: Comparison, replayed: Mapping[str, Decision]) -> Check:
    off, on = (_by_id(side.records) for side in (both.off, both.on))
    difference = _difference(on, off, "without it") or _difference(on, replayed, "in the replay")
    if difference:
        return Check(BYTES, passed=False, detail=difference)
    if len(both.on.records) != len(on) or not on:
        return Check(BYTES, passed=False, detail=f"{len(both.on.records):,} records of {len(on):,} decisions")
    return Check(BYTES, passed=True, detail=f"{len(on):,} equal with the shadow, without it, and in a replay")


def _by_id(records: Sequence[DecisionRecord]) -> dict[str, Decision]:
    return {record.decision.decision_id: record.decision for record in records}


def _difference(mine: Mapping[str, Decision], others: Mapping[str, Decision], there: str) -> str:
    """The first difference from the decisions with the shadow, by bar time and symbol; empty where there is none."""
    known = {**others, **mine}
    for name in sorted(known, key=lambda name: (known[name].ts_open, known[name].symbol)):
        a, b = mine.get(name), others.get(name)
        where = f"{known[name].symbol} at {format_ms(known[name].ts_close)}"
        if a is None or b is None:
            return f"{where}: decided {there if a is None else 'with the shadow'} only"
        if canonical(a) != canonical(b):
            left, right = (msgspec.to_builtins(decision) for decision in (a, b))
            field = next((field for field in left if left[field] != right[field]), "its bytes")
            return f"{where}: {field} is {left.get(field)!r} with the shadow, {right.get(field)!r} {there}"
    return ""


def _accounting(side: Side, shadow: str) -> Check:
    name, n = "accounting", len(side.records)
    problems = list(side.problems)
    models = {*(model for record in side.records for model in record.decision.votes), shadow}
    for model in sorted(models):
        statuses = Counter(_status(record, model) for record in side.records)
        if (none := statuses.pop("", 0)) or sum(statuses.values()) != n:
            problems.append(f"{model}: no answer recorded for {none:,} of {n:,} decisions")
    if problems:
        return Check(name, passed=False, detail=problems[0])
    return Check(name, passed=True, detail=f"{n:,} decisions = the sum of the answers of each of {len(models)} models")


def _status(record: DecisionRecord, model: str) -> str:
    vote = record.decision.votes.get(model) or record.shadows.get(model)
    return "" if vote is None else vote.status


def _answers(side: Side, shadow: str, fault: Fault) -> Check:
    name = "shadow's answers"
    found, (must, may) = answer_words(side.records, shadow), ANSWERS[fault]
    shown = ", ".join(f"{word} {n:,}" for word, n in found.items())
    missing, foreign = must - set(found), set(found) - must - may
    if missing:
        return Check(name, passed=False, detail=f"no {', '.join(sorted(missing))} among {shown or 'none'}")
    if foreign:
        return Check(name, passed=False, detail=f"{', '.join(sorted(foreign))} cannot come of this fault")
    return Check(name, passed=True, detail=shown)


def _intents(both: Comparison, shadow: str) -> Check:
    name = "intents"
    actionable = {record.decision.decision_id for record in both.on.records if record.decision.action != "HOLD"}
    off, on = ({str(intent["decision_id"]): intent for intent in side.intents} for side in (both.off, both.on))
    if not len(both.on.intents) == len(on) == len(actionable) or set(on) != actionable:
        detail = f"{len(both.on.intents):,} intents of {len(actionable):,} actionable decisions"
        return Check(name, passed=False, detail=detail)
    for decision_id, intent in on.items():
        entry = intent["model_breakdown"].get(shadow)
        if entry is None or entry.get("shadow") is not True or not entry["model"].endswith("_shadow"):
            return Check(name, passed=False, detail=f"{decision_id}: the shadow's entry is {entry!r}")
        if decision_id not in off or _without(intent, shadow) != _without(off[decision_id], shadow):
            return Check(name, passed=False, detail=f"{decision_id}: differs in more than the shadow's entry")
    return Check(name, passed=True, detail=f"{len(on):,}, each with its marked shadow entry and otherwise the same")


def _without(intent: Mapping[str, Any], shadow: str) -> dict[str, Any]:
    """An intent without what the shadow adds to it and without the time at which it was written."""
    left = {key: value for key, value in intent.items() if key not in ("timestamp", "total_models")}
    for key in ("model_breakdown", "artefacts"):
        left[key] = {model: value for model, value in intent[key].items() if model != shadow}
    return left

"""Input honesty: whether models see the market, and whether their answers move with it.

Told of every decided group, the monitor says which alarms stand. Its rules, each over the last 24 bars of a symbol:

- constant-input: the same input as at the bar before, twice; or one input shared by two symbols at one bar, once. Two
  differing inputs never hash alike. The engine's own input concerns all models and names none; a shadow's is the one
  that its own process reports.
- shadow-input: a shadow predicted on another input than it was sent, once.
- frozen-output: 20 equal answers in a row; or the same answer for all of at least three symbols, at three bars. Trees
  repeat themselves honestly: the longest run seen in ten months of real bars was 19.
- voter-abstains: a voter did not answer, twice.
- shadow-silent: a shadow did not answer at half of the bars.
- input-drift: the features are not those of the model's training (`core.drift`).

An alarm stands until its condition was absent for some bars in a row, then its count starts anew; so nothing flaps. An
alarm that begins for all symbols of a group at once is one alarm, without a symbol, until it is over for all of them.
"""

from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from msgspec import UNSET

from quantum_trader.core.alarms import Alarm, AlarmName
from quantum_trader.core.decision import DecisionRecord, ModelVote
from quantum_trader.core.drift import SPAN, DriftMonitor, Identity, Reference
from quantum_trader.core.features import Float32Array
from quantum_trader.core.predictions import Cause, Status, cause_of

ANSWER_STEP = 1e-6
"""Answers closer than this are equal."""

FROZEN_RUN = 20
FROZEN_SYMBOLS = 3

Input = str | bytes
"""A model's input in a form that differs where inputs differ."""

_EVERY = ""
"""Symbol of what concerns them all."""

_MASK = (1 << SPAN) - 1


class Rule(NamedTuple):
    """When an alarm stands: from `need` bars with its condition among the last SPAN, until `calm` in a row without."""

    need: int
    calm: int


SAME_BAR = Rule(need=1, calm=3)
REPEATED = Rule(need=2, calm=3)
OTHER_INPUT = Rule(need=1, calm=SPAN // 2)
FROZEN = Rule(need=1, calm=FROZEN_RUN + 1)
"""Calm for longer than the next run takes: one other answer between two runs is no end."""

ALIKE = Rule(need=3, calm=FROZEN_RUN + 1)
ABSTAINS = Rule(need=2, calm=3)
SILENT = Rule(need=SPAN // 2, calm=SPAN // 4)
DRIFT = Rule(need=1, calm=SPAN)


class _Latch:
    """One condition's memory: a bit for each of the last bars, and since when it has been calm."""

    __slots__ = ("bits", "calm", "detail", "standing")

    def __init__(self) -> None:
        self.bits, self.calm, self.detail, self.standing = 0, 0, "", False

    def note(self, rule: Rule, detail: str) -> bool:
        """Take one bar, with its condition's detail or none; says whether there is still something to remember."""
        self.bits = (self.bits << 1 | bool(detail)) & _MASK
        self.calm = 0 if detail else self.calm + 1
        if self.standing:
            self.standing = self.calm < rule.calm
            return self.standing
        if detail and self.bits.bit_count() >= rule.need:
            self.standing, self.detail = True, detail
        return self.bits != 0


@dataclass(slots=True)
class _Run:
    """Equal answers of one model on one symbol, one after the other."""

    p_up: float
    length: int = 1


class Honesty:
    """The monitor of one engine. Pure: a function of what it was told, in that order."""

    def __init__(self, references: Mapping[str, Reference]) -> None:
        """`references`: by model what its features were in training; a model without has no drift alarm."""
        self._drift: dict[Identity, tuple[list[str], DriftMonitor]] = {}
        self._refer(references)
        self._latches: dict[tuple[AlarmName, str], dict[str, _Latch]] = {}
        self._as_one: dict[tuple[AlarmName, str], Alarm] = {}
        self._inputs: dict[tuple[str, str], dict[str, Input]] = {}
        self._runs: dict[str, dict[str, _Run]] = {}

    def recast(self, references: Mapping[str, Reference], changed: Collection[str]) -> None:
        """Others speak from now on: what was remembered of the models that changed is forgotten.

        Args:
            references: As at the start, of everybody who speaks now; who goes on keeps what was seen of it.
            changed: Models with another role or artefact, and those that are gone.
        """
        self._latches = {key: own for key, own in self._latches.items() if key[1] not in changed}
        self._as_one = {key: alarm for key, alarm in self._as_one.items() if key[1] not in changed}
        self._inputs = {key: seen for key, seen in self._inputs.items() if key[0] not in changed}
        self._runs = {model: runs for model, runs in self._runs.items() if model not in changed}
        self._refer(references)

    def _refer(self, references: Mapping[str, Reference]) -> None:
        before, self._drift = self._drift, {}
        for model, reference in references.items():
            known = reference.identity
            if known not in self._drift:
                self._drift[known] = ([], before[known][1] if known in before else DriftMonitor(reference))
            self._drift[known][0].append(model)

    def observe(self, rows: Float32Array, records: Sequence[DecisionRecord]) -> tuple[Alarm, ...]:
        """Take one decided group.

        Args:
            rows: The features of the n decisions, shape (n, F), in the order of `SCHEMA.names`; NaN where there are
                none.
            records: Length n, of different symbols.

        Returns:
            Every alarm that stands now.
        """
        symbols = [record.decision.symbol for record in records]
        before = self._standing()
        self._watch_own_input(symbols, rows, records)
        self._watch_voters(symbols, records)
        self._watch_shadows(symbols, records)
        self._watch_drift(symbols, rows)
        return self._gather(before, symbols)

    def _watch_own_input(self, symbols: Sequence[str], rows: Float32Array, records: Sequence[DecisionRecord]) -> None:
        hashes = [record.decision.input_hash for record in records]
        # The hash is of row and sequence together: a row that is stuck beside a sequence that moves has to be seen too.
        row_bytes = [row.tobytes() if digest else b"" for row, digest in zip(rows, hashes, strict=True)]
        self._watch_inputs("", symbols, {"input": hashes, "row of features": row_bytes})

    def _watch_voters(self, symbols: Sequence[str], records: Sequence[DecisionRecord]) -> None:
        for model in records[0].decision.votes if records else ():
            votes = [record.decision.votes[model] for record in records]
            silent = [
                "" if vote.status == Status.OK else record.reasons.get(model) or vote.status
                for vote, record in zip(votes, records, strict=True)
            ]
            self._note(AlarmName.VOTER_ABSTAINS, model, ABSTAINS, symbols, silent)
            self._watch_answers(model, symbols, votes)

    def _watch_shadows(self, symbols: Sequence[str], records: Sequence[DecisionRecord]) -> None:
        for model in records[0].shadows if records else ():
            votes = [record.shadows[model] for record in records]
            other = [vote.reason if cause_of(vote.reason) == Cause.INPUT else "" for vote in votes]
            self._note(AlarmName.SHADOW_INPUT, model, OTHER_INPUT, symbols, other)
            # Whoever answered on another input is not silent.
            silent = [
                "" if vote.status == Status.OK or strange else f"{vote.status}: {vote.reason}"
                for vote, strange in zip(votes, other, strict=True)
            ]
            self._note(AlarmName.SHADOW_SILENT, model, SILENT, symbols, silent)
            # What has no features has no input, whatever the shadow was shown in its place.
            hashes = [v.input_hash if r.decision.input_hash else "" for v, r in zip(votes, records, strict=True)]
            self._watch_inputs(model, symbols, {"input": hashes})
            self._watch_answers(model, symbols, votes)

    def _watch_inputs(self, model: str, symbols: Sequence[str], kinds: Mapping[str, Sequence[Input]]) -> None:
        """`kinds`: by kind of input what each symbol's was; empty where there was none."""
        again, shared = [""] * len(symbols), ""
        for kind, inputs in kinds.items():
            before = self._inputs.setdefault((model, kind), {})
            for i, (symbol, seen) in enumerate(zip(symbols, inputs, strict=True)):
                if seen and before.get(symbol) == seen:
                    again[i] = f"the same {kind} as at the bar before"
            before.update(item for item in zip(symbols, inputs, strict=True) if item[1])
            owners = _shared(symbols, inputs)
            shared = f"one {kind} for {owners}" if owners else shared
        self._note(AlarmName.CONSTANT_INPUT, model, REPEATED, symbols, again)
        self._note(AlarmName.CONSTANT_INPUT, model, SAME_BAR, (_EVERY,), (shared,))

    def _watch_answers(self, model: str, symbols: Sequence[str], votes: Sequence[ModelVote]) -> None:
        # Who does not answer does not repeat itself either; its run goes on with its next answer.
        said = {symbol: vote.p_up for symbol, vote in zip(symbols, votes, strict=True) if vote.p_up is not UNSET}
        runs, frozen = self._runs.setdefault(model, {}), []
        for symbol, p_up in said.items():
            run = runs.get(symbol)
            if run is None or abs(p_up - run.p_up) > ANSWER_STEP:
                runs[symbol] = _Run(p_up)
                frozen.append("")
                continue
            run.length += 1
            frozen.append(f"{p_up:.4f} at {FROZEN_RUN} bars in a row" if run.length >= FROZEN_RUN else "")
        self._note(AlarmName.FROZEN_OUTPUT, model, FROZEN, tuple(said), frozen)
        if len(said) >= FROZEN_SYMBOLS:
            low, high = min(said.values()), max(said.values())
            alike = f"{low:.4f} for all of {len(said)} symbols" if high - low <= ANSWER_STEP else ""
            self._note(AlarmName.FROZEN_OUTPUT, model, ALIKE, (_EVERY,), (alike,))

    def _watch_drift(self, symbols: Sequence[str], rows: Float32Array) -> None:
        finite = np.isfinite(rows).all(axis=1)
        shown = [symbols[i] for i in np.flatnonzero(finite).tolist()]
        for models, monitor in self._drift.values():
            found = monitor.observe(shown, rows[finite])
            for model in models:
                self._note(AlarmName.INPUT_DRIFT, model, DRIFT, shown, found)

    def _note(self, name: AlarmName, model: str, rule: Rule, symbols: Sequence[str], details: Sequence[str]) -> None:
        """Take one bar of each symbol, with its condition's detail or none."""
        own = self._latches.setdefault((name, model), {})
        # Almost always: nothing is wrong, and nothing was.
        if not own and not any(details):
            return
        for symbol, detail in zip(symbols, details, strict=True):
            latch = own.get(symbol)
            if latch is None:
                if not detail:
                    continue
                latch = own[symbol] = _Latch()
            if not latch.note(rule, detail):
                del own[symbol]

    def _standing(self) -> dict[tuple[AlarmName, str], dict[str, str]]:
        """Details of the standing conditions, by alarm and model, then by symbol."""
        standing = {}
        for key, own in self._latches.items():
            details = {symbol: latch.detail for symbol, latch in own.items() if latch.standing}
            if details:
                standing[key] = details
        return standing

    def _gather(self, before: Container[tuple[AlarmName, str]], symbols: Sequence[str]) -> tuple[Alarm, ...]:
        now, everybody = self._standing(), set(symbols)
        self._as_one = {key: alarm for key, alarm in self._as_one.items() if key in now}
        for key, details in now.items():
            if key not in before and len(everybody) > 1 and details.keys() >= everybody:
                detail = f"all {len(everybody)} symbols; of {symbols[0]}: {details[symbols[0]]}"
                self._as_one[key] = Alarm(*key, _EVERY, detail)
        alarms: list[Alarm] = []
        for key, details in now.items():
            if _EVERY in details:
                alarms.append(Alarm(*key, _EVERY, details[_EVERY]))
            elif key in self._as_one:
                alarms.append(self._as_one[key])
            else:
                alarms += [Alarm(*key, symbol, detail) for symbol, detail in details.items()]
        return tuple(alarms)


def _shared(symbols: Sequence[str], inputs: Sequence[Input]) -> str:
    """The symbols that share the commonest input at one bar; empty where every input is of one symbol."""
    counts = Counter(seen for seen in inputs if seen)
    if len(counts) == sum(counts.values()):
        return ""
    (common, _), *_ = counts.most_common(1)
    return ", ".join(symbol for symbol, seen in zip(symbols, inputs, strict=True) if seen == common)

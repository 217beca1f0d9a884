"""The service: bars in from the stream, decisions and intents out, one transaction for each batch.

- Start-up and crash recovery are one path: take the lease, rebuild the windows from acknowledged bars, take over what
  is pending.
- A bar is acknowledged in the transaction that publishes its decision, or with the reason why it gets none.
- Nothing is skipped in silence: warm-up, duplicates, late and malformed bars are counted and logged.
- A server that stays away or refuses is waited for: the batch in hand is committed when it is back. Only a lease that
  another engine took ends the loop.
- Who speaks changes between two batches only (`engine.stage`).
- Whatever looks on (metrics, alarms) is told after the commit and can neither change nor end anything.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from quantum_trader.bus.entries import BadEntry, BarEntry
from quantum_trader.bus.lease import Lease, LeaseLostError
from quantum_trader.bus.reader import BarReader
from quantum_trader.bus.writer import CommitBatch, CommitResult, DecisionWriter
from quantum_trader.core.bars import WINDOW
from quantum_trader.core.decision import DecisionRecord, Occasion
from quantum_trader.core.errors import BusError, format_ms
from quantum_trader.core.features import Computation
from quantum_trader.core.intent import build_intent
from quantum_trader.core.policy import IntentPolicy, VotePolicy
from quantum_trader.engine.deciding import (
    FeatureBatch,
    abstentions,
    decide_batch,
    finish_batch,
    without_broken_rows,
)
from quantum_trader.engine.intake import Intake, Ready
from quantum_trader.engine.loglines import RateLimit, loaded_line, shadow_line, telemetry_line
from quantum_trader.engine.oversight import Committed, Oversight, Timing
from quantum_trader.engine.pulse import Pulse
from quantum_trader.engine.stage import Stage
from quantum_trader.engine.steady_clock import SteadyClock
from quantum_trader.stopping import Stop

log = logging.getLogger(__name__)

T = TypeVar("T")
Pair = tuple[DecisionRecord, Mapping[str, object] | None]

READ_COUNT = 512

RECALL = 2 * WINDOW
"""Bars of a symbol that are read back at the start: more than a window, because bars that came twice count as well."""

IDLE_MS = 250
"""Longest wait for bars before the loop looks whether it should stop."""

AGAIN_S = 1.0
"""Pause before a server that stayed away for all quick tries is asked again."""

FINISH_S = 10.0
"""How long bars in hand are still decided after a stop was asked for; the rest is decided after the next start."""

BACKLOG_EVERY_S = 5.0
"""How often the server is asked how far behind the group is."""

TOLD_EVERY_S = 60.0
"""How often an outage that goes on is told again."""


@dataclass(frozen=True)
class ServiceConfig:
    """What the loop needs to know.

    Attributes:
        symbols: Venue symbols whose bars are decided together.
        timeframe: Of every bar; another one is refused.
        linger_ms: Longest wait for stragglers of one bar time.
        lease_wait_s: Longest wait at the start for another engine of the group to end.
    """

    symbols: Sequence[str]
    timeframe: str
    linger_ms: int
    lease_wait_s: float


class _AbandonedError(Exception):
    """Told to stop while the server is away."""


class Service:
    """The deciding loop; `run` returns after `stop` was called and the bars in hand are decided, or `FINISH_S` over."""

    def __init__(
        self,
        config: ServiceConfig,
        bus: tuple[Lease, BarReader, DecisionWriter],
        stage: Stage,
        policies: tuple[VotePolicy, IntentPolicy],
        clock: SteadyClock,
        onlookers: tuple[Pulse, Oversight],
    ) -> None:
        self._config = config
        self._lease, self._reader, self._writer = bus
        self._stage = stage
        self._vote_policy, self._intent_policy = policies
        self._clock = clock
        self._pulse, self._oversight = onlookers
        self._stop = Stop()
        self._finish_by = 0.0
        self._intake = Intake(config.symbols, config.timeframe, config.linger_ms, clock.now_ms)
        self._shadow_lines = RateLimit()
        self._batch = 0
        self._backlog_due = 0.0
        self.counts: Counter[str] = Counter()

    def stop(self) -> None:
        """Ask the loop to end after the bars in hand; safe in a signal handler."""
        if not self._stop.is_set():
            self._finish_by = time.monotonic() + FINISH_S
            self._stop.set()

    def run(self, on_ready: Callable[[], None]) -> None:
        """Recover, get ready, decide until stopped.

        Raises:
            LeaseLostError: if another engine took the lease.
            QuantumError: if the start does not succeed; after it, a server that stays away is waited for.
        """
        try:
            if self._recover():
                on_ready()
                self._pulse.ready()
                self._loop()
        except _AbandonedError:
            log.error("stopped while the stream server is away: what is not committed is decided after the next start")
        except LeaseLostError as error:
            self._oversight.lease_lost(str(error), self._clock.now_us())
            raise
        finally:
            self._pulse.stopping()
        log.info("stopped: %s", ", ".join(f"{name}={n}" for name, n in sorted(self.counts.items())) or "nothing to do")

    def _recover(self) -> bool:
        """Everything before the first new bar; False if it was told to stop while it waited for the lease."""
        for model in self._stage.voters:
            log.info(loaded_line(model, self._vote_policy.weights[model]))
        for model, reason in self._stage.cast.reasons.items():
            log.info("role of %s is %s", model, reason)
        self._pulse.hindered("waiting for the lease of its group")
        if not self._lease.wait(self._config.lease_wait_s, self._stopped):
            return False
        self._reader.ensure_group()
        self._intake.rebuild(self._reader.history(RECALL, symbols=self._config.symbols))
        # Nobody else holds the lease, so nobody else decides what other consumers have left lying.
        self._take(self._reader.claim(0))
        return True

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._decide_due()
            self._stage.turn(self._clock.now_us(), wait=False)
            self._oversight.turned(self._clock)
            self._ask_backlog()
            self._take(self._through(self._read))
        self._decide_due()

    def _ask_backlog(self) -> None:
        if time.monotonic() >= self._backlog_due:
            self._backlog_due = time.monotonic() + BACKLOG_EVERY_S
            unread, pending = self._through(self._reader.backlog)
            self._oversight.backlog(unread, pending)
            if pending > self._intake.waiting:
                # An engine that lost its lease while it read has left something lying.
                self._take(self._through(lambda: self._reader.claim(0)))

    def _stopped(self) -> bool:
        self._pulse.turned()
        return self._stop.is_set()

    def _read(self) -> list[BarEntry | BadEntry]:
        self._lease.keep()
        return self._reader.read(READ_COUNT, block_ms=max(self._intake.wait_ms(IDLE_MS), 1))

    def _through(self, attempt: Callable[[], T]) -> T:
        """Run what may be repeated until the server lets it through.

        Raises:
            _AbandonedError: if told to stop before. Nothing may be committed after that: a later decision would
                overtake this one, and its guard would refuse it for ever.
        """
        began = told = time.monotonic() - TOLD_EVERY_S
        while True:
            self._pulse.turned()
            try:
                result = attempt()
            except LeaseLostError:
                raise
            except BusError as error:
                self._pulse.hindered(str(error))
                if time.monotonic() - told >= TOLD_EVERY_S:
                    told = time.monotonic()
                    log.error("%s; trying again until it works", error)
            else:
                if told != began:
                    log.warning("the stream server works again")
                self._pulse.bus_answered()
                return result
            if self._stop.wait(AGAIN_S):
                raise _AbandonedError

    def _take(self, entries: Sequence[BarEntry | BadEntry]) -> None:
        refused = self._intake.take(entries)
        if refused:
            self._ended("refused", len(refused))
            self._commit(refused)

    def _ended(self, fate: str, n: int) -> None:
        self.counts[fate] += n
        self._oversight.bars(fate, n)

    def _decide_due(self) -> None:
        for group in self._intake.due():
            # Once over it stays over: nothing later can be committed before what is left out here.
            if self._stop.is_set() and time.monotonic() >= self._finish_by:
                log.warning("stopped with bars in hand: they are decided after the next start")
                return
            for fate, n in group.fates.items():
                self._ended(fate, n)
            for missing in group.gaps:
                self.counts["gaps"] += 1
                self._oversight.gap(missing)
            if group.ready:
                self._decide(group.ready, group.entry_ids)
            else:
                self._commit(group.entry_ids)

    def _decide(self, ready: Sequence[Ready], entry_ids: Sequence[str]) -> None:
        self._stage.turn(self._clock.now_us(), wait=True)
        began = time.perf_counter()
        self._batch += 1
        # What a shadow sees leaves as soon as it is there: it works while the rest is computed and the voters answer.
        computation = Computation([item.window.matrix() for item in ready])
        self._stage.shadows.submit(self._batch, "sequence", computation.sequences)
        # The server answers while this process computes.
        self._writer.look_ahead([item.entry.bar.symbol for item in ready], self._config.timeframe)
        batch = finish_batch(computation)
        self._stage.shadows.submit(self._batch, "row", batch.rows)
        occasion = self._occasion(ready, batch)
        decisions, outputs = decide_batch(occasion, batch, self._stage.voters, self._vote_policy)
        decided, votes_in = time.perf_counter(), time.monotonic()
        answers = {
            name: without_broken_rows(votes, batch)
            for name, votes in self._stage.shadows.collect(self._batch, batch, votes_in).items()
        }
        waited = time.perf_counter()
        now_us = self._clock.now_us()
        records = [
            DecisionRecord(
                decision=decision,
                shadows={name: votes[i] for name, votes in answers.items()},
                reasons=abstentions(i, outputs),
                ts_decision=now_us // 1000,
            )
            for i, decision in enumerate(decisions)
        ]
        pairs: list[Pair] = [
            (record, build_intent(record.decision, record.shadows, self._intent_policy, now_us)) for record in records
        ]
        result = self._commit(entry_ids, pairs, now_us)
        timing = Timing(decided - began, waited - decided, time.perf_counter() - waited)
        bar_ids = [item.entry.entry_id for item in ready]
        self._tell(pairs, result, now_us // 1000)
        self._oversight.committed(
            Committed(batch.rows, pairs, bar_ids, frozenset(result.written), timing, self._clock.now_us())
        )

    def _occasion(self, ready: Sequence[Ready], batch: FeatureBatch) -> Occasion:
        bars = [item.entry.bar for item in ready]
        return Occasion(
            timeframe=self._config.timeframe,
            symbols=[bar.symbol for bar in bars],
            ts_open=[bar.ts_open for bar in bars],
            ts_close=[bar.ts_close for bar in bars],
            prices=[bar.close for bar in bars],
            atr_fractions=batch.atr_fractions,
            input_hashes=batch.input_hashes,
        )

    def _commit(self, entry_ids: Sequence[str], pairs: Sequence[Pair] = (), now_us: int | None = None) -> CommitResult:
        """Write and acknowledge, however long the server stays away."""
        at_us = self._clock.now_us() if now_us is None else now_us
        batch = CommitBatch(entry_ids=entry_ids, group=self._reader.group, records=pairs, now_us=at_us)
        return self._through(lambda: self._writer.commit(batch))

    def _tell(self, pairs: Sequence[Pair], result: CommitResult, now_ms: int) -> None:
        """Count and log what was written."""
        written = set(result.written)
        self.counts["decisions"] += len(written)
        self.counts["decided_before"] += len(result.refused)
        for record, intent in pairs:
            decision = record.decision
            for model, vote in record.shadows.items():
                if self._shadow_lines.allows((model, decision.symbol), now_ms):
                    log.info(shadow_line(model, decision.symbol, vote))
            if intent is not None:
                self.counts["intents"] += decision.decision_id in written
                log.info(_telemetry(record, intent))
            for model, reason in record.reasons.items():
                log.error("%s abstains on %s at %s: %s", model, decision.symbol, format_ms(decision.ts_close), reason)


def _telemetry(record: DecisionRecord, intent: Mapping[str, object]) -> str:
    breakdown = intent["model_breakdown"]
    names = list(breakdown) if isinstance(breakdown, dict) else []
    return telemetry_line(record.decision, names, fallback_used=bool(intent["fallback_used"]))

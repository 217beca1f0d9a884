"""The service: bars in from the stream, decisions and intents out, one transaction for each batch.

- Start-up and crash recovery are one path: rebuild the windows from acknowledged bars, take over what is pending.
- A bar is acknowledged in the transaction that publishes its decision, or with the reason why it gets none.
- Nothing is skipped in silence: warm-up, duplicates, late and malformed bars are counted and logged.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from quantum_trader.bus.entries import BadEntry, BarEntry
from quantum_trader.bus.reader import BarReader
from quantum_trader.bus.writer import CommitBatch, DecisionWriter
from quantum_trader.core.bars import WINDOW, Arrival, BarWindow, check_bar, interval_ms
from quantum_trader.core.decision import DecisionRecord, Occasion, shadow_votes
from quantum_trader.core.errors import BarError, format_ms
from quantum_trader.core.intent import build_intent
from quantum_trader.core.policy import IntentPolicy, VotePolicy
from quantum_trader.engine.assembly import Assembler
from quantum_trader.engine.deciding import FeatureBatch, abstentions, decide_batch, feature_batch, with_feature_reasons
from quantum_trader.engine.loading import Cast
from quantum_trader.engine.loglines import RateLimit, loaded_line, shadow_line, telemetry_line
from quantum_trader.engine.shadow import ShadowRing

log = logging.getLogger(__name__)

READ_COUNT = 512
IDLE_MS = 250
"""Longest wait for bars before the loop looks whether it should stop."""

CLOCK_TOLERANCE_MS = 5_000
"""A bar may close this much after our clock: exchanges and hosts differ, and a refused bar is a hole of 512."""


@dataclass(frozen=True)
class ServiceConfig:
    """What the loop needs to know.

    Attributes:
        symbols: Venue symbols whose bars are decided together.
        timeframe: Of every bar; another one is refused.
        linger_ms: Longest wait for stragglers of one bar time.
        claim_idle_ms: Pending bars of other consumers are taken over after this long.
    """

    symbols: Sequence[str]
    timeframe: str
    linger_ms: int
    claim_idle_ms: int


@dataclass(frozen=True)
class Ready:
    """A bar whose window is whole."""

    entry: BarEntry
    window: BarWindow


class Service:
    """The deciding loop; `run` returns after `stop` was called and the batch in hand is committed."""

    def __init__(
        self,
        config: ServiceConfig,
        reader: BarReader,
        writer: DecisionWriter,
        cast: Cast,
        shadows: ShadowRing,
        policies: tuple[VotePolicy, IntentPolicy],
        *,
        now_us: Callable[[], int],
    ) -> None:
        self._config = config
        self._reader = reader
        self._writer = writer
        self._cast = cast
        self._shadows = shadows
        self._vote_policy, self._intent_policy = policies
        self._now_us = now_us
        self._stop = threading.Event()
        interval = interval_ms(config.timeframe)
        self._windows = {symbol: BarWindow(symbol, interval) for symbol in config.symbols}
        self._assembler: Assembler[BarEntry] = Assembler(config.symbols, config.linger_ms)
        self._shadow_lines = RateLimit()
        self._batch = 0
        self.counts: Counter[str] = Counter()

    def stop(self) -> None:
        """Ask the loop to end after the batch in hand; safe in a signal handler."""
        self._stop.set()

    def run(self, on_ready: Callable[[], None]) -> None:
        """Recover, get ready, decide until stopped."""
        self._announce()
        self._reader.ensure_group()
        self._rebuild_windows()
        on_ready()
        self._take(self._reader.claim(self._config.claim_idle_ms))
        while not self._stop.is_set():
            self._decide_due()
            wait = self._assembler.wait_ms(self._now_us() // 1000, IDLE_MS)
            self._take(self._reader.read(READ_COUNT, block_ms=max(wait, 1)))
        self._decide_due()
        log.info("stopped: %s", ", ".join(f"{name}={n}" for name, n in sorted(self.counts.items())) or "nothing to do")

    def _announce(self) -> None:
        for model in self._cast.voters:
            log.info(loaded_line(model, self._vote_policy.weights[model]))
        for model, reason in self._cast.reasons.items():
            log.info("role of %s is %s", model, reason)

    def _rebuild_windows(self) -> None:
        entries = self._reader.history(WINDOW, symbols=self._config.symbols)
        for entry in entries:
            window = self._windows.get(entry.bar.symbol)
            if window is not None and entry.timeframe == self._config.timeframe:
                window.push(entry.bar)
        counts = ", ".join(f"{symbol} {window.count}" for symbol, window in self._windows.items())
        log.info("windows rebuilt from the stream: %s of %d bars", counts, WINDOW)

    def _take(self, entries: Sequence[BarEntry | BadEntry]) -> None:
        now_ms = self._now_us() // 1000
        refused = []
        for entry in entries:
            rule = self._refusal(entry, now_ms)
            if rule is not None:
                self.counts["refused"] += 1
                log.error("bar refused, entry %s: %s", entry.entry_id, rule)
                refused.append(entry.entry_id)
        if refused:
            self._commit(refused, [])

    def _refusal(self, entry: BarEntry | BadEntry, now_ms: int) -> str | None:
        """Why a bar cannot be decided; None if it was accepted."""
        if isinstance(entry, BadEntry):
            return str(entry.error)
        bar = entry.bar
        if bar.symbol not in self._windows:
            return f"{bar.symbol} is not configured (symbols: {', '.join(self._windows)})"
        if entry.timeframe != self._config.timeframe:
            return f"{bar.symbol} has timeframe {entry.timeframe}, configured is {self._config.timeframe}"
        try:
            check_bar(bar, now_ms + CLOCK_TOLERANCE_MS)
        except BarError as error:
            return str(error)
        if not self._assembler.add(bar.symbol, bar.ts_open, entry, now_ms):
            return str(BarError(bar.symbol, bar.ts_open, "duplicate: the same bar is waiting already"))
        return None

    def _decide_due(self) -> None:
        for group in self._assembler.release(self._now_us() // 1000):
            self._decide_group(list(group.items.values()))

    def _decide_group(self, entries: Sequence[BarEntry]) -> None:
        ready = []
        for entry in sorted(entries, key=lambda entry: entry.bar.symbol):
            window = self._push(entry)
            if window is not None:
                ready.append(Ready(entry, window))
        records = self._decide_ready(ready) if ready else []
        self._commit([entry.entry_id for entry in entries], records)

    def _push(self, entry: BarEntry) -> BarWindow | None:
        """The bar's window if it is whole now; otherwise the bar is counted under the reason why it is not."""
        bar = entry.bar
        window = self._windows[bar.symbol]
        arrival, gap = window.push(bar)
        if gap is not None:
            self.counts["gaps"] += 1
            log.warning(
                "gap: %s misses %d bars from %s; predictions wait for %d whole bars",
                *(bar.symbol, gap.missing, format_ms(gap.ts_first), WINDOW),
            )
        if arrival is not Arrival.APPENDED:
            self.counts[arrival.value] += 1
            log.warning("bar dropped: %s", BarError(bar.symbol, bar.ts_open, arrival.value.replace("_", " ")))
            return None
        if not window.ready:
            self.counts["warming_up"] += 1
            return None
        return window

    def _decide_ready(self, ready: Sequence[Ready]) -> list[DecisionRecord]:
        batch = feature_batch([item.window.matrix() for item in ready])
        self._batch += 1
        self._shadows.submit(self._batch, batch)
        occasion = self._occasion(ready, batch)
        decisions, outputs = decide_batch(occasion, batch, self._cast.voters, self._vote_policy)
        answers = {
            name: shadow_votes(with_feature_reasons(output, batch))
            for name, output in self._shadows.collect(self._batch, len(ready)).items()
        }
        ts_decision = self._now_us() // 1000
        return [
            DecisionRecord(
                decision=decision,
                shadows={name: votes[i] for name, votes in answers.items()},
                reasons=abstentions(i, outputs),
                ts_decision=ts_decision,
            )
            for i, decision in enumerate(decisions)
        ]

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

    def _commit(self, entry_ids: Sequence[str], records: Sequence[DecisionRecord]) -> None:
        now_us = self._now_us()
        pairs = []
        for record in records:
            intent = build_intent(record.decision, record.shadows, self._intent_policy, now_us)
            pairs.append((record, intent))
            self._log_record(record, intent, now_us // 1000)
        result = self._writer.commit(
            CommitBatch(entry_ids=entry_ids, group=self._reader.group, records=pairs, now_us=now_us)
        )
        written = set(result.written)
        self.counts["decisions"] += len(written)
        self.counts["decided_before"] += len(result.refused)
        self.counts["intents"] += sum(
            intent is not None and record.decision.decision_id in written for record, intent in pairs
        )

    def _log_record(self, record: DecisionRecord, intent: Mapping[str, object] | None, now_ms: int) -> None:
        symbol = record.decision.symbol
        for model, vote in record.shadows.items():
            if self._shadow_lines.allows((model, symbol), now_ms):
                log.info(shadow_line(model, symbol, vote))
        if intent is not None:
            log.info(_telemetry(record, intent))
        for model, reason in record.reasons.items():
            log.error("%s abstains on %s at %s: %s", model, symbol, format_ms(record.decision.ts_close), reason)


def _telemetry(record: DecisionRecord, intent: Mapping[str, object]) -> str:
    breakdown = intent["model_breakdown"]
    names = list(breakdown) if isinstance(breakdown, dict) else []
    return telemetry_line(record.decision, names, fallback_used=bool(intent["fallback_used"]))

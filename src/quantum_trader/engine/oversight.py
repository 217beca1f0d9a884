"""Everything that looks on after a commit: counts, times, alarms. It can neither change nor end a decision.

- Metrics count what a commit wrote.
- Honesty watches inputs and outputs; whatever stands goes to the board, and what changed on the board goes to the log
  and, as an event, to the lifecycle stream.
- Who speaks may change between two groups: what was counted stays, what was remembered of the changed is forgotten.
- An event that cannot be published is kept and tried again; after some time the oldest are dropped, and said to be.
- An error of any of these is logged with its trace and goes no further.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from quantum_trader.bus.writer import LifecycleWriter
from quantum_trader.core.alarms import Alarm, AlarmName, Board, Changes
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.drift import Reference
from quantum_trader.core.errors import BusError
from quantum_trader.core.features import Float32Array
from quantum_trader.core.honesty import Honesty
from quantum_trader.engine.metrics import Metrics, Running
from quantum_trader.engine.steady_clock import SteadyClock

log = logging.getLogger(__name__)

EVENT_KIND = "alarm"
RECAST_KIND = "recast"
LONGEST_QUEUE = 1000


@dataclass(frozen=True)
class Timing:
    """Where the time of one group went, seconds: deciding, waiting for the shadows, committing."""

    deciding: float
    grace_wait: float
    commit: float


@dataclass(frozen=True)
class Committed:
    """One group whose decisions were committed.

    Attributes:
        rows: float32, shape (n, F): the features of the n decisions.
        pairs: The n records, each with its intent's payload where it is actionable.
        entry_ids: Stream entries of the n bars.
        written: Ids of the decisions that this commit wrote; the others were there before.
        timing: Where the time went.
        now_us: After the commit, microseconds since the epoch.
    """

    rows: Float32Array
    pairs: Sequence[tuple[DecisionRecord, Mapping[str, Any] | None]]
    entry_ids: Sequence[str]
    written: frozenset[str]
    timing: Timing
    now_us: int


class _Event(NamedTuple):
    """What waits to be published."""

    kind: str
    detail: Mapping[str, str]
    at_us: int


def _alarm_event(alarm: Alarm, state: str, at_us: int) -> _Event:
    detail = {"name": alarm.name.value, "model": alarm.model, "symbol": alarm.symbol}
    return _Event(EVENT_KIND, {**detail, "detail": alarm.detail, "state": state}, at_us)


class Oversight:
    """The onlookers of one engine. For the deciding thread."""

    def __init__(self, metrics: Metrics, honesty: Honesty, lifecycle: LifecycleWriter) -> None:
        self._metrics, self._honesty, self._lifecycle = metrics, honesty, lifecycle
        self._board = Board()
        self._events: deque[_Event] = deque()

    def bars(self, fate: str, n: int) -> None:
        """Bars ended without a decision."""
        self._harmless(lambda: self._metrics.bars(fate, n))

    def gap(self, missing: int) -> None:
        """A gap showed in a symbol's bars."""
        self._harmless(lambda: self._metrics.gap(missing))

    def backlog(self, unread: int | None, pending: int) -> None:
        """How far behind the bar stream the group is."""
        self._harmless(lambda: self._metrics.backlog(unread, pending))

    def committed(self, group: Committed) -> None:
        """A group was committed."""
        self._harmless(lambda: self._count(group))
        self._harmless(lambda: self._watch(group))
        self._harmless(self._publish)

    def turned(self, clock: SteadyClock) -> None:
        """The loop turned, with or without bars."""
        conditions = []
        if clock.stepped_back:
            conditions.append(
                Alarm(AlarmName.CLOCK_STEP, detail=f"the wall clock is {clock.behind_us / 1e6:.1f} s behind")
            )
        self._harmless(lambda: self._heard("clock", conditions, clock.now_us()))
        self._harmless(self._publish)

    def recast(
        self,
        running: Running,
        references: Mapping[str, Reference],
        changed: Mapping[str, Mapping[str, str]],
        now_us: int,
    ) -> None:
        """Others speak from the next group on.

        Args:
            running: Who.
            references: Their features in training, by model.
            changed: By model what the event in the lifecycle stream says of its change.
            now_us: Microseconds since the epoch.

        Published at the next turn: a batch may be about to begin.
        """
        self._harmless(lambda: self._metrics.recast(running))
        self._harmless(lambda: self._honesty.recast(references, changed.keys()))
        self._events.extend(_Event(RECAST_KIND, {"model": m, **detail}, now_us) for m, detail in changed.items())

    def lease_lost(self, detail: str, now_us: int) -> None:
        """Another engine took over; the last thing that this one says."""
        self._harmless(lambda: self._heard("lease", [Alarm(AlarmName.LEASE_LOST, detail=detail)], now_us))
        self._harmless(self._publish)

    def _count(self, group: Committed) -> None:
        metrics, timing = self._metrics, group.timing
        metrics.committed(group.pairs, group.entry_ids, group.written, group.now_us // 1000)
        metrics.deciding.observe(timing.deciding)
        metrics.grace_wait.observe(timing.grace_wait)
        metrics.commit.observe(timing.commit)

    def _watch(self, group: Committed) -> None:
        # What was decided before was watched before.
        new = [i for i, (record, _) in enumerate(group.pairs) if record.decision.decision_id in group.written]
        if new:
            records = [group.pairs[i][0] for i in new]
            self._heard("honesty", self._honesty.observe(group.rows[new], records), group.now_us)

    def _heard(self, watcher: str, conditions: Iterable[Alarm], now_us: int) -> None:
        changes = self._board.update(watcher, conditions)
        if not any(changes):
            return
        self._log(changes)
        self._metrics.alarms(self._board.standing)
        if watcher == "clock" and changes.raised:
            self._metrics.clock_stepped()
        self._events.extend(_alarm_event(alarm, "raised", now_us) for alarm in changes.raised)
        self._events.extend(_alarm_event(alarm, "cleared", now_us) for alarm in changes.cleared)

    @staticmethod
    def _log(changes: Changes) -> None:
        for alarm in changes.raised:
            log.error("[ALARM] %s", alarm)
        for alarm in changes.cleared:
            log.warning("[ALARM OVER] %s", alarm)

    def _publish(self) -> None:
        if len(self._events) > LONGEST_QUEUE:
            dropped = len(self._events) - LONGEST_QUEUE
            log.error("%d events could not be published and are dropped; they stand in this log only", dropped)
            for _ in range(dropped):
                self._events.popleft()
        while self._events:
            event = self._events[0]
            try:
                self._lifecycle.publish(event.kind, event.detail, event.at_us)
            except BusError as error:
                log.error("%s event not published yet: %s", event.kind, error)
                return
            self._events.popleft()

    @staticmethod
    def _harmless(look: Callable[[], None]) -> None:
        try:
            look()
        except Exception:  # whatever it is: who looks on must not stop who decides
            log.exception("an onlooker failed; decisions go on")

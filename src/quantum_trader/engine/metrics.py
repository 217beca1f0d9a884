"""What the engine counts and times, for Prometheus: a registry of its own, house names, no label for a symbol.

Rules:

- Only what a commit wrote is counted: for every model decisions = sum of its predictions over all statuses, exactly.
- Every series that can be named beforehand exists from the start at zero, so that a rate sees its first step.
- What has a state (shadows, readiness) is asked for when somebody reads, so it is true between bars too.
- Counters are of this life of the process. The record is `ai.decision`, not this.
"""

import math
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from quantum_trader.core.alarms import Alarm, AlarmName, Key
from quantum_trader.core.bars import Arrival
from quantum_trader.core.decision import DecisionRecord, ModelVote
from quantum_trader.core.predictions import Action, Cause, Role, Status, cause_of

LATENCY_BUCKETS = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 1.0, 1.5, 2.5, 5.0, 10.0),
)
"""Upper bounds in seconds, 1 ms to 10 s; dense where a batch of 5 to 50 symbols is decided."""

FATES = ("decided", "decided_before", "warming_up", "refused", *(a.value for a in Arrival if a is not Arrival.APPENDED))
"""What can become of a bar that was read."""

OTHER = "other"
"""Label of a cause that `core.predictions.Cause` does not know, so that no text of a shadow's becomes a series."""

_CAUSES = frozenset(str(cause) for cause in Cause)
_PREDICTION, _MISS = "prediction", "miss"
# Plain text: an enum's member is hashed by Python code, five microseconds a group.
_OK, _VOTER, _SHADOW = Status.OK.value, Role.VOTER.value, Role.SHADOW.value


@dataclass(frozen=True)
class Running:
    """Who is running: for the info series.

    Attributes:
        version: Of this package.
        features: Digest of the feature schema.
        policy: Digest of the vote policy with these voters.
        voters: Digests of the loaded artefacts by model.
        shadows: The same of the shadows; empty text where none could be loaded.
    """

    version: str
    features: str
    policy: str
    voters: Mapping[str, str]
    shadows: Mapping[str, str]


class ShadowState(Protocol):
    """How a shadow stands at this moment."""

    @property
    def model(self) -> str:
        """Short name of the model, as in the breakdown."""

    @property
    def up(self) -> bool:
        """Whether its process has loaded its artefact and takes batches."""

    @property
    def breaker_open(self) -> bool:
        """Whether nobody waits for it because it missed too often."""

    @property
    def restarts(self) -> int:
        """How often its process was started again; never decreases."""


class Metrics:
    """Every metric of an engine. Counting is for the deciding thread; reading is safe from any other.

    Attributes:
        registry: What `/metrics` shows.
        deciding: Histogram, seconds of features, voters and vote of one group.
        grace_wait: Histogram, seconds that a group waited for its shadows after the vote.
        commit: Histogram, seconds of one commit, the wait for the server's disk included.
    """

    def __init__(self, running: Running) -> None:
        # Process-wide in the library: one creation time a series would double the page and tell nobody anything.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._count()
        self._time()
        self._observe_bus()
        self._declare_alarms()
        self._declare_infos()
        self.recast(running)
        self._standing_keys: set[Key] = set()
        self._pulled = _Pulled()
        self.registry.register(self._pulled)
        ProcessCollector(registry=self.registry)

    def recast(self, running: Running) -> None:
        """Others are running from now on; what was counted stays."""
        for role, models in ((_VOTER, running.voters), (_SHADOW, running.shadows)):
            for model in models:
                for status in Status:
                    self._child((_PREDICTION, model, role, status.value))
        for model in running.shadows:
            for cause in (Cause.GRACE, Cause.BREAKER):
                self._child((_MISS, model, _SHADOW, cause.value))
        self._engine_info.clear()
        self._engine_info.labels(running.version, running.features, running.policy).set(1)
        self._model_info.clear()
        for role, models in ((_VOTER, running.voters), (_SHADOW, running.shadows)):
            for model, artefact in models.items():
                self._model_info.labels(model, role, artefact).set(1)

    def bars(self, fate: str, n: int = 1) -> None:
        """Count bars that came to an end without a decision of this engine: a word of `FATES`."""
        self._bars.labels(fate).inc(n)

    def gap(self, missing: int) -> None:
        """Count a gap in a symbol's bars, and how many bars it misses."""
        self._gaps.inc()
        self._gap_bars.inc(missing)

    def committed(
        self,
        pairs: Sequence[tuple[DecisionRecord, Mapping[str, Any] | None]],
        entry_ids: Sequence[str],
        written: Collection[str],
        now_ms: int,
    ) -> None:
        """Count one commit.

        Args:
            pairs: Decisions with their intent's payload where they are actionable.
            entry_ids: For each decision the stream entry of its bar, ``milliseconds-sequence``.
            written: Decision ids that this commit wrote; the others were decided before.
            now_ms: When the commit was answered, milliseconds since the epoch.
        """
        tally: Tally[Any] = Tally()
        new = 0
        for (record, intent), entry_id in zip(pairs, entry_ids, strict=True):
            decision = record.decision
            if decision.decision_id not in written:
                continue
            new += 1
            tally[decision.action] += 1
            self._intents.inc(intent is not None)
            self._tally_votes(tally, record)
            # Another machine's clock may be ahead of ours; the sum of a histogram must not fall.
            self._latency.observe(max(now_ms - int(entry_id.partition("-")[0]), 0) / 1000)
        for key, n in tally.items():
            self._child(key).inc(n)
        if new:
            self._bars.labels("decided").inc(new)
            self._last.set(now_ms / 1000)
        if new < len(pairs):
            self._bars.labels("decided_before").inc(len(pairs) - new)

    def backlog(self, unread: int | None, pending: int) -> None:
        """Set how far behind the bar stream the group is.

        Args:
            unread: Entries that nobody of the group has read; None where the server cannot tell.
            pending: Entries that were read and are not acknowledged.
        """
        self._unread.set(math.nan if unread is None else unread)
        self._pending.set(pending)

    def clock_stepped(self) -> None:
        """Count a step back of the wall clock."""
        self._clock_steps.inc()

    def alarms(self, standing: Iterable[Alarm]) -> None:
        """Set the alarms that stand now; one that did not stand at the last call counts as raised."""
        now = {alarm.key for alarm in standing}
        if now == self._standing_keys:
            return
        for key in now - self._standing_keys:
            self._raised.labels(key.name.value).inc()
        count = Tally(key.name for key in now)
        for name in AlarmName:
            self._standing.labels(name.value).set(count[name])
        self._standing_keys = now

    def watch_shadows(self, states: Callable[[], Iterable[ShadowState]]) -> None:
        """Ask `states` for the shadows whenever somebody reads; it is called by the reader's thread."""
        self._pulled.shadows = states

    def watch_vitals(self, ready: Callable[[], bool], loop_age_s: Callable[[], float]) -> None:
        """Ask these for readiness and for the seconds since the loop's last turn whenever somebody reads."""
        self._pulled.vitals = (ready, loop_age_s)

    def _tally_votes(self, tally: "Tally[Any]", record: DecisionRecord) -> None:
        for model, vote in record.decision.votes.items():
            self._tally_vote(tally, model, _VOTER, vote, record.reasons.get(model, "").partition(": ")[2])
        for model, shadow in record.shadows.items():
            self._tally_vote(tally, model, _SHADOW, shadow, shadow.reason)

    @staticmethod
    def _tally_vote(tally: "Tally[Any]", model: str, role: str, vote: ModelVote, reason: str) -> None:
        tally[_PREDICTION, model, role, vote.status] += 1
        if vote.status != _OK:
            cause = cause_of(reason)
            tally[_MISS, model, role, cause if cause in _CAUSES else OTHER] += 1

    def _child(self, key: Any) -> Counter:
        """The series of a tally's key: an action, or a prediction's or a miss's labels; looked up once."""
        child = self._children.get(key)
        if child is None:
            kind, *labels = key
            child = (self._predictions if kind == _PREDICTION else self._misses).labels(*labels)
            self._children[key] = child
        return child

    def _count(self) -> None:
        registry = self.registry
        self._decisions = Counter("quantum_decisions", "Decisions written, by action.", ["action"], registry=registry)
        self._intents = Counter("quantum_intents", "Intents published.", registry=registry)
        self._predictions = Counter(
            "quantum_predictions",
            "Predictions recorded, by model, role and status.",
            ["model", "role", "status"],
            registry=registry,
        )
        self._misses = Counter(
            "quantum_misses", "Predictions that are no answer, by cause.", ["model", "role", "cause"], registry=registry
        )
        self._bars = Counter("quantum_bars", "Bars read, by what became of them.", ["fate"], registry=registry)
        self._gaps = Counter("quantum_gaps", "Gaps in a symbol's bars.", registry=registry)
        self._gap_bars = Counter("quantum_gap_bars", "Bars that gaps miss.", registry=registry)
        self._clock_steps = Counter("quantum_clock_steps", "Steps back of the wall clock.", registry=registry)
        self._children: dict[Any, Counter] = {
            action.name: self._decisions.labels(action.name) for action in sorted(Action)
        }
        for fate in FATES:
            self._bars.labels(fate)

    def _time(self) -> None:
        def histogram(name: str, help_: str) -> Histogram:
            return Histogram(name, help_, buckets=LATENCY_BUCKETS, registry=self.registry)

        self._latency = histogram(
            "quantum_decision_latency_seconds", "From a bar's publication in the stream to its decision's commit."
        )
        self.deciding = histogram("quantum_deciding_seconds", "Features, voters and vote of one group of bars.")
        self.grace_wait = histogram("quantum_grace_wait_seconds", "Wait for the shadows after the vote, per group.")
        self.commit = histogram("quantum_commit_seconds", "One commit, the wait for the server's disk included.")

    def _observe_bus(self) -> None:
        registry = self.registry
        self._unread = Gauge("quantum_stream_unread_entries", "Bar entries that no engine has read.", registry=registry)
        self._pending = Gauge(
            "quantum_stream_pending_entries", "Bar entries read and not acknowledged.", registry=registry
        )
        self._last = Gauge(
            "quantum_last_decision_timestamp_seconds",
            "When a decision was last committed, Unix time.",
            registry=registry,
        )
        for unknown in (self._unread, self._pending, self._last):
            # Zero would read as "nothing is waiting", and that is not known yet.
            unknown.set(math.nan)

    def _declare_alarms(self) -> None:
        self._standing = Gauge("quantum_alarms", "Alarms that stand now, by name.", ["name"], registry=self.registry)
        self._raised = Counter("quantum_alarms_raised", "Alarms raised, by name.", ["name"], registry=self.registry)
        for name in AlarmName:
            self._standing.labels(name.value)
            self._raised.labels(name.value)

    def _declare_infos(self) -> None:
        self._engine_info = Gauge(
            "quantum_engine_info",
            "Always 1; who is running.",
            ["version", "features", "policy"],
            registry=self.registry,
        )
        self._model_info = Gauge(
            "quantum_model_info",
            "Always 1; the loaded artefacts.",
            ["model", "role", "artefact"],
            registry=self.registry,
        )


class _Pulled(Collector):
    """States that are asked for at every reading."""

    def __init__(self) -> None:
        self.shadows: Callable[[], Iterable[ShadowState]] = tuple
        self.vitals: tuple[Callable[[], bool], Callable[[], float]] | None = None

    def collect(self) -> Iterator[Metric]:
        """The families, as the library wants them."""
        up = GaugeMetricFamily("quantum_shadow_up", "1 while the shadow's process takes batches.", labels=["model"])
        breaker = GaugeMetricFamily(
            "quantum_shadow_breaker_open", "1 while nobody waits for this shadow.", labels=["model"]
        )
        restarts = CounterMetricFamily(
            "quantum_shadow_restarts", "Times the shadow's process was started again.", labels=["model"]
        )
        for state in self.shadows():
            up.add_metric([state.model], state.up)
            breaker.add_metric([state.model], state.breaker_open)
            restarts.add_metric([state.model], state.restarts)
        yield from (up, breaker, restarts)
        if self.vitals is not None:
            ready, loop_age_s = self.vitals
            yield GaugeMetricFamily("quantum_ready", "1 while the engine is ready.", value=float(ready()))
            yield GaugeMetricFamily(
                "quantum_loop_age_seconds", "Seconds since the deciding loop last turned.", value=loop_age_s()
            )

"""The shadows of an engine: each in a process and with a thread of its own, one grace for all of them together.

The deciding thread leaves a batch in every mailbox, lets the voters decide, and takes what the shadows have answered.
It makes no call that a shadow could block, and waits at most one grace, however many shadows there are and whatever
they do: one deadline for all, and one that is silent takes nothing from the others.

Who is in the ring changes between two batches only (`turn`): a successor is started beside the one it follows, and
takes its place once it has greeted, or at once where that one answers no more.
"""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantum_trader.core.decision import ShadowVote
from quantum_trader.core.features import Float32Array
from quantum_trader.core.predictions import MODELS, Cause, Status, Thresholds, because
from quantum_trader.engine import cgroup
from quantum_trader.engine.backoff import Backoff
from quantum_trader.engine.breaker import Breaker
from quantum_trader.engine.child import WORKER
from quantum_trader.engine.deciding import FeatureBatch
from quantum_trader.engine.limits import Limits
from quantum_trader.engine.loading import ShadowSpec
from quantum_trader.engine.mailbox import Mailbox
from quantum_trader.engine.processors import Processors
from quantum_trader.engine.replies import Expected, Miss
from quantum_trader.engine.supervisor import PATIENCE, Job, Patience, RunAs, Supervisor
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.manifest import Uses

__all__ = ["WORKER", "Shadow", "ShadowRing", "ShadowState"]


@dataclass(frozen=True, slots=True)
class ShadowState:
    """How a shadow stands at this moment.

    Attributes:
        model: Short name.
        up: Its process has loaded its artefact and takes batches.
        restarts: How often its process was started again; never decreases.
        breaker_open: Nobody waits for it, because it missed too often.
        misses: Batches without an answer since its last one on time.
        latency_ms: From leaving a batch to its last answer; None before the first.
    """

    model: str
    up: bool
    restarts: int
    breaker_open: bool
    misses: int
    latency_ms: float | None


class Shadow:
    """One shadow model: its mailbox, and the supervisor of its process where its artefact can be loaded."""

    def __init__(self, spec: ShadowSpec, weight: float, breaker: Breaker, run_as: RunAs) -> None:
        self.spec = spec
        self.restarts_before = 0
        """Restarts of those whom it followed: their number never decreases."""
        self.uses: Uses = "row"
        """Which kind of input it sees."""
        self._supervisor: Supervisor | None = None
        backoff = Backoff()
        if not spec.loadable:
            down = Miss(Status.FAILED, because(Cause.LOAD, spec.reason))
            self.mailbox = Mailbox("", breaker, backoff, down)
            return
        manifest = load_artefact(spec.path).manifest
        self.uses = manifest.uses
        thresholds = Thresholds(manifest.thresholds.buy_above, manifest.thresholds.sell_below)
        self.mailbox = Mailbox(spec.digest, breaker, backoff, make_room=run_as.processors.take_this)
        job = Job(spec.model, spec.path, Expected(spec.digest, thresholds), weight)
        self._supervisor = Supervisor(job, self.mailbox, run_as)

    def start(self, tree: Path | None, leaf: str) -> None:
        """Start its process, in this leaf of a control group where there is one; returns at once."""
        if self._supervisor is not None:
            self._supervisor.start(None if tree is None else cgroup.Group(tree / leaf))

    def state(self) -> ShadowState:
        """How it stands; for any thread."""
        up, breaker_open, misses, latency_ms = self.mailbox.standing()
        restarts = max(self._supervisor.starts - 1, 0) if self._supervisor is not None else 0
        return ShadowState(self.spec.model, up, self.restarts_before + restarts, breaker_open, misses, latency_ms)

    def stop(self) -> None:
        """Begin to end its process; returns at once."""
        if self._supervisor is not None:
            self._supervisor.stop()

    @property
    def up(self) -> bool:
        """Whether its process takes batches."""
        return self.mailbox.standing()[0]

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more, or never did."""
        return self._supervisor is None or not self._supervisor.running

    def join(self) -> None:
        """Wait for the end of its process."""
        if self._supervisor is None or self._supervisor.join():
            self.mailbox.close()


class ShadowRing:
    """All shadows of an engine, with one grace for all of them.

    Args:
        specs: The shadows.
        grace_ms: Longest wait for their answers once the votes are in; 0 takes only what is already there.
        weights: What each would weigh if it voted; for the log.
        memory_mb: Address space of each process in MiB.
        program: Module that runs a shadow, with extra arguments. Not a setting: certificate and demo run a worker with
            a planted fault here.
        patience: How long a batch may go unanswered before it ends the process; raised to two graces.
        misses: So many misses one after the other open a shadow's breaker.
    """

    def __init__(
        self,
        specs: Sequence[ShadowSpec],
        grace_ms: float,
        weights: Mapping[str, float],
        *,
        memory_mb: int = Limits.memory_mb,
        program: Sequence[str] = WORKER,
        patience: Patience = PATIENCE,
        misses: int = 3,
    ) -> None:
        self._grace_s, self._misses, self._weights = grace_ms / 1000.0, misses, weights
        self._run_as = RunAs(Limits(memory_mb), patience.at_least(self._grace_s), program, Processors())
        # Replaced whole when it changes: other threads read it.
        self._shadows = {spec.model: self.prepare(spec) for spec in specs}
        self._coming: dict[str, Shadow] = {}
        self._leaving: list[Shadow] = []
        self._tree: Path | None = None
        self._leaves = itertools.count()

    def prepare(self, spec: ShadowSpec) -> Shadow:
        """A shadow that runs nothing yet; for any thread.

        Raises:
            ArtefactError: if its artefact was verified before and now cannot be loaded.
        """
        return Shadow(spec, self._weights[spec.model], Breaker(self._misses, self._grace_s), self._run_as)

    def start(self) -> None:
        """Start every process; returns at once."""
        if any(shadow.spec.loadable for shadow in self._shadows.values()):
            self._tree = cgroup.delegated()
        for shadow in self._shadows.values():
            self._start(shadow)

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until every loadable shadow has loaded; False if one has not by then."""
        end = time.monotonic() + timeout_s
        waited_for = [shadow for shadow in self._shadows.values() if shadow.spec.loadable]
        return all(shadow.mailbox.wait_up(max(end - time.monotonic(), 0.0)) for shadow in waited_for)

    def submit(self, number: int, uses: Uses, inputs: Float32Array) -> None:
        """Leave a batch for every shadow that sees this kind of input. Never blocks."""
        for shadow in self._shadows.values():
            if shadow.uses == uses:
                shadow.mailbox.submit(number, inputs)

    def collect(self, number: int, batch: FeatureBatch, votes_in: float) -> dict[str, list[ShadowVote]]:
        """What every shadow says of each row of the last batch, or why nothing, at most one grace after `votes_in`.

        Args:
            number: Of the batch.
            batch: What was submitted of it, and its hashes.
            votes_in: When the votes were in, seconds of time.monotonic.
        """
        return {
            model: shadow.mailbox.collect(number, batch.hashes(shadow.uses), votes_in)
            for model, shadow in self._shadows.items()
        }

    def states(self) -> dict[str, ShadowState]:
        """How every shadow stands at this moment; for any thread."""
        return {model: shadow.state() for model, shadow in self._shadows.items()}

    # Between two batches, by the deciding thread.

    def look(self) -> None:
        """Notice who has spoken unasked. Never blocks."""
        for shadow in self._shadows.values():
            shadow.mailbox.look()

    def admit(self, shadow: Shadow) -> None:
        """Start a prepared shadow; where its model has one already, `turn` lets it follow that one."""
        if self._tree is None and shadow.spec.loadable:
            self._tree = cgroup.delegated()
        self._start(shadow)
        model = shadow.spec.model
        self._give_up_successor(model)
        if model in self._shadows:
            self._coming[model] = shadow
        else:
            self._seat(shadow)

    def dismiss(self, model: str) -> None:
        """End a shadow, and its successor where there is one."""
        self._give_up_successor(model)
        rest = dict(self._shadows)
        self._leave(rest.pop(model))
        self._shadows = rest

    def turn(self) -> list[ShadowSpec]:
        """Let successors follow whose time has come, and say which. Never blocks."""
        for shadow in [shadow for shadow in self._leaving if shadow.ended]:
            shadow.join()
            self._leaving.remove(shadow)
        due = [model for model, shadow in self._coming.items() if shadow.up or not self._shadows[model].up]
        for model in due:
            before, shadow = self._shadows[model], self._coming.pop(model)
            shadow.restarts_before = before.state().restarts
            self._seat(shadow)
            self._leave(before)
        return [self._shadows[model].spec for model in due]

    def close(self) -> None:
        """End every process; safe to call twice."""
        everybody = [*self._shadows.values(), *self._coming.values(), *self._leaving]
        for shadow in everybody:
            shadow.stop()
        for shadow in everybody:
            shadow.join()

    def _start(self, shadow: Shadow) -> None:
        # A leaf of its own: beside its successor, a shadow shares no limit with it.
        shadow.start(self._tree, f"shadow-{shadow.spec.model}-{next(self._leaves)}")

    def _seat(self, shadow: Shadow) -> None:
        both = {**self._shadows, shadow.spec.model: shadow}
        self._shadows = {model: both[model] for model in MODELS if model in both}

    def _give_up_successor(self, model: str) -> None:
        if model in self._coming:
            self._leave(self._coming.pop(model))

    def _leave(self, shadow: Shadow) -> None:
        shadow.stop()
        self._leaving.append(shadow)

"""The shadows of an engine: each in a process and with a thread of its own, one grace for all of them together.

The deciding thread leaves a batch in every mailbox, lets the voters decide, and takes what the shadows have answered.
It never touches a shadow's socket and waits at most one grace, however many shadows there are and whatever they do:
one deadline for all, and one that is silent takes nothing from the others.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantum_trader.core.predictions import Cause, ModelOutput, Status, Thresholds, because
from quantum_trader.engine import cgroup
from quantum_trader.engine.backoff import Backoff
from quantum_trader.engine.breaker import Breaker
from quantum_trader.engine.child import WORKER
from quantum_trader.engine.deciding import FeatureBatch
from quantum_trader.engine.limits import Limits
from quantum_trader.engine.loading import ShadowSpec
from quantum_trader.engine.mailbox import Mailbox
from quantum_trader.engine.replies import Expected, Miss
from quantum_trader.engine.supervisor import Job, RunAs, Supervisor
from quantum_trader.models.artefact import load_artefact

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
        self._supervisor: Supervisor | None = None
        backoff = Backoff()
        if not spec.loadable:
            down = Miss(Status.FAILED, because(Cause.LOAD, spec.reason))
            self._mailbox = Mailbox("", breaker, backoff, down)
            return
        manifest = load_artefact(spec.path).manifest
        self._uses = manifest.uses
        thresholds = Thresholds(manifest.thresholds.buy_above, manifest.thresholds.sell_below)
        self._mailbox = Mailbox(spec.digest, breaker, backoff)
        job = Job(spec.model, spec.path, Expected(spec.digest, thresholds), weight)
        self._supervisor = Supervisor(job, self._mailbox, run_as)

    def start(self, tree: Path | None) -> None:
        """Start its process, in a leaf of this control group where there is one; returns at once."""
        if self._supervisor is not None:
            self._supervisor.start(None if tree is None else cgroup.Group(tree / f"shadow-{self.spec.model}"))

    def wait_up(self, timeout_s: float) -> bool:
        """Wait until its process takes batches; for tests and replays, never on the deciding path."""
        return self._mailbox.wait_up(timeout_s)

    def submit(self, number: int, batch: FeatureBatch) -> None:
        """Leave a batch. Never blocks."""
        self._mailbox.submit(number, batch.inputs(self._uses if self._supervisor is not None else "row"))

    def collect(self, number: int, n: int, votes_in: float) -> ModelOutput:
        """The answer to the last batch, or why there is none, at most a grace after `votes_in` (time.monotonic)."""
        return self._mailbox.collect(number, n, votes_in)

    def state(self) -> ShadowState:
        """How it stands; for any thread."""
        up, breaker_open, misses, latency_ms = self._mailbox.standing()
        restarts = max(self._supervisor.starts - 1, 0) if self._supervisor is not None else 0
        return ShadowState(self.spec.model, up, restarts, breaker_open, misses, latency_ms)

    def stop(self) -> None:
        """Begin to end its process; returns at once."""
        if self._supervisor is not None:
            self._supervisor.stop()

    def join(self) -> None:
        """Wait for the end of its process."""
        if self._supervisor is None or self._supervisor.join():
            self._mailbox.close()


class ShadowRing:
    """All shadows of an engine, with one grace for all of them.

    Args:
        specs: The shadows.
        grace_ms: Longest wait for their answers once the votes are in; 0 takes only what is already there.
        weights: What each would weigh if it voted; for the log.
        memory_mb: Address space of each process in MiB.
        program: Module that runs a shadow, with extra arguments. Not a setting: certificate and demo run a worker with
            a planted fault here.
        hang_s: A batch unanswered for so long ends the process, in seconds.
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
        hang_s: float = 30.0,
        misses: int = 3,
    ) -> None:
        run_as = RunAs(Limits(memory_mb), hang_s, program)
        grace_s = grace_ms / 1000.0
        self._shadows = [Shadow(spec, weights[spec.model], Breaker(misses, grace_s), run_as) for spec in specs]

    def start(self) -> None:
        """Start every process; returns at once."""
        tree = cgroup.delegated() if any(shadow.spec.loadable for shadow in self._shadows) else None
        for shadow in self._shadows:
            shadow.start(tree)

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until every loadable shadow has loaded; False if one has not by then."""
        end = time.monotonic() + timeout_s
        return all(shadow.wait_up(max(end - time.monotonic(), 0.0)) for shadow in self._shadows if shadow.spec.loadable)

    def submit(self, number: int, batch: FeatureBatch) -> None:
        """Leave a batch for every shadow. Never blocks."""
        for shadow in self._shadows:
            shadow.submit(number, batch)

    def collect(self, number: int, n: int) -> dict[str, ModelOutput]:
        """Every shadow's answer to the last batch or the lack of it, at most one grace from now."""
        votes_in = time.monotonic()
        return {shadow.spec.model: shadow.collect(number, n, votes_in) for shadow in self._shadows}

    def states(self) -> dict[str, ShadowState]:
        """How every shadow stands at this moment; for any thread."""
        return {shadow.spec.model: shadow.state() for shadow in self._shadows}

    def close(self) -> None:
        """End every process; safe to call twice."""
        for shadow in self._shadows:
            shadow.stop()
        for shadow in self._shadows:
            shadow.join()

"""The engine's side of a shadow: its process, and answers that are taken if they are there within the grace.

The deciding thread never touches the shadow's socket. It leaves a batch in a mailbox and later looks whether the
answer has come; a thread of this module does the sending and receiving, so a shadow that hangs can block only that
thread. A process that ends is started again after a pause that doubles.
"""

import contextlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.predictions import ModelOutput, Status, Thresholds
from quantum_trader.engine import frames
from quantum_trader.engine.deciding import FeatureBatch
from quantum_trader.engine.loading import ShadowSpec
from quantum_trader.engine.loglines import loaded_line
from quantum_trader.models.artefact import load_artefact

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0


class Shadow:
    """One shadow model in a process of its own."""

    def __init__(self, spec: ShadowSpec, weight: float) -> None:
        self.spec = spec
        self._weight = weight
        self._wake = threading.Condition()
        self._outbox: tuple[int, NDArray[np.float32]] | None = None
        self._answers: dict[int, frames.Reply] = {}
        self._awaited = -1
        self._why = "its process has not started yet" if spec.loadable else spec.reason
        self._up = False
        self._closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._thread: threading.Thread | None = None
        if spec.loadable:
            manifest = load_artefact(spec.path).manifest
            self._uses = manifest.uses
            self._thresholds = Thresholds(manifest.thresholds.buy_above, manifest.thresholds.sell_below)

    def start(self) -> None:
        """Start the process and its thread; returns at once. A shadow that cannot be loaded has neither."""
        if self.spec.loadable:
            self._thread = threading.Thread(target=self._supervise, name=f"shadow-{self.spec.model}", daemon=True)
            self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the process has loaded its artefact; for tests and replays, never on the deciding path."""
        with self._wake:
            return self._wake.wait_for(lambda: self._up, timeout_s)

    def submit(self, number: int, batch: FeatureBatch) -> None:
        """Leave a batch for the shadow; one that was not fetched yet is replaced. Never blocks."""
        with self._wake:
            self._awaited = number
            self._answers.clear()
            if self._up:
                # The copy is the shadow's own: nothing it does can reach the voters' inputs.
                self._outbox = (number, batch.inputs(self._uses).copy())
                self._wake.notify_all()

    def collect(self, number: int, n: int, deadline: float) -> ModelOutput:
        """The answer to a batch if it is there by `deadline` (time.monotonic), else why there is none."""
        with self._wake:
            wait = max(deadline - time.monotonic(), 0.0)
            self._wake.wait_for(lambda: number in self._answers or not self._up, wait)
            reply = self._answers.pop(number, None)
            self._awaited = -1
            up, why = self._up, self._why
        if reply is not None:
            return self._checked(reply, n)
        if not self.spec.loadable:
            return ModelOutput.none(n, Status.FAILED, "", why)
        if not up:
            return ModelOutput.none(n, Status.MISSING, self.spec.digest, why)
        return ModelOutput.none(n, Status.LATE, self.spec.digest, "no answer within the grace")

    def close(self) -> None:
        """End the process; safe to call twice."""
        with self._wake:
            self._closing.set()
            self._wake.notify_all()
        self._end_process()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _checked(self, reply: frames.Reply, n: int) -> ModelOutput:
        digest = self.spec.digest
        if reply.error:
            return ModelOutput.none(n, Status.FAILED, digest, reply.error)
        if reply.digest != digest:
            return ModelOutput.none(n, Status.REFUSED, digest, f"it runs artefact {reply.digest[:16]}")
        if len(reply.p_up) != 8 * n:
            return ModelOutput.none(n, Status.REFUSED, digest, f"{len(reply.p_up)} bytes for {n} probabilities")
        return ModelOutput.of(np.frombuffer(reply.p_up, dtype=np.float64), self._thresholds, digest)

    def _supervise(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._closing.is_set():
            started = time.monotonic()
            why = self._run_once()
            if self._closing.is_set():
                return
            log.warning("shadow %s stopped: %s; next start in %.1f s", self.spec.model, why, pause)
            with self._wake:
                self._up, self._why, self._outbox = False, why, None
                self._wake.notify_all()
                self._wake.wait_for(self._closing.is_set, pause)
            healthy = time.monotonic() - started > LONGEST_PAUSE_S
            pause = FIRST_PAUSE_S if healthy else min(2 * pause, LONGEST_PAUSE_S)

    def _run_once(self) -> str:
        """One life of the process; returns why it ended."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._connection = ours
                self._process = _spawn(self.spec.path, theirs)
            try:
                greeting = msgspec.msgpack.decode(frames.receive(ours), type=frames.Reply)
                if greeting.error or greeting.digest != self.spec.digest:
                    return greeting.error or f"it loaded artefact {greeting.digest[:16]}"
                log.info(loaded_line(self.spec.model, self._weight, shadow=True))
                with self._wake:
                    self._up = True
                    self._wake.notify_all()
                self._exchange(ours)
                return "the engine is closing"
            except (EOFError, OSError, ValueError, msgspec.MsgspecError) as error:
                return f"its process ended ({error})"
            finally:
                self._end_process()

    def _exchange(self, connection: socket.socket) -> None:
        decoder = msgspec.msgpack.Decoder(frames.Reply)
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._outbox is not None or self._closing.is_set())
                if self._closing.is_set():
                    return
                outbox, self._outbox = self._outbox, None
            if outbox is None:
                continue
            frames.send(connection, frames.request_of(*outbox))
            reply = decoder.decode(frames.receive(connection))
            with self._wake:
                if reply.batch == self._awaited:
                    self._answers[reply.batch] = reply
                    self._wake.notify_all()

    def _end_process(self) -> None:
        process, connection = self._process, self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if process is not None:
            if process.poll() is None:
                process.kill()
            process.wait()


def _spawn(folder: Path, theirs: socket.socket) -> subprocess.Popen[bytes]:
    # Its output goes nowhere: a shadow that prints without end must not fill the engine's log.
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
        [sys.executable, "-m", "quantum_trader.engine.shadow_worker", str(theirs.fileno()), str(folder)],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(),
    )


def _environment() -> dict[str, str]:
    """No bus address and no secret of the engine's environment reaches a shadow."""
    return {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


class ShadowRing:
    """All shadows of an engine, with one grace for all of them.

    Args:
        specs: The shadows.
        grace_ms: Longest wait for their answers once the votes are in; 0 takes only what is already there.
        weights: What each would weigh if it voted; for the log.
    """

    def __init__(self, specs: Sequence[ShadowSpec], grace_ms: float, weights: Mapping[str, float]) -> None:
        self._shadows = [Shadow(spec, weights[spec.model]) for spec in specs]
        self._grace_s = grace_ms / 1000.0

    def start(self) -> None:
        """Start every process; returns at once."""
        for shadow in self._shadows:
            shadow.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until every loadable shadow has loaded; False if one has not by then."""
        end = time.monotonic() + timeout_s
        return all(
            shadow.wait_ready(max(end - time.monotonic(), 0.0)) for shadow in self._shadows if shadow.spec.loadable
        )

    def submit(self, number: int, batch: FeatureBatch) -> None:
        """Leave a batch for every shadow."""
        for shadow in self._shadows:
            shadow.submit(number, batch)

    def collect(self, number: int, n: int) -> dict[str, ModelOutput]:
        """Every shadow's answer or the lack of it, at most one grace from now."""
        deadline = time.monotonic() + self._grace_s
        return {shadow.spec.model: shadow.collect(number, n, deadline) for shadow in self._shadows}

    def close(self) -> None:
        """End every process."""
        for shadow in self._shadows:
            shadow.close()

"""Faults to plant in a shadow: what goes wrong with models and their code, each as a real process that does it.

They run under the very same cage as the real worker. The certificate, the demo's rogues and the tests choose one;
nothing in the settings can.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.features import Float32Array
from quantum_trader.engine.answering import Answering
from quantum_trader.engine.escapes import escaped
from quantum_trader.engine.frames import Request
from quantum_trader.models.artefact import Artefact

Probabilities = NDArray[np.float64]

WORKER_MODULE = "quantum_trader.engine.faulty_worker"
CRASH_AT = 7
SLEEP_S = 1.0
LARGE_BYTES = 10 * 2**20


class Fault(StrEnum):
    """What a faulty shadow does."""

    HEALTHY = "healthy"
    """Nothing wrong."""
    SLEEPING = "sleeping"
    """Takes a second for every batch."""
    HUNG = "hung"
    """Stops itself (SIGSTOP) at its first batch."""
    CRASH_ON_7TH = "crash-on-7th"
    """Aborts at the seventh batch of each of its lives."""
    CRASH_ON_EVERY = "crash-on-every"
    """Aborts at every batch."""
    MEMORY = "memory"
    """Takes memory without end."""
    NAN = "nan"
    """Answers NaN."""
    INFINITE = "infinite"
    """Answers infinities."""
    OUTPUT_10MB = "output-10mb"
    """Answers ten megabytes."""
    WRONG_SHAPE = "wrong-shape"
    """Answers one value too many."""
    MUTATING = "mutating"
    """Overwrites its input before it predicts, and tries to overwrite its artefact."""
    STDOUT = "stdout"
    """Writes to standard output without end."""
    EXIT_IN_IMPORT = "exit-in-import"
    """Exits before anything is loaded."""
    CONSTANT_INPUT = "constant-input"
    """Shows its model the same sequence for every symbol at every bar: a production model did this for 19 hours."""
    ESCAPING = "escaping"
    """Tries to get out of its cage; fails loudly where it succeeds, and answers where it cannot."""


CERTIFIED = tuple(fault for fault in Fault if fault not in (Fault.CONSTANT_INPUT, Fault.ESCAPING))
"""The faults of the certificate."""


def program_of(fault: Fault) -> tuple[str, ...]:
    """What runs a shadow with this fault: the module and its argument."""
    return (WORKER_MODULE, fault.value)


class Faulty(Answering):
    """A worker with a fault; `fault` is chosen by a subclass (`faulty`)."""

    fault = Fault.HEALTHY

    def __init__(self, artefact: Artefact) -> None:
        super().__init__(artefact)
        self.folder = artefact.folder
        self.batches = 0
        self.first: Float32Array | None = None

    def see(self, request: Request) -> Float32Array:
        """The inputs, after what the fault does before or to them."""
        self.batches += 1
        inputs = super().see(request)
        change = _INPUTS.get(self.fault)
        return inputs if change is None else change(self, inputs)

    def predict(self, inputs: Float32Array) -> Probabilities:
        """The probabilities, after what the fault does to them."""
        p_up = super().predict(inputs)
        change = _OUTPUTS.get(self.fault)
        return p_up if change is None else change(p_up)


def faulty(fault: Fault) -> type[Faulty]:
    """The worker that has this fault."""
    return type(f"Faulty{fault.name.title()}", (Faulty,), {"fault": fault})


def _sleep(_: Faulty, inputs: Float32Array) -> Float32Array:
    time.sleep(SLEEP_S)
    return inputs


def _hang(_: Faulty, inputs: Float32Array) -> Float32Array:
    os.kill(os.getpid(), signal.SIGSTOP)
    return inputs


def _crash_on_seventh(worker: Faulty, inputs: Float32Array) -> Float32Array:
    if worker.batches == CRASH_AT:
        os.abort()
    return inputs


def _crash(_: Faulty, inputs: Float32Array) -> Float32Array:
    os.abort()


def _take_memory(_: Faulty, inputs: Float32Array) -> Float32Array:
    hoard = []
    while True:
        # Ones, not zeros: memory counts once it is touched.
        hoard.append(np.ones_like(inputs, shape=2**22))


def _overwrite(worker: Faulty, inputs: Float32Array) -> Float32Array:
    with contextlib.suppress(OSError):
        (worker.folder / "manifest.json").write_bytes(b"mutated")
    own = inputs.copy()
    own[...] = np.float32(0.125)
    return own


def _print(_: Faulty, inputs: Float32Array) -> Float32Array:
    block = b"x" * 65536
    while True:
        os.write(1, block)


def _constant(worker: Faulty, inputs: Float32Array) -> Float32Array:
    if worker.first is None:
        worker.first = inputs[:1].copy()
    return np.ascontiguousarray(np.broadcast_to(worker.first, inputs.shape))


def _escape(worker: Faulty, inputs: Float32Array) -> Float32Array:
    found = escaped(worker.folder)
    if found:
        raise RuntimeError(f"escaped: {', '.join(found)}")
    return inputs


_INPUTS: dict[Fault, Callable[[Faulty, Float32Array], Float32Array]] = {
    Fault.SLEEPING: _sleep,
    Fault.HUNG: _hang,
    Fault.CRASH_ON_7TH: _crash_on_seventh,
    Fault.CRASH_ON_EVERY: _crash,
    Fault.MEMORY: _take_memory,
    Fault.MUTATING: _overwrite,
    Fault.STDOUT: _print,
    Fault.CONSTANT_INPUT: _constant,
    Fault.ESCAPING: _escape,
}

_OUTPUTS: dict[Fault, Callable[[Probabilities], Probabilities]] = {
    Fault.NAN: lambda p_up: np.full_like(p_up, np.nan),
    Fault.INFINITE: lambda p_up: np.where(np.arange(len(p_up)) % 2, np.inf, -np.inf),
    # A number takes nine bytes on its way.
    Fault.OUTPUT_10MB: lambda p_up: np.full(LARGE_BYTES // 9, 0.5),
    Fault.WRONG_SHAPE: lambda p_up: np.append(p_up, 0.5),
}

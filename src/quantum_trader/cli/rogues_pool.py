"""Who computes the rogues' repetitions: processes of this machine, or the machines of a Ray cluster.

A batch is a few repetitions of one market. Its answer is a text, one JSON line per repetition and model, and depends on
nothing but the order and the batch: not on who computes it, or when.
"""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.errors import ConfigError, QuantumError
from quantum_trader.gates.rogues.gallery import BY_NAME
from quantum_trader.gates.rogues.measure import measure, scene_of

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Batch:
    """Repetitions `first` to `end` - 1 of one market."""

    market: str
    first: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is the same for every batch of a run.

    Attributes:
        seed: Of the run.
        events: Decisions of a repetition.
        models: Names of the gallery.
        prices: Log closes of the real market, shape (bars, symbols); None without it.
    """

    seed: int
    events: int
    models: tuple[str, ...]
    prices: NDArray[np.float64] | None = None


class Executor(Protocol):
    """Computes batches and gives each as soon as it is done, in any order."""

    def __call__(self, task: Task, batches: Sequence[Batch]) -> Iterator[tuple[Batch, bytes]]:
        """Batches with their answers."""


def compute(task: Task, batch: Batch) -> bytes:
    """The answer to one batch."""
    lines = []
    models = [BY_NAME[name] for name in task.models]
    for repetition in range(batch.first, batch.end):
        scene = scene_of(batch.market, repetition, task.seed, task.prices, task.events)
        lines += measure(scene, models, batch.market, repetition, task.seed)
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


@dataclass(frozen=True, slots=True)
class LocalPool:
    """Processes of this machine, each on one thread."""

    workers: int

    def __call__(self, task: Task, batches: Sequence[Batch]) -> Iterator[tuple[Batch, bytes]]:
        """Batches with their answers.

        Raises:
            QuantumError: if a worker is killed.
        """
        # Set before a worker imports numpy: linear algebra on many threads would make workers wait for each other.
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
        pool = ProcessPoolExecutor(self.workers, get_context("spawn"), initializer=_start, initargs=(task,))
        try:
            waiting = {pool.submit(_answer, batch): batch for batch in batches}
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BrokenProcessPool as error:
            raise QuantumError("rogues: a worker was killed; run the same command again, it goes on") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class RayCluster:
    """The machines of a Ray cluster; the same package must be installed on all of them."""

    address: str

    def __call__(self, task: Task, batches: Sequence[Batch]) -> Iterator[tuple[Batch, bytes]]:
        """Batches with their answers.

        Raises:
            ConfigError: if Ray is not installed or the cluster cannot be reached.
        """
        ray = _ray()
        variables = {"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")}
        try:
            ray.init(address=self.address, runtime_env=variables, log_to_driver=False)
        except ConnectionError as error:
            raise ConfigError(f"--ray {self.address}: no cluster there ({error})") from error
        try:
            shared, remote = ray.put(task), ray.remote(compute)
            waiting = {remote.remote(shared, batch): batch for batch in batches}
            while waiting:
                done, _ = ray.wait(list(waiting))
                for reference in done:
                    yield waiting.pop(reference), ray.get(reference)
        finally:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "--ray: Ray is not installed; it is an optional part, pip install 'quantum-trader[distributed]'"
        ) from error
    return ray


_task: Task | None = None


def _start(task: Task) -> None:
    """Set up a worker: it leaves interrupts to its parent, and ends with it, even if that was killed."""
    global _task
    _task = task
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _answer(batch: Batch) -> bytes:
    if _task is None:
        raise RuntimeError("a worker got a batch before its task")
    return compute(_task, batch)

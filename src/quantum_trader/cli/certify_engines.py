"""Two real engines on one server, one without the shadow and one with it, that decide the same bars in turns.

- Each has its own streams, its own env file and ledger; the artefacts that vote are the same files.
- Only one of them runs at any moment: the other one, its shadow included, is stopped (SIGSTOP). So "without a shadow"
  is without its load too, and neither engine's work after a commit falls into the other's time.
- Real bars are minutes apart, so a turn begins when the shadow's process is at rest: loaded again after a crash, done
  with the last bar. All such waits of one fault together are bounded; whoever never rests is not waited for.
- A turn is timed by this process's own clock, from the call that publishes the bars of one time to the moment at
  which their decisions (and intents: one transaction) have arrived by a blocking read.
- The order of the turns alternates, A B B A, so that neither side is always the one that comes after the other.
"""

import contextlib
import itertools
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
import redis
from numpy.typing import NDArray

from quantum_trader.bus.books import recount
from quantum_trader.bus.client import connect
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.reader import BarReader, DecisionReader
from quantum_trader.bus.session import Session
from quantum_trader.bus.writer import BarWriter
from quantum_trader.cli.engine_process import STOP_TIMEOUT_S, engine_process, wait_for, without_settings
from quantum_trader.clock import now_us, now_utc
from quantum_trader.core.bars import WINDOW, Bar, BarSeries, timeframe_name
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.errors import QuantumError
from quantum_trader.core.predictions import Status, cause_of
from quantum_trader.engine.faults import Fault
from quantum_trader.engine.pairing import breaker_open
from quantum_trader.market.merge import in_time_order
from quantum_trader.release.init import initialise
from quantum_trader.settings import Settings, load_settings

READY_S = 60.0
DECIDED_S = 30.0
SETTLE_S = 0.002
"""How long a side runs before and after its turn: long enough to wait for bars again, and to finish after a commit."""

REST_S = 30.0
"""How long all turns of one engine together wait for its shadow to come to rest: long enough for several lives of one
that computes until it is ended."""

MEMORY_MB = {Fault.MEMORY: 640}
"""Limits for the fault that must reach its limit: with the default of 2 GiB that takes some hundred bars."""

_SHADOW_KNOWN = (b"mode=SHADOW_ONLY: it does not vote", b" is down: ")
_WARM_UP_BATCH = 500
_BUSY = (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)
_GONE = "gone"


@dataclass(frozen=True)
class Stage:
    """What both sides of every comparison share.

    Attributes:
        url: The server's.
        series: Bars by symbol, all of the same times without a gap; the first 511 warm up.
        env_files: Of the engine without the shadow and of the one with it.
        grace_ms: Longest wait for the shadow.
        folder: For logs.
    """

    url: str
    series: Mapping[str, BarSeries]
    env_files: tuple[Path, Path]
    grace_ms: float
    folder: Path


@dataclass(frozen=True)
class Side:
    """What one engine left behind: its records and intents in order, and what is wrong with its accounting."""

    records: Sequence[DecisionRecord]
    intents: Sequence[Mapping[str, Any]]
    problems: Sequence[str]


@dataclass(frozen=True)
class Comparison:
    """Both sides of one fault; times in milliseconds, one a group of bars, in order."""

    off: Side
    on: Side
    off_ms: list[float]
    on_ms: list[float]


def compare_engines(stage: Stage, name: str, fault: Fault | None, progress: Callable[[int, int], None]) -> Comparison:
    """Let both engines decide all bars of the stage.

    Args:
        stage: Where.
        name: Of the streams and logs; not used before on this server.
        fault: What runs the shadow; None for no shadow on either side, which shows what the measurement can tell.
        progress: Told how many groups of how many are decided.

    Raises:
        QuantumError: if an engine ends or falls silent; the message names its log.
    """
    n = len(next(iter(stage.series.values())))
    groups = in_time_order(stage.series, len(stage.series))
    warm_up = [bar for bars in itertools.islice(groups, WINDOW - 1) for bar in bars]
    with _Seat(stage, f"{name}-off", None) as off, _Seat(stage, f"{name}-on", fault) as on:
        for seat in (off, on):
            seat.publish(warm_up)
        for seat in (off, on):
            seat.wait_ready()
        for seat in (off, on):
            seat.pause()
        times: dict[_Seat, list[float]] = {off: [], on: []}
        for turn, bars in enumerate(groups):
            for seat in (off, on) if turn % 4 in (0, 3) else (on, off):
                times[seat].append(seat.turn(bars))
            progress(turn + 1, n - WINDOW + 1)
        for seat in (off, on):
            seat.end()
        return Comparison(off.left(), on.left(), times[off], times[on])


def env_files(artefacts: Mapping[str, Path], shadow: str, folder: Path) -> tuple[Path, Path]:
    """Env files and ledgers of an engine without the shadow and of one with it; all other models vote.

    Raises:
        QuantumError: if an artefact does not verify, or may not be what it shall be.
    """
    at = now_utc().isoformat(timespec="seconds")
    voters = {model: path for model, path in artefacts.items() if model != shadow}
    off, on = folder / "off.env", folder / "on.env"
    initialise(voters, (), folder / "off-ledger.jsonl", off, by="quantum certify", at=at)
    initialise(artefacts, {shadow}, folder / "on-ledger.jsonl", on, by="quantum certify", at=at)
    return off, on


def opened_bars(records: Sequence[DecisionRecord], shadow: str) -> NDArray[np.bool_]:
    """At which bar times the breaker of the shadow was open, oldest first."""
    times = {record.decision.ts_open: record.shadows[shadow] for record in records if shadow in record.shadows}
    return breaker_open([(Status(vote.status), cause_of(vote.reason)) for _, vote in sorted(times.items())])


class _Seat:
    """One engine, from its start to its end, seen from outside."""

    def __init__(self, stage: Stage, name: str, fault: Fault | None) -> None:
        self._fault = fault
        env_file = stage.env_files[fault is not None]
        self.log = stage.folder / f"{name}.log"
        self._ready_file = stage.folder / f"{name}.ready"
        self._environ = {
            **without_settings(),
            "QUANTUM_REDIS_URL": stage.url,
            "QUANTUM_STREAM_PREFIX": f"{name}:stream:",
            "QUANTUM_PAIRS": ",".join(stage.series),
            "QUANTUM_TIMEFRAME": timeframe_name(next(iter(stage.series.values())).interval),
            "QUANTUM_READY_FILE": str(self._ready_file),
            "QUANTUM_HEALTH_ADDRESS": "",
            "SHADOW_GRACE_MS": str(stage.grace_ms),
        }
        if fault in MEMORY_MB:
            self._environ["QUANTUM_SHADOW_MEMORY_MB"] = str(MEMORY_MB[fault])
        self._settings: Settings = load_settings((), env_file, self._environ)
        self._arguments = ("-m", "quantum_trader.cli.planted", (fault or Fault.HEALTHY).value, str(env_file))
        self._names = StreamNames(self._settings.stream_prefix)
        self._children: list[psutil.Process] = []
        self._paused: list[psutil.Process] = []
        self._last = b"0-0"
        self._rest_s = REST_S

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._client: redis.Redis = connect(self._settings.redis_url)
            stack.callback(self._client.close)
            self._session = Session(self._client)
            self._bars = BarWriter(self._client, self._names)
            self._engine: subprocess.Popen[bytes] = stack.enter_context(
                engine_process(self._arguments, self._environ, self.log)
            )
            # A stopped process gets its SIGTERM only when it goes on.
            stack.callback(self.resume)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def publish(self, bars: Sequence[Bar]) -> None:
        """Publish bars that no decision comes of."""
        for start in range(0, len(bars), _WARM_UP_BATCH):
            self._bars.publish(bars[start : start + _WARM_UP_BATCH], self._settings.timeframe, now_us())

    def wait_ready(self) -> None:
        """Wait until the engine has taken in what was published, and its shadow has loaded or turned out not to."""
        self._wait(self._ready_file.exists, "did not get ready")
        if self._fault is not None:
            # It loads beside the engine and delays nothing; here it shall see every bar, if it ever can.
            self._wait(self._shadow_known, "says nothing of its shadow")
        reader = BarReader(self._client, self._names, self._settings.group)
        try:
            self._wait(lambda: reader.backlog() == (0, 0), "did not take in the first bars")
        finally:
            reader.close()

    def turn(self, bars: Sequence[Bar]) -> float:
        """Let it decide the bars of one time; returns the milliseconds from the call to the decisions."""
        self.resume()
        self._rest()
        began = time.perf_counter()
        self._bars.publish(bars, self._settings.timeframe, now_us())
        seen = self._read()
        took = 1000.0 * (time.perf_counter() - began)
        if seen != len(bars):
            raise QuantumError(f"the engine made {seen} decisions of {len(bars)} bars at once; see {self.log}")
        time.sleep(SETTLE_S)
        self.pause()
        return took

    def pause(self) -> None:
        """Stop it and its shadow's process."""
        self._engine.send_signal(signal.SIGSTOP)
        self._children = psutil.Process(self._engine.pid).children()
        for process in self._children:
            # One that has stopped itself is not ours to wake.
            if _state(process) not in (psutil.STATUS_STOPPED, _GONE):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
                    self._paused.append(process)

    def resume(self) -> None:
        """Let it go on."""
        for process in self._paused:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        self._paused.clear()
        self._engine.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Tell it to end; returns at once."""
        self.resume()
        self._engine.terminate()

    def left(self) -> Side:
        """Everything that it has written."""
        self._engine.wait(STOP_TIMEOUT_S)
        reader = DecisionReader(self._client, self._names)
        try:
            records = list(reader.since(0))
            intents = [entry.payload for entry in reader.intents(len(records) + 1)]
        finally:
            reader.close()
        counted = recount(self._session, self._names)
        problems = [*counted.problems, *counted.tally.problems()]
        if counted.trimmed:
            problems.append(f"{counted.trimmed} decisions have left the stream")
        return Side(records, intents, problems)

    def _rest(self) -> None:
        # Both sides end with the same pause: what came before it must not show in a time.
        while self._rest_s > 0 and any(_state(process) in _BUSY for process in self._children):
            time.sleep(SETTLE_S)
            self._rest_s -= SETTLE_S
        time.sleep(SETTLE_S)

    def _read(self) -> int:
        """Wait for the next decisions; returns how many came at once."""
        wait_ms = int(1000 * DECIDED_S)
        reply = self._session.one(
            *("XREAD", "BLOCK", wait_ms, "STREAMS", self._names.decisions, self._last), wait_s=DECIDED_S
        )
        if not reply:
            raise QuantumError(f"the engine made no decision within {DECIDED_S:.0f} s; see {self.log}")
        entries = reply[0][1]
        self._last = entries[-1][0]
        return len(entries)

    def _shadow_known(self) -> bool:
        said = self.log.read_bytes()
        return any(words in said for words in _SHADOW_KNOWN)

    def _wait(self, there: Callable[[], bool], problem: str) -> None:
        wait_for(self._engine, there, READY_S, problem, self.log)


def _state(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return _GONE

"""The demo's service part: a real server, the real engine process, bars through the stream, decisions back."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantum_trader.bootstrap import wire_bar_writer, wire_decision_reader
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.clock import now_us
from quantum_trader.core.bars import WINDOW, BarSeries, timeframe_name
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.errors import QuantumError
from quantum_trader.market.merge import in_time_order
from quantum_trader.settings import Settings, load_settings

READY_TIMEOUT_S = 60.0
STALL_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
BATCH_BARS = 1000
SHADOW_IS_UP = b"mode=SHADOW_ONLY: it does not vote"


@dataclass(frozen=True)
class ServiceRun:
    """What the service did: its records, its intents and how fast it was."""

    records: list[DecisionRecord]
    intents: Sequence[Mapping[str, object]]
    start_to_ready_s: float
    deciding_s: float


def expected_decisions(series: Mapping[str, BarSeries]) -> int:
    """Bars that have a whole window before them."""
    return sum(len(bars.window_ends(WINDOW)) for bars in series.values())


def run_service(
    series: Mapping[str, BarSeries], env_file: Path, folder: Path, progress: Callable[[int], None]
) -> ServiceRun:
    """Feed bars to a fresh server and let the engine decide them all.

    Args:
        series: Bars by symbol, the 512 before the first decision included.
        env_file: From `quantum init`.
        folder: For the server's data, the engine's log and its ready file.
        progress: Told how many decisions there are so far.

    Raises:
        QuantumError: if the engine ends or stalls; the message names its log.
    """
    interval = next(iter(series.values())).interval
    with EmbeddedServer(folder / "valkey") as server:
        environ = {
            **{name: value for name, value in os.environ.items() if not _is_setting(name)},
            "QUANTUM_REDIS_URL": server.url,
            "QUANTUM_PAIRS": ",".join(series),
            "QUANTUM_TIMEFRAME": timeframe_name(interval),
            "QUANTUM_READY_FILE": str(folder / "ready"),
            "QUANTUM_HEALTH_ADDRESS": "",
        }
        settings = load_settings((), env_file, environ)
        started = time.monotonic()
        with _engine(env_file, environ, folder / "engine.log") as engine:
            _wait_for(engine, (folder / "ready").exists, READY_TIMEOUT_S, "did not get ready")
            ready = time.monotonic()
            # The shadow loads beside the engine and delays nothing; the demo gives it the time to see every bar.
            _wait_for(
                engine, lambda: SHADOW_IS_UP in (folder / "engine.log").read_bytes(), READY_TIMEOUT_S, "has no shadow"
            )
            deciding = time.monotonic()
            _publish(settings, series)
            _follow(settings, engine, expected_decisions(series), progress)
            done = time.monotonic()
        with wire_decision_reader(settings) as reader:
            records = list(reader.since(0))
            intents = [entry.payload for entry in reader.intents(len(records) or 1)]
    return ServiceRun(records, intents, ready - started, done - deciding)


def _is_setting(name: str) -> bool:
    """Whether a variable of the user's own shell would change the demo's engine."""
    return name.startswith("QUANTUM_") or name.endswith(("_MODEL_PATH", "_SHADOW_ONLY"))


def _publish(settings: Settings, series: Mapping[str, BarSeries]) -> None:
    with wire_bar_writer(settings) as writer:
        for bars in in_time_order(series, BATCH_BARS):
            writer.publish(bars, settings.timeframe, now_us())


def _follow(
    settings: Settings, engine: "subprocess.Popen[bytes]", expected: int, progress: Callable[[int], None]
) -> None:
    """Report progress until every decision is there."""
    with wire_decision_reader(settings) as reader:
        seen, since = 0, time.monotonic()
        while seen < expected:
            time.sleep(0.2)
            count = reader.count()
            if count > seen:
                seen, since = count, time.monotonic()
                progress(seen)
            elif engine.poll() is not None:
                raise QuantumError(f"the engine ended with exit code {engine.returncode}; see its log")
            elif time.monotonic() - since > STALL_TIMEOUT_S:
                raise QuantumError(f"the engine made {seen} of {expected} decisions and stopped; see its log")


@contextlib.contextmanager
def _engine(env_file: Path, environ: Mapping[str, str], log: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """The engine in a process of its own, ended by SIGTERM as systemd would."""
    with log.open("wb") as output:
        engine = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            [sys.executable, "-m", "quantum_trader.cli.main", "run", "--env-file", str(env_file)],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield engine
    finally:
        engine.terminate()
        try:
            engine.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            engine.kill()
            engine.wait()


def _wait_for(engine: "subprocess.Popen[bytes]", there: Callable[[], bool], timeout_s: float, problem: str) -> None:
    end = time.monotonic() + timeout_s
    while not there():
        if engine.poll() is not None or time.monotonic() > end:
            raise QuantumError(f"the engine {problem}; see engine.log in the demo's folder")
        time.sleep(0.02)

"""The demo's service part: a real server, the real engine process, bars through the stream, decisions back."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantum_trader.bootstrap import wire_bar_writer, wire_decision_reader
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.cli.engine_process import engine_process, wait_for, without_settings
from quantum_trader.clock import now_us
from quantum_trader.core.bars import WINDOW, BarSeries, timeframe_name
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.errors import QuantumError
from quantum_trader.engine.faults import Fault
from quantum_trader.market.merge import in_time_order
from quantum_trader.settings import Settings, load_settings

READY_TIMEOUT_S = 60.0
STALL_TIMEOUT_S = 60.0
BATCH_BARS = 1000
SHADOW_IS_UP = b"mode=SHADOW_ONLY: it does not vote"


@dataclass(frozen=True)
class AlarmEvent:
    """An alarm's event and when it reached the stream, milliseconds since the epoch."""

    at_ms: int
    name: str
    model: str
    symbol: str
    detail: str
    state: str


@dataclass(frozen=True)
class ServiceRun:
    """What the service did: its records, its intents, its alarms and how fast it was."""

    records: list[DecisionRecord]
    intents: Sequence[Mapping[str, object]]
    alarms: Sequence[AlarmEvent]
    start_to_ready_s: float
    deciding_s: float


def expected_decisions(series: Mapping[str, BarSeries]) -> int:
    """Bars that have a whole window before them."""
    return sum(len(bars.window_ends(WINDOW)) for bars in series.values())


def run_service(
    series: Mapping[str, BarSeries],
    env_file: Path,
    folder: Path,
    progress: Callable[[int], None],
    fault: Fault | None = None,
) -> ServiceRun:
    """Feed bars to a fresh server and let the engine decide them all.

    Args:
        series: Bars by symbol, the 512 before the first decision included.
        env_file: From `quantum init`.
        folder: For the server's data, the engine's log and its ready file.
        progress: Told how many decisions there are so far.
        fault: Planted in the shadows' processes; None for the engine as it is.

    Raises:
        QuantumError: if the engine ends or stalls; the message names its log.
    """
    interval = next(iter(series.values())).interval
    with EmbeddedServer(folder / "valkey") as server:
        environ = {
            **without_settings(),
            "QUANTUM_REDIS_URL": server.url,
            "QUANTUM_PAIRS": ",".join(series),
            "QUANTUM_TIMEFRAME": timeframe_name(interval),
            "QUANTUM_READY_FILE": str(folder / "ready"),
            "QUANTUM_HEALTH_ADDRESS": "",
        }
        settings = load_settings((), env_file, environ)
        started = time.monotonic()
        log = folder / "engine.log"
        with engine_process(_arguments(env_file, fault), environ, log) as engine:
            wait_for(engine, (folder / "ready").exists, READY_TIMEOUT_S, "did not get ready", log)
            ready = time.monotonic()
            # The shadow loads beside the engine and delays nothing; the demo gives it the time to see every bar.
            wait_for(engine, lambda: SHADOW_IS_UP in log.read_bytes(), READY_TIMEOUT_S, "has no shadow", log)
            deciding = time.monotonic()
            _publish(settings, series)
            _follow(settings, engine, expected_decisions(series), progress)
            done = time.monotonic()
        with wire_decision_reader(settings) as reader:
            records = list(reader.since(0))
            intents = [entry.payload for entry in reader.intents(len(records) or 1)]
            alarms = [AlarmEvent(at_ms, **event.detail) for at_ms, event in reader.lifecycle() if event.kind == "alarm"]
    return ServiceRun(records, intents, alarms, ready - started, done - deciding)


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


def _arguments(env_file: Path, fault: Fault | None) -> list[str]:
    """What the interpreter runs: the verb, or the same engine with a fault in its shadows' processes."""
    if fault is None:
        return ["-m", "quantum_trader.cli.main", "run", "--env-file", str(env_file)]
    return ["-m", "quantum_trader.cli.planted", fault.value, str(env_file)]

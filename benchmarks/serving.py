"""How much memory does the serving process take, how soon is it ready, and how large is its installation?

The engine is started as an operator starts it (`quantum run` with an env file and a ledger of grants) on the embedded
server, with four full-size artefacts, in an environment that holds what the serving installation holds: with pandas
installed TA-Lib imports it, so the environment matters. Ready means: every voter is loaded, has predicted once, and the
windows are rebuilt from the stream.
"""

import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.data import SEED
from benchmarks.harness import Workplace
from benchmarks.serving_install import Environment, linked, pip_install, this_environment
from benchmarks.tables import Block, Table, at_most, megabytes, seconds
from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.reader import DecisionReader
from quantum_trader.bus.writer import BarWriter
from quantum_trader.clock import now_us
from quantum_trader.core.bars import WINDOW, BarSeries
from quantum_trader.market.simulator import simulate
from quantum_trader.release.init import initialise

RSS_GOAL_MB, READY_GOAL_S, INSTALL_GOAL_MB = 180.0, 1.5, 300.0
DECISIONS = 100
"""Of each symbol: memory is looked at once this many bars were decided."""

STARTS = 5
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Setup:
    """One way to run the engine."""

    label: str
    shadows: frozenset[str]
    environment: Environment


@dataclass(frozen=True)
class Seen:
    """What an engine showed.

    Attributes:
        empty_s: Start to ready with an empty stream, one value a start.
        full_s: Start to ready with windows to rebuild.
        ready: Resident bytes of engine and shadow when ready.
        working: Likewise after the decisions.
    """

    empty_s: Sequence[float]
    full_s: Sequence[float]
    ready: tuple[int, int]
    working: tuple[int, int]


def run(place: Workplace) -> list[Block]:
    """Measure."""
    bars = simulate(WINDOW - 1 + DECISIONS, SEED)
    lean = linked(place.folder / "serving-environment")
    setups = (
        Setup("four voters", frozenset(), lean),
        Setup("three voters, PatchTST in shadow", frozenset({"patchtst"}), lean),
        Setup("four voters, all extras installed", frozenset(), this_environment()),
    )
    seen = {setup.label: _observe(place, setup, bars) for setup in setups}
    served = [seen[setup.label] for setup in setups if setup.environment is lean]
    targets = [
        at_most("resident memory, four voters, working", served[0].working[0] / 1e6, RSS_GOAL_MB, "{:.1f} MB"),
        at_most(
            "start to ready, windows to rebuild, slower of the two casts",
            max(statistics.median(found.full_s) for found in served),
            READY_GOAL_S,
            "{:.2f} s",
        ),
        at_most("serving install without extras", lean.total / 1e6, INSTALL_GOAL_MB, "{:.1f} MB"),
    ]
    notes = [
        f"working: after {DECISIONS} decisions of each of {len(bars)} symbols; the shadow is a process of its own, "
        "beside the engine; the Valkey server is not counted",
        f"start to ready: from starting the interpreter to the ready file, median of {place.rounds(STARTS)} starts, "
        "files in the page cache",
        "the environment holds the packages that the project requires without extras, linked from this one; with all "
        "extras installed TA-Lib finds pandas and imports it, which no serving host has",
        place.models.described(),
    ]
    tables = [_memory(seen), _starts(seen, len(bars)), _packages(lean)]
    blocks = [Block("serving", "serving: memory, start, installation", tables, targets, notes)]
    return [*blocks, _installed(place)] if place.install else blocks


def _memory(seen: Mapping[str, Seen]) -> Table:
    rows = [
        (label, *(megabytes(count) if count else "" for pair in (found.ready, found.working) for count in pair))
        for label, found in seen.items()
    ]
    return Table(("resident memory", "engine, ready", "shadow, ready", "engine, working", "shadow, working"), rows)


def _starts(seen: Mapping[str, Seen], symbols: int) -> Table:
    rows = [
        (label, *(seconds(statistics.median(values)) for values in (found.empty_s, found.full_s)))
        for label, found in seen.items()
    ]
    return Table(("start to ready", "empty stream", f"{symbols} windows to rebuild"), rows)


def _packages(environment: Environment) -> Table:
    largest = sorted(environment.sizes.items(), key=lambda item: -item[1])
    named, rest = largest[:6], sum(size for _, size in largest[6:])
    rows = [(name, megabytes(size)) for name, size in named]
    rows += [(f"{len(largest) - len(named)} more", megabytes(rest)), ("everything", megabytes(environment.total))]
    return Table(("serving install", "size"), rows)


def _installed(place: Workplace) -> Block:
    place.progress("installing into a fresh environment", 0, 1)
    environment = pip_install(place.folder / "install")
    target = at_most("serving install without extras, by pip", environment.total / 1e6, INSTALL_GOAL_MB, "{:.1f} MB")
    notes = [
        "sum of file sizes in site-packages of a fresh environment after `pip install .` with the pinned versions, "
        "compiled bytecode included, pip and setuptools left out; the engine's service was imported there",
    ]
    return Block("serving-install", "serving: installed by pip", [_packages(environment)], [target], notes)


def _observe(place: Workplace, setup: Setup, bars: Mapping[str, BarSeries]) -> Seen:
    folder = place.folder / setup.label.replace(" ", "-").replace(",", "")
    env_file = folder / "ai-engine.env"
    initialise(
        place.models.paths,
        setup.shadows,
        folder / "ledger.jsonl",
        env_file,
        by="benchmarks",
        at="2026-01-01T00:00:00+00:00",
    )
    starts = place.rounds(STARTS)
    with EmbeddedServer(folder / "valkey") as server:
        environ = _environ(server.url, bars, folder)
        empty = []
        for turn in range(starts):
            place.progress(f"starting: {setup.label}", turn, 2 * starts)
            with _engine(setup.environment.python, env_file, environ) as (_, ready_s):
                empty.append(ready_s)
        with _engine(setup.environment.python, env_file, environ) as (engine, _):
            _wait_for_shadow(engine, len(setup.shadows))
            ready = _resident(engine)
            _decide(server.url, bars)
            working = _resident(engine)
        full = []
        for turn in range(starts):
            place.progress(f"starting: {setup.label}", starts + turn, 2 * starts)
            with _engine(setup.environment.python, env_file, environ) as (_, ready_s):
                full.append(ready_s)
    return Seen(empty, full, ready, working)


def _environ(url: str, bars: Mapping[str, BarSeries], folder: Path) -> dict[str, str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("QUANTUM_") and not name.endswith(("_MODEL_PATH", "_SHADOW_ONLY"))
    }
    return {
        **clean,
        "QUANTUM_REDIS_URL": url,
        "QUANTUM_PAIRS": ",".join(bars),
        "QUANTUM_READY_FILE": str(folder / "ready"),
    }


@contextlib.contextmanager
def _engine(python: Path, env_file: Path, environ: Mapping[str, str]) -> Iterator[tuple[psutil.Popen, float]]:
    """A ready engine, and the seconds from its start until then."""
    ready, log = Path(environ["QUANTUM_READY_FILE"]), env_file.with_name("engine.log")
    ready.unlink(missing_ok=True)
    command = [str(python), "-m", "quantum_trader.cli.main", "run", "--env-file", str(env_file)]
    with log.open("wb") as output:
        started = time.monotonic()
        engine = psutil.Popen(
            command,
            env=dict(environ),
            cwd=env_file.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait(lambda: ready.exists() or engine.poll() is not None, "get ready")
        if engine.poll() is not None:
            raise RuntimeError(f"the engine ended with {engine.returncode}: {log.read_text()[-2000:]}")
        yield engine, time.monotonic() - started
    finally:
        engine.terminate()
        try:
            engine.wait(30.0)
        except psutil.TimeoutExpired:
            engine.kill()
            engine.wait()


def _wait(there: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _TIMEOUT_S
    while not there():
        if time.monotonic() > end:
            raise RuntimeError(f"the engine did not {what} in {_TIMEOUT_S:.0f} s")
        time.sleep(0.002)


def _wait_for_shadow(engine: psutil.Popen, shadows: int) -> None:
    """The shadow loads beside the engine; its memory is looked at when it no longer grows."""
    _wait(lambda: len(engine.children(recursive=True)) >= shadows, "start its shadow")
    last = -1
    while (now := _resident(engine)[1]) != last:
        last = now
        time.sleep(0.5)


def _resident(engine: psutil.Popen) -> tuple[int, int]:
    """Resident bytes of the engine and of its shadows."""
    return engine.memory_info().rss, sum(child.memory_info().rss for child in engine.children(recursive=True))


def _decide(url: str, bars: Mapping[str, BarSeries]) -> None:
    """Publish the bars and wait for their decisions."""
    client = connect(url)
    names = StreamNames()
    writer, reader = BarWriter(client, names), DecisionReader(client, names)
    try:
        columns = zip(*bars.values(), strict=True)
        for together in columns:
            writer.publish(list(together), "5m", now_us())
        expected = sum(len(one.window_ends()) for one in bars.values())
        _wait(lambda: reader.count() >= expected, f"make {expected} decisions")
    finally:
        writer.close()
        reader.close()
        client.close()

"""What does a change of the shadow cost the stream of decisions: by a reload (SIGHUP), and by a restart?

A real engine with real models decides five symbols on an embedded server while bars come without a pause. The gap is
the longest time without a decision around the change, by the server's clock.
"""

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.harness import Workplace
from benchmarks.tables import Block, Table, Target, at_most
from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.writer import BarWriter
from quantum_trader.cli.engine_process import engine_process, wait_for, without_settings
from quantum_trader.clock import now_us
from quantum_trader.core.bars import WINDOW, BarSeries
from quantum_trader.market.merge import in_time_order
from quantum_trader.market.simulator import simulate
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.manifest import MODEL_FILE, parse, render
from quantum_trader.release.env_file import plan_env, write_env
from quantum_trader.release.init import initialise

NAMES = StreamNames()
EVERY_S = 0.05
SETTLE_S = 2.0
RELOADS, RESTARTS = 20, 8


def run(place: Workplace) -> list[Block]:
    """Measure."""
    folder = place.folder / "reload"
    folder.mkdir()
    bars = simulate(WINDOW + 12_000, 5)
    first, second = place.models.paths["patchtst"], _other(place.models.paths["patchtst"], folder)
    env_file = folder / "engine.env"
    paths = {model: path.resolve() for model, path in place.models.paths.items()}
    initialise(paths, {"patchtst"}, folder / "ledger.jsonl", env_file, by="benchmark", at="2026-01-01T00:00:00+00:00")
    with EmbeddedServer(folder / "valkey") as server, _Feed(server.url, bars) as feed:
        desk = _Desk(folder, server.url, env_file, feed)
        reloads = [desk.reload(second if turn % 2 == 0 else first) for turn in range(place.rounds(RELOADS))]
        quiet = [desk.quiet() for _ in range(place.rounds(RELOADS))]
        desk.stop()
        restarts = [desk.restart() for _ in range(place.rounds(RESTARTS))]
        desk.stop()
    gaps = {"no change": quiet, "reload": [gap for gap, _ in reloads], "restart": restarts}
    rows = [_row(f"longest gap, {name}", found) for name, found in gaps.items()]
    rows.append(_row("SIGHUP to the new artefact's first answer", [took for _, took in reloads]))
    p50 = {name: float(np.median(found)) for name, found in gaps.items()}
    targets: list[Target] = [at_most("service gap of a restart, median, s", p50["restart"] / 1000, 3.0)]
    notes = [
        f"bars of five symbols every {EVERY_S * 1000:.0f} ms; {len(reloads)} reloads with another artefact of the "
        f"shadow, {len(restarts)} restarts (SIGTERM, start, windows rebuilt)",
        f"a reload's gap is {p50['reload'] / p50['no change']:.1f} times the gap without any change, a restart's "
        f"{p50['restart'] / p50['no change']:.0f} times",
        place.models.described(),
    ]
    head = ("milliseconds", "n", "p50", "largest")
    return [Block("reload", "reload and restart: the gap in the decisions", [Table(head, rows)], targets, notes)]


def _other(path: Path, folder: Path) -> Path:
    """The same model as another artefact: its manifest says another time."""
    manifest = parse((path / "manifest.json").read_bytes(), str(path))
    target = folder / "models" / path.name
    target.mkdir(parents=True)
    shutil.copyfile(path / MODEL_FILE, target / MODEL_FILE)
    changed = msgspec.structs.replace(manifest, created="2026-01-01T00:00:01+00:00")
    (target / "manifest.json").write_bytes(render(changed))
    return target.resolve()


class _Feed:
    """Bars without a pause."""

    def __init__(self, url: str, series: Mapping[str, BarSeries]) -> None:
        self._client, self._series = connect(url), series
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._publish)

    def __enter__(self) -> "_Feed":
        writer = BarWriter(self._client, NAMES)
        warm = {symbol: bars.slice(0, WINDOW) for symbol, bars in self._series.items()}
        for bars in in_time_order(warm, 500):
            writer.publish(bars, "5m", now_us())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._client.close()

    def _publish(self) -> None:
        writer = BarWriter(self._client, NAMES)
        later = {symbol: bars.slice(WINDOW, len(bars)) for symbol, bars in self._series.items()}
        for bars in in_time_order(later, len(later)):
            if self._end.wait(EVERY_S):
                return
            writer.publish(bars, "5m", now_us())


class _Desk:
    """The engine, changed while it decides."""

    def __init__(self, folder: Path, url: str, env_file: Path, feed: _Feed) -> None:
        self._folder, self._url, self._env_file, self._feed = folder, url, env_file, feed
        self._client = connect(url)
        self._engine: subprocess.Popen[bytes] | None = None
        self._lives = 0
        self._start()

    def _start(self) -> None:
        self._lives += 1
        self._log = self._folder / f"engine-{self._lives}.log"
        environ = without_settings() | {"QUANTUM_REDIS_URL": self._url, "QUANTUM_HEALTH_ADDRESS": ""}
        ready = self._folder / f"ready-{self._lives}"
        environ["QUANTUM_READY_FILE"] = str(ready)
        arguments = ["-m", "quantum_trader.cli.main", "run", "--env-file", str(self._env_file)]
        self._life = engine_process(arguments, environ, self._log)
        engine = self._engine = self._life.__enter__()
        wait_for(engine, ready.exists, 60.0, "did not get ready", self._log)
        wait_for(engine, lambda: "[OK] PatchTST" in self._log.read_text(), 60.0, "did not load its shadow", self._log)
        time.sleep(SETTLE_S)

    def stop(self) -> None:
        """End the engine."""
        self._life.__exit__(None, None, None)

    def quiet(self) -> float:
        """The longest gap while nothing changes, milliseconds."""
        return self._gap(lambda: None)

    def reload(self, path: Path) -> tuple[float, float]:
        """The longest gap around a reload with this artefact, and how long until it answers, milliseconds."""
        digest, began = load_artefact(path).digest, time.monotonic()
        plan = plan_env(self._env_file.read_bytes(), {"PATCHTST_MODEL_PATH": str(path)}, "env file")
        write_env(self._env_file, plan.after)
        took = [0.0]

        def change() -> None:
            assert self._engine is not None
            nonlocal began
            began = time.monotonic()
            before = self._log.read_text().count("patchtst followed")
            self._engine.send_signal(signal.SIGHUP)
            said = f"patchtst followed, artefact {digest[:16]}"
            wait_for(self._engine, lambda: self._said(said, before), 60.0, "did not reload", self._log)
            took[0] = 1000.0 * (time.monotonic() - began)

        return self._gap(change), took[0]

    def restart(self) -> float:
        """The longest gap around a restart, milliseconds."""
        if self._engine is not None and self._engine.poll() is not None:
            self._start()

        def change() -> None:
            self.stop()
            self._start()

        return self._gap(change)

    def _said(self, text: str, before: int) -> bool:
        log = self._log.read_text()
        return text in log and log.count("patchtst followed") > before

    def _gap(self, change: Callable[[], None]) -> float:
        """The longest time between two decisions from before a change to some time after it."""
        ((start, _),) = self._client.xrevrange(NAMES.decisions, count=1)
        change()
        time.sleep(SETTLE_S)
        ids = [entry for entry, _ in self._client.xrange(NAMES.decisions, min=start)]
        return float(np.diff([int(entry.partition(b"-")[0]) for entry in ids]).max())


def _row(what: str, found: list[float]) -> tuple[str, ...]:
    return what, str(len(found)), f"{np.median(found):.0f}", f"{max(found):.0f}"

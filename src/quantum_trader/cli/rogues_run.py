"""The rogues' run in its working folder: what is done stays done.

- `run.json` says of what run the folder is: seed, decisions, models, policy, prices. Another run
  is refused.
- Each batch is one file, `MARKET/FIRST-END.jsonl`, written whole or not at all. A batch with a file is not computed
  again; so a run that was killed goes on, and one that is asked for more repetitions computes only those.
- Results are read back from the files in one order, so that they are equal however many workers there were.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from quantum_trader.cli.rogues_pool import Batch, Executor, Task
from quantum_trader.core.bars import BarSeries
from quantum_trader.core.errors import ConfigError
from quantum_trader.gates.rogues.gallery import GALLERY, VERSION
from quantum_trader.gates.rogues.market import REAL
from quantum_trader.gates.rogues.measure import Result
from quantum_trader.gates.rogues.scene import EVENTS, bars_for
from quantum_trader.gates.whole_policy import WHOLE

BATCH = 5
"""Repetitions of a batch: a few seconds of work, which is what a kill can lose per worker."""

ORDER = ("neutral", REAL, "bull", "crash", "momentum", "common")
"""Markets in the order in which they are computed and shown."""

FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What is asked for.

    Attributes:
        markets: Names, in the order of ORDER.
        models: Names, in the order of the gallery.
        repetitions: Of each market.
        seed: Of the run.
        prices: Log closes of the real market, shape (bars, symbols); None without it.
        events: Decisions of a repetition.
    """

    markets: tuple[str, ...]
    models: tuple[str, ...]
    repetitions: int
    seed: int
    prices: NDArray[np.float64] | None = None
    events: int = EVENTS

    @property
    def batches(self) -> list[Batch]:
        """All of them, markets in order."""
        starts = range(0, self.repetitions, BATCH)
        return [Batch(market, n, min(n + BATCH, self.repetitions)) for market in self.markets for n in starts]

    @property
    def task(self) -> Task:
        """What every batch of it has in common."""
        return Task(self.seed, self.events, self.models, self.prices)


class Identity(msgspec.Struct, frozen=True):
    """What makes results of two runs comparable."""

    format: int
    gallery: int
    seed: int
    events: int
    models: tuple[str, ...]
    policy: str
    prices: str

    @classmethod
    def of(cls, order: Order) -> "Identity":
        """Of an order; prices by their digest."""
        prices = "" if order.prices is None else hashlib.sha256(order.prices.tobytes()).hexdigest()
        return cls(FORMAT, VERSION, order.seed, order.events, order.models, WHOLE.digest, prices)


def run(
    order: Order, folder: Path, executor: Executor, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, list[Result]]:
    """Compute what is missing and read everything.

    Args:
        order: What is asked for.
        folder: The run's own; made if there is none.
        executor: Who computes.
        progress: Told the repetitions done and all.

    Returns:
        Results by market, by repetition and then in the order of the models.

    Raises:
        ConfigError: if the folder is of another run, in use, or holds a broken file.
    """
    with _held(folder):
        _identify(order, folder)
        done = sum(batch.end - batch.first for batch in order.batches if _file(folder, batch).exists())
        total = len(order.markets) * order.repetitions
        progress(done, total)
        missing = [batch for batch in order.batches if not _file(folder, batch).exists()]
        for batch, answer in executor(order.task, missing) if missing else ():
            _write(_file(folder, batch), answer)
            done += batch.end - batch.first
            progress(done, total)
        return read(order, folder)


def read(order: Order, folder: Path) -> dict[str, list[Result]]:
    """Every result of an order that was computed.

    Raises:
        ConfigError: if a file is missing or broken.
    """
    results: dict[str, list[Result]] = {market: [] for market in order.markets}
    for batch in order.batches:
        path = _file(folder, batch)
        try:
            found = [_LINE.decode(line) for line in path.read_bytes().splitlines()]
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigError(f"{path}: no results ({error}); remove the file and run again") from error
        if len(found) != (batch.end - batch.first) * len(order.models):
            raise ConfigError(f"{path}: {len(found)} results are not those of a batch; remove the file and run again")
        results[batch.market] += found
    return results


def prices_of(series: Mapping[str, BarSeries], events: int = EVENTS) -> NDArray[np.float64]:
    """Log closes on one grid of bars, shape (bars, symbols), symbols sorted; NaN where a bar is missing.

    Raises:
        ConfigError: if the bars are of different lengths or fewer than a window.
    """
    intervals = {bars.interval for bars in series.values()}
    if len(intervals) != 1:
        raise ConfigError("rogues: bars of different lengths in one file")
    (interval,) = intervals
    first = max(int(bars.ts_open[0]) for bars in series.values())
    last = min(int(bars.ts_open[-1]) for bars in series.values())
    count, needed = (last - first) // interval + 1, bars_for(len(series), events)
    if count < needed:
        raise ConfigError(
            f"rogues: {max(count, 0)} bars that all {len(series)} symbols have, a window takes {needed} "
            f"({events} decisions)"
        )
    grid = np.full((count, len(series)), np.nan)
    for column, name in enumerate(sorted(series)):
        part = series[name].between(first, last + 1)
        grid[(part.ts_open - first) // interval, column] = np.log(part.close)
    return grid


def chosen(names: "list[str] | None", known: tuple[str, ...], what: str) -> tuple[str, ...]:
    """The names asked for, in the order of the known ones; all if none is given.

    Raises:
        ConfigError: for an unknown one.
    """
    for name in names or ():
        if name not in known:
            raise ConfigError(f"{what} {name!r}: unknown, expected one of {', '.join(known)}")
    return tuple(name for name in known if not names or name in names)


MODELS = tuple(model.name for model in GALLERY)
_LINE = msgspec.json.Decoder(Result)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder for one run at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ConfigError(f"{folder}: another run is working there") from error
    finally:
        os.close(descriptor)


def _identify(order: Order, folder: Path) -> None:
    path, mine = folder / "run.json", Identity.of(order)
    if not path.exists():
        _write(path, msgspec.json.format(msgspec.json.encode(mine)) + b"\n")
        return
    try:
        theirs = msgspec.json.decode(path.read_bytes(), type=Identity)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: not a run of the rogues ({error})") from error
    differing = [name for name in Identity.__struct_fields__ if getattr(mine, name) != getattr(theirs, name)]
    if differing:
        raise ConfigError(f"{folder}: holds a run with another {', '.join(differing)}; name another folder with --work")


def _file(folder: Path, batch: Batch) -> Path:
    return folder / batch.market / f"{batch.first:05d}-{batch.end:05d}.jsonl"


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)

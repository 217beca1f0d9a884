"""`quantum rogues`: the same numbers whatever happens to the run, and a page that can be written again."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

from quantum_trader.cli.rogues_pool import Batch, LocalPool, RayCluster, Task, compute
from quantum_trader.cli.rogues_run import BATCH, MODELS, ORDER, Order, chosen, prices_of, read, run
from quantum_trader.core.errors import ConfigError
from quantum_trader.gates.rogues.market import SIMULATED
from quantum_trader.gates.rogues.measure import Result, scene_of
from quantum_trader.market.files import read_bars, write_bars
from quantum_trader.market.simulator import simulate

EVENTS = 600
FEW = ("frozen", "missing", "good")


def order(repetitions: int = 12, markets: tuple[str, ...] = ("neutral", "crash"), **others: Any) -> Order:
    return Order(markets, FEW, repetitions, seed=3, events=EVENTS, **others)


class Counting:
    """An executor that computes in this process and notes what it was given."""

    def __init__(self, backwards: bool = False) -> None:
        self.seen: list[Batch] = []
        self.backwards = backwards

    def __call__(self, task: Task, batches: Any) -> Any:
        for batch in reversed(batches) if self.backwards else batches:
            self.seen.append(batch)
            yield batch, compute(task, batch)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.json*"))}


@pytest.mark.slow
def test_one_worker_two_workers_and_any_order_give_the_same_files(tmp_path: Path) -> None:
    results = [
        run(order(), tmp_path / "two", LocalPool(2)),
        run(order(), tmp_path / "one", LocalPool(1)),
        run(order(), tmp_path / "here", Counting(backwards=True)),
    ]
    assert results[0] == results[1] == results[2]
    assert files(tmp_path / "two") == files(tmp_path / "one") == files(tmp_path / "here")
    assert [(r.repetition, r.model) for r in results[0]["crash"]] == [(n, m) for n in range(12) for m in FEW]
    assert not list(tmp_path.rglob("*.part"))


def test_a_finished_batch_is_not_computed_again_and_more_repetitions_only_add(tmp_path: Path) -> None:
    first, more = Counting(), Counting()
    progress: list[tuple[int, int]] = []
    short = run(order(10), tmp_path, first)
    again = run(order(10), tmp_path, more)
    assert (again, more.seen) == (short, [])
    assert len(first.seen) == 2 * 10 / BATCH
    longer = run(order(12), tmp_path, more, lambda done, total: progress.append((done, total)))
    assert more.seen == [Batch("neutral", 10, 12), Batch("crash", 10, 12)]
    assert progress == [(20, 24), (22, 24), (24, 24)]
    assert longer["neutral"][: len(short["neutral"])] == short["neutral"]


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    run(order(5, ("neutral",)), tmp_path, Counting())
    before = files(tmp_path)
    with pytest.raises(ConfigError, match="holds a run with another seed; name another folder with --work"):
        run(Order(("neutral",), FEW, 5, seed=4, events=EVENTS), tmp_path, Counting())
    with pytest.raises(ConfigError, match="another models"):
        run(Order(("neutral",), FEW[:2], 5, seed=3, events=EVENTS), tmp_path, Counting())
    with pytest.raises(ConfigError, match="another prices"):
        run(order(5, ("neutral",), prices=np.zeros((9, 2))), tmp_path, Counting())
    assert files(tmp_path) == before
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match="not a run of the rogues"):
        run(order(5, ("neutral",)), tmp_path, Counting())


def test_a_broken_or_missing_file_is_named(tmp_path: Path) -> None:
    run(order(5, ("neutral",)), tmp_path, Counting())
    path = tmp_path / "neutral" / "00000-00005.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(ConfigError, match=r"00000-00005.jsonl: no results .* remove the file and run again"):
        read(order(5, ("neutral",)), tmp_path)
    path.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
    with pytest.raises(ConfigError, match="14 results are not those of a batch"):
        run(order(5, ("neutral",)), tmp_path, Counting())
    path.unlink()
    with pytest.raises(ConfigError, match="no results"):
        read(order(5, ("neutral",)), tmp_path)
    run(order(5, ("neutral",)), tmp_path, Counting())
    assert path.read_bytes() == whole


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    def second(task: Task, batches: Any) -> Any:
        with pytest.raises(ConfigError, match="another run is working there"):
            run(order(5, ("neutral",)), tmp_path, Counting())
        yield from Counting()(task, batches)

    run(order(5, ("neutral",)), tmp_path, second)


def test_prices_are_on_one_grid_and_a_missing_bar_is_missing(tmp_path: Path) -> None:
    series = simulate(1_700, seed=1, pairs=("BTC/USDT", "ETH/USDT"))
    prices = prices_of(series, events=200)
    assert prices.shape == (1_700, 2)
    assert np.array_equal(prices[:, 0], np.log(series["BTCUSDT"].close))
    shorter = {"BTCUSDT": series["BTCUSDT"].slice(5, 1_690), "ETHUSDT": series["ETHUSDT"]}
    assert np.array_equal(prices_of(shorter, events=200), prices[5:1_690])
    holes = np.ones(1_700, bool)
    holes[100:103] = False
    columns = {name: getattr(series["ETHUSDT"], name)[holes] for name in ("ts_open", "open", "high", "low", "close")}
    gappy = type(series["ETHUSDT"])("ETHUSDT", 300_000, volume=series["ETHUSDT"].volume[holes], **columns)
    found = prices_of({**series, "ETHUSDT": gappy}, events=200)
    assert np.flatnonzero(np.isnan(found[:, 1])).tolist() == [100, 101, 102]
    assert not np.isnan(found[:, 0]).any()
    scene = scene_of("real", 0, 3, found, events=200)
    assert np.isfinite(scene.market.z).all()
    with pytest.raises(ConfigError, match="1700 bars that all 2 symbols have, a window takes 33000"):
        prices_of(series)
    hourly = simulate(10, seed=1, pairs=("ETH/USDT",), timeframe="1h")
    with pytest.raises(ConfigError, match="different lengths"):
        prices_of({**series, **hourly})


def test_real_bars_give_the_same_numbers_in_any_process(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    write_bars(path, simulate(2_800, seed=1, pairs=("BTC/USDT", "ETH/USDT", "XRP/USDT")))
    mine = order(6, ("real",), prices=prices_of(read_bars(path), EVENTS))
    assert run(mine, tmp_path / "pool", LocalPool(2)) == run(mine, tmp_path / "here", Counting())


def test_names_are_checked() -> None:
    assert chosen(None, ORDER, "market") == ORDER
    assert chosen(["common", "neutral"], ORDER, "market") == ("neutral", "common")
    with pytest.raises(ConfigError, match="model 'goood': unknown, expected one of frozen, always-buy"):
        chosen(["goood"], MODELS, "model")
    assert set(ORDER) == {*SIMULATED, "real"}


COMMAND = [sys.executable, "-m", "quantum_trader.cli.main", "rogues", "--market", "neutral", "--model", "good"]


def start(work: Path, *more: str) -> "subprocess.Popen[str]":
    """A run in a session of its own, so that a signal to it reaches nobody else."""
    return subprocess.Popen(
        [*COMMAND, "--repetitions", "40", "--work", str(work), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until_some_are_done(process: "subprocess.Popen[str]", work: Path) -> None:
    deadline = time.monotonic() + 120
    while not list(work.glob("neutral/*.jsonl")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_killed_goes_on_to_the_same_results(tmp_path: Path, end: signal.Signals) -> None:
    work = tmp_path / "killed"
    with start(work, "--workers", "2") as process:
        until_some_are_done(process, work)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        os.kill(process.pid, end)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if end is signal.SIGINT else -signal.SIGKILL), errors
    # No worker outlives its run, not even one that was killed without a word.
    assert psutil.wait_procs(workers, timeout=30)[1] == []
    done = files(work)
    assert 1 < len(done) < 1 + 40 / BATCH
    with start(work, "--workers", "1") as second:
        shown, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors
    assert "The good model was promoted in" in shown
    undisturbed = tmp_path / "undisturbed"
    with start(undisturbed, "--workers", "2") as third:
        third.communicate(timeout=300)
    assert files(work) == files(undisturbed)
    assert {name: files(work)[name] for name in done} == done


def quantum(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "quantum_trader.cli.main", "rogues", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
    )


@pytest.mark.slow
def test_the_command_writes_the_page_and_says_what_it_did(tmp_path: Path) -> None:
    asked = ("--market", "neutral", "--model", "copy-ensemble", "--model", "good", "--repetitions", "3")
    result = quantum(*asked, "--page", "docs/rates.md", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "2 models on 1 markets, 3 repetitions of 5,000 decisions, seed 20260101" in result.stdout
    assert "without real returns: give bars with --bars FILE" in result.stdout
    page = (tmp_path / "docs" / "rates.md").read_text()
    assert "| `copy-ensemble` |" in page
    assert (tmp_path / "docs" / "images" / "gates-error-rates-power.svg").exists()
    lines = (tmp_path / "var" / "rogues" / "neutral" / "00000-00003.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=Result).model for line in lines] == ["copy-ensemble", "good"] * 3
    again = quantum(*asked, "--page", "docs/rates.md", cwd=tmp_path)
    assert again.returncode == 0
    assert (tmp_path / "docs" / "rates.md").read_text() == page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--market", "sideways"), "market 'sideways': unknown, expected one of neutral, real, bull"),
        (("--market", "real"), "market 'real': give its bars with --bars FILE"),
        (("--model", "nobody"), "model 'nobody': unknown"),
        (("--bars", "none.parquet"), "none.parquet"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    result = quantum(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_list_names_every_model(tmp_path: Path) -> None:
    shown = quantum("--list", cwd=tmp_path).stdout
    assert all(name in shown for name in MODELS)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed here")
def test_ray_is_asked_for_only_where_it_is_wanted(tmp_path: Path) -> None:
    result = quantum("--ray", "auto", "--repetitions", "1", "--model", "frozen", cwd=tmp_path)
    assert result.returncode == 1
    assert "--ray: Ray is not installed; it is an optional part" in result.stderr
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_cluster_gives_the_same_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself is too large for the tests: a stand-in with its five calls, which answers out of order."""
    calls: list[str] = []
    ray: Any = ModuleType("ray")

    class Remote:
        def __init__(self, function: Any) -> None:
            self.function = function

        def remote(self, *arguments: Any) -> Any:
            return lambda: self.function(*(value() if callable(value) else value for value in arguments))

    ray.init = lambda **options: calls.append(f"init {options['address']}")
    ray.shutdown = lambda: calls.append("shutdown")
    ray.put = lambda value: lambda: value
    ray.get = lambda reference: reference()
    ray.wait = lambda references: ([references[-1]], references[:-1])
    ray.remote = Remote
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert run(order(), tmp_path / "ray", RayCluster("auto")) == run(order(), tmp_path / "here", Counting())
    assert calls == ["init auto", "shutdown"]

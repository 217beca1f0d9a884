"""`quantum certify`: real engines, real faults, a document that says so; and a difference that it must not overlook."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from tests.artefacts import make_artefact
from tests.e2e.harness import wait_until

from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.cli.certify_checks import ANSWERS, WORDS, answer_words, checks
from quantum_trader.cli.certify_engines import Comparison, Stage, compare_engines, env_files, opened_bars
from quantum_trader.cli.certify_facts import newest_stretch, program
from quantum_trader.core.bars import WINDOW, BarSeries
from quantum_trader.core.decision import Decision
from quantum_trader.core.errors import ConfigError
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import MODELS, Role
from quantum_trader.engine.faults import CERTIFIED, Fault
from quantum_trader.engine.replay import ReplayModel, replay
from quantum_trader.market.files import write_bars
from quantum_trader.market.simulator import simulate
from quantum_trader.report.certificate import BYTES, Check, decode

PAIRS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
GROUPS = 24


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {model: make_artefact(folder, model, seed) for seed, model in enumerate(MODELS)}


@pytest.fixture(scope="module")
def series() -> dict[str, BarSeries]:
    return simulate(WINDOW - 1 + GROUPS, 7, PAIRS)


@pytest.fixture(scope="module")
def stage(
    tmp_path_factory: pytest.TempPathFactory, artefacts: dict[str, Path], series: dict[str, BarSeries]
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("certify")
    files = env_files(artefacts, "patchtst", folder)
    with EmbeddedServer(folder / "valkey") as server:
        yield Stage(server.url, series, files, 200.0, folder)


@pytest.fixture(scope="module")
def replayed(artefacts: dict[str, Path], series: dict[str, BarSeries]) -> dict[str, Decision]:
    voters = [ReplayModel(name, path, Role.VOTER) for name, path in artefacts.items() if name != "patchtst"]
    found = replay(series, "5m", voters, VotePolicy(), workers=1)
    return {record.decision.decision_id: record.decision for records in found for record in records}


@pytest.fixture(scope="module")
def healthy(stage: Stage) -> Comparison:
    return compare_engines(stage, "healthy", Fault.HEALTHY, lambda done, total: None)


def test_two_engines_decide_every_bar_once_in_turns(healthy: Comparison, replayed: dict[str, Decision]) -> None:
    n = GROUPS * len(PAIRS)
    assert len(healthy.on.records) == len(healthy.off.records) == n
    assert len(healthy.on_ms) == len(healthy.off_ms) == GROUPS
    assert min(healthy.on_ms + healthy.off_ms) > 0.5
    assert all(not record.shadows for record in healthy.off.records)
    assert answer_words(healthy.on.records, "patchtst") == {"ok": n}
    assert [check for check in checks(healthy, replayed, "patchtst", Fault.HEALTHY) if not check.passed] == []
    assert not opened_bars(healthy.on.records, "patchtst").any()


@pytest.mark.parametrize("fault", [Fault.HUNG, Fault.NAN, Fault.CRASH_ON_EVERY])
def test_a_fault_gives_the_same_bytes_and_the_answers_it_must(
    stage: Stage, replayed: dict[str, Decision], fault: Fault
) -> None:
    both = compare_engines(stage, fault.value, fault, lambda done, total: None)
    assert [check for check in checks(both, replayed, "patchtst", fault) if not check.passed] == []
    if fault is Fault.HUNG:
        assert opened_bars(both.on.records, "patchtst").tolist() == [False] * 3 + [True] * (GROUPS - 3)
    commands = [" ".join(cmd(child)) for child in psutil.Process().children(recursive=True)]
    assert [line for line in commands if "faulty_worker" in line or "cli.planted" in line] == []


def cmd(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def failed(both: Comparison, replayed: dict[str, Decision], fault: Fault = Fault.HEALTHY) -> list[Check]:
    return [check for check in checks(both, replayed, "patchtst", fault) if not check.passed]


def other_side(both: Comparison, **changes: Any) -> Comparison:
    return Comparison(
        both.off, type(both.on)(**{**{f: getattr(both.on, f) for f in ("records", "intents", "problems")}, **changes}),
        both.off_ms, both.on_ms,
    )  # fmt: skip


def test_one_changed_bit_in_one_decision_is_found_and_named(healthy: Comparison, replayed: dict[str, Decision]) -> None:
    records = list(healthy.on.records)
    decision = records[40].decision
    bumped = msgspec.structs.replace(decision, atr_value=decision.atr_value * (1 + 2**-52))
    records[40] = msgspec.structs.replace(records[40], decision=bumped)
    (check,) = failed(other_side(healthy, records=records), replayed)
    assert check.name == BYTES
    assert decision.symbol in check.detail
    assert f"atr_value is {bumped.atr_value!r} with the shadow, {decision.atr_value!r} without it" in check.detail


def test_a_replay_that_differs_is_found_too(healthy: Comparison, replayed: dict[str, Decision]) -> None:
    (name, decision), *_ = replayed.items()
    changed = {**replayed, name: msgspec.structs.replace(decision, action="NEVER")}
    (check,) = failed(healthy, changed)
    assert check.detail.endswith("'NEVER' in the replay")
    missing = {key: value for key, value in replayed.items() if key != name}
    (check,) = failed(healthy, missing)
    assert "decided with the shadow only" in check.detail


def test_a_lost_decision_a_lost_answer_and_a_doubled_intent_are_found(
    healthy: Comparison, replayed: dict[str, Decision]
) -> None:
    records, intents = list(healthy.on.records), list(healthy.on.intents)
    lost = failed(other_side(healthy, records=records[1:]), replayed)
    assert lost[0].name == BYTES
    assert "decided without it only" in lost[0].detail
    mute = [msgspec.structs.replace(records[0], shadows={}), *records[1:]]
    names = [check.name for check in failed(other_side(healthy, records=mute), replayed)]
    assert names == ["accounting", "shadow's answers"]
    assert [check.name for check in failed(other_side(healthy, intents=[*intents, intents[0]]), replayed)] == [
        "intents"
    ]
    told = failed(other_side(healthy, problems=["5 intents were counted, but 6 were added"]), replayed)
    assert [(check.name, check.detail) for check in told] == [
        ("accounting", "5 intents were counted, but 6 were added")
    ]


def test_an_unmarked_shadow_or_another_payload_is_found(healthy: Comparison, replayed: dict[str, Decision]) -> None:
    first, *rest = healthy.on.intents
    unmarked = json.loads(json.dumps(first))
    del unmarked["model_breakdown"]["patchtst"]["shadow"]
    assert [c.name for c in failed(other_side(healthy, intents=[unmarked, *rest]), replayed)] == ["intents"]
    resized = {**first, "position_size_usd": 11.0}
    (check,) = failed(other_side(healthy, intents=[resized, *rest]), replayed)
    assert "differs in more than the shadow's entry" in check.detail


def test_answers_of_another_fault_are_found(healthy: Comparison, replayed: dict[str, Decision]) -> None:
    assert [check.name for check in failed(healthy, replayed, Fault.NAN)] == ["shadow's answers"]
    assert set(ANSWERS) == set(WORDS) == set(CERTIFIED)


def test_the_newest_stretch_is_the_newest_without_a_gap(series: dict[str, BarSeries]) -> None:
    whole = newest_stretch(series, 100)
    assert {len(bars) for bars in whole.values()} == {100}
    assert all(whole[name].ts_open[-1] == series[name].ts_open[-1] for name in series)
    # One symbol ends earlier and has a hole.
    short = {**series, "ETHUSDT": without(series["ETHUSDT"], 300, len(series["ETHUSDT"]) - 10)}
    cut = newest_stretch(short, 100)
    assert all(bars.ts_open[-1] == series["BTCUSDT"].ts_open[-11] for bars in cut.values())
    with pytest.raises(ConfigError, match="have no 400 bars in a row"):
        newest_stretch(short, 400)
    with pytest.raises(ConfigError, match="have no 9,000 bars"):
        newest_stretch(series, 9_000)


def without(bars: BarSeries, hole: int, end: int) -> BarSeries:
    rows = [row for row in range(end) if row != hole]
    fields = {name: getattr(bars, name)[rows] for name in ("ts_open", "open", "high", "low", "close", "volume")}
    return BarSeries(bars.symbol, bars.interval, **fields)


def test_the_program_is_known_by_its_source() -> None:
    found = program()
    assert len(found.code) == 64
    assert found == program()


def run(*arguments: str, cwd: Path) -> "subprocess.Popen[str]":
    environ = {name: value for name, value in os.environ.items() if not name.startswith("QUANTUM_")}
    command = [sys.executable, "-m", "quantum_trader.cli.main", "certify", *arguments]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def bars_file(tmp_path: Path, series: dict[str, BarSeries]) -> Path:
    write_bars(tmp_path / "bars.parquet", series)
    return tmp_path / "bars.parquet"


def test_the_command_writes_its_document_and_tells_it_by_its_exit_code(
    tmp_path: Path, bars_file: Path, artefacts: dict[str, Path]
) -> None:
    models = str(artefacts["xgb"].parent)
    process = run(
        *("--bars", bars_file.name, "--models", models, "--groups", "20", "--shadow", "nhits"),
        *("--fault", "wrong-shape", "--fault", "exit-in-import", "--symbols", "BTC/USDT,ETH/USDT"),
        cwd=tmp_path,
    )
    said, _ = process.communicate(timeout=120)
    found = decode((tmp_path / "certify-out" / "certificate.json").read_bytes())
    assert process.returncode in (0, 3), said
    assert (found.verdict.value, process.returncode) in (("PASS", 0), ("SLOW", 3))
    assert [fault.fault for fault in found.faults] == ["wrong-shape", "exit-in-import"]
    assert (found.decisions, found.failures) == (80, [])
    assert found.faults[0].answers == {"refused: shape": 40}
    assert found.models["nhits"].role == "shadow"
    assert found.bars.symbols == ["BTCUSDT", "ETHUSDT"]
    assert found.sentence.split(";")[0] in " ".join(said.split())
    assert sorted(path.name for path in (tmp_path / "certify-out").iterdir()) == [
        "certificate.html",
        "certificate.json",
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--fault", "typo"), "fault 'typo': unknown"),
        (("--shadow", "typo"), "shadow 'typo': unknown model"),
        (("--models", "nowhere"), "models folder nowhere: no such folder"),
        (("--groups", "5000"), "have no 5,511 bars in a row"),
        ((), "9,000 before the certified ones are needed to train, or give --models"),
    ],
)
def test_a_users_mistake_is_one_line(tmp_path: Path, bars_file: Path, arguments: tuple[str, ...], line: str) -> None:
    process = run("--bars", bars_file.name, "--groups", "20", *arguments, cwd=tmp_path)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert line in said
    assert "Traceback" not in said


def test_ctrl_c_leaves_no_process_behind(tmp_path: Path, bars_file: Path, artefacts: dict[str, Path]) -> None:
    process = run(
        *("--bars", bars_file.name, "--models", str(artefacts["xgb"].parent), "--fault", "hung", "--groups", "24"),
        cwd=tmp_path,
    )
    own = psutil.Process(process.pid)
    wait_until(lambda: sum("faulty_worker" in " ".join(cmd(child)) for child in own.children(recursive=True)) == 1, 60)
    time.sleep(0.3)
    family = own.children(recursive=True)
    assert len(family) >= 4
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    _, alive = psutil.wait_procs(family, timeout=10)
    assert [cmd(child) for child in alive if child.is_running()] == []
    assert list((tmp_path / "certify-out").iterdir()) == []

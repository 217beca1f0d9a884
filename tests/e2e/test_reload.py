"""A reload of the real engine under a feed that never stops: who speaks changes between two batches, nothing else."""

import itertools
import json
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.artefacts import make_artefact
from tests.e2e.harness import NAMES, Engine, decisions, pending, release, stream_length, wait_until
from tests.e2e.test_service import in_order, publish

from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.writer import BarWriter
from quantum_trader.core.bars import WINDOW
from quantum_trader.core.decision import DecisionRecord, canonical
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import MODELS, Role
from quantum_trader.engine.replay import ReplayModel, replay
from quantum_trader.market.merge import in_time_order
from quantum_trader.market.simulator import simulate
from quantum_trader.models.artefact import load_artefact
from quantum_trader.release.ledger import append_entries
from quantum_trader.release.ledger_entries import New, Revoke

PAIRS = ["BTC/USDT", "ETH/USDT"]
BARS = 1200
SERIES = simulate(WINDOW + BARS, 21, PAIRS)


class House:
    """An engine, its env file, and bars that come one after the other until the test has seen enough."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.env_file = release(folder)
        self.models = folder / "models"
        publish(url, {symbol: bars.slice(0, WINDOW) for symbol, bars in SERIES.items()})
        self.engine = Engine(self.env_file, url, PAIRS, SHADOW_GRACE_MS="2000")
        self.engine.wait_ready()
        wait_until(lambda: "[OK] PatchTST agent loaded" in self.engine.log)
        self._enough = threading.Event()
        self._feed = threading.Thread(target=self._publish)
        self._feed.start()
        self.some_bars()

    def _publish(self) -> None:
        later = {symbol: bars.slice(WINDOW, len(bars)) for symbol, bars in SERIES.items()}
        client = connect(self.url)
        writer = BarWriter(client, NAMES)
        for bars in in_time_order(later, len(PAIRS)):
            if self._enough.wait(0.02):
                break
            writer.publish(bars, "5m", 1_700_000_000_000_000)
        client.close()

    @property
    def decided(self) -> int:
        return stream_length(self.url, NAMES.decisions)

    def change(self, name: str, value: str | None) -> None:
        lines = [line for line in self.env_file.read_text().splitlines() if not line.startswith(f"{name}=")]
        if value is not None:
            lines.append(f"{name}={value}")
        draft = self.env_file.with_name("draft")
        draft.write_text("\n".join(lines) + "\n")
        draft.replace(self.env_file)

    def reload(self, says: str) -> None:
        """SIGHUP, and until the log says what became of it, and some bars more."""
        before = self.engine.log.count(says)
        self.engine.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.engine.log.count(says) > before)
        self.some_bars()

    def some_bars(self, n: int = 8) -> None:
        at = self.decided
        wait_until(lambda: self.decided >= at + n)

    def end(self) -> list[DecisionRecord]:
        """All records in time order, once every bar that was published is decided and the engine has ended."""
        self._enough.set()
        self._feed.join()
        wait_until(lambda: self.decided == stream_length(self.url, NAMES.bars) - len(PAIRS) * (WINDOW - 1))
        assert self.engine.stop() == 0, self.engine.log
        assert pending(self.url) == 0
        records = in_order(decisions(self.url))
        ids = [record.decision.decision_id for record in records]
        assert len(ids) == len(set(ids))
        return records

    def close(self) -> None:
        self._enough.set()
        self._feed.join()
        self.engine.kill()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with EmbeddedServer(tmp_path / "valkey") as server:
        house = House(tmp_path / "house", server.url)
        yield house
        house.close()


def expected(records: list[DecisionRecord], models: Path) -> list[bytes]:
    """What a replay with every record's own voters decides."""
    series = {symbol: bars.slice(0, WINDOW + BARS) for symbol, bars in SERIES.items()}
    by_cast: dict[tuple[str, ...], dict[str, bytes]] = {}
    for voters in {tuple(record.decision.votes) for record in records}:
        cast = [ReplayModel(m, next(models.glob(f"{m}_v*000{MODELS.index(m)}")), Role.VOTER) for m in voters]
        replayed = [r for part in replay(series, "5m", cast, VotePolicy(), workers=1) for r in part]
        by_cast[voters] = {r.decision.decision_id: canonical(r.decision) for r in replayed}
    return [by_cast[tuple(record.decision.votes)][record.decision.decision_id] for record in records]


def runs(values: Iterator[object]) -> list[object]:
    return [value for value, _ in itertools.groupby(values)]


def artefact_of(record: DecisionRecord, model: str = "patchtst") -> str:
    return record.shadows[model].artefact


def test_a_shadow_gets_another_artefact_and_not_one_bar_is_without_an_answer(house: House) -> None:
    old = load_artefact(next(house.models.glob("patchtst_v*"))).digest
    path = make_artefact(house.models, "patchtst", 40)
    house.change("PATCHTST_MODEL_PATH", str(path))
    house.reload("patchtst followed")
    records = house.end()
    assert runs(artefact_of(record) for record in records) == [old, load_artefact(path).digest]
    # But for the first bar, which was decided while the first one loaded.
    assert {record.shadows["patchtst"].status for record in records[len(PAIRS) :]} == {"ok"}
    # Of one bar all symbols have the same cast: nothing changes inside a batch.
    for _, bar in itertools.groupby(records, lambda record: record.decision.ts_open):
        assert len({artefact_of(record) for record in bar}) == 1
    assert [canonical(record.decision) for record in records] == expected(records, house.models)


def test_roles_change_downwards_only_and_everything_is_accounted_for(house: House) -> None:
    house.change("NHITS_SHADOW_ONLY", "true")
    house.reload("nhits demoted")
    house.change("PATCHTST_MODEL_PATH", None)
    house.reload("patchtst removed")
    house.change("PATCHTST_MODEL_PATH", str(next(house.models.glob("patchtst_v*"))))
    house.reload("patchtst added")
    # What raises influence is not taken, and the rest of the same reload is.
    house.change("NHITS_SHADOW_ONLY", "false")
    house.change("PATCHTST_MODEL_PATH", str(make_artefact(house.models, "patchtst", 41)))
    house.change("QUANTUM_WEIGHTS", "xgb=0.5")
    house.change("QUANTUM_MIN_CONSENSUS", "1")
    house.reload("patchtst followed")
    wait_until(lambda: decisions(house.url)[-1].shadows["nhits"].status == "ok", every_s=0.1)
    records = house.end()
    casts = runs((tuple(record.decision.votes), tuple(record.shadows)) for record in records)
    assert casts == [
        (("xgb", "lgbm", "nhits"), ("patchtst",)),
        (("xgb", "lgbm"), ("nhits", "patchtst")),
        (("xgb", "lgbm"), ("nhits",)),
        (("xgb", "lgbm"), ("nhits", "patchtst")),
    ]
    assert [canonical(record.decision) for record in records] == expected(records, house.models)
    (line,) = [line for line in house.engine.log.splitlines() if "restart needed" in line]
    for said in ("nhits would vote", "xgb's weight would go from 0.25 to 0.5", "setting min_consensus"):
        assert said in json.loads(line)["message"]
    said = {record.shadows["nhits"].status for record in records if "nhits" in record.shadows}
    assert {"missing", "ok"} <= said <= {"missing", "late", "ok"}


def test_a_grant_that_is_gone_demotes_as_the_flag_does(house: House) -> None:
    artefact = load_artefact(next(house.models.glob("xgb_v*"))).digest
    revoke = Revoke(model="xgb", artefact=artefact)
    at = "2026-01-02T00:00:00+00:00"
    append_entries(house.folder / "ledger.jsonl", [New(at=at, by="tests", reason="for a test", detail=revoke)])
    house.reload("xgb demoted")
    records = house.end()
    assert runs(tuple(record.decision.votes) for record in records) == [("xgb", "lgbm", "nhits"), ("lgbm", "nhits")]
    assert [canonical(record.decision) for record in records] == expected(records, house.models)


def test_what_cannot_be_read_changes_nothing(house: House) -> None:
    sound, ledger = house.env_file.read_bytes(), house.folder / "ledger.jsonl"
    granted = ledger.read_bytes()
    for broken in (b"QUANTUM_NO_SUCH_SETTING=1\n", b"\xff\xfe", b"XGB_SHADOW_ONLY=false\n"):
        house.env_file.write_bytes(broken)
        house.reload("reload refused, nothing is changed: ")
    house.env_file.unlink()
    house.reload("no such file")
    house.env_file.write_bytes(sound)
    ledger.write_bytes(granted[:-10])
    house.reload("grants are taken as they were, only flags are followed")
    ledger.write_bytes(granted)
    for flag in ("XGB_SHADOW_ONLY", "LGBM_SHADOW_ONLY", "NHITS_SHADOW_ONLY"):
        house.change(flag, "true")
    house.reload("no voter would be left")
    house.env_file.write_bytes(sound)
    old = load_artefact(next(house.models.glob("patchtst_v*"))).digest
    bad = make_artefact(house.models, "patchtst", 42)
    (bad / "model.onnx").write_bytes(b"\0" * (bad / "model.onnx").stat().st_size)
    house.change("PATCHTST_MODEL_PATH", str(bad))
    house.reload("the old artefact goes on, the new one cannot be loaded: patchtst")
    house.env_file.write_bytes(sound)
    house.reload("reload: nothing to take")
    records = house.end()
    assert runs((tuple(r.decision.votes), artefact_of(r)) for r in records) == [(("xgb", "lgbm", "nhits"), old)]
    assert {record.shadows["patchtst"].status for record in records[-8:]} == {"ok"}
    assert [canonical(record.decision) for record in records] == expected(records, house.models)


@pytest.mark.slow
def test_a_storm_of_reloads_costs_no_bar_and_no_answer_of_a_voter(house: House) -> None:
    paths = [
        next(house.models.glob("patchtst_v*")),
        *(make_artefact(house.models, "patchtst", 50 + i) for i in range(3)),
    ]
    broken = house.models / "patchtst_v20260102_000000"
    shutil.copytree(paths[0], broken)
    (broken / "model.onnx").write_bytes(b"")
    for path in [*paths, broken] * 8:
        house.change("PATCHTST_MODEL_PATH", str(path))
        for _ in range(5):
            house.engine.process.send_signal(signal.SIGHUP)
            time.sleep(0.003)
        house.some_bars(2)
    house.change("PATCHTST_MODEL_PATH", str(paths[1]))
    last = load_artefact(paths[1]).digest
    house.engine.process.send_signal(signal.SIGHUP)
    wait_until(lambda: artefact_of(decisions(house.url)[-1]) == last, every_s=0.2)
    records = house.end()
    assert {tuple(record.decision.votes) for record in records} == {("xgb", "lgbm", "nhits")}
    assert all(vote.status == "ok" for record in records for vote in record.decision.votes.values())
    assert {artefact_of(record) for record in records} <= {load_artefact(path).digest for path in paths}
    assert [canonical(record.decision) for record in records] == expected(records, house.models)

"""The real engine process against a real server: every decision once, the same as a replay's, whatever kills it."""

import json
from pathlib import Path

import numpy as np
import pytest
from msgspec import UNSET
from tests.archive.many import unbroken
from tests.artefacts import make_calibration
from tests.e2e.harness import NAMES, Engine, decisions, intents, pending, release, stream_length, wait_until

from quantum_trader.archive.columns import to_table
from quantum_trader.archive.integrity import broken
from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.writer import BarWriter
from quantum_trader.core.bars import WINDOW, BarSeries
from quantum_trader.core.decision import canonical
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import MODELS, Role
from quantum_trader.engine.replay import ReplayModel, replay
from quantum_trader.market.files import read_bars
from quantum_trader.market.merge import in_time_order
from quantum_trader.market.simulator import simulate
from quantum_trader.models.calibration import load_calibration

PAIRS = ["BTC/USDT", "ETH/USDT", "SOL/USDT"]


def publish(url: str, series: dict[str, BarSeries]) -> int:
    client = connect(url)
    try:
        writer = BarWriter(client, NAMES)
        return sum(writer.publish(bars, "5m", 1_700_000_000_000_000) for bars in in_time_order(series, 500))
    finally:
        client.close()


def replayed(
    series: dict[str, BarSeries],
    models: Path,
    shadows: frozenset[str] = frozenset({"patchtst"}),
    policy: VotePolicy | None = None,
):
    cast = [
        ReplayModel(model, next(models.glob(f"{model}_v*")), Role.SHADOW if model in shadows else Role.VOTER)
        for model in MODELS
    ]
    records = [r for part in replay(series, "5m", cast, policy or VotePolicy(), workers=2) for r in part]
    assert broken(to_table(records)) == ()
    return sorted(records, key=lambda r: (r.decision.ts_open, r.decision.symbol))


def in_order(records):
    return sorted(records, key=lambda r: (r.decision.ts_open, r.decision.symbol))


def expected(series: dict[str, BarSeries]) -> int:
    return sum(len(bars.window_ends()) for bars in series.values())


@pytest.fixture
def server(tmp_path):
    with EmbeddedServer(tmp_path / "valkey") as running:
        yield running


def test_service_decides_every_bar_and_equals_the_replay_byte_for_byte(server, tmp_path):
    series = simulate(WINDOW + 150, 7, PAIRS)
    env_file = release(tmp_path)
    publish(server.url, series)
    engine = Engine(env_file, server.url, PAIRS)
    engine.wait_ready()
    wait_until(lambda: stream_length(server.url, NAMES.decisions) >= expected(series))
    assert engine.stop() == 0, engine.log
    records = in_order(decisions(server.url))
    assert broken(to_table(records)) == ()
    offline = replayed(series, tmp_path / "models")
    assert [canonical(r.decision) for r in records] == [canonical(r.decision) for r in offline]
    assert pending(server.url) == 0
    published = intents(server.url)
    assert [p["decision_id"] for p in published] == [
        r.decision.decision_id for r in decisions(server.url) if r.decision.action != "HOLD"
    ]
    assert all(p["model_breakdown"]["patchtst"]["shadow"] is True for p in published)
    lines = [json.loads(line) for line in engine.log.splitlines()]
    messages = [line["message"] for line in lines]
    assert "[OK] XGBoost agent loaded (weight: 25.0%)" in messages
    assert "[OK] PatchTST agent loaded (weight: 20.0%) | mode=SHADOW_ONLY: it does not vote" in messages
    assert any(message.startswith("[TELEMETRY] Publishing trade.intent: ") for message in messages)
    shadow_lines = [message for message in messages if message.startswith("[SHADOW] PatchTST | ")]
    assert 3 <= len(shadow_lines) < expected(series) / 3, "one line a symbol in 30 s"


def test_service_votes_calibrated_as_the_replay_does_and_refuses_another_artefacts_calibration(server, tmp_path):
    series = simulate(WINDOW + 60, 7, PAIRS)
    env_file = release(tmp_path)
    xgb, lgbm, patchtst = (next((tmp_path / "models").glob(f"{model}_v*")) for model in ("xgb", "lgbm", "patchtst"))
    reference = make_calibration(tmp_path / "x.calibration.json", xgb)
    publish(server.url, series)
    # The shadow's counts for nothing, whatever it is.
    engine = Engine(env_file, server.url, PAIRS, XGB_CALIBRATION=reference, PATCHTST_CALIBRATION="nonsense")
    wait_until(lambda: stream_length(server.url, NAMES.decisions) >= expected(series))
    assert engine.stop() == 0, engine.log
    records = in_order(decisions(server.url))
    policy = VotePolicy(calibrations={"xgb": load_calibration(reference)})
    offline = replayed(series, tmp_path / "models", policy=policy)
    assert [canonical(r.decision) for r in records] == [canonical(r.decision) for r in offline]
    assert all(r.decision.votes["xgb"].p_calibrated is not UNSET for r in records)
    assert all(r.shadows["patchtst"].p_calibrated is UNSET for r in records)
    assert f"calibration of xgb is {policy.calibrations['xgb'].digest[:16]}" in engine.log
    assert "calibration of patchtst: it does not vote" in engine.log
    foreign = make_calibration(tmp_path / "l.calibration.json", lgbm)
    for wrong, why in {
        f"{tmp_path / 'none'}@{'a' * 64}": "none is missing",
        reference.partition("@")[0]: "expected FILE@DIGEST",
        foreign: "it is one of lgbm",
        make_calibration(tmp_path / "p.calibration.json", patchtst, model="xgb"): "it belongs to artefact",
    }.items():
        refused = Engine(env_file, server.url, PAIRS, XGB_CALIBRATION=wrong)
        assert refused.process.wait(60) == 1
        assert "Traceback" not in refused.log
        assert refused.log.count("XGBoost is meant to vote calibrated and cannot: calibration ") == 1
        assert why in refused.log


@pytest.mark.slow
def test_kill_9_at_50_random_points_leaves_every_decision_exactly_once(server, tmp_path):
    series = simulate(WINDOW + 1500, 11, PAIRS)
    env_file = release(tmp_path)
    publish(server.url, series)
    total = expected(series)
    rng = np.random.default_rng(20260101)
    kills = 0
    while kills < 50:
        engine = Engine(env_file, server.url, PAIRS, SHADOW_GRACE_MS="0")
        before = stream_length(server.url, NAMES.decisions)
        remaining = max(total - before, 0)
        # Anywhere from before the first decision of this life to a fair share of what is left.
        target = before + int(rng.integers(0, max(remaining // (52 - kills), 1) + 1)) * int(rng.integers(0, 2))
        wait_until(lambda: stream_length(server.url, NAMES.decisions) >= target, every_s=0.001)  # noqa: B023
        engine.kill()
        kills += 1
    engine = Engine(env_file, server.url, PAIRS, SHADOW_GRACE_MS="0")
    wait_until(lambda: stream_length(server.url, NAMES.decisions) >= total)
    assert engine.stop() == 0, engine.log
    records = decisions(server.url)
    assert unbroken(records)
    keys = [(r.decision.symbol, r.decision.ts_open) for r in records]
    assert len(keys) == len(set(keys)) == total
    offline = replayed(series, tmp_path / "models")
    assert [canonical(r.decision) for r in in_order(records)] == [canonical(r.decision) for r in offline]
    wanted = {r.decision.decision_id for r in records if r.decision.action != "HOLD"}
    ids = [p["decision_id"] for p in intents(server.url)]
    assert len(ids) == len(set(ids))
    assert set(ids) == wanted
    assert pending(server.url) == 0


def test_restart_keeps_the_windows_and_a_gap_makes_predictions_wait(server, tmp_path):
    whole = simulate(WINDOW + 40 + 1 + WINDOW + 5, 3, ["BTC/USDT"])["BTCUSDT"]
    hole = WINDOW + 40
    first, second = whole.slice(0, hole), whole.slice(hole + 1, len(whole))
    env_file = release(tmp_path)
    publish(server.url, {"BTCUSDT": first.slice(0, WINDOW + 20)})
    engine = Engine(env_file, server.url, ["BTC/USDT"])
    engine.wait_ready()
    wait_until(lambda: stream_length(server.url, NAMES.decisions) == 21)
    assert engine.stop() == 0
    publish(server.url, {"BTCUSDT": first.slice(WINDOW + 20, len(first))})
    publish(server.url, {"BTCUSDT": second})
    engine = Engine(env_file, server.url, ["BTC/USDT"])
    wait_until(lambda: stream_length(server.url, NAMES.decisions) == 41 + 6)
    assert engine.stop() == 0
    assert "gap: BTCUSDT misses 1 bars" in engine.log
    records = decisions(server.url)
    assert not any(first.ts_open[-1] < r.decision.ts_open < second.ts_open[WINDOW - 1] for r in records)
    joined = BarSeries.from_bars([*first, *second])
    offline = replayed({"BTCUSDT": joined}, tmp_path / "models")
    assert [canonical(r.decision) for r in in_order(records)] == [canonical(r.decision) for r in offline]


def test_straggler_is_waited_for_and_then_decided_alone(server, tmp_path):
    series = simulate(WINDOW + 3, 5, PAIRS[:2])
    env_file = release(tmp_path)
    warm = {symbol: bars.slice(0, WINDOW + 2) for symbol, bars in series.items()}
    publish(server.url, warm)
    engine = Engine(env_file, server.url, PAIRS[:2], QUANTUM_LINGER_MS="300")
    wait_until(lambda: stream_length(server.url, NAMES.decisions) == 6)
    last = {symbol: bars.slice(WINDOW + 2, WINDOW + 3) for symbol, bars in series.items()}
    publish(server.url, {"BTCUSDT": last["BTCUSDT"]})
    wait_until(lambda: stream_length(server.url, NAMES.decisions) == 7)
    publish(server.url, {"ETHUSDT": last["ETHUSDT"]})
    wait_until(lambda: stream_length(server.url, NAMES.decisions) == 8)
    assert engine.stop() == 0
    offline = replayed(series, tmp_path / "models")
    records = in_order(decisions(server.url))
    assert [canonical(r.decision) for r in records] == [canonical(r.decision) for r in offline]


def test_bad_bars_are_refused_loudly_and_cost_nothing_else(server, tmp_path):
    series = simulate(WINDOW + 5, 9, ["BTC/USDT"])
    env_file = release(tmp_path)
    publish(server.url, {"BTCUSDT": series["BTCUSDT"].slice(0, WINDOW)})
    client = connect(server.url)
    client.xadd(NAMES.bars, {"event_type": "market.bar", "payload": "{not json"})
    publish(server.url, simulate(3, 1, ["DOGE/USDT"]))
    publish(server.url, {"BTCUSDT": series["BTCUSDT"].slice(WINDOW, WINDOW + 5)})
    engine = Engine(env_file, server.url, ["BTC/USDT"])
    wait_until(lambda: stream_length(server.url, NAMES.decisions) == 6)
    assert engine.stop() == 0
    assert pending(server.url) == 0
    client.close()
    assert engine.log.count("bar refused") == 4
    assert "DOGEUSDT is not configured" in engine.log


def test_service_equals_replay_on_real_bars(server, tmp_path, shared):
    held = read_bars(shared / "data" / "bars_5m_um.parquet", ["BTC/USDT", "XRP/USDT"])
    series = {symbol: bars.slice(len(bars) - WINDOW - 60, len(bars)) for symbol, bars in held.items()}
    env_file = release(tmp_path)
    publish(server.url, series)
    engine = Engine(env_file, server.url, ["BTC/USDT", "XRP/USDT"])
    wait_until(lambda: stream_length(server.url, NAMES.decisions) >= expected(series))
    assert engine.stop() == 0
    offline = replayed(series, tmp_path / "models")
    records = in_order(decisions(server.url))
    assert [canonical(r.decision) for r in records] == [canonical(r.decision) for r in offline]


def test_engine_without_its_server_says_so_in_one_line(tmp_path):
    engine = Engine(release(tmp_path), "redis://127.0.0.1:1/0", ["BTC/USDT"])
    assert engine.process.wait(60) == 1
    assert "Traceback" not in engine.log
    assert "127.0.0.1:1" in engine.log

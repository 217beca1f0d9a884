"""`quantum proof stream` on a real server: whole events pass, every kind of tampering is named."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.artefacts import make_artefact
from tests.release.events import NAMES, Deployment, publish, publish_changed
from typer.testing import CliRunner

from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.wire import encode_record
from quantum_trader.cli.finish import Finish
from quantum_trader.cli.main import build
from quantum_trader.core.errors import QuantumError


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return Deployment(tmp_path_factory.mktemp("deployed"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("server") / "valkey") as running:
        yield running


@pytest.fixture
def server(running: EmbeddedServer) -> EmbeddedServer:
    client = connect(running.url)
    client.flushall()
    client.close()
    return running


def prove(server: EmbeddedServer, deployment: Deployment, *options: str) -> "subprocess.CompletedProcess[str]":
    """The command in this process: a start of Python for each case would cost more than the case."""
    clean = {name: None for name in os.environ if name.startswith("QUANTUM_")}
    arguments = ["proof", "stream", "--env-file", str(deployment.env_file), *options]
    environ = {**clean, "QUANTUM_REDIS_URL": server.url, "COLUMNS": "160"}
    result = CliRunner().invoke(build("proof"), arguments, env=environ)
    error = result.exception
    if isinstance(error, Finish):
        return subprocess.CompletedProcess(arguments, error.code, result.stdout, "")
    if isinstance(error, QuantumError):
        return subprocess.CompletedProcess(arguments, 1, result.stdout, str(error))
    assert error is None, error
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def failed(done: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """The checks that did not hold, with their problems."""
    document = json.loads(done.stdout)
    assert done.returncode == int(not document["passed"]), done.stderr
    return {check["name"]: check["problems"] for check in document["checks"] if not check["passed"]}


def test_whole_events_are_proven_with_the_overhead_in_bytes_and_percent(
    server: EmbeddedServer, deployment: Deployment
) -> None:
    records = deployment.records(40)
    actionable = sum(record.decision.action != "HOLD" for record in records)
    assert 0 < actionable < 40
    publish(server.url, records)
    done = prove(server, deployment, "--json", "--count", "100")
    assert failed(done) == {}
    document = json.loads(done.stdout)
    assert (document["intents"], document["decisions"]) == (actionable, 40)
    assert all(check["looked_at"] for check in document["checks"])
    (overhead,) = document["overhead"]
    assert overhead["model"] == "patchtst"
    assert overhead["payloads"] == actionable
    assert 80 < overhead["smallest_bytes"] <= overhead["largest_bytes"] < 130
    assert 5 < overhead["largest_percent"] < 12
    shown = prove(server, deployment)
    assert shown.returncode == 0, shown.stderr
    assert "PROVEN" in shown.stdout
    assert "digests are the deployed ones" in shown.stdout
    assert " bytes, at most " in shown.stdout


def counted(payload: dict[str, Any]) -> dict[str, Any]:
    return {**payload, "consensus_count": payload["consensus_count"] + 1, "voters": payload["voters"] + 1}


def with_entry(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(payload: dict[str, Any]) -> dict[str, Any]:
        entry = {**payload["model_breakdown"]["patchtst"], **changes}
        entry = {key: value for key, value in entry.items() if value is not None}
        return {**payload, "model_breakdown": {**payload["model_breakdown"], "patchtst": entry}}

    return change


def another_artefact(payload: dict[str, Any]) -> dict[str, Any]:
    return {**payload, "artefacts": {**payload["artefacts"], "patchtst": "0" * 64}}


def without_the_shadow(payload: dict[str, Any]) -> dict[str, Any]:
    entries = {name: entry for name, entry in payload["model_breakdown"].items() if name != "patchtst"}
    return {**payload, "model_breakdown": entries, "total_models": 3}


def a_voter_marked(payload: dict[str, Any]) -> dict[str, Any]:
    entries = payload["model_breakdown"]
    return {**payload, "model_breakdown": {**entries, "xgb": {**entries["xgb"], "shadow": True}}}


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (counted, "consensus excludes the shadow", "consensus_count is"),
        (with_entry(shadow=None), "shadow entries marked", 'not marked "shadow": true'),
        (with_entry(shadow="true"), "shadow entries marked", "not marked"),
        (with_entry(model="patchtst"), "shadow entries marked", "names the model 'patchtst'"),
        (with_entry(action="NONE"), "intents equal their decisions", "not what its decision's record says"),
        (with_entry(note="x" * 40), "shadow entry under 130 bytes and 12 %", "bytes,"),
        (another_artefact, "digests are the deployed ones", "artefact of patchtst is 0000000000000000"),
        (without_the_shadow, "shadow entries marked", "no entry of patchtst"),
        (a_voter_marked, "shadow entries marked", "the entry of xgb is marked, and it votes"),
        (lambda payload: {**payload, "side": "HOLD"}, "intents equal their decisions", "side is 'HOLD'"),
        (lambda payload: {**payload, "model_breakdown": []}, "shadow entries marked", "no entry of patchtst"),
        (lambda payload: {**payload, "decision_id": "other"}, "intents equal their decisions", "not in the stream"),
    ],
)
def test_one_tampered_intent_among_whole_ones_is_named(
    server: EmbeddedServer,
    deployment: Deployment,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    check: str,
    words: str,
) -> None:
    records = deployment.records(12)
    publish(server.url, records)
    chosen = next(record for record in records if record.decision.action != "HOLD")
    publish_changed(server.url, chosen, change)
    problems = failed(prove(server, deployment, "--json"))
    assert any(words in problem for problem in problems[check]), problems


def test_a_decision_that_counts_its_shadow_is_named(server: EmbeddedServer, deployment: Deployment) -> None:
    records = deployment.records(12)
    publish(server.url, records)
    (*_, record) = deployment.records(13)
    decision = record.decision
    for changed, words in (
        (msgspec.structs.replace(decision, consensus_count=decision.consensus_count + 1), "do not follow"),
        (msgspec.structs.replace(decision, votes={**decision.votes, **record.shadows}), "none of a vote"),
    ):
        client = connect(server.url)
        client.xadd(NAMES.decisions, dict(encode_record(msgspec.structs.replace(record, decision=changed))))
        client.close()
        problems = failed(prove(server, deployment, "--json"))
        assert any(words in problem for problem in problems["decisions exclude the shadow"]), problems


def test_an_unreadable_event_is_named(server: EmbeddedServer, deployment: Deployment) -> None:
    publish(server.url, deployment.records(12))
    client = connect(server.url)
    client.xadd(NAMES.intents, {"event_type": "trade.intent", "payload": "{"})
    client.close()
    assert list(failed(prove(server, deployment, "--json"))) == ["events readable"]


def test_another_artefact_than_the_deployed_one_is_named(
    server: EmbeddedServer, deployment: Deployment, tmp_path: Path
) -> None:
    publish(server.url, deployment.records(12))
    other = Deployment(tmp_path)
    text = other.env_file.read_text()
    newer = make_artefact(tmp_path / "models", "patchtst", 77)
    old = next(line for line in text.splitlines() if line.startswith("PATCHTST_MODEL_PATH="))
    other.env_file.write_text(text.replace(old, f"PATCHTST_MODEL_PATH={newer}"))
    done = prove(server, other, "--json")
    assert set(failed(done)) == {"digests are the deployed ones", "decisions exclude the shadow"}


def test_no_event_is_no_proof(server: EmbeddedServer, deployment: Deployment) -> None:
    assert "events readable" in failed(prove(server, deployment, "--json"))
    publish(server.url, deployment.records(12))
    later = prove(server, deployment, "--json", "--since", "2200-01-01T00:00:00Z")
    assert json.loads(later.stdout)["intents"] == 0
    assert later.returncode == 1
    wrong = prove(server, deployment, "--since", "yesterday")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "time 'yesterday': expected ISO 8601" in wrong.stderr


def test_an_intent_is_waited_for_as_long_as_was_said(server: EmbeddedServer, deployment: Deployment) -> None:
    began = time.monotonic()
    assert prove(server, deployment, "--json", "--wait-s", "1").returncode == 1
    assert time.monotonic() - began >= 1
    late = threading.Timer(1.0, publish, (server.url, deployment.records(12)))
    late.start()
    began = time.monotonic()
    done = prove(server, deployment, "--json", "--wait-s", "60")
    late.join()
    assert failed(done) == {}
    assert 0.9 < time.monotonic() - began < 30


def test_without_a_shadow_there_is_nothing_to_prove(server: EmbeddedServer, tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    kept = [line for line in deployment.env_file.read_text().splitlines() if not line.startswith("PATCHTST")]
    deployment.env_file.write_text("\n".join(kept) + "\n")
    done = prove(server, deployment)
    assert done.returncode == 1
    assert "no model is in shadow here" in done.stderr

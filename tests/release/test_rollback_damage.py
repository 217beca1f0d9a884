"""Ways back from a damaged host: what cannot be told never counts for more influence, and a lost line is no damage."""

import http.server
import threading
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.artefacts import make_artefact

from quantum_trader.core.errors import ConfigError, HostError, ReleaseError
from quantum_trader.core.predictions import MODELS
from quantum_trader.models.artefact import load_artefact
from quantum_trader.release.agent import ask
from quantum_trader.release.env_file import read_values, readable_values, sha256
from quantum_trader.release.host import LocalHost, SshAddress, SshHost
from quantum_trader.release.host_settings import HostSettings
from quantum_trader.release.init import initialise
from quantum_trader.release.ledger import append_entries, read_entries
from quantum_trader.release.ledger_entries import Grant, New, Revoke, Rollback
from quantum_trader.release.plans import Order, reload_step
from quantum_trader.release.record import record
from quantum_trader.release.remembered import Deployment
from quantum_trader.release.rollback import plan_fast, plan_nuclear
from quantum_trader.release.snapshot import take_snapshot

ORDER = Order("20260101_000000-0a1b2c3d", "operator", "why not", {"host": "local"})
AT = "2026-01-01T00:00:00+00:00"


class Place:
    """The files of a host: four artefacts, a ledger that grants all of them, an env file by which they vote."""

    def __init__(self, folder: Path) -> None:
        self.env, self.ledger = folder / "engine.env", folder / "ledger.jsonl"
        self.folders = {model: make_artefact(folder / "models", model, seed) for seed, model in enumerate(MODELS)}
        initialise(self.folders, frozenset(), self.ledger, self.env, by="tests", at=AT)
        models, state = PurePosixPath(str(folder / "models")), PurePosixPath(str(folder / "state"))
        self.settings = HostSettings(env_file=PurePosixPath(str(self.env)), models=models, state=state)
        self.digest = load_artefact(self.folders["patchtst"]).digest

    def backed_up(self, backup: bytes) -> Deployment:
        return Deployment("t", "f" * 64, "/gone", False, None, PurePosixPath("/etc/b"), sha256(backup))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("content", "values", "doubtful"),
    [
        (b"A=1\nB=2\r\nC=3\n", {"A": "1", "C": "3"}, {"B"}),
        (b"A=1\nA=2\r\n", {}, {"A"}),
        (b"A=\xff\nB=2\n", {"B": "2"}, {"A"}),
        (b"A=1\nB=2\\\nC=3\n", {}, {"A", "B", "C"}),
        (b"A=1\nB='2\nC=3\n", {}, {"A", "B", "C"}),
    ],
)
def test_only_what_good_lines_say_is_beyond_doubt(content: bytes, values: dict[str, str], doubtful: set[str]) -> None:
    found, names = readable_values(content)
    assert (found, names) == (values, doubtful)


@given(st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from(["1", "2"]), st.sampled_from(["", "\r", "\\"]))))
def test_what_is_beyond_doubt_is_what_a_good_file_says(lines: list[tuple[str, str, str]]) -> None:
    content = "".join(f"{name}={value}{end}\n" for name, value, end in lines).encode()
    found, _ = readable_values(content)
    try:
        assert found == read_values(content, "e")
    except ConfigError:
        good = "".join(f"{name}={value}\n" for name, value, end in lines if not end).encode()
        assert found.items() <= read_values(good, "e").items()


def test_an_env_file_past_reading_counts_for_no_vote_that_a_backup_could_give(place: Place) -> None:
    backup = place.env.read_bytes()
    host, settings = LocalHost(), place.settings
    for line, model in ((b"XGB_SHADOW_ONLY=true", "xgb"), (b"LGBM_SHADOW_ONLY=true", "lgbm")):
        damaged = backup.replace(line.replace(b"true", b"false"), line + b"\r")
        place.env.write_bytes(damaged)
        with pytest.raises(ConfigError):
            take_snapshot(host, settings)
        found = take_snapshot(host, settings, instead=backup)
        assert found.state_of(model).role == "shadow"
        with pytest.raises(ReleaseError, match=f"would raise {model} from shadow to voter"):
            plan_nuclear(found, "patchtst", settings, ORDER, place.backed_up(backup), backup)
    # A line that has nothing to do with votes does not stand in the way.
    place.env.write_bytes(backup + b"OTHER=1\r\n")
    found = take_snapshot(host, settings, instead=backup)
    assert plan_nuclear(found, "patchtst", settings, ORDER, place.backed_up(backup), backup).env.after == backup


def test_weights_that_cannot_be_read_are_not_taken_for_the_usual_ones(place: Place) -> None:
    backup = place.env.read_bytes()
    place.env.write_bytes(backup + b"QUANTUM_WEIGHTS=xgb=0.01\r\n")
    found = take_snapshot(LocalHost(), place.settings, instead=backup)
    with pytest.raises(ReleaseError, match="would raise xgb"):
        plan_nuclear(found, "patchtst", place.settings, ORDER, place.backed_up(backup), backup)


def test_a_backup_that_names_another_ledger_is_refused(place: Place) -> None:
    backup = place.env.read_bytes().replace(b"ledger.jsonl", b"other.jsonl")
    found = take_snapshot(LocalHost(), place.settings)
    with pytest.raises(ReleaseError, match=r"names the ledger .*nothing is changed"):
        plan_nuclear(found, "patchtst", place.settings, ORDER, place.backed_up(backup), backup)


def test_a_damaged_ledger_is_named_by_its_own_path(place: Place) -> None:
    place.ledger.write_bytes(place.ledger.read_bytes()[:-9])
    (problem,) = take_snapshot(LocalHost(), place.settings, lenient=True).problems
    assert problem.startswith(f"ledger local:{place.ledger}: line ")


def test_what_may_run_behind_a_broken_manifest_loses_its_grant_and_the_baseline_keeps_its_own(place: Place) -> None:
    # An older baseline, then a new grant of what runs.
    details = [Grant(model="patchtst", artefact=digest, weight=0.1) for digest in ("a" * 64, place.digest)]
    append_entries(place.ledger, [New(at=AT, by="a", reason="b", detail=detail) for detail in details])
    (place.folders["patchtst"] / "manifest.json").write_bytes(b"{}")
    found = take_snapshot(LocalHost(), place.settings, lenient=True)
    assert any("manifest" in problem or "patchtst" in problem for problem in found.problems)
    planned = plan_fast(found, "patchtst", place.settings, ORDER)
    (command,) = [step for step in planned.plan["steps"] if step["kind"] == "command"]
    record(place.env, ORDER.transaction, command["stdin"].encode(), AT)
    revoke, rollback = [entry.detail for entry in read_entries(place.ledger)[-2:]]
    assert revoke == Revoke(model="patchtst", artefact=place.digest)
    assert isinstance(rollback, Rollback)


def test_a_connection_that_is_lost_is_no_damage(place: Place, tmp_path: Path) -> None:
    ssh = tmp_path / "ssh.sh"
    ssh.write_text(
        'test "$(ls "$0.d" | wc -l)" -lt "$(cat "$0.n")" || exit 255\n'
        'mktemp -p "$0.d" > /dev/null\nfor last; do :; done\nexec sh -c "$last"\n'
    )
    Path(f"{ssh}.d").mkdir()
    host = SshHost(SshAddress("there", ssh=("sh", str(ssh))))
    for lives in (2, 4, 6):
        Path(f"{ssh}.n").write_text(str(lives))
        for path in Path(f"{ssh}.d").iterdir():
            path.unlink()
        with pytest.raises(HostError, match="no connection, or it was lost"):
            take_snapshot(host, place.settings, lenient=True)


def test_a_model_that_the_env_file_does_not_name_must_only_not_vote() -> None:
    def page(values: dict[str, str]) -> dict[str, object]:
        return reload_step(HostSettings(), values, "patchtst")["expect"][0]

    class Metrics(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'quantum_model_info{model="xgb",role="voter"} 1.0\n' + extra)

        def log_message(self, *_: object) -> None:
            pass

    votes = b'quantum_model_info{model="patchtst",role="voter"} 1.0\n'
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = {"QUANTUM_HEALTH_ADDRESS": f"127.0.0.1:{server.server_port}"}
        extra = b""
        assert ask(page(address)) is None
        assert "has no line" in str(ask(page({**address, "PATCHTST_MODEL_PATH": "/m"})))
        extra = votes
        assert "still has a line" in str(ask(page(address)))
        extra = votes.replace(b"voter", b"shadow")
        assert ask(page({**address, "PATCHTST_MODEL_PATH": "/m"})) is None
        server.shutdown()


def test_without_a_ledger_in_the_env_file_none_is_made_anywhere(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = place.env.read_text()
    place.env.write_text("\n".join(line for line in text.split("\n") if not line.startswith("QUANTUM_LEDGER")))
    found = take_snapshot(LocalHost(), place.settings, lenient=True)
    planned = plan_fast(found, "patchtst", place.settings, ORDER)
    (command,) = [step for step in planned.plan["steps"] if step["kind"] == "command"]
    with pytest.raises(ConfigError, match="names no QUANTUM_LEDGER"):
        record(place.env, ORDER.transaction, command["stdin"].encode(), AT)
    assert list((tmp_path / "elsewhere").iterdir()) == []

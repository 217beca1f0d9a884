"""Deploy and roll back as an operator does: the real command, a real agent, a real engine that restarts."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.artefacts import make_artefact
from tests.e2e.harness import wait_until
from tests.e2e.releasing import Vps, environ, model_infos, vps

from quantum_trader.cli import rollback
from quantum_trader.core.errors import ReleaseError
from quantum_trader.models.artefact import Artefact, load_artefact
from quantum_trader.release.ledger import append_entries, voting
from quantum_trader.release.ledger_entries import Grant, New

pytestmark = pytest.mark.slow

NO_GIT = ["--no-git", "a test", "--stream-proof-s", "0"]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vps]:
    with vps(tmp_path_factory.mktemp("vps")) as running:
        yield running


def quantum(host: Vps, *arguments: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "quantum_trader.cli.main", *arguments, "--host", "vps", "--hosts", str(host.hosts)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, env=environ())


def info(host: Vps, model: str = "patchtst") -> str:
    """The engine's own word on a model: role and artefact."""
    import urllib.request

    address = host.values()["QUANTUM_HEALTH_ADDRESS"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:
        text = page.read().decode()
    (words,) = [f"{artefact} {role}" for name, role, artefact in model_infos(text) if name == model]
    return words


def says(host: Vps, words: str) -> bool:
    """Whether the engine is there and says so of itself; one that starts does not listen yet."""
    try:
        return info(host) == words
    except (OSError, ValueError):
        return False


def grant(host: Vps, digest: str, weight: float = 0.2) -> None:
    detail = Grant(model="patchtst", artefact=digest, weight=weight)
    new = New(at=host.entries()[-1].at, by="tests", reason="a grant", detail=detail)
    append_entries(host.folder / "ledger.jsonl", [new])


def test_the_whole_story(host: Vps, tmp_path: Path) -> None:
    old = load_artefact(next((host.folder / "models").glob("patchtst_v*")))
    new = load_artefact(make_artefact(tmp_path, "patchtst", 77))
    env_before, names_before = host.env.read_bytes(), host.names()

    dry = quantum(host, "deploy", "patchtst", str(new.folder), "--shadow", "--dry-run", *NO_GIT)
    assert dry.returncode == 0, dry.stderr
    assert f"+PATCHTST_MODEL_PATH={host.folder}/models/{new.folder.name}" in dry.stdout
    assert "redis://" not in dry.stdout
    assert (host.env.read_bytes(), host.names()) == (env_before, names_before)
    assert not (host.folder / "state").exists()

    done = quantum(host, "deploy", "patchtst", str(new.folder), "--shadow", *NO_GIT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is deployed in shadow on local" in done.stdout
    assert "How long until this can be decided: 1 symbols, 5m bars" in done.stdout
    backup = next(host.folder.glob("ai-engine.env.bak.*"))
    assert backup.read_bytes() == env_before
    assert load_artefact(host.folder / "models" / new.folder.name).digest == new.digest
    assert info(host) == f"{new.digest} shadow"
    entry = host.entries()[-1]
    assert (entry.kind, entry.detail.artefact) == ("deploy", new.digest)
    assert entry.detail.facts["no_git"] == "a test"

    again = quantum(host, "deploy", "patchtst", str(new.folder), "--shadow", *NO_GIT)
    assert (again.returncode, len(host.entries())) == (0, entry.seq + 1)
    assert "the env file stays as it is" in again.stdout

    # Nobody granted the old one a vote: there is no baseline, whatever the flag once said.
    refused = quantum(host, "rollback", "patchtst", "--full")
    assert refused.returncode == 1
    assert "no other artefact holds a grant" in refused.stderr

    # Both get a grant, the new one votes; then the three ways back.
    grant(host, old.digest, 0.15)
    grant(host, new.digest)
    text = host.env.read_text()
    host.env.write_text(text.replace("PATCHTST_SHADOW_ONLY=true", "PATCHTST_SHADOW_ONLY=false"))
    subprocess.run(host.service("restart"), check=True, timeout=60)

    full = quantum(host, "rollback", "patchtst", "--full")
    assert full.returncode == 0, full.stdout + full.stderr
    assert info(host) == f"{old.digest} voter"
    assert host.values()["QUANTUM_WEIGHTS"] == "patchtst=0.15"
    assert voting(host.entries())["patchtst"] == {old.digest}
    kinds = [(e.kind, getattr(e.detail, "after", None) and e.detail.after.role) for e in host.entries()[-3:]]
    assert kinds == [("revoke", None), ("rollback", "shadow"), ("rollback", "voter")]

    fast = quantum(host, "rollback", "patchtst", "--fast")
    assert fast.returncode == 0, fast.stdout + fast.stderr
    assert info(host) == f"{old.digest} shadow"
    assert "patchtst" not in voting(host.entries())

    nuclear = quantum(host, "rollback", "patchtst", "--nuclear")
    assert nuclear.returncode == 0, nuclear.stdout + nuclear.stderr
    assert host.env.read_bytes() == env_before
    assert sorted(p.name for p in (host.folder / "models").iterdir()) == [n for n in names_before if "_v" in n]
    assert load_artefact(old.folder).digest == old.digest
    assert info(host) == f"{old.digest} shadow"
    assert host.entries()[-1].detail.facts["rollback"] == "nuclear"
    assert quantum(host, "rollback", "patchtst", "--nuclear").returncode == 1


def test_a_fast_rollback_whose_restart_fails_has_revoked_all_the_same(tmp_path: Path) -> None:
    with vps(tmp_path / "own") as own:
        old = load_artefact(next((own.folder / "models").glob("patchtst_v*")))
        grant(own, old.digest)
        text = own.env.read_text()
        own.env.write_text(text.replace("PATCHTST_SHADOW_ONLY=true", "PATCHTST_SHADOW_ONLY=false"))
        subprocess.run(own.service("restart"), check=True, timeout=60)
        wait_until(lambda: says(own, f"{old.digest} voter"))
        fails = [sys.executable, "-c", "import sys; sys.exit(3)"]
        own.write_hosts(restart=fails, reload=fails)
        failed = quantum(own, "rollback", "patchtst", "--fast")
        assert failed.returncode == 1
        # What still runs cannot be helped from here, so it is said; whatever starts next gives no vote.
        assert "may still vote" in failed.stderr
        assert "stop it" in failed.stderr
        assert own.values()["PATCHTST_SHADOW_ONLY"] == "true"
        assert "patchtst" not in voting(own.entries())
        assert [entry.kind for entry in own.entries()[-2:]] == ["revoke", "rollback"]
        subprocess.run(own.service("restart"), check=True, timeout=60)
        wait_until(lambda: says(own, f"{old.digest} shadow"))


def let_vote(host: Vps) -> str:
    """Whatever is in shadow there votes, by a grant and the flag; its digest."""
    digest = load_artefact(Path(host.values()["PATCHTST_MODEL_PATH"])).digest
    grant(host, digest)
    host.env.write_text(host.env.read_text().replace("PATCHTST_SHADOW_ONLY=true", "PATCHTST_SHADOW_ONLY=false"))
    subprocess.run(host.service("restart"), check=True, timeout=60)
    wait_until(lambda: says(host, f"{digest} voter"))
    return digest


def test_a_fast_rollback_reloads_and_restarts_nothing(tmp_path: Path) -> None:
    with vps(tmp_path / "own") as own:
        digest = let_vote(own)
        before = own.folder.joinpath("restarts").read_text(), own.folder.joinpath("pid").read_text()
        done = quantum(own, "rollback", "patchtst", "--fast")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "by reload, " in done.stdout
        assert (own.folder.joinpath("restarts").read_text(), own.folder.joinpath("pid").read_text()) == before
        assert says(own, f"{digest} shadow")
        assert own.values()["PATCHTST_SHADOW_ONLY"] == "true"
        assert "patchtst" not in voting(own.entries())


def test_a_fast_rollback_restarts_an_engine_that_cannot_reload(tmp_path: Path) -> None:
    with vps(tmp_path / "own") as own:
        digest = let_vote(own)
        own.write_hosts(reload=["true"])
        done = quantum(own, "rollback", "patchtst", "--fast")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "by restart, " in done.stdout
        assert "the reload was not enough" in done.stdout
        assert says(own, f"{digest} shadow")


@pytest.mark.parametrize("damage", ["ledger", "manifest", "both", "no ledger"])
def test_a_fast_rollback_needs_neither_ledger_nor_manifest(tmp_path: Path, damage: str) -> None:
    with vps(tmp_path / "own") as own:
        if damage == "no ledger":
            # The unit names it, and the env file does not.
            (own.folder / "ledger-by-unit").touch()
            text = own.env.read_text()
            own.env.write_text("\n".join(line for line in text.split("\n") if not line.startswith("QUANTUM_LEDGER")))
        let_vote(own)
        ledger, folder = own.folder / "ledger.jsonl", Path(own.values()["PATCHTST_MODEL_PATH"])
        unread = []
        if damage in ("ledger", "both"):
            ledger.write_bytes(b"what is this\n" + ledger.read_bytes())
            unread.append("ledger.jsonl")
        if damage in ("manifest", "both"):
            (folder / "manifest.json").write_bytes(b"{}")
            unread.append(folder.name)
        if damage == "no ledger":
            unread.append("QUANTUM_LEDGER")
        kept = ledger.read_bytes()
        done = quantum(own, "rollback", "patchtst", "--fast")
        assert all(any(word in line for line in done.stdout.splitlines() if "unread" in line) for word in unread)
        assert own.values()["PATCHTST_SHADOW_ONLY"] == "true"
        assert "Traceback" not in done.stderr
        assert done.returncode == 0, done.stdout + done.stderr
        assert "by reload, " in done.stdout
        assert " shadow" in info(own)
        if damage != "manifest":
            assert "NOT DONE" in done.stdout
            assert ledger.read_bytes() == kept


def voter(host: Vps, seed: int, tmp_path: Path) -> tuple[Artefact, Artefact]:
    """A baseline with a grant, and another artefact that was deployed over it and votes now."""
    old, new = (load_artefact(make_artefact(tmp_path, "patchtst", one)) for one in (seed, seed + 1))
    for artefact in (old, new):
        assert quantum(host, "deploy", "patchtst", str(artefact.folder), "--shadow", *NO_GIT).returncode == 0
        grant(host, artefact.digest)
    text = host.env.read_text()
    host.env.write_text(text.replace("PATCHTST_SHADOW_ONLY=true", "PATCHTST_SHADOW_ONLY=false"))
    subprocess.run(host.service("restart"), check=True, timeout=60)
    wait_until(lambda: says(host, f"{new.digest} voter"))
    return old, new


def test_a_rollback_whose_baseline_is_past_repair_ends_in_shadow_in_the_engine_too(tmp_path: Path) -> None:
    with vps(tmp_path / "own") as own:
        old, new = voter(own, 86, tmp_path)
        for folder in (own.folder / "models" / old.folder.name, own.folder / "state" / "kept" / old.digest):
            (folder / "model.onnx").write_bytes(b"damaged")
        failed = quantum(own, "rollback", "patchtst", "--full")
        assert failed.returncode == 1
        assert "patchtst is in shadow, and nothing else was changed" in failed.stderr
        assert own.values()["PATCHTST_SHADOW_ONLY"] == "true"
        assert own.values()["PATCHTST_MODEL_PATH"].endswith(new.folder.name)
        assert info(own) == f"{new.digest} shadow"
        assert new.digest not in voting(own.entries())["patchtst"]


def test_a_rollback_that_failed_says_whether_the_model_still_votes() -> None:
    end = {"result": "restored", "problem": "back up the env file: no space"}
    with pytest.raises(ReleaseError, match="nothing was changed, and patchtst STILL VOTES"):
        rollback._report(end, "patchtst", votes=True)
    with pytest.raises(ReleaseError, match="patchtst is in shadow, and nothing else was changed"):
        rollback._report(end, "patchtst", votes=False)


def killed_at(host: Vps, word: str, *arguments: str) -> None:
    """Kill a verb once it has printed a word."""
    argv = [sys.executable, "-u", "-m", "quantum_trader.cli.main", *arguments, "--host", "vps"]
    running = subprocess.Popen(
        [*argv, "--hosts", str(host.hosts)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environ(),
    )
    assert running.stdout is not None
    for line in running.stdout:
        if word in line:
            running.kill()
            break
    running.communicate(timeout=60)


def test_a_nuclear_rollback_that_was_killed_is_finished_and_not_done_twice(tmp_path: Path) -> None:
    with vps(tmp_path / "own") as own:
        names = [make_artefact(tmp_path, "patchtst", seed) for seed in (83, 84)]
        for folder in names:
            assert quantum(own, "deploy", "patchtst", str(folder), "--shadow", *NO_GIT).returncode == 0
        # Slow enough that the next call finds it unfinished.
        slow = f"import subprocess, time\ntime.sleep(6)\nsubprocess.run({own.service('restart')!r}, check=True)"
        own.write_hosts(restart=[sys.executable, "-c", slow])
        killed_at(own, "done", "rollback", "patchtst", "--nuclear")
        again = quantum(own, "rollback", "patchtst", "--nuclear")
        assert again.returncode == 0, again.stderr
        assert "is this way back, and it is done" in again.stdout
        assert own.values()["PATCHTST_MODEL_PATH"].endswith(names[0].name)
        assert info(own) == f"{load_artefact(names[0]).digest} shadow"


def test_what_a_dead_run_had_sent_is_swept_away(host: Vps, tmp_path: Path) -> None:
    folder = make_artefact(tmp_path, "patchtst", 85)
    sent = host.folder / "models" / f".{folder.name}.20260101_000000-0a1b2c3d.sent"
    sent.mkdir()
    assert quantum(host, "deploy", "patchtst", str(folder), "--resume").returncode == 0
    assert not sent.exists()


def test_a_unit_that_never_gets_ready_is_taken_back(host: Vps, tmp_path: Path) -> None:
    new = make_artefact(tmp_path, "patchtst", 78)
    before = host.env.read_bytes(), host.names(), len(host.entries())
    flaky = (
        f"import subprocess, sys\nsubprocess.run({host.service('restart')!r}, check=True)\n"
        f"sys.exit({new.name!r} in open({str(host.env)!r}).read())"
    )
    host.write_hosts(restart=[sys.executable, "-c", flaky])
    try:
        done = quantum(host, "deploy", "patchtst", str(new), "--shadow", *NO_GIT)
    finally:
        host.write_hosts()
    assert done.returncode == 1
    assert "the old state is back" in done.stderr
    assert (host.env.read_bytes(), host.names(), len(host.entries())) == before
    assert info(host).endswith("shadow")


BAD = {
    "a model of another kind": (["xgb"], "it is a patchtst model, not xgb"),
    "no --shadow": (["patchtst"], "say --shadow"),
    "a model that is none": (["gru"], "unknown, expected one of"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_and_changes_nothing(host: Vps, tmp_path: Path, what: str) -> None:
    new = make_artefact(tmp_path, "patchtst", 79)
    before = host.env.read_bytes(), host.names()
    (model,), sentence = BAD[what]
    shadow = [] if what == "no --shadow" else ["--shadow"]
    done = quantum(host, "deploy", model, str(new), *shadow, *NO_GIT)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert sentence in done.stderr
    assert (host.env.read_bytes(), host.names()) == before


@pytest.mark.parametrize("ending", [b"X='half\n", b"X=1\r\n", b"X=\xff\n"])
def test_an_env_file_that_is_not_read_alike_is_refused(host: Vps, tmp_path: Path, ending: bytes) -> None:
    new = make_artefact(tmp_path, "patchtst", 80)
    before, names = host.env.read_bytes(), host.names()
    host.env.write_bytes(before + b"\n" + ending)
    try:
        done = quantum(host, "deploy", "patchtst", str(new), "--shadow", *NO_GIT)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert host.env.read_bytes() == before + b"\n" + ending
        assert host.names() == names
    finally:
        host.env.write_bytes(before)


def test_a_deploy_that_is_killed_is_finished_by_the_next(host: Vps, tmp_path: Path) -> None:
    new = load_artefact(make_artefact(tmp_path, "patchtst", 81))
    killed_at(host, "done", "deploy", "patchtst", str(new.folder), "--shadow", *NO_GIT)
    done = quantum(host, "deploy", "patchtst", str(new.folder), "--shadow", *NO_GIT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert info(host) == f"{new.digest} shadow"
    assert [e.detail.artefact for e in host.entries() if e.kind == "deploy"].count(new.digest) == 1
    assert quantum(host, "deploy", "patchtst", str(new.folder), "--resume").returncode == 0

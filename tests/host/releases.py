"""A release as an operator makes it on the test host, by the commands alone: from registration to the last way back.

A verdict needs days, and the host is minutes old. So the ledger of its first day and the registration are written a
week back, by the same commands under a clock that was set back (faketime, on the host, these two commands only); the
bars of that week then come as fast as the engine decides them. Nothing else is other than in earnest.
"""

import json
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import PurePosixPath

from tests.conftest import ROOT
from tests.host.desk import BARS, FIRST, LEDGER, SYMBOLS, TURN, Desk
from tests.host.guest import ENGINE, ENV_FILE, Guest
from tests.host.transcript import Transcript

from quantum_trader.clock import now_utc

HOME = "/root"
"""Where ssh lands; what the operator makes there is named from it."""

VERDICT, ALERTS, CANDIDATE, PAST = "verdict.json", "alerts.jsonl", "candidate.env", "past"

SINK = f"""
import http.server
class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open("{HOME}/{ALERTS}", "ab") as file:
            file.write(body + b"\\n")
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 8099), Sink).serve_forever()
"""
"""Where people would be told: apprise's plainest service, JSON over HTTP."""


def release_story(guest: Guest, transcript: Transcript) -> None:
    """Every stage, in the order of an operator's week."""
    desk = Desk(guest, transcript)
    try:
        for stage in STAGES:
            stage(desk)
    finally:
        desk.host.close()


def stage_registered_a_week_ago(desk: Desk) -> None:
    """The voters' grants and what the candidate will be judged by, both before the first bar of its window."""
    guest, folder = desk.guest, PurePosixPath(HOME) / "candidate" / desk.first.folder.name
    desk.transcript.head("Registered, a week ago")
    guest.run("install", "-d", str(folder), PAST)
    for path in desk.first.folder.iterdir():
        desk.host.put(path, folder / path.name, 0o644)
    lines = "SHADOW_GRACE_MS=2000\nQUANTUM_ALERT_URLS=json://127.0.0.1:8099/\n"
    guest.run("sh", "-c", f"printf '{lines}' >> {ENV_FILE}")
    guest.run("sh", "-c", f"sed 's|^PATCHTST_MODEL_PATH=.*|PATCHTST_MODEL_PATH={folder}|' {ENV_FILE} > {CANDIDATE}")
    begin = f"@{datetime.fromtimestamp(desk.start_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    back = ("env", "TZ=UTC", "faketime", "-f", begin)
    places = ("--models", "/var/lib/quantum/models", "--ledger", f"{PAST}/ledger.jsonl", "--env-file", f"{PAST}/env")
    guest.run(*back, "quantum", "init", *places, "--shadow", "patchtst")
    guest.run("install", "-o", "root", "-g", "qt", "-m", "640", f"{PAST}/ledger.jsonl", str(LEDGER))
    said = desk.there(*back, "quantum", "register", "patchtst", "--env-file", CANDIDATE)
    assert f"patchtst {desk.first.digest[:16]} registered" in said


def stage_dry_run(desk: Desk) -> None:
    """Step A against a real remote, the plan and the difference; nothing changed."""
    transcript, clone = desk.transcript, desk.repository
    transcript.head("Deploy: first look at it")
    bare = desk.guest.folder / "remote.git"
    git("clone", "--quiet", "--bare", str(ROOT), str(bare))
    git("-C", str(bare), "update-ref", "refs/heads/main", "HEAD")
    git("clone", "--quiet", "--branch", "main", str(bare), str(clone))
    words = desk.deploy_words(desk.first)
    before = desk.digest_of_state()
    (clone / "README.md").write_text("changed")
    refused = desk.near(*words, "--dry-run", code=1)
    assert "1 files are not committed" in refused
    git("-C", str(clone), "checkout", "--quiet", "README.md")
    said = desk.near(*words, "--dry-run")
    assert "is pushed; the host runs it too" in said
    assert f"+PATCHTST_MODEL_PATH=/var/lib/quantum/models/{desk.first.folder.name}" in said
    assert desk.digest_of_state() == before


def stage_deploy_and_stream_proof(desk: Desk) -> None:
    """In shadow, proven by the first intents."""
    desk.transcript.head("Deploy in shadow, with the proof on the stream")
    before = desk.env()
    desk.deployed_at = now_utc().isoformat(timespec="seconds")
    with desk.guest.timed(f"quantum deploy, its first {FIRST} bars and the stream proof"):
        said = desk.near(*desk.deploy_words(desk.first), during=lambda: desk.feed(0, FIRST))
    assert "PROVEN" in said.splitlines()
    assert "patchtst: its entry has" in said
    assert desk.role() == f"shadow {desk.first.digest[:16]}"
    backup = next(line for line in said.splitlines() if "done      back up the env file as" in line).split()[-1]
    assert desk.host.read(PurePosixPath(ENV_FILE).with_name(backup)) == before
    desk.there("quantum", "proof", "stream", "--env-file", ENV_FILE, "--since", desk.deployed_at)


def stage_proof_pack(desk: Desk) -> None:
    """Made of the host's evidence, signed here; checked elsewhere from the public key alone."""
    desk.transcript.head("Proof pack")
    folder = desk.guest.folder
    desk.near("proof", "keygen", "--out", str(desk.keys))
    key = str(desk.keys / "signing-key.pem")
    with desk.guest.timed("quantum proof build of the host, over ssh"):
        words = ("--out", str(desk.pack), *desk.where(), "--key", key, "--since", desk.deployed_at)
        desk.near("proof", "build", *words)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["cp", "-r", str(desk.pack), str(desk.keys / "signing-key.pub.pem"), str(elsewhere)], check=True)
    verify = ("proof", "verify", "proof", "--key", "signing-key.pub.pem")
    with desk.guest.timed("quantum proof verify, elsewhere"):
        assert "HOLDS" in desk.near(*verify, cwd=elsewhere)
    files = [path for path in sorted((elsewhere / "proof").rglob("*")) if path.is_file() and path.stat().st_size]
    for path in (files[0], files[len(files) // 2], elsewhere / "proof" / "statement.json"):
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        desk.near(*verify, cwd=elsewhere, code=1)
        path.write_bytes(content)


def stage_verdict(desk: Desk) -> None:
    """The bars of the week, and what they say of the shadow."""
    desk.transcript.head("The verdict")
    wanted = desk.decisions() + (TURN - FIRST) * SYMBOLS
    with desk.guest.timed(f"{TURN - FIRST} bars of {SYMBOLS} symbols fed and decided"):
        desk.feed(FIRST, TURN)
        desk.wait_for(wanted)
    judge = ("quantum", "gates", "--since", desk.deployed_at, "--model", "patchtst", "--env-file", ENV_FILE)
    with desk.guest.timed("quantum gates on the stream"):
        desk.there(*judge)
    desk.guest.run("sh", "-c", f"{shlex.join([*judge, '--json'])} > {VERDICT}")
    verdict = json.loads(desk.guest.run("cat", VERDICT))
    assert (verdict["state"], verdict["artefact"]) == ("PROMOTE", desk.first.digest)


def stage_promotion(desk: Desk) -> None:
    """A vote by that verdict, and more weight step by step."""
    desk.transcript.head("Promote, and more weight")
    by = ("--env-file", ENV_FILE, "--verdict", VERDICT)
    with desk.guest.timed("quantum promote --restart"):
        said = desk.there("quantum", "promote", "patchtst", *by, "--weight", "0.10", "--restart")
    assert "is promoted with weight 0.1" in said
    assert desk.role() == f"voter {desk.first.digest[:16]}"
    assert "the next step of the ramp is 0.2" in desk.there("quantum", "weight", "patchtst", "0.25", *by, code=6)
    desk.there("quantum", "weight", "patchtst", "0.20", *by)
    with desk.guest.timed("quantum weight --restart"):
        desk.there("quantum", "weight", "patchtst", "0.25", *by, "--restart")
    assert b"QUANTUM_WEIGHTS=patchtst=0.25" in desk.env()


def stage_watch(desk: Desk) -> None:
    """The market turns; the timer's own command finds it, takes the vote back and tells people."""
    guest, transcript = desk.guest, desk.transcript
    transcript.head("The watch finds a breach")
    guest.run("systemctl", "stop", "quantum-watch.timer")
    guest.run("systemd-run", "--unit=alert-sink", "--quiet", "python3", "-c", SINK)
    wanted = desk.decisions() + (BARS - TURN) * SYMBOLS
    desk.feed(TURN, BARS)
    desk.wait_for(wanted)
    with guest.timed("quantum-watch.service: breach found, demoted, reloaded, told"):
        guest.run("systemctl", "start", "quantum-watch.service")
    said = desk.there("journalctl", "-u", "quantum-watch", "-t", "quantum", "-n", "3", "-o", "cat", "--no-pager")
    assert "DEMOTE to shadow" in said
    guest.until(["test", "-s", ALERTS])
    told = json.loads(desk.there("cat", ALERTS).splitlines()[0])
    assert told["title"] == "patchtst: DEMOTE"
    guest.until(["sh", "-c", f"journalctl -u {ENGINE} -o cat | grep -q 'patchtst demoted'"])
    assert desk.role() == f"shadow {desk.first.digest[:16]}"
    assert b"PATCHTST_SHADOW_ONLY=true" in desk.env()
    guest.run("systemctl", "start", "quantum-watch.timer")


def stage_never_ready(desk: Desk) -> None:
    """An engine that never gets ready with the new artefact: back by itself."""
    desk.transcript.head("A deployment that comes back by itself")
    name = desk.second.folder.name
    fails = f"systemctl restart {ENGINE} && ! grep -q {name} {ENV_FILE}"
    hosts = desk.guest.folder / "never-ready.toml"
    hosts.write_text(desk.guest.hosts.read_text() + f'restart = ["sh", "-c", "{fails}"]\n')
    before = desk.env()
    with desk.guest.timed("quantum deploy of what never gets ready, until the old state is back"):
        words = desk.deploy_words(desk.second)
        words[words.index(str(desk.guest.hosts))] = str(hosts)
        said = desk.near(*words, code=1)
    assert "the old state is back" in said
    assert desk.env() == before
    assert desk.role() == f"shadow {desk.first.digest[:16]}"


def stage_ways_back(desk: Desk) -> None:
    """Another shadow in its place, and each of the three ways back from there."""
    guest, first = desk.guest, desk.first.digest[:16]
    desk.transcript.head("Roll back")
    by = ("--env-file", ENV_FILE, "--override", "rehearsal of the ways back", "--restart")
    assert "OVERRIDE, recorded for ever" in desk.there("quantum", "promote", "patchtst", *by)
    granted = desk.env()
    with guest.timed("quantum deploy of the next shadow, without stream proof"):
        desk.near(*desk.deploy_words(desk.second), "--stream-proof-s", "0")
    assert desk.role() == f"shadow {desk.second.digest[:16]}"
    with guest.timed("quantum rollback --full: the baseline votes again"):
        desk.near("rollback", "patchtst", "--full", *desk.where())
    assert desk.role() == f"voter {first}"
    with guest.timed("quantum rollback --fast: to shadow"):
        desk.near("rollback", "patchtst", "--fast", *desk.where())
    assert desk.role() == f"shadow {first}"
    with guest.timed("quantum rollback --nuclear: byte for byte as before the deployment"):
        desk.near("rollback", "patchtst", "--nuclear", *desk.where())
    assert desk.env() == granted
    assert not desk.host.exists(PurePosixPath("/var/lib/quantum/models") / desk.second.folder.name)
    # The file asks for a vote, and the ledger gives none.
    assert desk.role() == f"shadow {first}"


def stage_history(desk: Desk) -> None:
    """Who did what, whether all of it is there, and who was voting then."""
    desk.transcript.head("History")
    ledger = ("--ledger", str(LEDGER))
    listed = desk.there("quantum", "audit", "list", *ledger)
    for word in ("OVERRIDE", "rehearsal"):
        assert word.lower() in listed.lower()
    assert "unbroken" in desk.there("quantum", "audit", "verify", *ledger)
    entries = [
        json.loads(line) for line in desk.there("quantum", "audit", "list", "--json", *ledger, shown=False).splitlines()
    ]
    times = {entry["kind"]: entry["at"] for entry in reversed(entries)}
    voting = desk.there("quantum", "audit", "at", times["weight"], *ledger)
    assert desk.first.digest[:12] in voting
    desk.there("quantum", "audit", "at", entries[-1]["at"], *ledger)


STAGES = (
    stage_registered_a_week_ago,
    stage_dry_run,
    stage_deploy_and_stream_proof,
    stage_proof_pack,
    stage_verdict,
    stage_promotion,
    stage_watch,
    stage_never_ready,
    stage_ways_back,
    stage_history,
)


def git(*words: str) -> None:
    subprocess.run(["git", *words], check=True, capture_output=True, timeout=120)

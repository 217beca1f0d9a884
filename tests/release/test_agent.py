"""The agent as it runs on a host: a process of its own, real files, killed wherever one can be killed."""

import http.server
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT

from quantum_trader.release.env_file import plan_env, sha256

AGENT = ROOT / "src/quantum_trader/release/agent.py"
NAME = "20260101_000000-0a1b2c3d"

OLD = b"# roles\nSECRET=swordfish\nP_PATH=/old\nP_SHADOW=true\n"
FILES = {"manifest.json": b"{}\n", "model.onnx": b"weights" * 1000}

UNIT = """
import sys, pathlib
folder = pathlib.Path(sys.argv[1])
(folder / "restarts").open("a").write("x")
text = (folder / "engine.env").read_text()
(folder / "running").write_text(text)
sys.exit(int("P_PATH=/broken" in text))
"""
"""A unit that takes over whatever the env file says, and does not start with one path."""

ACTIVE = "import sys, pathlib; sys.exit('P_PATH=/never' in pathlib.Path(sys.argv[1], 'running').read_text())"

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import agent
point, count = int(sys.argv[2]), 0
def trip(real):
    def replaced(*a, **k):
        global count
        count += 1
        if count == point:
            os.kill(os.getpid(), signal.SIGKILL)
        out = real(*a, **k)
        return out
    return replaced
for name in ("fsync", "replace", "rename", "unlink", "open"):
    setattr(os, name, trip(getattr(os, name)))
sys.exit(agent.main(sys.argv[3:]))
"""
"""The agent, killed before the n-th call that touches the disk."""


CRAMPED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import agent
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
sys.exit(agent.main(sys.argv[2:]))
"""
"""The agent where no file may be larger than 4 KiB."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def entry(content: bytes) -> dict[str, Any]:
    return {"sha256": sha256(content), "bytes": len(content)}


class Box:
    """A host in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state, self.models, self.env = folder / "state", folder / "models", folder / "engine.env"
        self.models.mkdir()
        (self.state / "transactions" / NAME).mkdir(parents=True)
        self.env.write_bytes(OLD)
        self.env.chmod(0o640)
        (folder / "running").write_bytes(OLD)
        (folder / "ledger").write_bytes(b"")
        self.staged = self.models / f".p_v1.{NAME}.sent"
        self.staged.mkdir()
        for name, content in FILES.items():
            (self.staged / name).write_bytes(content)

    def plan(self, path: str = "/new", **changes: Any) -> None:
        env = plan_env(OLD, {"P_PATH": path, "P_SHADOW": "true", "NEW": "1"}, "env")
        backup = str(self.folder / "engine.env.bak.20260101_000000")
        note = "import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.write_text(sys.stdin.read())"
        steps: dict[str, dict[str, Any]] = {
            "backup": {"kind": "backup", "path": str(self.env), "to": backup, "sha256": sha256(OLD)},
            "artefact": {
                "kind": "artefact",
                "staged": str(self.staged),
                "target": str(self.models / "p_v1"),
                "files": {name: entry(content) for name, content in FILES.items()},
            },
            "env": {
                "kind": "env",
                "path": str(self.env),
                "before": sha256(env.before),
                "after": sha256(env.after),
                "parts": env.parts,
                "undo": {"from": backup, "parts": [[0, 1_000_000]], "sha256": sha256(OLD)},
            },
            "restart": {
                "kind": "restart",
                "argv": [sys.executable, "-c", UNIT, str(self.folder)],
                "probes": [{"argv": [sys.executable, "-c", ACTIVE, str(self.folder)]}],
                "timeout_s": 5.0,
                "settle_s": 0.0,
            },
            "ledger": {
                "kind": "command",
                "argv": [sys.executable, "-c", note, str(self.folder / "ledger")],
                "stdin": "deployed\n",
                "timeout_s": 20.0,
            },
        }
        for name, change in changes.items():
            steps[name] |= change
        plan = {"format": 1, "id": NAME, "kind": "deploy", "model": "patchtst", "steps": list(steps.values())}
        (self.state / "transactions" / NAME / "plan.json").write_text(json.dumps(plan))

    def agent(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-I", str(AGENT), *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    def run(self) -> str:
        done = self.agent("run", str(self.state), NAME)
        assert done.returncode == 0, done.stderr
        return self.result()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.agent("journal", str(self.state), NAME, "0", "0").stdout.splitlines()]

    def result(self) -> str:
        return str(self.events()[-1].get("result"))

    def problem(self) -> str:
        return str(self.events()[-1].get("problem"))

    def assert_old(self) -> None:
        assert self.env.read_bytes() == OLD
        assert (self.folder / "running").read_bytes() == OLD
        assert names(self.models) == []
        assert sorted(p.name for p in self.folder.iterdir() if p.name.startswith((".", "engine"))) == ["engine.env"]
        assert (self.folder / "ledger").read_bytes() == b""

    def assert_new(self) -> None:
        new = b"# roles\nSECRET=swordfish\nP_PATH=/new\nP_SHADOW=true\nNEW=1\n"
        assert self.env.read_bytes() == new
        assert (self.folder / "running").read_bytes() == new
        assert names(self.models) == ["p_v1"]
        for name, content in FILES.items():
            path = self.models / "p_v1" / name
            assert (path.read_bytes(), path.stat().st_mode & 0o777) == (content, 0o644)
        left = [name for name in names(self.folder) if name.startswith((".", "engine"))]
        assert left == ["engine.env", "engine.env.bak.20260101_000000"]
        for name in left:
            assert (self.folder / name).stat().st_mode & 0o777 == 0o640
        assert (self.folder / left[1]).read_bytes() == OLD
        assert (self.folder / "ledger").read_bytes() == b"deployed\n"


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_plan_is_carried_out_and_told_step_by_step(box: Box) -> None:
    box.plan()
    assert box.run() == "done"
    box.assert_new()
    told = [(e["event"], e.get("name")) for e in box.events()]
    steps = ["backup", "artefact", "env", "restart", "command"]
    assert told == [("begin", None), *[(w, s) for s in steps for w in ("start", "done")], ("end", None)]
    assert (box.folder / "restarts").read_text() == "x"
    # Again: it has ended, and nothing happens.
    assert box.run() == "done"
    assert (box.folder / "restarts").read_text() == "x"


def test_no_value_of_the_env_file_is_written_into_plan_or_journal(box: Box) -> None:
    box.plan()
    box.run()
    for path in (box.state / "transactions" / NAME).iterdir():
        assert b"swordfish" not in path.read_bytes(), path.name


FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "a file of other bytes": (
        {"artefact": {"files": {"model.onnx": entry(b"other")}}},
        "manifest.json does not belong",
    ),
    "an env file that was edited": ({"env": {"before": "0" * 64}}, "was changed since the plan was made"),
    "another result than planned": ({"env": {"after": "0" * 64}}, "would not become what was planned"),
    "a unit that does not start": ({"path": "/broken"}, "exit code 1"),
    "a unit that never gets ready": ({"path": "/never", "restart": {"timeout_s": 1.0}}, "not ready within 1 s"),
    "a ledger that refuses": ({"ledger": {"argv": ["false"]}}, "false: exit code 1"),
    "a program that is not there": ({"ledger": {"argv": ["/no/such"]}}, "/no/such: no such program"),
    "an owner that is not there": ({"artefact": {"owner": "nobody-here"}}, "user nobody-here does not exist"),
}


@pytest.mark.parametrize("what", FAILURES)
def test_a_failure_brings_the_old_state_back_and_says_so(box: Box, what: str) -> None:
    changes, sentence = FAILURES[what]
    box.plan(**changes)
    assert box.run() == "restored"
    assert sentence in box.problem()
    box.assert_old()


def test_a_step_may_be_undone_where_only_another_one_was_begun(box: Box) -> None:
    shadow = plan_env(OLD, {"P_SHADOW": "back"}, "env")
    backup = str(box.folder / "engine.env.bak.20260101_000000")
    back = {"from": backup, "parts": shadow.parts, "sha256": sha256(shadow.after)}
    flawed = {"files": {"model.onnx": entry(b"other")}}
    box.plan(artefact=flawed, env={"undo": back, "undo_from": 0}, restart={"undo_from": 0})
    assert box.run() == "restored"
    assert box.env.read_bytes() == (box.folder / "running").read_bytes() == shadow.after
    assert sorted(p.name for p in box.folder.iterdir() if p.name.startswith((".", "engine"))) == ["engine.env"]


def test_what_was_removed_is_there_again_before_the_old_state_is_started(box: Box) -> None:
    (box.models / "p_v0").mkdir()
    look = (
        f"import os, sys; open({str(box.folder / 'seen')!r}, 'a').write(str('p_v0' in os.listdir({str(box.models)!r})))"
    )
    box.plan(
        restart={"argv": [sys.executable, "-c", look], "probes": []},
        backup={"kind": "remove", "target": str(box.models / "p_v0")},
        ledger={"argv": ["false"]},
        env={"undo": {"from": str(box.env), "parts": [[0, 1_000_000]], "sha256": sha256(OLD)}},
    )
    assert box.run() == "restored"
    assert (box.folder / "seen").read_text() == "FalseTrue"
    assert (box.env.read_bytes(), names(box.models)) == (OLD, ["p_v0"])


def test_without_space_for_its_journal_it_is_not_even_begun(box: Box) -> None:
    box.plan()
    argv = [sys.executable, "-c", CRAMPED, str(AGENT.parent), "start", str(box.state), NAME]
    started = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert started.returncode == 1
    assert started.stderr.startswith("agent: ")
    assert names(box.state / "transactions" / NAME) == ["plan.json"]


def test_an_artefact_that_is_there_already_is_not_placed_again_and_not_taken_away(box: Box) -> None:
    shutil.copytree(box.staged, box.models / "p_v1")
    box.plan(path="/broken")
    assert box.run() == "restored"
    assert names(box.models) == ["p_v1"]


def test_an_artefact_is_never_written_over_another(box: Box) -> None:
    (box.models / "p_v1").mkdir()
    (box.models / "p_v1" / "model.onnx").write_bytes(b"another")
    box.plan()
    assert box.run() == "restored"
    assert "exists already" in box.problem()
    assert (box.models / "p_v1" / "model.onnx").read_bytes() == b"another"


def test_a_link_in_the_place_of_a_file_is_refused(box: Box) -> None:
    (box.staged / "model.onnx").unlink()
    (box.folder / "elsewhere").write_bytes(FILES["model.onnx"])
    (box.staged / "model.onnx").symlink_to(box.folder / "elsewhere")
    box.plan()
    assert box.run() == "restored"
    assert "is a link" in box.problem()


def test_an_env_file_that_somebody_changed_meanwhile_is_left_alone_and_told(box: Box) -> None:
    edit = f"import sys, pathlib; pathlib.Path({str(box.env)!r}).write_text('MINE=1\\n'); sys.exit(3)"
    box.plan(restart={"argv": [sys.executable, "-c", edit]})
    assert box.run() == "stuck"
    assert "changed by somebody else" in box.problem()
    assert box.env.read_text() == "MINE=1\n"
    assert (box.folder / "engine.env.bak.20260101_000000").read_bytes() == OLD


def killed_at(box: Box, point: int) -> bool:
    argv = [sys.executable, "-c", KILLED, str(AGENT.parent), str(point), "run", str(box.state), NAME]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/new", "/broken"])
def test_killed_before_any_touch_of_the_disk_the_next_run_makes_it_wholly_old_or_new(tmp_path: Path, path: str) -> None:
    results = []
    for point in range(1, 400):
        folder = tmp_path / str(point)
        folder.mkdir()
        box = Box(folder)
        box.plan(path=path)
        if not killed_at(box, point):
            break
        results.append(box.run())
        box.assert_new() if results[-1] == "done" else box.assert_old()
        shutil.rmtree(folder)
    assert len(results) > 40
    assert set(results) == ({"done"} if path == "/new" else {"restored"})


def test_killed_again_and_again_it_still_gets_there(box: Box) -> None:
    box.plan()
    for point in range(12, 60, 6):
        killed_at(box, point)
    assert box.run() == "done"
    box.assert_new()


def test_a_journal_cut_in_the_middle_of_a_line_is_read_without_it(box: Box) -> None:
    box.plan()
    assert killed_at(box, 30)
    journal = box.state / "transactions" / NAME / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"event": "do')
    assert box.run() == "done"
    box.assert_new()


def test_started_it_outlives_whoever_started_it(box: Box) -> None:
    wait = "import sys, time, pathlib\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)"
    box.plan(ledger={"argv": [sys.executable, "-c", wait, str(box.folder / "go")], "stdin": ""})
    starter = subprocess.Popen(
        [sys.executable, "-I", str(AGENT), "start", str(box.state), NAME], start_new_session=True
    )
    assert starter.wait(30) == 0
    while len(box.events()) < 10:
        time.sleep(0.05)
    # A second one of the same transaction goes away, another transaction is refused.
    assert box.agent("run", str(box.state), NAME).returncode == 0
    other = NAME.replace("0a", "ff")
    shutil.copytree(box.state / "transactions" / NAME, box.state / "transactions" / other)
    plan = box.state / "transactions" / other / "plan.json"
    plan.write_text(plan.read_text().replace(NAME, other))
    (plan.parent / "journal.jsonl").unlink()
    assert json.loads(box.agent("status", str(box.state)).stdout)["busy"] is True
    assert box.agent("run", str(box.state), other).returncode == 0
    refused = json.loads((plan.parent / "journal.jsonl").read_text())
    assert (refused["result"], refused["problem"]) == ("refused", "another transaction is running on this host")
    (box.folder / "go").touch()
    while box.result() == "None":
        time.sleep(0.05)
    assert box.result() == "done"


def test_nothing_new_begins_while_another_transaction_is_unfinished(box: Box) -> None:
    box.plan()
    assert killed_at(box, 30)
    other = NAME.replace("0a", "ff")
    shutil.copytree(box.state / "transactions" / NAME, box.state / "transactions" / other)
    plan = box.state / "transactions" / other / "plan.json"
    plan.write_text(plan.read_text().replace(NAME, other))
    (plan.parent / "journal.jsonl").unlink()
    assert box.agent("run", str(box.state), other).returncode == 0
    refused = json.loads((plan.parent / "journal.jsonl").read_text())
    assert refused["problem"] == f"transaction {NAME} was interrupted; finish it first"
    told = json.loads(box.agent("status", str(box.state)).stdout)
    assert [(t["id"], t["result"]) for t in told["transactions"]] == [(NAME, None), (other, "refused")]
    assert box.run() == "done"


class Page(http.server.BaseHTTPRequestHandler):
    text, status = "", 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page() -> Any:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Page,), {})) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("text", "status", "sentence"),
    [
        ('info{model="p",role="shadow",artefact="abc"} 1.0\nup{model="p"} 1.0\n', 200, None),
        ('info{model="p",role="voter",artefact="abc"} 1.0\nup{model="p"} 1.0\n', 200, "has no line with info{ role="),
        ("waiting", 503, "answers 503: waiting"),
    ],
)
def test_a_page_of_the_engine_must_say_what_is_expected(
    box: Box, page: Any, text: str, status: int, sentence: str | None
) -> None:
    page.RequestHandlerClass.text, page.RequestHandlerClass.status = text, status
    lines = [["info{", 'role="shadow"', 'artefact="abc"'], ['up{model="p"}', "1.0"]]
    probe = {"address": f"127.0.0.1:{page.server_port}", "path": "/metrics", "lines": lines}
    box.plan(restart={"expect": [probe], "timeout_s": 10.0 if sentence is None else 1.0})
    result = box.run()
    if sentence is None:
        assert result == "done"
        box.assert_new()
    else:
        assert result == "restored"
        assert sentence in box.problem()
        box.assert_old()


def test_only_this_machine_is_asked(box: Box) -> None:
    probe = {"address": "192.0.2.1:80", "path": "/"}
    box.plan(restart={"expect": [probe], "timeout_s": 1.0})
    assert box.run() == "restored"
    assert "only an address of this machine is asked" in box.problem()


FULL = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import agent
limit = int(sys.argv[2])
real = agent.write_synced
def write(path, content, *rest):
    if len(content) > limit:
        path.write_bytes(content[:limit])
        raise OSError(28, "No space left on device")
    real(path, content, *rest)
agent.RESERVE_BYTES = 8
agent.write_synced = write
sys.exit(agent.main(sys.argv[3:]))
"""


def test_a_full_disk_leaves_the_old_state(box: Box) -> None:
    box.plan()
    argv = [sys.executable, "-c", FULL, str(AGENT.parent), "20", "run", str(box.state), NAME]
    assert subprocess.run(argv, timeout=60, check=False).returncode == 0
    assert box.result() == "restored"
    assert "No space left on device" in box.problem()
    box.assert_old()


def test_bad_calls_are_one_line(box: Box) -> None:
    assert box.agent("dance").returncode == 2
    done = box.agent("run", str(box.state), "none")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)

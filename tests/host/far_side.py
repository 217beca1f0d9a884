"""Runs on the test host: probes the engine, says how the host stands, and does what faults do there.

It stands alone on the standard library, as the agent does.

    far_side.py probe FILE                    ask for readiness every 10 ms; a JSON line for every gap
    far_side.py look STATE                    how the host stands, as JSON
    far_side.py at agent DELAY KIND [WORD..]  wait for an agent, then DELAY seconds, then do KIND
    far_side.py at now DELAY KIND [WORD..]    the same without the wait for an agent

KIND is agent, engine or sessions (killed), fill (a folder's disk), or flip (a bit of each file that is named, as soon
as it is there). What was really done is printed.
"""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PORT = 9464
EVERY_S = 0.01
LONGEST_S = 0.25
UNIT = "quantum-ai-engine.service"
ENV = Path("/etc/quantum/ai-engine.env")
MODELS = Path("/var/lib/quantum/models")
FILLER = "filler"
NEWEST = 8
"""Transactions that are told whole; a drill makes fewer."""


def page(path: str, timeout_s: float) -> tuple[int, str]:
    """Status and text of one of the engine's pages; 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def utc() -> float:
    """Seconds since the epoch; the agent's journal has them too."""
    return time.time_ns() / 1e9


def probe(out: Path) -> None:
    """Write down every gap: from the last good answer before it to the first one after it.

    A poll that failed makes a gap; so does a silence that is long, whoever caused it: nobody knows what was then.
    """
    good, good_at, failed = time.monotonic(), utc(), False
    with out.open("a", buffering=1) as file:
        while True:
            began = time.monotonic()
            if page("/health/ready", LONGEST_S)[0] == http.client.OK:
                now, now_at = time.monotonic(), utc()
                if failed or now - good > LONGEST_S:
                    file.write(json.dumps({"from": good_at, "to": now_at, "s": now - good, "failed": failed}) + "\n")
                good, good_at, failed = now, now_at, False
            else:
                failed = True
            time.sleep(max(0.0, began + EVERY_S - time.monotonic()))


def look(state: Path) -> dict[str, Any]:
    """Everything that a drill wants to know, in one call."""
    shown = run("systemctl", "show", "-pMainPID,ActiveState,SubState", UNIT)
    unit = dict(line.split("=", 1) for line in shown.splitlines())
    status, metrics = page("/metrics", 5.0)
    drafts = [
        str(path)
        for folder in (ENV.parent, MODELS, state, *state.glob("transactions/*"), state / "kept")
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.name.startswith(".") or path.name == "reserve"
    ]
    names = sorted(path.name for path in state.glob("transactions/*"))
    env = ENV.read_bytes()
    said = [line for line in env.decode().splitlines() if line.startswith("PATCHTST_MODEL_PATH=")]
    folder = said[-1].partition("=")[2] if said else ""
    info = ENV.stat()
    return {
        "at": utc(),
        "env": base64.b64encode(env).decode(),
        "rights": f"{info.st_mode & 0o7777:o} {info.st_uid} {info.st_gid}",
        "models": {path.name: digests(path) for path in MODELS.iterdir() if not path.name.startswith(".")},
        "backups": sorted(path.name for path in ENV.parent.glob(f"{ENV.name}.bak.*")),
        "drafts": drafts,
        "transactions": names,
        "newest": {name: transaction(state / "transactions" / name) for name in names[-NEWEST:]},
        "busy": bool(agents()),
        "pid": int(unit["MainPID"]),
        "active": f"{unit['ActiveState']} {unit['SubState']}",
        "ready": page("/health/ready", 5.0)[0] == http.client.OK,
        "metrics": metrics if status == http.client.OK else "",
        "shadow_on_it": folder in run("pgrep", "-a", "-f", "shadow_worker"),
        "ledger": base64.b64encode(Path("/var/lib/quantum/ledger.jsonl").read_bytes()).decode(),
        "verify": subprocess.run(
            ["quantum", "audit", "verify", "--ledger", "/var/lib/quantum/ledger.jsonl"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        ).stdout.strip(),
    }


def transaction(folder: Path) -> dict[str, Any]:
    """Kind and journal of a transaction; without a plan it never was one."""
    plan, journal = folder / "plan.json", folder / "journal.jsonl"
    raw = journal.read_bytes() if journal.exists() else b""
    kind = json.loads(plan.read_bytes())["kind"] if plan.exists() else ""
    return {"kind": kind, "events": [json.loads(line) for line in raw[: raw.rfind(b"\n") + 1].splitlines()]}


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of an artefact."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def run(*argv: str) -> str:
    """What a program printed, however it ended."""
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False).stdout


def agents() -> list[int]:
    """Processes that carry a transaction out now."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                is_agent = any(b"/agent" in word and word.endswith(b".py") for word in words)
                # systemd-run has the same words behind its own.
                if is_agent and b"run" in words and b"systemd-run" not in words[0]:
                    found.append(int(entry.name))
    return found


def wait(what: str, patience_s: float) -> bool:
    """Wait until a file or folder, or an agent, is there."""
    end = time.monotonic() + patience_s
    while not (agents() if what == "agent" else matching(what)):
        if time.monotonic() > end:
            return False
        time.sleep(0.003)
    return True


def matching(pattern: str) -> list[Path]:
    """Files of an absolute pattern."""
    return list(Path("/").glob(pattern.lstrip("/")))


def strike(kind: str, words: list[str]) -> bool:
    """Do it; whether there was anything to do it to."""
    if kind == "agent":
        pids = agents()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(pids)
    if kind == "engine":
        return subprocess.run(["systemctl", "kill", "-s", "KILL", UNIT], check=False).returncode == 0
    if kind == "sessions":
        return subprocess.run(["pkill", "-KILL", "-f", "^sshd: root"], check=False).returncode == 0
    if kind == "fill":
        return fill(Path(words[0]) / FILLER)
    return all([wait(word, 30.0) and all([flip(path) for path in matching(word)]) for word in words])


def fill(path: Path) -> bool:
    """Write until there is no space."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        piece = b"\0" * 4096 * 16
        while len(piece) >= 1:
            try:
                file.write(piece)
            except OSError:
                piece = piece[: len(piece) // 2]
    return True


def flip(path: Path) -> bool:
    """Flip a bit in the middle of a file; a second time mends it."""
    try:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        with path.open("r+b") as file:
            file.write(content)
    except (OSError, IndexError):
        return False
    return True


def main(words: list[str]) -> int:
    """One verb."""
    match words:
        case ["probe", out]:
            probe(Path(out))
        case ["look", state]:
            json.dump(look(Path(state)), sys.stdout)
        case ["at", anchor, delay, kind, *rest]:
            there = anchor == "now" or wait("agent", 60.0)
            time.sleep(float(delay))
            done = there and strike(kind, rest)
            print(json.dumps({"hit": done}))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

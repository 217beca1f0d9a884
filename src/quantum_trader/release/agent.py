"""The program that changes a host: copied there as this one file, started, and on its own from then on.

It stands on the standard library alone (Python >= 3.11) and imports nothing of this package, so that it runs whatever
is installed on the host. Whoever started it may die, or lose the connection: it goes on.

- One transaction at a time, under a lock of the kernel's, which a killed program cannot leave behind.
- A transaction is a folder: `plan.json`, written before; `journal.jsonl`, only appended to, on disk before and after
  every step.
- Every step looks first at what is there. Done already is done; neither the old nor the new state is refused.
- A step that fails turns the transaction round: what was begun is undone, the unit is restarted as it was.
- Started again after a kill or a power cut it goes on where the journal ends, in the direction it had.
- No shell. No value of the env file in plan or journal, only which of its lines stay and the few lines that are put.

    agent.py start STATE ID          run the transaction in a process of its own
    agent.py run STATE ID            run it here
    agent.py journal STATE ID N S    print its journal from line N, waiting at most S seconds for news
    agent.py status STATE            print every transaction and whether one runs, as JSON
"""

import contextlib
import errno
import fcntl
import hashlib
import http.client
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FORMAT = 1
POLL_S = 0.1
BACK_S = 60.0
"""Least time that the old state gets to be ready again."""
RESERVE_BYTES = 65_536
"""Held back so that a full disk cannot keep the journal from telling how it ended."""

SYSTEMD = Path("/run/systemd/system")

Step = dict[str, Any]


class Problem(Exception):
    """Why a step cannot be done, one sentence."""


class Journal:
    """What happened, a JSON object a line, each on disk before the next thing is done."""

    def __init__(self, folder: Path) -> None:
        self.path, self._reserve = folder / "journal.jsonl", folder / "reserve"
        self.events: list[dict[str, Any]] = []
        if self.path.exists():
            raw = self.path.read_bytes()
            whole = raw[: raw.rfind(b"\n") + 1]
            if whole != raw:
                # The last line was being written when this program or the machine died: it says nothing.
                os.truncate(self.path, len(whole))
            self.events = [json.loads(line) for line in whole.splitlines()]

    def add(self, event: str, **facts: Any) -> None:
        """Append one event and wait for the disk."""
        entry = {"event": event, "at": utc(), **facts}
        line = json.dumps(entry).encode() + b"\n"
        try:
            self._append(line)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._reserve.exists():
                raise
            self._reserve.unlink()
            self._append(line)
        self.events.append(entry)

    def _append(self, line: bytes) -> None:
        with self.path.open("ab", buffering=0) as file:
            before = os.fstat(file.fileno()).st_size
            try:
                written = file.write(line)
                if written != len(line):
                    raise OSError(errno.ENOSPC, "half a line was written")
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), before)
                raise
        sync_folder(self.path.parent)

    def reserve(self) -> None:
        """Hold space back for the end of the story; what is held already is not given away and asked for again."""
        if self._reserve.exists():
            return
        try:
            write_synced(self._reserve, b"\0" * RESERVE_BYTES, 0o600)
        except OSError:
            self._reserve.unlink(missing_ok=True)
            raise

    def release(self) -> None:
        """Give the space back."""
        self._reserve.unlink(missing_ok=True)

    def has(self, event: str, step: int | None = None) -> bool:
        """Whether something was written down already."""
        return any(e["event"] == event and (step is None or e.get("step") == step) for e in self.events)

    @property
    def end(self) -> dict[str, Any] | None:
        """The last event, if the transaction ended."""
        return next((e for e in self.events if e["event"] == "end"), None)


def utc() -> str:
    """The time, ISO 8601 in UTC, to the millisecond."""
    now = time.time_ns() // 1_000_000
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1000)) + f".{now % 1000:03d}Z"


# Files


def sync_folder(folder: Path) -> None:
    """Wait until the disk has a folder's names."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Write a file whole and wait for the disk; never through a link."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        if owner is not None:
            os.fchown(file.fileno(), *owner)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())


def read_regular(path: Path) -> tuple[bytes, os.stat_result]:
    """The bytes of a regular file that is no link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Problem(f"{path}: {'is a link' if path.is_symlink() else error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise Problem(f"{path}: is no regular file")
        return file.read(), info


def sha256(content: bytes) -> str:
    """SHA-256 as 64 hexadecimal characters."""
    return hashlib.sha256(content).hexdigest()


def put_together(content: bytes, parts: list[Any]) -> bytes:
    """A file's new bytes: ranges of its lines that stay, and the text between them."""
    pieces = content.split(b"\n")
    lines = [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])
    return b"".join(p.encode() if isinstance(p, str) else b"".join(lines[p[0] : p[1]]) for p in parts)


def flaw(folder: Path, files: dict[str, Any]) -> str | None:
    """What is wrong with an artefact's folder: a file that is missing, foreign, a link, or of other bytes."""
    if folder.is_symlink() or not folder.is_dir():
        return "no such folder"
    foreign = sorted({path.name for path in folder.iterdir()} - set(files))
    if foreign:
        return f"{foreign[0]} does not belong to it"
    for name, entry in files.items():
        try:
            content, _ = read_regular(folder / name)
        except Problem as problem:
            return str(problem)
        if len(content) != entry["bytes"] or sha256(content) != entry["sha256"]:
            return f"{name} has other bytes than were sent"
    return None


def settle_folder(folder: Path, owner: str | None) -> None:
    """Give a folder and its files their mode and owner, and wait for the disk."""
    ids = None
    if owner is not None:
        try:
            ids = (pwd.getpwnam(owner).pw_uid, pwd.getpwnam(owner).pw_gid)
        except KeyError as error:
            raise Problem(f"user {owner} does not exist on this host") from error
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if ids is not None:
                os.fchown(descriptor, *ids)
            os.fchmod(descriptor, 0o755 if path == folder else 0o644)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def copy_folder(source: Path, target: Path) -> None:
    """Copy an artefact's folder, whole or not at all."""
    draft = target.with_name(f".{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.mkdir()
    for path in source.iterdir():
        write_synced(draft / path.name, read_regular(path)[0], 0o644)
    sync_folder(draft)
    draft.rename(target)
    sync_folder(target.parent)


# Steps: each with its way back


class Backup:
    """A copy of the env file beside it, before anything is changed."""

    def __init__(self, step: Step, folder: Path) -> None:
        self.path, self.to, self.sha256 = Path(step["path"]), Path(step["to"]), step["sha256"]
        self.draft = self.to.with_name(f".{self.to.name}.{folder.name}.draft")

    def do(self) -> dict[str, Any]:
        """Copy mode and owner too; a backup is never overwritten."""
        content, info = read_regular(self.path)
        if self.to.exists():
            if sha256(read_regular(self.to)[0]) != self.sha256:
                raise Problem(f"{self.to}: exists already with other bytes")
            return {}
        if sha256(content) != self.sha256:
            raise Problem(f"{self.path}: was changed since the plan was made")
        write_synced(self.draft, content, stat.S_IMODE(info.st_mode), (info.st_uid, info.st_gid))
        self.draft.rename(self.to)
        sync_folder(self.to.parent)
        return {}

    def undo(self) -> None:
        """The host is then as it was, without a file more."""
        self.to.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove what is left of the way there."""
        self.draft.unlink(missing_ok=True)


class Artefact:
    """A folder of a model, from where it was sent to where the engine reads it."""

    def __init__(self, step: Step, folder: Path) -> None:
        self.staged, self.target = Path(step["staged"]), Path(step["target"])
        self.files, self.owner, self.repair = step["files"], step.get("owner"), step.get("repair", False)
        self.mark = folder / "placed"
        self.ready, self.gone, self.aside = (
            self.target.with_name(f".{self.target.name}.{folder.name}.{word}") for word in ("ready", "gone", "aside")
        )

    def do(self) -> dict[str, Any]:
        """Verify what was sent, move it into place in one step, verify again."""
        found = flaw(self.target, self.files) if self.target.is_symlink() or self.target.exists() else "not there"
        if found is not None:
            if self.target.exists() and not self.repair:
                raise Problem(f"{self.target}: exists already, and {found}; artefacts are never overwritten")
            self._place()
        settle_folder(self.target, self.owner)
        found = flaw(self.target, self.files)
        if found is not None:
            raise Problem(f"{self.target}: {found}")
        return {"placed": self.mark.exists()}

    def _place(self) -> None:
        ready = self.ready
        if self.repair:
            shutil.rmtree(ready, ignore_errors=True)
            copy_folder(self.staged, ready)
        elif self.staged.exists() or not ready.exists():
            found = flaw(self.staged, self.files)
            if found is not None:
                raise Problem(f"{self.staged}: {found}")
            shutil.rmtree(ready, ignore_errors=True)
            self.staged.rename(ready)
        settle_folder(ready, self.owner)
        write_synced(self.mark, b"", 0o600)
        sync_folder(self.mark.parent)
        if self.target.exists():
            self.target.rename(self.aside)
        ready.rename(self.target)
        sync_folder(self.target.parent)

    def undo(self) -> None:
        """Take away what this transaction placed, and only that."""
        if self.repair:
            if self.aside.exists() and not self.target.exists():
                self.aside.rename(self.target)
        elif self.mark.exists():
            with contextlib.suppress(FileNotFoundError):
                self.target.rename(self.gone)
        sync_folder(self.target.parent)

    def close(self) -> None:
        """Remove what is left of the way there."""
        left = (self.ready, self.gone, self.aside) if self.repair else (self.ready, self.gone, self.aside, self.staged)
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)


class Keep:
    """A copy of an artefact that the engine uses now, for the day when its folder is damaged or gone."""

    def __init__(self, step: Step, _: Path) -> None:
        self.folder, self.to, self.files = Path(step["folder"]), Path(step["to"]), step["files"]

    def do(self) -> dict[str, Any]:
        """Copy it, unless a whole copy is there."""
        if flaw(self.to, self.files) is None:
            return {}
        found = flaw(self.folder, self.files)
        if found is not None:
            raise Problem(f"{self.folder}: {found}")
        shutil.rmtree(self.to, ignore_errors=True)
        copy_folder(self.folder, self.to)
        return {}

    def undo(self) -> None:
        """A copy that is right hurts nobody and may be another transaction's: it stays."""


class Remove:
    """An artefact that a deployment had placed goes again."""

    def __init__(self, step: Step, folder: Path) -> None:
        self.target = Path(step["target"])
        self.aside = self.target.with_name(f".{self.target.name}.{folder.name}.removed")

    def do(self) -> dict[str, Any]:
        """Out of the models' folder at once; deleted when everything else is done."""
        if self.target.exists():
            self.target.rename(self.aside)
            sync_folder(self.target.parent)
        return {}

    def undo(self) -> None:
        """Back to its place."""
        if self.aside.exists() and not self.target.exists():
            self.aside.rename(self.target)
            sync_folder(self.target.parent)

    def close(self) -> None:
        """Delete it for good."""
        shutil.rmtree(self.aside, ignore_errors=True)


class Env:
    """The flip: the env file goes from one state to the other in one rename.

    The way back is written beside it before: it then needs no space on the disk.
    """

    def __init__(self, step: Step, folder: Path) -> None:
        self.path, self.before, self.after = Path(step["path"]), step["before"], step["after"]
        self.source, self.parts = Path(step.get("from") or step["path"]), step["parts"]
        self.back = step["undo"]
        self.way_back, self.draft = (
            self.path.with_name(f".{self.path.name}.{folder.name}.{word}") for word in ("undo", "draft")
        )

    def do(self) -> dict[str, Any]:
        """Write the way back, then flip."""
        content, info = read_regular(self.path)
        if sha256(content) == self.after:
            return {}
        if sha256(content) != self.before:
            raise Problem(f"{self.path}: was changed since the plan was made")
        new = put_together(read_regular(self.source)[0], self.parts)
        if sha256(new) != self.after:
            raise Problem(f"{self.path}: would not become what was planned")
        self._write(self.way_back, self._old(), info)
        self._write(self.draft, new, info)
        self.draft.replace(self.path)
        sync_folder(self.path.parent)
        return {}

    def undo(self) -> None:
        """Flip back; a file that is neither of the two was written by somebody else and stays."""
        content, info = read_regular(self.path)
        found = sha256(content)
        if found != self.back["sha256"]:
            if found not in (self.before, self.after):
                raise Problem(f"{self.path}: was changed by somebody else meanwhile; it is left as it is")
            if not self.way_back.exists() or sha256(read_regular(self.way_back)[0]) != self.back["sha256"]:
                self._write(self.way_back, self._old(), info)
            self.way_back.replace(self.path)
            sync_folder(self.path.parent)

    def close(self) -> None:
        """Remove what is left of the way."""
        self.way_back.unlink(missing_ok=True)
        self.draft.unlink(missing_ok=True)

    def _old(self) -> bytes:
        old = put_together(read_regular(Path(self.back["from"]))[0], self.back["parts"])
        if sha256(old) != self.back["sha256"]:
            raise Problem(f"{self.back['from']}: is not the backup that was made")
        return old

    @staticmethod
    def _write(path: Path, content: bytes, info: os.stat_result) -> None:
        write_synced(path, content, stat.S_IMODE(info.st_mode), (info.st_uid, info.st_gid))


class Restart:
    """The unit takes the new state, and is watched until it is ready and stays so."""

    def __init__(self, step: Step, _: Path) -> None:
        self.argv, self.timeout_s, self.settle_s = step["argv"], step["timeout_s"], step["settle_s"]
        self.probes, self.expect = step["probes"], step.get("expect", [])
        self.reload = step.get("reload")

    def do(self) -> dict[str, Any]:
        """Reload where the plan has a way to and that is enough, else restart; wait for what is expected then."""
        wanted = [*self.probes, *self.expect]
        if self.reload is None:
            return self._call(self.argv, wanted, self.timeout_s)
        try:
            return {**self._call(self.reload["argv"], wanted, self.reload["timeout_s"]), "by": "reload"}
        except Problem as problem:
            # One that does not run, or that cannot read what it should take.
            return {**self._call(self.argv, wanted, self.timeout_s), "by": "restart", "reload": str(problem)}

    def undo(self) -> None:
        """Restart into the old state; nothing is expected of it but that it is ready.

        A new state may be given up quickly; the old one is all there is, so a busy host gets its time.
        """
        self._call(self.argv, self.probes, max(self.timeout_s, BACK_S))

    def _call(self, argv: list[str], probes: list[Step], timeout_s: float) -> dict[str, Any]:
        began = time.monotonic()
        command(argv, "", timeout_s)
        called = time.monotonic()
        good_since: float | None = None
        while True:
            problem = next((text for probe in probes if (text := ask(probe)) is not None), None)
            now = time.monotonic()
            good_since = None if problem is not None else good_since if good_since is not None else now
            if good_since is not None and now - good_since >= self.settle_s:
                return {"command_s": round(called - began, 3), "ready_s": round(good_since - began, 3)}
            if problem is not None and now - began > timeout_s:
                raise Problem(f"not ready within {timeout_s:g} s: {problem}")
            time.sleep(POLL_S)


class Command:
    """One program, for the ledger: it must see by itself that it was run before."""

    def __init__(self, step: Step, _: Path) -> None:
        self.argv, self.stdin, self.timeout_s = step["argv"], step.get("stdin", ""), step["timeout_s"]
        self.optional = step.get("optional", False)

    def do(self) -> dict[str, Any]:
        """Run it; anything but exit code 0 is a problem, which an optional one only tells."""
        try:
            return {"said": command(self.argv, self.stdin, self.timeout_s).strip()[:2000]}
        except Problem as problem:
            if not self.optional:
                raise
            return {"failed": str(problem)}

    def undo(self) -> None:
        """What was recorded stays recorded."""


KINDS: dict[str, Callable[[Step, Path], Any]] = {
    "backup": Backup,
    "artefact": Artefact,
    "keep": Keep,
    "remove": Remove,
    "env": Env,
    "restart": Restart,
    "command": Command,
}


def command(argv: list[str], stdin: str, timeout_s: float) -> str:
    """Run a program without a shell and return what it said."""
    # A file, not a pipe: a restart command may leave a service behind that holds its output open.
    with open_nowhere() as output:
        try:
            done = subprocess.run(  # noqa: S603 - an argument list from the plan, no shell
                argv, input=stdin.encode(), stdout=output, stderr=output, timeout=timeout_s, check=False
            )
        except FileNotFoundError as error:
            raise Problem(f"{argv[0]}: no such program") from error
        except OSError as error:
            raise Problem(f"{argv[0]}: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise Problem(f"{' '.join(argv[:3])}: no end within {timeout_s:g} s") from error
        output.seek(0)
        said: str = output.read().decode(errors="replace")
    if done.returncode:
        last = (said.strip().splitlines() or ["it said nothing"])[-1][:300]
        raise Problem(f"{' '.join(argv[:3])}: exit code {done.returncode}: {last}")
    return said


@contextlib.contextmanager
def open_nowhere() -> Iterator[Any]:
    """A file without a name, in memory: it takes no space of the disk."""
    with os.fdopen(os.memfd_create("output"), "w+b") as file:
        yield file


def ask(probe: Step) -> str | None:
    """None if a probe is content, else what it found."""
    try:
        if "argv" in probe:
            command(probe["argv"], "", probe.get("timeout_s", 10.0))
            return None
        page = fetch(probe["address"], probe["path"])
    except (Problem, OSError, http.client.HTTPException) as error:
        return f"{probe.get('address', '')}{probe.get('path', '')} {error}".strip()
    for key, wanted, words_of_it in (("lines", True, "has no"), ("absent", False, "still has a")):
        for words in probe.get(key, []):
            if any(all(word in line for word in words) for line in page.splitlines()) is not wanted:
                return f"{probe['path']} {words_of_it} line with {' '.join(words)}"
    return None


def fetch(address: str, path: str) -> str:
    """A page of the engine on this machine."""
    host, _, port = address.rpartition(":")
    if host.strip("[]") not in ("127.0.0.1", "::1", "localhost"):
        raise Problem(f"{address}: only an address of this machine is asked")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=5.0)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        page = answer.read(2**22).decode(errors="replace")
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise Problem(f"answers {answer.status}: {page.strip()[:300]}")
    return page


# Transactions


class Transaction:
    """One plan and its journal."""

    def __init__(self, state: Path, name: str) -> None:
        self.state, self.name, self.folder = state, name, state / "transactions" / name
        self.plan = json.loads((self.folder / "plan.json").read_bytes())
        if self.plan["format"] != FORMAT or self.plan["id"] != name:
            raise Problem(f"{self.folder}: its plan is of another format or another transaction")
        self.steps: list[Any] = [KINDS[step["kind"]](step, self.folder) for step in self.plan["steps"]]
        self.journal = Journal(self.folder)

    def run(self) -> str:
        """Go on where the journal ends; returns how it ended."""
        if self.journal.end is not None:
            return str(self.journal.end["result"])
        if not self.journal.events:
            other = interrupted(self.state, self.name)
            if other is not None:
                return self.finish("refused", f"transaction {other} was interrupted; finish it first")
            self.journal.reserve()
            self.journal.add("begin", kind=self.plan["kind"])
        problem = self._turned() or self._forward()
        if problem is None:
            return self.finish("done")
        return self._back(problem)

    def _turned(self) -> str | None:
        return next((str(e["problem"]) for e in self.journal.events if e["event"] == "turn"), None)

    def _forward(self) -> str | None:
        for number, step in enumerate(self.steps):
            if self.journal.has("done", number):
                continue
            try:
                self.journal.add("start", step=number, name=self._name(number))
                facts: dict[str, Any] = step.do()
                self.journal.add("done", step=number, name=self._name(number), **facts)
            except (Problem, OSError) as error:
                problem = f"{self._name(number)}: {error}"
                self.journal.add("turn", step=number, problem=problem)
                return problem
        return None

    def _back(self, problem: str) -> str:
        """Undo what was begun: the env file first, then the unit, then the rest, newest first.

        What was removed comes back before the unit is restarted: the old env file names it.
        """
        begun = [n for n in reversed(range(len(self.steps))) if self._counts(n)]
        first = [n for kind in (Env, Remove) for n in begun if isinstance(self.steps[n], kind)]
        then = [n for n in begun if isinstance(self.steps[n], Restart)]
        failed = ""
        for number in (*first, *then, *(n for n in begun if n not in (*first, *then))):
            if self.journal.has("undone", number):
                continue
            try:
                self.steps[number].undo()
            except (Problem, OSError) as error:
                failed = failed or f"; and then {self._name(number)}: {error}"
                if isinstance(self.steps[number], Env):
                    # The rest of the way back depends on it: what stands is left standing.
                    return self.finish("stuck", problem + failed)
                continue
            self.journal.add("undone", step=number, name=self._name(number))
        return self.finish("stuck" if failed else "restored", problem + failed)

    def _counts(self, number: int) -> bool:
        """Whether a step is undone: it was begun, or one was that leads it to its way back in any case."""
        lead = self.plan["steps"][number].get("undo_from")
        return self.journal.has("start", number) or (lead is not None and self.journal.has("start", lead))

    def finish(self, result: str, problem: str = "") -> str:
        """Tidy up and write the last line: done, restored, refused, or stuck where the way back failed too."""
        for step in self.steps:
            if hasattr(step, "close") and not (result == "stuck" and isinstance(step, Env)):
                step.close()
        self.journal.add("end", result=result, problem=problem)
        self.journal.release()
        return result

    def _name(self, number: int) -> str:
        return str(self.plan["steps"][number].get("name", self.plan["steps"][number]["kind"]))


def interrupted(state: Path, but: str) -> str | None:
    """Another transaction that has begun and not ended."""
    for entry in overview(state):
        if entry["id"] != but and entry["begun"] and entry["result"] is None:
            return str(entry["id"])
    return None


def overview(state: Path) -> list[dict[str, Any]]:
    """Every transaction of a host, oldest first."""
    out = []
    root = state / "transactions"
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        plan = folder / "plan.json"
        if not plan.exists():
            continue
        described = json.loads(plan.read_bytes())
        journal = folder / "journal.jsonl"
        raw = journal.read_bytes() if journal.exists() else b""
        events = [json.loads(line) for line in raw[: raw.rfind(b"\n") + 1].splitlines()]
        end: dict[str, Any] = next((e for e in events if e["event"] == "end"), {})
        placed = any(e["event"] == "done" and e.get("placed") for e in events)
        out.append(
            {
                "id": folder.name,
                "kind": described["kind"],
                "model": described["model"],
                "facts": described.get("facts", {}),
                "begun": bool(events),
                "placed": placed,
                "result": end.get("result"),
                "problem": end.get("problem", ""),
            }
        )
    return out


@contextlib.contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[bool]:
    """Whether a lock could be taken within two seconds (somebody may just be looking); held while the block runs."""
    end = time.monotonic() + 2.0
    with path.open("ab") as file:
        mine = False
        while not mine:
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
                mine = True
            except BlockingIOError:
                if how == fcntl.LOCK_SH or time.monotonic() > end:
                    break
                time.sleep(POLL_S)
        yield mine


def run(state: Path, name: str) -> int:
    """Run a transaction here: 0 if it came to an end, whichever."""
    folder = state / "transactions" / name
    with locked(folder / "lock") as mine:
        if not mine:
            return 0
        with locked(state / "lock") as alone:
            transaction = Transaction(state, name)
            if alone:
                transaction.run()
            elif not transaction.journal.events:
                transaction.finish("refused", "another transaction is running on this host")
            else:
                return 1
    return 0


def start(state: Path, name: str) -> int:
    """Run a transaction in a process that outlives this one: under systemd, which restarts it if it is killed.

    Without space for its journal it is not begun at all, and whoever starts it is told so.
    """
    journal = Journal(state / "transactions" / name)
    if not journal.events:
        journal.reserve()
    argv = [sys.executable, "-I", str(Path(__file__).resolve()), "run", str(state), name]
    if SYSTEMD.is_dir() and os.geteuid() == 0:
        unit = f"quantum-agent-{name}-{os.getpid()}"
        properties = ["Restart=on-failure", "RestartSec=1", "StartLimitBurst=20", "StartLimitIntervalSec=300"]
        options = [f"--property={text}" for text in properties]
        systemd_run = ["systemd-run", "--quiet", "--no-block", "--collect", f"--unit={unit}", *options, "--", *argv]
        return subprocess.run(systemd_run, stdin=subprocess.DEVNULL, check=False).returncode  # noqa: S603
    with (state / "transactions" / name / "agent.log").open("ab") as log:
        subprocess.Popen(  # noqa: S603 - this very program, no shell
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
        )
    return 0


def follow(state: Path, name: str, seen: int, wait_s: float) -> int:
    """Print the whole lines of a journal from line `seen` on; wait a while if there are none yet."""
    path = state / "transactions" / name / "journal.jsonl"
    end = time.monotonic() + wait_s
    while True:
        raw = path.read_bytes() if path.exists() else b""
        lines = raw[: raw.rfind(b"\n") + 1].splitlines(keepends=True)
        if len(lines) > seen or time.monotonic() > end:
            sys.stdout.buffer.write(b"".join(lines[seen:]))
            return 0
        time.sleep(POLL_S)


def status(state: Path) -> int:
    """Print every transaction and whether one runs."""
    busy = False
    if (state / "lock").exists():
        with locked(state / "lock", fcntl.LOCK_SH) as free:
            busy = not free
    json.dump({"busy": busy, "transactions": overview(state)}, sys.stdout)
    return 0


def main(arguments: list[str]) -> int:
    """One verb; a problem is one line and exit code 1."""
    try:
        match arguments:
            case ["run", state, name]:
                return run(Path(state), name)
            case ["start", state, name]:
                return start(Path(state), name)
            case ["journal", state, name, seen, wait_s]:
                return follow(Path(state), name, int(seen), float(wait_s))
            case ["status", state]:
                return status(Path(state))
    except (Problem, OSError, ValueError, KeyError) as error:
        print(f"agent: {error}", file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Step A: what is released is what everybody can see: committed, pushed, and the same program on the host."""

import json
import subprocess
import sys
from pathlib import Path

from quantum_trader.core.errors import ReleaseError
from quantum_trader.release.host import Host
from quantum_trader.release.host_settings import HostSettings

_GIT_S = 60.0

_PROGRAM = """
import hashlib, importlib.util, json, pathlib
root = pathlib.Path(importlib.util.find_spec("quantum_trader").origin).parent
total = hashlib.sha256()
for path in sorted(root.rglob("*.py")):
    total.update(f"{path.relative_to(root).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\\n".encode())
print(json.dumps(total.hexdigest()))
"""
"""Digest of every module of the installed package: the same program, wherever it came from."""


def check_repository(repository: Path, remote: str, branch: str) -> str:
    """The commit of a clean tree that the remote's branch has.

    Raises:
        ReleaseError: naming what does not hold; nothing was changed.
    """
    changed = _git(repository, "status", "--porcelain")
    if changed:
        raise ReleaseError(f"repository {repository}: {len(changed.splitlines())} files are not committed; commit them")
    commit = _git(repository, "rev-parse", "HEAD")
    _git(repository, "fetch", "--quiet", "--no-tags", remote, branch)
    done = _call(["git", "-C", str(repository), "merge-base", "--is-ancestor", commit, "FETCH_HEAD"])
    if done.returncode:
        raise ReleaseError(f"repository {repository}: commit {commit[:12]} is not on {remote}/{branch}; push it first")
    return commit


def check_program(host: Host, settings: HostSettings, commit: str) -> str:
    """The digest of the program on the host, which is this one's too; where it runs from a checkout, the commit is.

    Raises:
        ReleaseError: if it is another one.
    """
    if settings.checkout is not None and commit:
        found = host.run(["git", "-C", str(settings.checkout), "rev-parse", "HEAD"]).out.decode().strip()
        if found != commit:
            raise ReleaseError(f"host {host.name}: its checkout is at {found[:12]}, this one at {commit[:12]}")
        if host.run(["git", "-C", str(settings.checkout), "status", "--porcelain"]).out.strip():
            raise ReleaseError(f"host {host.name}: files of its checkout {settings.checkout} were changed")
    ours = json.loads(_call([sys.executable, "-I", "-c", _PROGRAM]).stdout)
    theirs = json.loads(host.run([settings.engine_python, "-I", "-c", _PROGRAM]).out)
    if ours != theirs:
        raise ReleaseError(
            f"host {host.name}: another version of the program is installed there ({theirs[:12]}, here {ours[:12]})"
        )
    return str(theirs)


def _git(repository: Path, *arguments: str) -> str:
    done = _call(["git", "-C", str(repository), *arguments])
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ReleaseError(f"repository {repository}: git {arguments[0]}: {last}")
    return done.stdout.strip()


def _call(argv: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(  # noqa: S603 - an argument list, no shell
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_GIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ReleaseError(f"{argv[0]}: cannot be run, or did not end within {_GIT_S:g} s") from error

"""A host to release to: this machine, or one that the system's ssh reaches.

- Commands are argument lists. For ssh every word is quoted, since the other end is a shell; nothing else is ever put
  into a line.
- The host's key must be known. A connection that is lost, refused or silent is one clear error, never a guess about
  what happened on the other side.
- A file is put whole: beside its place, its digest checked there, then renamed.
"""

import base64
import contextlib
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from quantum_trader.core.errors import HostError
from quantum_trader.release import host_programs

CLOCK_LIMIT_US = 5_000_000
"""A host whose clock differs by more writes ledgers and verdicts that contradict everybody else's."""

USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
ADDRESS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?")
REMOTE_PATH = re.compile(r"/(?:[A-Za-z0-9._@+=-]+/?)*")

_SSH_FAILED = 255
_CONNECT_S = 10


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: bytes
    err: str


@dataclass(frozen=True)
class FileStat:
    """What stands at a path: ``file``, ``folder``, ``link`` or ``other``; mode as in chmod."""

    kind: str
    size: int
    mode: int
    owner: str
    group: str


class Host(Protocol):
    """What releasing needs of a host. Every method raises `HostError` where the host or the command fails."""

    @property
    def name(self) -> str:
        """What to call it in a sentence."""

    def run(
        self, argv: Sequence[str], stdin: bytes | Path = b"", timeout_s: float = 30.0, *, check: bool = True
    ) -> Done:
        """Run a command; with `check` anything but exit code 0 is an error."""

    def put(self, content: bytes | Path, path: PurePosixPath, mode: int, owner: str = "") -> str:
        """Write a file whole, checked by its digest, which is returned; its folder must exist."""

    def read(self, path: PurePosixPath) -> bytes:
        """Bytes of a regular file."""

    def stat(self, path: PurePosixPath) -> FileStat | None:
        """What stands at a path, links not followed; None where nothing does."""

    def exists(self, path: PurePosixPath) -> bool:
        """Whether anything stands at a path."""

    def names(self, folder: PurePosixPath) -> list[str]:
        """Names in a folder, sorted."""

    def read_each(self, folder: PurePosixPath, name: str) -> dict[str, bytes]:
        """Bytes of the file of one name in every folder below, by the folder's name, in one call; no links."""

    def free_bytes(self, path: PurePosixPath) -> int:
        """Bytes that may still be written below a path."""

    def clock_us(self) -> int:
        """The host's clock, microseconds since the epoch."""

    def close(self) -> None:
        """End the connection; the host itself is not touched."""


class _Host:
    """What every host does in the same way: small fixed programs, given their values as arguments."""

    name: str

    def __init__(self, python: str, become: Sequence[str]) -> None:
        self._python, self._become = python, list(become)

    def run(
        self, argv: Sequence[str], stdin: bytes | Path = b"", timeout_s: float = 30.0, *, check: bool = True
    ) -> Done:
        """Run a command; with `check` anything but exit code 0 is an error."""
        if any("\0" in word for word in argv):
            raise HostError(f"host {self.name}: a word of the command holds a NUL byte")
        done = self._call(self._line([*self._become, *argv]), stdin, timeout_s)
        if check and done.code:
            last = (done.err.strip().splitlines() or [done.out.decode(errors="replace").strip() or "no word"])[-1]
            raise HostError(f"host {self.name}: {_named(argv)} ended with {done.code}: {last[:300]}")
        return done

    def put(self, content: bytes | Path, path: PurePosixPath, mode: int, owner: str = "") -> str:
        """Write a file whole, checked by its digest, which is returned; its folder must exist."""
        size, digest = _measured(content)
        words = [str(checked_path(path)), f"{mode:o}", owner, str(size), digest]
        # A slow line still brings 100 kB a second.
        self._program(host_programs.PUT, words, content, 60.0 + size / 100_000)
        return digest

    def read(self, path: PurePosixPath) -> bytes:
        """Bytes of a regular file."""
        return self._program(host_programs.READ, [str(checked_path(path))], timeout_s=120.0)

    def stat(self, path: PurePosixPath) -> FileStat | None:
        """What stands at a path, links not followed; None where nothing does."""
        found = json.loads(self._program(host_programs.STAT, [str(checked_path(path))]))
        return None if found is None else FileStat(**found)

    def exists(self, path: PurePosixPath) -> bool:
        """Whether anything stands at a path."""
        return self.stat(path) is not None

    def names(self, folder: PurePosixPath) -> list[str]:
        """Names in a folder, sorted."""
        return [str(name) for name in json.loads(self._program(host_programs.LIST, [str(checked_path(folder))]))]

    def read_each(self, folder: PurePosixPath, name: str) -> dict[str, bytes]:
        """Bytes of the file of one name in every folder below, by the folder's name, in one call; no links."""
        told = json.loads(self._program(host_programs.EACH, [str(checked_path(folder)), name], timeout_s=120.0))
        return {entry: base64.b64decode(content) for entry, content in told.items()}

    def free_bytes(self, path: PurePosixPath) -> int:
        """Bytes that may still be written below a path."""
        return int(self._program(host_programs.FREE, [str(checked_path(path))]))

    def clock_us(self) -> int:
        """The host's clock, microseconds since the epoch."""
        return int(self._program(host_programs.CLOCK, []))

    def close(self) -> None:
        """End the connection; the host itself is not touched."""

    def _program(self, program: str, words: Sequence[str], stdin: bytes | Path = b"", timeout_s: float = 30.0) -> bytes:
        return self.run([self._python, "-I", "-c", program, *words], stdin, timeout_s).out

    def _line(self, argv: Sequence[str]) -> list[str]:
        raise NotImplementedError

    def _call(self, argv: Sequence[str], stdin: bytes | Path, timeout_s: float) -> Done:
        try:
            with _opened(stdin) as source:
                done = subprocess.run(  # noqa: S603 - an argument list, no shell
                    argv, stdin=source, capture_output=True, timeout=timeout_s, check=False
                )
        except subprocess.TimeoutExpired as error:
            raise HostError(f"host {self.name}: no answer within {timeout_s:g} s") from error
        except OSError as error:
            raise HostError(f"host {self.name}: {error.filename or argv[0]}: {error.strerror}") from error
        return Done(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


class LocalHost(_Host):
    """This machine."""

    def __init__(self, python: str = "python3", become: Sequence[str] = ()) -> None:
        super().__init__(python, become)
        self.name = "local"

    def _line(self, argv: Sequence[str]) -> list[str]:
        return list(argv)


@dataclass(frozen=True)
class SshAddress:
    """How to reach a host.

    Attributes:
        host: Name or address.
        user: Who to be there; empty for what ssh's configuration says.
        port: Its port; 0 for what ssh's configuration says.
        identity: Key file.
        known_hosts: File of known host keys.
        config: File of ssh's configuration.
        ssh: The program, with words before it where it runs in another network.
    """

    host: str
    user: str = ""
    port: int = 0
    identity: Path | None = None
    known_hosts: Path | None = None
    config: Path | None = None
    ssh: tuple[str, ...] = ("ssh",)

    def __post_init__(self) -> None:
        if not ADDRESS.fullmatch(self.host):
            raise HostError(f"host {self.host!r}: expected a name or an address")
        if self.user and not USER.fullmatch(self.user):
            raise HostError(f"host {self.host}: {self.user!r} is no user's name")

    def argv(self, control: Path) -> list[str]:
        """The ssh program with its options, up to the host."""
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ControlMaster": "auto",
            "ControlPath": str(control / "%C"),
            "ControlPersist": "60",
            "ConnectTimeout": str(_CONNECT_S),
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
        }
        if self.known_hosts is not None:
            options["UserKnownHostsFile"] = str(self.known_hosts)
        if self.identity is not None:
            options["IdentitiesOnly"] = "yes"
        words = [*self.ssh, *(["-F", str(self.config)] if self.config is not None else [])]
        words += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        words += ["-i", str(self.identity)] if self.identity is not None else []
        words += ["-p", str(self.port)] if self.port else []
        return [*words, "-T"]

    @property
    def target(self) -> str:
        """The host as ssh names it."""
        return f"{self.user}@{self.host}" if self.user else self.host


class SshHost(_Host):
    """A machine that the system's ssh reaches, over one connection that is shared and kept for a minute."""

    def __init__(self, address: SshAddress, python: str = "python3", become: Sequence[str] = ()) -> None:
        super().__init__(python, become)
        self.name = address.target
        # Short: the path of a socket holds about 100 bytes.
        self._control = Path(tempfile.mkdtemp(prefix="qt-"))
        self._ssh, self._target = address.argv(self._control), address.target

    def close(self) -> None:
        """End the connection; the host itself is not touched."""
        with contextlib.suppress(HostError):
            self._call([*self._ssh, "-O", "exit", "--", self._target], b"", 10.0)
        shutil.rmtree(self._control, ignore_errors=True)

    def _line(self, argv: Sequence[str]) -> list[str]:
        return [*self._ssh, "--", self._target, shlex.join(argv)]

    def _call(self, argv: Sequence[str], stdin: bytes | Path, timeout_s: float) -> Done:
        done = super()._call(argv, stdin, timeout_s)
        if done.code == _SSH_FAILED:
            why = (done.err.strip().splitlines() or ["no reason given"])[-1]
            raise HostError(f"host {self.name}: no connection, or it was lost ({why[:300]})")
        return done


def checked_path(path: PurePosixPath) -> PurePosixPath:
    """A path of a host, if it is absolute and of plain characters.

    Raises:
        HostError: if it is not.
    """
    if not REMOTE_PATH.fullmatch(str(path)) or ".." in path.parts:
        raise HostError(f"path {str(path)!r}: expected an absolute path of letters, digits and . _ @ + = -")
    return path


def check_clock(host: Host, now_us: Callable[[], int]) -> None:
    """Refuse a host whose clock differs from ours by more than 5 s.

    Raises:
        HostError: with by how much.
    """
    before = now_us()
    theirs = host.clock_us()
    after = now_us()
    off = max(before - theirs, theirs - after, 0)
    if off > CLOCK_LIMIT_US:
        raise HostError(f"host {host.name}: its clock differs by {off / 1e6:.1f} s, 5 s at most; set it right first")


def _named(argv: Sequence[str]) -> str:
    """A command for a sentence: our own programs are long."""
    return " ".join(word if len(word) < 60 and "\n" not in word else "..." for word in argv[:4])


def _opened(stdin: bytes | Path) -> IO[bytes]:
    """What a command reads, as a file: a pipe would need somebody to fill it."""
    if isinstance(stdin, Path):
        return stdin.open("rb")
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(stdin)
    file.seek(0)
    return file


def _measured(content: bytes | Path) -> tuple[int, str]:
    if isinstance(content, bytes):
        return len(content), hashlib.sha256(content).hexdigest()
    try:
        with content.open("rb") as file:
            return content.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise HostError(f"file {content}: cannot be read ({error.strerror})") from error

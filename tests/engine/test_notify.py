"""sd_notify against a real datagram socket, as the service manager holds it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quantum_trader.core.errors import ConfigError
from quantum_trader.engine.notify import Notifier


class Manager:
    """The manager's end: what was sent, in order."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        texts = []
        while True:
            try:
                texts.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return texts

    def listen(self) -> None:
        """Hear for ever, until the socket's own timeout."""
        while True:
            self.socket.recv(4096)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@quantum-tests-{os.getpid()}-{id(request)}"
    manager = Manager(address)
    yield manager
    manager.socket.close()


@pytest.fixture
def notifier(manager: Manager) -> Iterator[Notifier]:
    notifier = Notifier(manager.address, watchdog_s=20.0)
    yield notifier
    notifier.close()


class TestTheManagerHears:
    def test_ready_once_with_a_status(self, manager: Manager, notifier: Notifier) -> None:
        notifier.ready("4 models, 5 symbols")
        assert manager.heard() == ["READY=1\nSTATUS=4 models, 5 symbols"]

    def test_status_and_stopping(self, manager: Manager, notifier: Notifier) -> None:
        notifier.status("waiting for the lease")
        notifier.stopping()
        assert manager.heard() == ["STATUS=waiting for the lease", "STOPPING=1"]

    def test_no_second_assignment_in_a_status(self, manager: Manager, notifier: Notifier) -> None:
        notifier.status("a reason\nMAINPID=1\r\nREADY=1")
        assert manager.heard() == ["STATUS=a reason MAINPID=1 READY=1"]

    def test_a_ping_at_the_first_turn_and_then_at_half_of_the_limit(self, manager: Manager, notifier: Notifier) -> None:
        for now, expected in ((100.0, 1), (100.25, 0), (109.99, 0), (110.0, 1), (110.1, 0), (500.0, 1), (509.0, 0)):
            notifier.turned(now)
            assert manager.heard() == ["WATCHDOG=1"] * expected, now

    def test_nothing_from_a_loop_that_does_not_turn(self, manager: Manager) -> None:
        notifier = Notifier(manager.address, watchdog_s=0.02)
        notifier.turned(0.0)
        assert manager.heard() == ["WATCHDOG=1"]
        manager.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            manager.socket.recv(4096)
        notifier.close()

    def test_no_ping_where_no_watchdog_was_asked_for(self, manager: Manager) -> None:
        notifier = Notifier(manager.address)
        notifier.turned(0.0)
        notifier.turned(1e9)
        assert manager.heard() == []
        notifier.close()


class TestWithoutAManager:
    def test_nothing_happens(self) -> None:
        notifier = Notifier.from_environment({"WATCHDOG_USEC": "1000"}, 1)
        notifier.ready("up")
        notifier.turned(0.0)
        notifier.stopping()
        notifier.close()

    def test_one_that_is_gone_is_one_warning_and_no_error(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        notifier = Notifier(str(tmp_path / "nobody"), watchdog_s=2.0)
        notifier.ready("up")
        notifier.turned(0.0)
        notifier.turned(5.0)
        assert len(caplog.records) == 1
        assert "READY=1 could not be sent" in caplog.text
        notifier.close()
        notifier.close()

    def test_one_that_comes_back_hears_the_next_turn(self, tmp_path: Path) -> None:
        notifier = Notifier(str(tmp_path / "late"), watchdog_s=20.0)
        notifier.turned(0.0)
        manager = Manager(str(tmp_path / "late"))
        # The ping that did not go out was not spent: the next turn tries again.
        notifier.turned(0.1)
        assert manager.heard() == ["WATCHDOG=1"]
        manager.socket.close()
        notifier.close()

    def test_one_that_does_not_read_never_holds_the_loop(self, tmp_path: Path) -> None:
        manager = Manager(str(tmp_path / "full"))
        notifier = Notifier(manager.address, watchdog_s=20.0)
        for now in range(0, 20_000, 10):
            notifier.turned(float(now))
        assert 0 < len(manager.heard()) < 2_000
        notifier.turned(1e6)
        assert manager.heard() == ["WATCHDOG=1"]
        manager.socket.close()
        notifier.close()


class TestTheEnvironment:
    def test_as_systemd_sets_it(self, manager: Manager) -> None:
        environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "77"}
        notifier = Notifier.from_environment(environ, 77)
        for now in (10.0, 11.4, 11.5):
            notifier.turned(now)
        assert manager.heard() == ["WATCHDOG=1"] * 2
        notifier.close()

    def test_a_watchdog_of_another_process_is_not_ours(self, manager: Manager) -> None:
        environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "76"}
        notifier = Notifier.from_environment(environ, 77)
        notifier.turned(10.0)
        notifier.ready("up")
        assert manager.heard() == ["READY=1\nSTATUS=up"]
        notifier.close()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("NOTIFY_SOCKET", "relative/path"),
            ("NOTIFY_SOCKET", "@"),
            ("WATCHDOG_USEC", "soon"),
            ("WATCHDOG_USEC", "0"),
            ("WATCHDOG_USEC", "-5"),
            ("WATCHDOG_PID", "me"),
        ],
    )
    def test_what_cannot_be_read_is_one_line(self, name: str, value: str) -> None:
        with pytest.raises(ConfigError) as caught:
            Notifier.from_environment({name: value}, 1)
        assert str(caught.value).startswith(f"{name}={value}: expected ")
        assert "\n" not in str(caught.value)


_STOPPED = """
import sys, time
from quantum_trader.engine.notify import Notifier
notifier = Notifier(sys.argv[1], 0.2)
notifier.ready("up")
while True:
    notifier.turned(time.monotonic())
    time.sleep(0.01)
"""


def test_a_process_that_hangs_is_silent_and_one_that_turns_is_not(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    manager.socket.settimeout(30)
    process = subprocess.Popen([sys.executable, "-c", _STOPPED, manager.address])
    try:
        assert manager.socket.recv(4096).startswith(b"READY=1")
        for _ in range(3):
            assert manager.socket.recv(4096) == b"WATCHDOG=1"
        process.send_signal(signal.SIGSTOP)
        manager.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            manager.listen()
        process.send_signal(signal.SIGCONT)
        manager.socket.settimeout(30)
        assert manager.socket.recv(4096) == b"WATCHDOG=1"
    finally:
        process.kill()
        process.wait()
        manager.socket.close()

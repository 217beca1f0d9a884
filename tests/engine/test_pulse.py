import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from quantum_trader.engine.health import Vitals
from quantum_trader.engine.notify import Notifier
from quantum_trader.engine.pulse import Pulse


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.setblocking(False)
        yield end


def heard(manager: socket.socket) -> list[str]:
    said = []
    while True:
        try:
            said.append(manager.recv(4096).decode())
        except BlockingIOError:
            return said


def test_both_listeners_hear_the_same(manager: socket.socket) -> None:
    now = 100.0
    vitals = Vitals(now)
    notifier = Notifier(manager.getsockname(), watchdog_s=2.0)
    pulse = Pulse(vitals, notifier, lambda: now)

    pulse.hindered("waiting for the lease of its group")
    assert vitals.hindrances(now) == ["waiting for the lease of its group"]
    assert heard(manager) == ["STATUS=waiting for the lease of its group"]

    pulse.ready()
    assert vitals.hindrances(now) == []
    assert heard(manager)[-1].startswith("READY=1")

    now = 140.0
    assert vitals.hindrances(now)
    pulse.turned()
    pulse.bus_answered()
    assert vitals.hindrances(now) == []
    assert heard(manager) == ["WATCHDOG=1"]

    pulse.hindered("stream server away")
    assert heard(manager) == ["STATUS=stream server away"]
    pulse.bus_answered()
    assert vitals.hindrances(now) == []
    assert heard(manager) == ["STATUS=deciding"]

    pulse.reloading()
    assert heard(manager) == ["RELOADING=1\nMONOTONIC_USEC=140000000"]
    assert vitals.hindrances(now) == []
    pulse.reloaded()
    assert heard(manager) == ["READY=1\nSTATUS=deciding"]

    pulse.stopping()
    assert vitals.hindrances(now) == ["stopping"]
    assert heard(manager) == ["STOPPING=1"]
    notifier.close()

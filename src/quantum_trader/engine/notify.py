"""Telling systemd that the engine is ready, alive or stopping: sd_notify's datagrams, sent by the loop itself.

- Without NOTIFY_SOCKET nothing is ever sent.
- WATCHDOG=1 is sent by the loop's own turns and by nothing else: a loop that hangs is not kept alive by a thread.
- A ping goes out once half of WATCHDOG_USEC has passed since the last; WATCHDOG_PID, where set, must be this process.
- READY and STOPPING wait a second for a busy service manager; pings and status never wait. What cannot be sent is
  logged once and does not stop the engine: the manager's own timeout then says the rest.
"""

import logging
import math
import socket
from collections.abc import Mapping

from quantum_trader.core.errors import ConfigError

log = logging.getLogger(__name__)

_PATIENCE_S = 1.0


class Notifier:
    """One end of the service manager's notification socket.

    Args:
        address: Path of the socket, or ``@name`` in the abstract namespace; empty: nothing is ever sent.
        watchdog_s: The manager's limit between two pings, seconds; 0 for none.

    Raises:
        ConfigError: if the address is neither.
    """

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        if address and (address[0] not in "/@" or len(address) == 1):
            raise ConfigError(f"NOTIFY_SOCKET={address}: expected an absolute path or @name")
        self._address = address
        self._interval_s = watchdog_s / 2
        self._last_ping = -math.inf
        self._failed = False
        self._socket: socket.socket | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pid: int) -> "Notifier":
        """A notifier as systemd asks for it.

        Args:
            environ: Holds NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID where systemd set them.
            pid: Of this process; a watchdog that was meant for another one is not ours.

        Raises:
            ConfigError: if one of them cannot be read.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        text, owner = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        if text and not (text.isdecimal() and int(text) > 0):
            raise ConfigError(f"WATCHDOG_USEC={text}: expected a whole number of microseconds above 0")
        if owner and not owner.isdecimal():
            raise ConfigError(f"WATCHDOG_PID={owner}: expected a process id")
        ours = bool(text) and (not owner or int(owner) == pid)
        return cls(address, int(text) / 1e6 if ours else 0.0)

    def ready(self, status: str) -> None:
        """The service is up: a unit of Type=notify is active from now on."""
        self._send(f"READY=1\nSTATUS={_line(status)}", _PATIENCE_S)

    def reloading(self, now: float) -> None:
        """The service reads its settings again; `ready` ends that.

        Args:
            now: From CLOCK_MONOTONIC, which the service manager compares with its own, seconds.
        """
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(now * 1e6)}", 0.0)

    def status(self, text: str) -> None:
        """What `systemctl status` shows of the service."""
        self._send(f"STATUS={_line(text)}", 0.0)

    def turned(self, now: float) -> None:
        """The loop turned; pings if it is time.

        Args:
            now: From a clock that only goes forward, seconds.
        """
        if self._interval_s and now - self._last_ping >= self._interval_s and self._send("WATCHDOG=1", 0.0):
            self._last_ping = now

    def stopping(self) -> None:
        """The service ends in good order."""
        self._send("STOPPING=1", _PATIENCE_S)

    def close(self) -> None:
        """Give the socket back; safe to call twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str, patience_s: float) -> bool:
        """Send one datagram and say whether it went out."""
        if not self._address:
            return False
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(patience_s)
            # A name of the abstract namespace begins with a zero byte, written as @.
            target = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
            self._socket.sendto(text.encode(), target)
        except OSError as error:
            if not self._failed:
                log.warning("NOTIFY_SOCKET %s: %s could not be sent (%s)", self._address, text.split("\n")[0], error)
            self._failed = True
            return False
        self._failed = False
        return True


def _line(text: str) -> str:
    """One line: a line break would begin another assignment."""
    return " ".join(text.split())

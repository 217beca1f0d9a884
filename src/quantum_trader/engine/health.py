"""Whether the engine lives and is ready, and the small HTTP server that tells: `/health/...` and `/metrics`.

Rules:

- Live: the loop turned within its limit. Nothing else: who restarts a process for a server that is away gains nothing.
- Ready: the service says so (recovered, holds the lease), it is live, and the bus answered within its own limit.
- A shadow has no part in either: it cannot change a decision, so it cannot make the engine unready.
- Reading never touches the deciding loop: the loop leaves times and words, readers look at them.
- Nobody holds anything: a connection has one request, a few seconds, and is one of a few; after that it is closed.
"""

import contextlib
import ipaddress
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import urlsplit

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from quantum_trader.core.errors import ConfigError

log = logging.getLogger(__name__)

LOOP_LIMIT_S = 30.0
"""Longest time between two turns of the loop: a commit may be repeated and wait for a disk."""

BUS_LIMIT_S = 15.0
"""Longest time since the stream server last answered."""

CONNECTION_S = 5.0
"""A connection is closed after this long, whatever it does."""

CONNECTIONS = 8
"""So many at once; a further one is closed unanswered."""


class Vitals:
    """How the loop is, told by the loop and read by anybody. Pure: the clock is an argument.

    Every time is from one clock that only goes forward, in seconds. A value is written whole, so no lock is needed.

    Args:
        now: When the engine began; until the first turn this counts as one.
        loop_limit_s: Longest time between two turns.
        bus_limit_s: Longest time between two answers of the stream server.
    """

    def __init__(self, now: float, loop_limit_s: float = LOOP_LIMIT_S, bus_limit_s: float = BUS_LIMIT_S) -> None:
        self._turned, self._answered = now, now
        self._loop_limit_s, self._bus_limit_s = loop_limit_s, bus_limit_s
        self._why = "starting"

    def turned(self, now: float) -> None:
        """The loop turned."""
        self._turned = now

    def bus_answered(self, now: float) -> None:
        """The stream server answered."""
        self._answered = now

    def ready(self) -> None:
        """The service is recovered and holds what it needs."""
        self._why = ""

    def not_ready(self, reason: str) -> None:
        """The service cannot decide now, for a reason that people can read."""
        self._why = reason or "no reason was given"

    def loop_age_s(self, now: float) -> float:
        """Seconds since the loop last turned."""
        return max(now - self._turned, 0.0)

    def ailments(self, now: float) -> list[str]:
        """Why the engine is not live; empty if it is."""
        age = self.loop_age_s(now)
        if age <= self._loop_limit_s:
            return []
        return [f"the loop has not turned for {age:.1f} s; the limit is {self._loop_limit_s:g} s"]

    def hindrances(self, now: float) -> list[str]:
        """Why the engine is not ready; empty if it is."""
        reasons = [self._why] if self._why else []
        reasons += self.ailments(now)
        age = now - self._answered
        if age > self._bus_limit_s:
            reasons.append(f"the stream server has not answered for {age:.1f} s; the limit is {self._bus_limit_s:g} s")
        return reasons


@contextlib.contextmanager
def serve_health(
    address: str, vitals: Vitals, registry: CollectorRegistry, now: Callable[[], float] = time.monotonic
) -> Iterator[str]:
    """Answer on `address` while the block runs.

    Args:
        address: ``HOST:PORT`` or ``[IPV6]:PORT``; port 0 takes any that is free; empty: no server at all.
        vitals: What `/health/...` reads.
        registry: What `/metrics` shows.
        now: The clock of `vitals`.

    Yields:
        Where it listens, as ``HOST:PORT``; empty where it does not.

    Raises:
        ConfigError: if the address cannot be read or taken.
    """
    if not address:
        yield ""
        return
    with _HealthServer(address, _Pages(vitals, registry, now)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.2,), name="health", daemon=True)
        thread.start()
        log.info("health and metrics on http://%s", server.where)
        try:
            yield server.where
        finally:
            server.shutdown()
            server.end_connections()
            thread.join()


class _Pages:
    """What stands at every path."""

    PATHS = ("/health/live", "/health/ready", "/metrics")

    def __init__(self, vitals: Vitals, registry: CollectorRegistry, now: Callable[[], float]) -> None:
        self._vitals, self._registry, self._now = vitals, registry, now

    def page(self, path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, content type and body of a path."""
        if path == "/health/live":
            return self._health("live", self._vitals.ailments(self._now()))
        if path == "/health/ready":
            return self._health("ready", self._vitals.hindrances(self._now()))
        if path == "/metrics":
            encode, kind = choose_encoder(accept)
            return HTTPStatus.OK, kind, encode(self._registry)
        return HTTPStatus.NOT_FOUND, _TEXT, f"not found; there are {', '.join(self.PATHS)}\n".encode()

    @staticmethod
    def _health(word: str, reasons: list[str]) -> tuple[HTTPStatus, str, bytes]:
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        body = msgspec.json.encode({word: not reasons, "reasons": reasons})
        return status, "application/json", body + b"\n"


_TEXT = "text/plain; charset=utf-8"


class _Handler(BaseHTTPRequestHandler):
    """One request of one connection."""

    server: "_HealthServer"
    # Of a single read; the server's own sweep ends a client that sends a byte now and then.
    timeout = CONNECTION_S

    def do_GET(self) -> None:
        """Answer with the page."""
        try:
            status, kind, body = self.server.pages.page(urlsplit(self.path).path, self.headers.get("Accept", ""))
        except Exception:
            # A state that cannot be asked for costs this reader its page and nobody anything else.
            log.exception("health: %s cannot be answered", self.path)
            status, kind, body = HTTPStatus.INTERNAL_SERVER_ERROR, _TEXT, b"cannot be answered; see the log\n"
        self._answer(status, kind, body)

    do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse in one plain line, where the library would send a page."""
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:
            status, message = HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are answered"
        self._answer(status, _TEXT, f"{message or status.phrase}\n".encode())

    def version_string(self) -> str:
        """The Server header: the name, and no versions to look weaknesses up by."""
        return "quantum-trader"

    def log_message(self, format: str, *args: Any) -> None:
        """A probe every few seconds is nothing for the log."""
        log.debug("health: %s", format % args)

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _HealthServer(socketserver.ThreadingMixIn, HTTPServer):
    """Binds at once; a thread for each of a few connections, each closed after a few seconds."""

    daemon_threads = True
    block_on_close = False
    # The library's five are fewer than CONNECTIONS: the sixth of a burst would wait a second for its answer.
    request_queue_size = 2 * CONNECTIONS

    def __init__(self, address: str, pages: _Pages) -> None:
        host, port = parse_address(address)
        self.pages = pages
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        try:
            found: Any = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self.address_family = found[0]
            super().__init__(found[4], _Handler)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"setting health_address: {address} cannot be taken ({reason}); name a free HOST:PORT of this machine, "
                "or nothing for no health server"
            ) from error
        bound, taken = self.server_address[:2]
        bound = str(bound)
        self.where = f"[{bound}]:{taken}" if ":" in bound else f"{bound}:{taken}"
        if not ipaddress.ip_address(bound.partition("%")[0]).is_loopback:
            log.warning(
                "health and metrics on %s can be read from other machines: nobody is asked for a password", bound
            )

    def server_bind(self) -> None:
        """Bind without the library's look-up of the host's name, which can hang for as long as a name server does."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to a thread of its own, if not too many are open."""
        with self._lock:
            full = len(self._open) >= CONNECTIONS
            if not full:
                self._open[request] = time.monotonic() + CONNECTION_S
        if full:
            super().shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that was answered."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called by the library a few times a second: end what is open for too long."""
        self.end_connections(time.monotonic())

    def end_connections(self, due: float = float("inf")) -> None:
        """Shut every connection down whose time is over at `due`; its thread then ends by itself."""
        with self._lock:
            for request in [request for request, end in self._open.items() if end <= due]:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours."""
        log.debug("health: a connection from %s broke off", client_address, exc_info=True)


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` or ``[IPV6]:PORT``.

    Raises:
        ConfigError: if it is neither.

    >>> parse_address("[::1]:9464")
    ('::1', 9464)
    """
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not bare or (":" in bare) != bracketed or not (port.isdecimal() and port.isascii() and int(port) <= 65_535):
        raise ConfigError(
            f"setting health_address: {address!r} is not HOST:PORT, for example 127.0.0.1:9464 or [::1]:9464"
        )
    return bare, int(port)

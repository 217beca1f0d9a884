"""Liveness and readiness by the loop's own word, over real sockets, against clients that misbehave."""

import contextlib
import http.client
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from quantum_trader.core.errors import ConfigError
from quantum_trader.engine import health
from quantum_trader.engine.health import BUS_LIMIT_S, LOOP_LIMIT_S, Vitals, parse_address, serve_health

ANY = "127.0.0.1:0"


class TestVitals:
    def test_begin_live_and_not_ready(self) -> None:
        vitals = Vitals(100.0)
        assert vitals.ailments(100.0) == []
        assert vitals.hindrances(100.0) == ["starting"]

    def test_ready_is_the_services_word(self) -> None:
        vitals = Vitals(100.0)
        vitals.ready()
        assert vitals.hindrances(100.0) == []
        vitals.not_ready("the lease is held by engine-2")
        assert vitals.hindrances(100.0) == ["the lease is held by engine-2"]
        assert vitals.ailments(100.0) == []
        vitals.not_ready("")
        assert vitals.hindrances(100.0) == ["no reason was given"]

    def test_a_loop_that_does_not_turn_is_neither(self) -> None:
        vitals = Vitals(100.0)
        vitals.ready()
        vitals.bus_answered(131.0)
        assert vitals.ailments(100.0 + LOOP_LIMIT_S) == []
        assert vitals.ailments(131.0) == ["the loop has not turned for 31.0 s; the limit is 30 s"]
        assert vitals.hindrances(131.0) == vitals.ailments(131.0)
        vitals.turned(131.0)
        assert vitals.hindrances(131.0) == []

    def test_a_silent_bus_is_live_and_not_ready(self) -> None:
        vitals = Vitals(100.0)
        vitals.ready()
        vitals.turned(120.0)
        assert vitals.ailments(120.0) == []
        assert vitals.hindrances(120.0) == ["the stream server has not answered for 20.0 s; the limit is 15 s"]
        vitals.bus_answered(119.0)
        assert vitals.hindrances(120.0) == []

    @given(st.floats(0, 100), st.floats(0, 100), st.booleans(), st.floats(0.1, 50), st.floats(0.1, 50))
    def test_ready_is_never_without_live(
        self, turned: float, answered: float, said: bool, loop_limit: float, bus_limit: float
    ) -> None:
        vitals = Vitals(0.0, loop_limit, bus_limit)
        vitals.turned(turned)
        vitals.bus_answered(answered)
        if said:
            vitals.ready()
        ready = not vitals.hindrances(100.0)
        assert ready == (said and 100.0 - turned <= loop_limit and 100.0 - answered <= bus_limit)
        assert not ready or not vitals.ailments(100.0)

    def test_the_limits_let_a_commit_be_repeated(self) -> None:
        assert 0 < BUS_LIMIT_S < LOOP_LIMIT_S


@dataclass
class Engine:
    """What stands behind the server: the loop's word, its clock, and a counter."""

    vitals: Vitals
    registry: CollectorRegistry
    now: float = 100.0
    where: str = ""

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        host, _, port = self.where.rpartition(":")
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=20)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def raw(self, sent: bytes) -> bytes:
        """Everything the server says to these bytes until it hangs up."""
        with self.connect() as connection:
            connection.sendall(sent)
            chunks = []
            with contextlib.suppress(ConnectionResetError):
                while chunk := connection.recv(65_536):
                    chunks.append(chunk)
            return b"".join(chunks)

    def connect(self) -> socket.socket:
        host, _, port = self.where.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=20)


@contextlib.contextmanager
def serving(address: str = ANY) -> Iterator[Engine]:
    engine = Engine(Vitals(100.0), CollectorRegistry())
    Counter("quantum_tests", "Of the tests.", registry=engine.registry).inc(3)
    with serve_health(address, engine.vitals, engine.registry, now=lambda: engine.now) as engine.where:
        yield engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    with serving() as engine:
        yield engine


class TestPages:
    def test_live(self, engine: Engine) -> None:
        response, body = engine.ask("/health/live")
        assert (response.status, json.loads(body)) == (200, {"live": True, "reasons": []})
        engine.now = 131.0
        response, body = engine.ask("/health/live")
        assert response.status == 503
        assert json.loads(body) == {"live": False, "reasons": ["the loop has not turned for 31.0 s; the limit is 30 s"]}

    def test_ready(self, engine: Engine) -> None:
        response, body = engine.ask("/health/ready")
        assert (response.status, json.loads(body)) == (503, {"ready": False, "reasons": ["starting"]})
        engine.vitals.ready()
        response, body = engine.ask("/health/ready")
        assert (response.status, json.loads(body)) == (200, {"ready": True, "reasons": []})
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "no-store"

    def test_metrics_as_prometheus_asks_for_them(self, engine: Engine) -> None:
        response, body = engine.ask("/metrics")
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b"quantum_tests_total 3.0" in body
        response, body = engine.ask("/metrics", Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert body.endswith(b"# EOF\n")

    def test_a_query_belongs_to_no_path(self, engine: Engine) -> None:
        assert engine.ask("/health/live?verbose=1")[0].status == 200

    def test_head_is_get_without_a_body(self, engine: Engine) -> None:
        for path in ("/health/live", "/health/ready", "/metrics", "/nothing"):
            got, body = engine.ask(path)
            head, nothing = engine.ask(path, "HEAD")
            assert (head.status, nothing) == (got.status, b"")
            assert int(got.headers["Content-Length"]) == len(body)
            if path != "/metrics":
                assert head.headers["Content-Length"] == got.headers["Content-Length"]

    def test_no_version_is_given_away(self, engine: Engine) -> None:
        assert engine.ask("/health/live")[0].headers["Server"] == "quantum-trader"


class TestRefusals:
    @pytest.mark.parametrize(
        "path", ["/", "/health", "/health/live/", "/../../etc/passwd", "/metrics%00", "/%0d%0aX:1"]
    )
    def test_another_path_is_not_found(self, engine: Engine, path: str) -> None:
        response, body = engine.ask(path)
        assert (response.status, body) == (404, b"not found; there are /health/live, /health/ready, /metrics\n")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
    def test_another_method_is_refused_in_a_line(self, engine: Engine, method: str) -> None:
        response, body = engine.ask("/health/live", method)
        assert (response.status, body) == (405, b"only GET and HEAD are answered\n")
        assert response.headers["Allow"] == "GET, HEAD"

    @pytest.mark.parametrize(
        "sent",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
            b"GET http://[::1 HTTP/1.1\r\n\r\n",
            b"",
        ],
        ids=["tls", "version", "short", "long", "headers", "url", "nothing"],
    )
    def test_what_is_no_request_ends_and_hurts_nobody(self, engine: Engine, sent: bytes) -> None:
        with engine.connect() as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            said = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := connection.recv(65_536):
                    said += chunk
        assert b"Traceback" not in said
        assert b"<html" not in said.lower()
        assert engine.ask("/health/live")[0].status == 200

    def test_a_state_that_cannot_be_asked_for_costs_the_reader_its_page(
        self, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken(Collector):
            def collect(self) -> Iterator[Metric]:
                raise RuntimeError("no such shadow")

            def describe(self) -> Iterator[Metric]:
                return iter(())

        engine.registry.register(Broken())
        response, body = engine.ask("/metrics")
        assert (response.status, body) == (500, b"cannot be answered; see the log\n")
        assert "no such shadow" in caplog.text
        assert engine.ask("/health/live")[0].status == 200


class TestSlowClients:
    def test_are_ended_and_their_places_are_free_again(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health, "CONNECTION_S", 1.0)
        slow = [engine.connect() for _ in range(health.CONNECTIONS)]
        ended = threading.Event()

        def drip() -> None:
            # A byte now and then keeps a timeout of single reads from ever ending.
            with contextlib.suppress(OSError):
                while not ended.wait(0.1):
                    slow[0].sendall(b"G")

        with ThreadPoolExecutor(1) as pool:
            pool.submit(drip)
            try:
                for connection in slow:
                    with contextlib.suppress(ConnectionResetError):
                        assert connection.recv(4096) == b""
            finally:
                ended.set()
        for connection in slow:
            connection.close()
        end = time.monotonic() + 20
        status = 0
        while status != 200 and time.monotonic() < end:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                status = engine.ask("/health/live")[0].status
        assert status == 200

    def test_beyond_the_few_are_closed_unanswered(self, engine: Engine) -> None:
        slow = [engine.connect() for _ in range(health.CONNECTIONS)]
        assert engine.raw(b"GET /health/live HTTP/1.1\r\n\r\n") == b""
        for connection in slow:
            connection.close()

    def test_do_not_hold_up_the_end(self) -> None:
        with serving() as engine:
            idle = engine.connect()
            idle.sendall(b"GET /metr")
            assert engine.ask("/health/live")[0].status == 200
        with contextlib.suppress(ConnectionResetError):
            assert idle.recv(4096) == b""
        idle.close()
        assert not [thread for thread in threading.enumerate() if thread.name == "health"]

    def test_many_readers_at_once_are_answered_or_closed(self, engine: Engine) -> None:
        def ask(_: int) -> int:
            try:
                return engine.ask("/metrics")[0].status
            except (ConnectionError, http.client.HTTPException):
                return 0

        with ThreadPoolExecutor(16) as pool:
            statuses = list(pool.map(ask, range(200)))
        assert set(statuses) <= {0, 200}
        assert 200 in statuses


class TestTheAddress:
    @pytest.mark.parametrize(
        ("address", "expected"),
        [
            ("127.0.0.1:9464", ("127.0.0.1", 9464)),
            ("[::1]:9464", ("::1", 9464)),
            ("localhost:0", ("localhost", 0)),
            ("0.0.0.0:80", ("0.0.0.0", 80)),  # noqa: S104
        ],
    )
    def test_is_host_and_port(self, address: str, expected: tuple[str, int]) -> None:
        assert parse_address(address) == expected

    @pytest.mark.parametrize(
        "address",
        ["9464", ":9464", "127.0.0.1", "127.0.0.1:", "::1:9464", "[::1]", "[]:1", "a:65536", "a:-1", "a:٣", " "],
    )
    def test_that_is_neither_is_one_line_with_the_rule(self, address: str) -> None:
        with pytest.raises(ConfigError) as caught, serving(address):
            pass
        assert "is not HOST:PORT" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_that_is_taken_is_one_line_with_the_address(self, engine: Engine) -> None:
        with pytest.raises(ConfigError) as caught, serving(engine.where):
            pass
        assert str(caught.value) == (
            f"setting health_address: {engine.where} cannot be taken (Address already in use); "
            "name a free HOST:PORT of this machine, or nothing for no health server"
        )

    @pytest.mark.parametrize("address", ["192.0.2.1:9464", "no-such-host.invalid:9464", f"{'a' * 70}.invalid:1"])
    def test_of_another_machine_cannot_be_taken(self, address: str) -> None:
        with pytest.raises(ConfigError, match="cannot be taken"), serving(address):
            pass

    def test_is_free_again_at_once(self) -> None:
        with serving() as engine:
            engine.ask("/health/live")
            address = engine.where
        with serving(address) as engine:
            assert engine.where == address
            assert engine.ask("/health/live")[0].status == 200

    def test_empty_is_no_server(self) -> None:
        before = threading.active_count()
        with serving("") as engine:
            assert engine.where == ""
            assert threading.active_count() == before

    def test_of_ip_6(self) -> None:
        if not socket.has_ipv6:
            pytest.skip("no IPv6 here")
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 loopback here")
        with serving("[::1]:0") as engine:
            assert engine.where.startswith("[::1]:")
            assert engine.ask("/health/live")[0].status == 200

    def test_of_every_interface_is_taken_with_a_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        with serving("0.0.0.0:0") as engine:
            assert engine.ask("/health/live")[0].status == 200
        assert "can be read from other machines" in caplog.text

    def test_of_loopback_is_taken_without_one(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        with serving():
            pass
        assert caplog.text == ""


def test_a_connection_is_not_inherited_by_a_child_process(engine: Engine) -> None:
    port = int(engine.where.rpartition(":")[2])
    code = (
        "import psutil, sys; "
        "sys.exit(any(c.laddr and c.laddr.port == int(sys.argv[1]) for c in psutil.Process().net_connections()))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(port)], check=False).returncode == 0

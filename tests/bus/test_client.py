import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from quantum_trader.bus.client import Durability, connect, durability, ping_or_raise, redact
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.session import Session, require_stream
from quantum_trader.core.errors import BusError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "data") as running:
        yield running


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:hunter2@h:1/0", "redis://:***@h:1/0"),
        ("rediss://qt:hunter2@h:6380/0?ssl_password=hunter2&db=1", "rediss://qt:***@h:6380/0?ssl_password=***&db=1"),
        ("redis://qt:hunter2@hunter2@h/0", "redis://qt:***@h/0"),
        ("unix:///run/valkey.sock?Password=hunter2", "unix:///run/valkey.sock?Password=***"),
    ],
)
def test_redact_hides_every_password(url: str, shown: str) -> None:
    assert redact(url) == shown
    assert "hunter2" not in redact(url)


@pytest.mark.parametrize("url", ["http://qt:hunter2@h:1", "hunter2", "redis://qt:hunter2@[h:1", "redis://h:port/0"])
def test_unreadable_url_is_one_line_without_the_password(url: str) -> None:
    with pytest.raises(BusError) as caught:
        ping_or_raise(connect(url))
    assert "qt:hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_server_is_one_line_that_names_it() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(BusError, match=f"stream server 127.0.0.1:{port}: no answer to PING: ") as caught:
            ping_or_raise(connect(f"redis://qt:hunter2@127.0.0.1:{port}/0"))
        assert "hunter2" not in str(caught.value)
        with pytest.raises(BusError):
            durability(connect(f"redis://127.0.0.1:{port}/0"))


def test_wrong_password_is_refused_and_the_right_one_works(server: EmbeddedServer) -> None:
    admin = connect(server.url)
    admin.acl_setuser("qt", enabled=True, passwords=["+hunter2"], commands=["+@all"], keys=["quantum:*"])
    port = admin.connection_pool.connection_kwargs["port"]
    ping_or_raise(connect(f"redis://qt:hunter2@127.0.0.1:{port}/0"))
    with pytest.raises(BusError) as caught:
        ping_or_raise(connect(f"redis://qt:wrong-guess@127.0.0.1:{port}/0"))
    assert "wrong-guess" not in str(caught.value)
    limited = Session(connect(f"redis://qt:hunter2@127.0.0.1:{port}/0"))
    with pytest.raises(BusError, match=r"reading: .*permission"):
        limited.persist("reading", lambda: limited.one("GET", "other"))


@pytest.mark.parametrize(
    ("appendonly", "appendfsync", "expected"),
    [
        ("yes", "always", Durability.ALWAYS),
        ("yes", "everysec", Durability.WAITAOF),
        ("no", "always", Durability.NONE),
        ("yes", "no", Durability.NONE),
    ],
)
def test_durability_says_what_the_server_does(
    server: EmbeddedServer,
    caplog: pytest.LogCaptureFixture,
    appendonly: str,
    appendfsync: str,
    expected: Durability,
) -> None:
    client = connect(server.url)
    client.config_set("appendonly", appendonly)
    client.config_set("appendfsync", appendfsync)
    client.set("something", "written")
    with caplog.at_level(logging.WARNING):
        assert durability(client) is expected
    assert ("can be lost" in caplog.text) is (expected is Durability.NONE)


def test_durability_is_found_without_the_right_to_read_the_configuration(server: EmbeddedServer) -> None:
    admin = connect(server.url)
    admin.acl_setuser("qt", enabled=True, nopass=True, commands=["+@all", "-config"], keys=["*"])
    port = admin.connection_pool.connection_kwargs["port"]
    assert durability(connect(f"redis://qt:x@127.0.0.1:{port}/0")) is Durability.WAITAOF


def test_session_reads_every_reply_before_it_raises(server: EmbeddedServer) -> None:
    session = Session(connect(server.url))
    session.one("SET", "text", "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        session.call(("XLEN", "text"), ("SET", "text", "y"))
    assert session.call(("GET", "text"), ("PING",)) == [b"y", b"PONG"]
    with pytest.raises(BusError, match="key text holds a string, not a stream"):
        require_stream(session, "missing", "text")
    session.close()

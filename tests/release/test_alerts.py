"""Alerts go out by a real service module to a real server, and never show an address."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from quantum_trader.release.alerts import alert, is_news


class Inbox(HTTPServer):
    def __init__(self) -> None:
        self.got: list[dict[str, str]] = []
        self.status = 200
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:apprise")
def test_everybody_is_told_whoever_cannot_be_and_no_address_is_shown(
    inbox: Inbox, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    good = f"json://user:secret-word@127.0.0.1:{inbox.server_port}/"
    problems = alert(["nonsense://secret-word@x", "secret-word", good], "patchtst: DEMOTE", "it broke")
    assert [(said["title"], said["message"]) for said in inbox.got] == [("patchtst: DEMOTE", "it broke")]
    assert problems == [
        "alert address 1 (nonsense) is none that apprise knows",
        "alert address 2 (no scheme) is none that apprise knows",
    ]
    inbox.status = 500
    assert alert([good], "a", "b") == ["alert address 1 (json) did not take it"]
    said = capfd.readouterr()
    assert "secret-word" not in said.out + said.err + caplog.text + "".join(problems)


def test_nobody_to_tell_is_no_problem() -> None:
    assert alert([], "a", "b") == []


def test_only_another_state_is_news(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    said = [
        is_news(ledger, model, state) for model, state in [("a", "x"), ("a", "x"), ("b", "x"), ("a", "y"), ("a", "x")]
    ]
    assert said == [True, False, True, True, True]

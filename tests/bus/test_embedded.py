import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from quantum_trader.bus.client import connect, ping_or_raise
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.core.errors import BusError

OWNER = """
import sys, time
from pathlib import Path
from quantum_trader.bus.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
server.start()
try:
    print(server.url, server.pid, server.owned, flush=True)
    time.sleep(float(sys.argv[2]))
except KeyboardInterrupt:
    from quantum_trader.bus.client import connect
    connect(server.url).set("last-word", "said")
"""


def owner(folder: Path, seconds: float = 60.0) -> tuple["subprocess.Popen[str]", str, int]:
    """Another program with its server in `folder`: the program, the server's URL and process id."""
    program = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    url, pid, owned = program.stdout.readline().split()
    program.stdout.close()
    assert owned == "True"
    return program, url, int(pid)


def eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_data_survive_kill_9_and_a_clean_stop_at_the_same_address(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with spaces"
    server = EmbeddedServer(folder)
    url = server.start()
    client = connect(url)
    for i in range(200):
        client.xadd("s", {"i": i})
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert server.start() == url
    assert client.xlen("s") == 200
    server.stop()
    assert server.pid is None
    with pytest.raises(BusError, match="no answer"):
        ping_or_raise(client)
    with EmbeddedServer(folder) as again:
        assert again.url == url
        assert client.xlen("s") == 200
        settings = client.config_get("append*")
        assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "always")
        assert client.config_get("bind")["bind"] == "127.0.0.1"


def test_starting_twice_changes_nothing_and_stopping_twice_neither(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    assert server.start() == server.start()
    pid = server.pid
    second = EmbeddedServer(tmp_path)
    assert second.start() == server.url
    assert (second.pid, second.owned) == (pid, False)
    second.stop()
    ping_or_raise(connect(server.url))
    server.stop()
    server.stop()
    with pytest.raises(BusError, match="not started"):
        _ = server.url


def test_server_of_a_killed_owner_is_adopted(tmp_path: Path) -> None:
    program, url, pid = owner(tmp_path)
    connect(url).set("k", "v")
    program.kill()
    program.wait()
    assert running(pid)
    with EmbeddedServer(tmp_path) as server:
        assert (server.url, server.pid, server.owned) == (url, pid, True)
        assert connect(url).get("k") == b"v"
    assert not running(pid)


def test_server_of_a_killed_owner_with_other_settings_is_replaced(tmp_path: Path) -> None:
    program, url, pid = owner(tmp_path)
    connect(url).set("k", "v")
    program.kill()
    program.wait()
    with EmbeddedServer(tmp_path, appendfsync="everysec") as server:
        assert server.pid != pid
        assert not running(pid)
        assert connect(server.url).get("k") == b"v"


def test_server_of_a_living_owner_is_used_and_left_alone(tmp_path: Path) -> None:
    program, url, pid = owner(tmp_path)
    try:
        with EmbeddedServer(tmp_path) as guest:
            assert (guest.url, guest.owned) == (url, False)
        assert running(pid)
        with pytest.raises(BusError, match=f"other settings for process {program.pid}"):
            EmbeddedServer(tmp_path, appendfsync="everysec").start()
        assert running(pid)
    finally:
        program.send_signal(signal.SIGINT)
        program.wait()
    eventually(lambda: not running(pid))


def test_ctrl_c_reaches_the_owner_and_the_server_ends_last(tmp_path: Path) -> None:
    program, _, pid = owner(tmp_path)
    os.killpg(program.pid, signal.SIGINT)
    assert program.wait() == 0
    eventually(lambda: not running(pid))
    with EmbeddedServer(tmp_path) as server:
        assert connect(server.url).get("last-word") == b"said"


def test_normal_exit_of_the_owner_stops_the_server(tmp_path: Path) -> None:
    program, _, pid = owner(tmp_path, seconds=0.0)
    assert program.wait() == 0
    eventually(lambda: not running(pid))


def test_many_programs_at_once_start_one_server(tmp_path: Path) -> None:
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", OWNER, str(tmp_path), "30"],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for _ in range(4)
    ]
    lines = []
    for program in programs:
        assert program.stdout is not None
        lines.append(program.stdout.readline().split())
        program.stdout.close()
    assert len({(url, pid) for url, pid, _ in lines}) == 1
    assert sorted(owned for _, _, owned in lines) == ["False", "False", "False", "True"]
    for program in programs:
        program.kill()
        program.wait()
    with EmbeddedServer(tmp_path) as server:
        assert server.pid == int(lines[0][1])


def test_stale_pid_file_of_a_foreign_process_harms_nobody(tmp_path: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], cwd=tmp_path)
    try:
        (tmp_path / "server.pid").write_text(f"{bystander.pid}\n")
        (tmp_path / "server.json").write_text("{half a line")
        with EmbeddedServer(tmp_path) as server:
            ping_or_raise(connect(server.url))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_taken_port_and_unknown_setting_are_one_clear_line(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "a") as first:
        port = connect(first.url).connection_pool.connection_kwargs["port"]
        with pytest.raises(BusError, match=f"port {port} of 127.0.0.1 is taken"):
            EmbeddedServer(tmp_path / "b", port=port).start()
        ping_or_raise(connect(first.url))
    with pytest.raises(BusError, match="appendfsync 'sometimes'"):
        EmbeddedServer(tmp_path, appendfsync="sometimes")
    (tmp_path / "file").write_text("")
    with pytest.raises(BusError, match="embedded server in"):
        EmbeddedServer(tmp_path / "file").start()
    folder = tmp_path / "broken"
    (folder / "appendonlydir").mkdir(parents=True)
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(BusError, match="ended while starting"):
        EmbeddedServer(folder).start()

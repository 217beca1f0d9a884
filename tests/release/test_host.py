import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from quantum_trader.core.errors import HostError
from quantum_trader.release.host import Host, LocalHost, SshAddress, SshHost, check_clock

OTHER_END = """
import os, sys
# What sshd does with the words after the host: it gives them to a shell as one line.
if "-O" in sys.argv:
    sys.exit(0)
line = sys.argv[sys.argv.index("--") + 2]
os.execv("/bin/sh", ["sh", "-c", line])
"""


@pytest.fixture(params=["local", "ssh"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    if request.param == "local":
        yield LocalHost(sys.executable)
        return
    program = tmp_path / "other_end.py"
    program.write_text(OTHER_END)
    found = SshHost(SshAddress("vps", "root", ssh=(sys.executable, str(program))), sys.executable)
    yield found
    found.close()


NASTY = ["", " ", "a b", "$HOME", "`id`", "'", '"', "a;b", "\n", "*", "\\", "ä", "-x", "&&", "> f"]


def test_every_word_arrives_as_it_was_given(host: Host) -> None:
    program = "import json, sys; print(json.dumps(sys.argv[1:]))"
    import json

    assert json.loads(host.run([sys.executable, "-c", program, *NASTY]).out) == NASTY


def test_a_file_arrives_whole_with_its_mode(host: Host, tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    source, target = tmp_path / "source", PurePosixPath(str(tmp_path / "target"))
    source.write_bytes(content)
    for given in (content, source):
        assert host.put(given, target, 0o640) == hashlib.sha256(content).hexdigest()
        assert host.read(target) == content
        what = host.stat(target)
        assert what is not None
        assert (what.kind, what.size, what.mode) == ("file", len(content), 0o640)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_what_is_there_and_what_is_not(host: Host, tmp_path: Path) -> None:
    here = PurePosixPath(str(tmp_path))
    (tmp_path / "link").symlink_to("nowhere")
    assert not host.exists(here / "none")
    assert host.stat(here / "none" / "below") is None
    assert host.stat(here / "link").kind == "link"  # type: ignore[union-attr]
    assert "link" in host.names(here)
    assert host.free_bytes(here) > 0
    with pytest.raises(HostError, match="ended with 1"):
        host.read(here / "link")


def test_the_same_file_of_every_folder_comes_in_one_call(host: Host, tmp_path: Path) -> None:
    here = PurePosixPath(str(tmp_path))
    for name in ("a", "b", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "m").write_bytes(bytes(range(256)))
    (tmp_path / "b" / "m").symlink_to(tmp_path / "a" / "m")
    (tmp_path / "file").write_text("")
    assert host.read_each(here, "m") == {"a": bytes(range(256))}
    assert host.read_each(here / "none", "m") == {}


def test_an_exit_code_and_the_last_line_are_told(host: Host) -> None:
    program = "import sys; sys.exit('first\\nlast')"
    with pytest.raises(HostError, match=r"ended with 1: last$"):
        host.run([sys.executable, "-c", program])
    assert host.run([sys.executable, "-c", program], check=False).code == 1


def test_a_silent_command_is_given_up(host: Host) -> None:
    with pytest.raises(HostError, match=r"no answer within 0\.3 s"):
        host.run([sys.executable, "-c", "import time; time.sleep(30)"], timeout_s=0.3)


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/a b", "/a;b", "/a\n", "/$HOME", "/a\0"])
def test_a_path_that_is_not_plain_is_refused(host: Host, path: str) -> None:
    with pytest.raises(HostError, match="expected an absolute path"):
        host.read(PurePosixPath(path))


def test_a_clock_that_differs_is_refused(host: Host) -> None:
    check_clock(host, host.clock_us)
    for off in (6_000_000, -6_000_000):
        with pytest.raises(HostError, match=r"its clock differs by [56]\.\d s, 5 s at most"):
            check_clock(host, lambda off=off: host.clock_us() + off)  # type: ignore[misc]


def test_a_host_that_is_not_reached_is_one_sentence(tmp_path: Path) -> None:
    host = SshHost(SshAddress("127.0.0.1", "root", port=1, known_hosts=tmp_path / "none"))
    try:
        with pytest.raises(HostError, match=r"^host root@127\.0\.0\.1: no connection, or it was lost \(") as refusal:
            host.run(["true"])
        assert "\n" not in str(refusal.value)
    finally:
        host.close()


@pytest.mark.parametrize(
    ("name", "user"), [("-oProxyCommand=x", ""), ("a b", ""), ("", ""), ("vps", "-x"), ("vps", "a;b")]
)
def test_a_name_that_could_be_an_option_or_a_command_is_refused(name: str, user: str) -> None:
    with pytest.raises(HostError):
        SshAddress(name, user)


def test_the_hosts_key_has_to_be_known(tmp_path: Path) -> None:
    argv = SshAddress("vps", known_hosts=tmp_path / "k", identity=tmp_path / "i").argv(tmp_path)
    assert "StrictHostKeyChecking=yes" in argv
    assert "BatchMode=yes" in argv
    assert f"UserKnownHostsFile={tmp_path / 'k'}" in argv

"""The whole story on a real host: bare Debian to deciding engine, faults of the night, a release by the real commands.

One test in stages, since each stage needs the one before; the times are printed at the end.
"""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.host.guest import ENGINE, ENV_FILE, NAME, SCRIPT, Guest, booted, script, why_not
from tests.host.releases import release_story
from tests.host.transcript import Transcript

UNITS = (ENGINE, "quantum-redis.service", "quantum-archive.service")
BARS = 530
SYMBOLS = 5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "a host can be booted"),
]


def test_story(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transcript = Transcript(
        Path(os.environ.get("STORY_FILE") or tmp_path / "story.md"), [(f"{tmp_path}/", ""), (NAME, "vps")]
    )
    with booted(tmp_path) as guest:
        guest.prepare()
        stage_init(guest)
        stage_nothing_secret_is_readable(guest)
        stage_units(guest)
        stage_decides_in_its_unit(guest)
        stage_control_group(guest)
        stage_watchdog(guest)
        stage_cut_log(guest)
        transcript.secrets.append(secret(guest))
        release_story(guest, transcript)
        stage_reboot(guest)
        assert "no permissions" not in guest.run("journalctl", "--no-pager", "-o", "cat")
        transcript.table(guest.times)
        with capsys.disabled():
            print("\n" + "\n".join(f"{seconds:7.1f} s  {what}" for what, seconds in guest.times))


def test_interrupted_boot_leaves_nothing() -> None:
    script("build")
    for delay_s, number in ((0.3, signal.SIGINT), (1.0, signal.SIGTERM)):
        process = subprocess.Popen(
            [SCRIPT, "up"],
            env={**os.environ, "QUANTUM_TEST_HOST_NAME": NAME},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(delay_s)
        os.killpg(process.pid, number)
        process.wait(400)
        # A boot that was faster than the signal is a host that is up.
        script("down")
        assert script("left", check=False).stdout == ""


def stage_init(guest: Guest) -> None:
    """Looked at, made, and made again without a change."""
    looked = guest.init("--dry-run")
    assert looked.returncode == 0, looked.stderr
    assert "to do    user qt" in looked.stdout
    assert guest.run("getent", "passwd", "qt", check=False) == ""
    with guest.timed("quantum host init on a bare host"):
        made = guest.init()
    assert made.returncode == 0, made.stdout + made.stderr
    before = guest.show(ENGINE, "MainPID")
    with guest.timed("quantum host init again"):
        again = guest.init()
    assert again.returncode == 0, again.stderr
    assert "nothing was changed" in again.stdout
    assert guest.show(ENGINE, "MainPID") == before
    password = secret(guest)
    assert password not in looked.stdout + made.stdout + made.stderr + again.stdout


def stage_nothing_secret_is_readable(guest: Guest) -> None:
    """The password is the engine's and root's, and the server's user has no rights beyond its keys."""
    other = ("runuser", "-u", "nobody", "--")
    assert guest.run(*other, "cat", ENV_FILE, check=False) == ""
    assert guest.run(*other, "cat", "/etc/quantum/redis-users.acl", check=False) == ""
    client = ("redis-cli", "-p", "6390", "--no-auth-warning")
    assert "NOAUTH" in guest.run(*client, "PING", check=False)
    engine = (*client, "--user", "engine", "-a", secret(guest))
    assert guest.run(*engine, "PING") == "PONG"
    for refused in (("SET", "other:key", "1"), ("FLUSHALL",), ("CONFIG", "SET", "appendonly", "no"), ("KEYS", "*")):
        assert "NOPERM" in guest.run(*engine, *refused, check=False)
    assert guest.run(*engine, "CONFIG", "GET", "appendfsync").split() == ["appendfsync", "always"]


def stage_units(guest: Guest) -> None:
    """Exposure as systemd itself counts it."""
    for unit in UNITS:
        # The threshold is ten times the exposure; anything above it is another exit code.
        guest.run("systemd-analyze", "security", "--offline=true", "--threshold=15", f"/etc/systemd/system/{unit}")
    assert guest.show(ENGINE, "Type", "NotifyAccess", "WatchdogUSec", "User", "ActiveState", "StatusText") == [
        "notify",
        "main",
        "1min",
        "qt",
        "active",
        "deciding",
    ]


def stage_decides_in_its_unit(guest: Guest) -> None:
    """Real bars through the hardened unit: every bar decided, the shadow beside it, every decision archived."""
    guest.run("quantum", "simulate-data", "--bars", str(BARS), "--out", "/root/bars.parquet")
    with guest.timed(f"{BARS} bars of {SYMBOLS} symbols fed and decided"):
        feed(guest)
        wait_for_decisions(guest, (BARS - 511) * SYMBOLS)
    accounting = guest.status()["accounting"]
    assert all(model["adds_up"] for model in accounting["models"])
    shadow = next(model for model in accounting["models"] if model["role"] == "shadow")
    assert shadow["ok"] + shadow["late"] == accounting["decisions"]
    log = guest.journal(ENGINE)
    assert "cpuinfo" not in log
    cage = next(line for line in log.splitlines() if "cage of shadow patchtst" in line)
    assert "nice 10" in cage
    assert "not on the deciding processor" in cage
    assert re.search(r"Landlock \d", cage)


def stage_control_group(guest: Guest) -> None:
    """The delegated part of the tree is the engine's; with controllers, the shadow's leaf has limits."""
    root = f"/sys/fs/cgroup/system.slice/{ENGINE}"
    engine = guest.show(ENGINE, "MainPID", "Delegate")
    assert engine[1] == "yes"
    assert engine[0] in guest.run("cat", f"{root}/engine/cgroup.procs").split()
    known = set(guest.run("cat", "/sys/fs/cgroup/cgroup.controllers").split())
    if not known & {"cpu", "memory", "pids"}:
        guest.times.append((f"control groups: this kernel gives version 2 only [{' '.join(known)}]; not tried", 0.0))
        return
    leaves = [name for name in guest.run("ls", root).split() if "shadow" in name]
    assert leaves
    if "memory" in known:
        assert guest.run("cat", f"{root}/{leaves[0]}/memory.max") == str(2048 * 2**20)


def stage_watchdog(guest: Guest) -> None:
    """An engine that hangs is ended and started again; one that is killed too."""
    pid, restarts = guest.show(ENGINE, "MainPID", "NRestarts")
    guest.run("install", "-d", "/run/systemd/system/quantum-ai-engine.service.d")
    guest.run("sh", "-c", f"printf '[Service]\\nWatchdogSec=4\\n' > /run/systemd/system/{ENGINE}.d/quick.conf")
    guest.run("systemctl", "daemon-reload")
    guest.run("systemctl", "restart", ENGINE)
    pid = guest.show(ENGINE, "MainPID")[0]
    guest.run("kill", "-STOP", pid)
    with guest.timed("a hung engine ended by the watchdog of 4 s and deciding again"):
        wait_restarted(guest, pid)
    assert "Watchdog timeout" in guest.run("journalctl", "--no-pager", "-u", ENGINE)
    guest.run("rm", f"/run/systemd/system/{ENGINE}.d/quick.conf")
    guest.run("systemctl", "daemon-reload")
    guest.run("systemctl", "restart", ENGINE)
    pid = guest.show(ENGINE, "MainPID")[0]
    with guest.timed("a killed engine deciding again (RestartSec=2)"):
        guest.run("kill", "-KILL", pid)
        wait_restarted(guest, pid)
    assert restarts == "0"


def stage_cut_log(guest: Guest) -> None:
    """A log that was cut inside a transaction is mended before the server reads it, and nothing else is lost."""
    before = guest.status()["accounting"]["decisions"]
    guest.run("systemctl", "stop", ENGINE, "quantum-archive.service", "quantum-redis.service")
    log = guest.run("sh", "-c", "ls /var/lib/quantum-redis/appendonlydir/*.incr.aof").split()[-1]
    half = r"printf '*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$15\r\nquantum:cut:off\r\n$1\r\n1\r\n' >> " + log
    guest.run("sh", "-c", half)
    with guest.timed("a log cut inside a transaction mended, all units active"):
        guest.run("systemctl", "start", *UNITS)
    assert "what is behind the last whole one is taken off" in guest.journal("quantum-redis.service")
    assert guest.status()["accounting"]["decisions"] == before
    assert guest.run("grep", "-c", "quantum:cut:off", log, check=False) == "0"


def stage_reboot(guest: Guest) -> None:
    """Everything is there again after a reboot, decisions included."""
    before = guest.status()["accounting"]["decisions"]
    started = guest.run("systemctl", "show", "-pUserspaceTimestampMonotonic")
    guest.run("systemctl", "reboot", check=False)
    with guest.timed("reboot until the engine is active"):
        time.sleep(2)
        guest.until(["systemctl", "is-active", "--quiet", *UNITS])
    assert started != guest.run("systemctl", "show", "-pUserspaceTimestampMonotonic")
    assert guest.status()["accounting"]["decisions"] == before
    assert "nothing was changed" in guest.init().stdout


def feed(guest: Guest) -> None:
    guest.run("quantum", "feed", "--bars", "/root/bars.parquet", "--env-file", ENV_FILE)


def wait_for_decisions(guest: Guest, count: int) -> None:
    end = time.monotonic() + 120
    while guest.status()["accounting"]["decisions"] < count:
        assert time.monotonic() < end, guest.status()
        time.sleep(0.2)


def wait_restarted(guest: Guest, pid: str) -> None:
    end = time.monotonic() + 90
    while True:
        now, state = guest.show(ENGINE, "MainPID", "ActiveState")
        if state == "active" and now not in ("0", pid):
            return
        assert time.monotonic() < end, f"{ENGINE} is {state}"
        time.sleep(0.1)


def secret(guest: Guest) -> str:
    found = re.search(r"QUANTUM_REDIS_URL=redis://engine:([^@]+)@", guest.run("cat", ENV_FILE))
    assert found is not None
    return found[1]

"""Limits on real processes from outside, and control groups on a folder laid out like a real tree."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from quantum_trader.engine import cgroup
from quantum_trader.engine.limits import Limits, confine, seal

CONTROLS = ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.weight", "cgroup.procs")


def child(script: str) -> subprocess.Popen[str]:
    """A running Python that runs a script once a line arrives at its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"import os, socket, sys; print('up', flush=True); sys.stdin.readline()\n{script}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def said(process: subprocess.Popen[str]) -> str:
    return process.communicate("go\n", timeout=60)[0]


def test_memory_past_the_limit_is_refused() -> None:
    process = child("try:\n x = bytearray(200 << 20); print('got it')\nexcept MemoryError: print('refused')")
    held = confine(process.pid, Limits(memory_mb=150), None)
    assert held == ["150 MiB of memory", "no byte into files", "no core dump", "nice 10"]
    assert said(process) == "refused\n"


def test_no_byte_gets_into_a_file(tmp_path: Path) -> None:
    process = child(
        f"try: open({str(tmp_path / 'file')!r}, 'wb', buffering=0).write(b'x')\nexcept OSError as e: print(e.strerror)"
    )
    confine(process.pid, Limits(), None)
    assert said(process) == "File too large\n"
    assert (tmp_path / "file").read_bytes() == b""


def test_its_priority_is_lower() -> None:
    process = child("print(os.getpriority(os.PRIO_PROCESS, 0))")
    confine(process.pid, Limits(nice=13), None)
    assert said(process) == "13\n"


def test_a_sealed_process_opens_nothing_more() -> None:
    process = child(
        "for attempt in (lambda: os.open('/dev/null', os.O_RDONLY), socket.socket, os.pipe):\n"
        " try: attempt(); print('done')\n"
        " except OSError as e: print(e.strerror)"
    )
    assert seal(process.pid) == ["no new file or socket", "no new process"]
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (0, 0)
    assert resource.prlimit(process.pid, resource.RLIMIT_NPROC) == (0, 0)
    assert said(process) == 3 * "Too many open files\n"


def test_a_process_that_is_gone_holds_nothing_and_harms_nothing() -> None:
    process = child("")
    said(process)
    assert confine(process.pid, Limits(), None) == []
    assert seal(process.pid) == []


class Tree:
    """A delegated part of a control group tree, as files: what is written stays there to be read."""

    def __init__(self, root: Path, *, delegated: bool = True) -> None:
        self.mount = root / "cgroup"
        self.own = self.mount / "system.slice" / "quantum-ai-engine.service"
        self.own.mkdir(parents=True)
        (self.mount / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        self._controls(self.own)
        (self.own / "cgroup.controllers").write_text("cpu memory pids\n")
        (self.own / "cgroup.subtree_control").write_text("")
        (self.own / "cgroup.procs").write_text(f"{os.getpid()}\n")
        self._controls(self.own / "engine")
        self.membership = root / "membership"
        self.membership.write_text("0::/system.slice/quantum-ai-engine.service\n")
        if delegated:
            try:
                os.setxattr(self.own, "user.delegate", b"1")
            except OSError:
                pytest.skip("this file system has no user attributes")

    def _controls(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for name in CONTROLS:
            (folder / name).write_text("")

    def leaf(self, name: str) -> Path:
        self._controls(self.own / name)
        return self.own / name

    def found(self) -> Path | None:
        return cgroup.delegated(self.mount, self.membership)


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process.pid
    process.kill()
    process.wait()


def test_a_delegated_group_gets_controllers_and_a_leaf_for_the_engine(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    assert tree.found() == tree.own
    assert (tree.own / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (tree.own / "engine" / "cgroup.procs").read_text() == str(os.getpid())


def test_an_engine_that_is_in_its_leaf_already_finds_the_same_group(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.membership.write_text("0::/system.slice/quantum-ai-engine.service/engine\n")
    (tree.own / "cgroup.procs").write_text("")
    assert tree.found() == tree.own


def test_a_shadow_is_limited_in_a_leaf_of_its_own(tmp_path: Path, sleeper: int) -> None:
    tree = Tree(tmp_path)
    leaf = tree.leaf("shadow-patchtst")
    group = cgroup.Group(leaf)
    held = confine(sleeper, Limits(memory_mb=512, tasks=16, cpu_weight=30), group)
    assert held[-5:] == [
        "memory.max 536870912",
        "memory.swap.max 0",
        "memory.oom.group 1",
        "pids.max 16",
        "cpu.weight 30",
    ]
    assert (leaf / "memory.max").read_text() == "536870912"
    assert (leaf / "cgroup.procs").read_text() == str(sleeper)


def test_a_control_that_the_kernel_lacks_is_left_out_and_never_made(tmp_path: Path, sleeper: int) -> None:
    tree = Tree(tmp_path)
    leaf = tree.leaf("shadow-patchtst")
    (leaf / "memory.swap.max").unlink()
    held = cgroup.Group(leaf).hold(sleeper, {"memory.swap.max": 0, "pids.max": 3})
    assert held == ["pids.max 3"]
    assert not (leaf / "memory.swap.max").exists()


@pytest.mark.parametrize("membership", ["4:memory:/x\n0::/\n", "", "0::/../../etc\n", "4:memory:/x\n"])
def test_without_a_group_of_its_own_there_is_none(tmp_path: Path, membership: str) -> None:
    tree = Tree(tmp_path)
    tree.membership.write_text(membership)
    assert tree.found() is None


def test_a_group_that_is_not_delegated_is_left_alone(tmp_path: Path) -> None:
    tree = Tree(tmp_path, delegated=False)
    if os.geteuid() != 0:
        pytest.skip("what belongs to the own user counts as delegated")
    assert tree.found() is None
    assert (tree.own / "cgroup.subtree_control").read_text() == ""


def test_a_mount_of_version_1_is_none(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    (tree.mount / "cgroup.controllers").unlink()
    assert tree.found() is None


def test_a_group_that_cannot_be_made_never_stops_a_start(tmp_path: Path, sleeper: int) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert cgroup.Group(blocked / "leaf").hold(sleeper, {"pids.max": 3}) == []
    cgroup.Group(blocked / "leaf").remove()
    assert psutil.pid_exists(sleeper)


def test_its_scheduling_group_yields_too() -> None:
    """A session is a group of its own where the kernel makes such groups; priorities count only within one."""
    with subprocess.Popen(["sleep", "30"], start_new_session=True) as process:
        group_file = Path(f"/proc/{process.pid}/autogroup")
        try:
            if not group_file.exists():
                pytest.skip("this kernel makes no scheduling groups of sessions")
            confine(process.pid, Limits(nice=7), None)
            assert group_file.read_text().split()[-1] == "7"
        finally:
            process.kill()

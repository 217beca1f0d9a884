"""What the engine allows a shadow's process, set from outside: the process is not asked.

- `confine`, right after its start and before it gets any input: memory, no file, no core dump, a lower priority, and a
  control group where one is delegated.
- `seal`, before its first batch: no further file descriptor (so no file, no socket, no pipe) and no further process or
  thread. The worker does the same to itself earlier, but a worker's word is not enough. Root is exempt from the last,
  nobody else is.

A limit that cannot be set never stops the start: what holds is told, and logged in one line.
"""

import contextlib
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quantum_trader.engine.cgroup import Group

_MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """What one shadow may use.

    Attributes:
        memory_mb: Address space of the process in MiB; a loaded model takes about 400 of it, most of it never touched.
        nice: Its priority, 0 to 19; higher yields more.
        tasks: Processes and threads of a control group.
        cpu_weight: Of a control group, against 100 of the engine's.
    """

    memory_mb: int = 2048
    nice: int = 10
    tasks: int = 32
    cpu_weight: int = 20


def confine(pid: int, limits: Limits, group: Group | None) -> list[str]:
    """Limit a process that has just started; returns what holds, in words."""
    memory = limits.memory_mb * _MIB
    held = _apply(
        pid,
        {
            f"{limits.memory_mb} MiB of memory": (resource.RLIMIT_AS, memory),
            "no byte into files": (resource.RLIMIT_FSIZE, 0),
            "no core dump": (resource.RLIMIT_CORE, 0),
        },
    )
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, limits.nice)
        held.append(f"nice {limits.nice}")
    with contextlib.suppress(OSError):
        # Its session is a scheduling group of its own where the kernel makes such groups, and priorities then count
        # only within one: against the engine's the group itself has to yield (sched(7), autogroup).
        Path(f"/proc/{pid}/autogroup").write_text(f"{limits.nice}\n", encoding="ascii")
    if group is not None:
        held += group.hold(
            pid,
            {
                "memory.max": memory,
                "memory.swap.max": 0,
                "memory.oom.group": 1,
                "pids.max": limits.tasks,
                "cpu.weight": limits.cpu_weight,
            },
        )
    return held


def seal(pid: int) -> list[str]:
    """Limit a process that has all it needs; returns what holds, in words."""
    return _apply(
        pid,
        {
            "no new file or socket": (resource.RLIMIT_NOFILE, 0),
            "no new process": (resource.RLIMIT_NPROC, 0),
        },
    )


def _apply(pid: int, wanted: Mapping[str, tuple[int, int]]) -> list[str]:
    held = []
    for word, (kind, most) in wanted.items():
        # A process that is gone, or a host that forbids it.
        with contextlib.suppress(OSError):
            resource.prlimit(pid, kind, (most, most))
            held.append(word)
    return held

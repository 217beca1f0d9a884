"""Control groups for shadows, where the service manager has delegated a part of the tree (``Delegate=yes``).

- Only version 2, and only a group that is delegated: systemd marks it, or it belongs to the engine's own user. Anything
  else is somebody's, and stays as it is.
- A group that gives controllers to its children may hold no process itself. So the engine and whatever runs beside it
  move into the leaf ``engine``; every shadow gets a leaf of its own.
- Whatever does not work is left out: a control group can add a limit, never stop a start.
"""

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)

MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_CONTROLLERS = ("cpu", "memory", "pids")
_LEAF = "engine"
_DELEGATED = ("user.delegate", "trusted.delegate")


class Group:
    """The leaf of one shadow. Made when first used, removed by `remove`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hold(self, pid: int, values: Mapping[str, int]) -> list[str]:
        """Set limits and move a process in; returns what holds, in words."""
        held = []
        try:
            self._folder.mkdir(exist_ok=True)
            for name, value in values.items():
                if _write(self._folder / name, str(value)):
                    held.append(f"{name} {value}")
            if held and _write(self._folder / "cgroup.procs", str(pid)):
                return held
        except OSError as error:
            log.warning("no control group for a shadow: %s", error)
        return []

    def remove(self) -> None:
        """Remove the leaf once its processes are gone."""
        with contextlib.suppress(OSError):
            self._folder.rmdir()


def delegated(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> Path | None:
    """The engine's own control group, ready to have leaves; None where there is none that is delegated."""
    own = _own_group(mount, membership)
    if own is None or not _is_delegated(own):
        return None
    try:
        known = set((own / "cgroup.controllers").read_text().split())
        _move_into_leaf(own)
        wanted = " ".join(f"+{name}" for name in _CONTROLLERS if name in known)
        if not wanted or not _write(own / "cgroup.subtree_control", wanted):
            return None
    except OSError as error:
        log.warning("control group %s is not used for shadows: %s", own, error)
        return None
    return own


def _own_group(mount: Path, membership: Path) -> Path | None:
    """The folder of this process's group; None without version 2."""
    if not (mount / "cgroup.controllers").is_file():
        return None
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
    if not own or ".." in Path(own).parts:
        return None
    # Moved into the leaf before, by a start in the same process.
    folder = mount / own
    return folder.parent if folder.name == _LEAF else folder


def _is_delegated(folder: Path) -> bool:
    for name in _DELEGATED:
        with contextlib.suppress(OSError):
            return os.getxattr(folder, name) == b"1"
    with contextlib.suppress(OSError):
        return folder.stat().st_uid == os.geteuid() != 0
    return False


def _move_into_leaf(own: Path) -> None:
    leaf = own / _LEAF
    leaf.mkdir(exist_ok=True)
    for pid in (own / "cgroup.procs").read_text().split():
        _write(leaf / "cgroup.procs", pid)


def _write(path: Path, text: str) -> bool:
    try:
        # No O_CREAT: a control that this kernel does not have must not become a file.
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, text.encode())
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True

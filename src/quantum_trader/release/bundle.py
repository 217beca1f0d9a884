"""What is brought to a host: a folder with wheels, units and settings, named by the digest of its bytes.

`ops/make-bundle.sh` makes it. Two bundles of the same bytes are one release; one byte more is another.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quantum_trader.core.errors import ConfigError

WHEELS, UNITS = "wheels", "systemd"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+@-]*")
_OWN = "quantum_trader-"


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read.

    Attributes:
        folder: Where it lies.
        wheels: SHA-256 of every wheel, by file name.
        units: Bytes of every file for the host's own folders, by file name.
    """

    folder: Path
    wheels: Mapping[str, str]
    units: Mapping[str, bytes]

    @property
    def release(self) -> str:
        """Names what the wheels install: 16 hexadecimal characters."""
        lines = "".join(f"{digest} {name}\n" for name, digest in sorted(self.wheels.items()))
        return hashlib.sha256(lines.encode()).hexdigest()[:16]

    def wheel(self, name: str) -> Path:
        """Where a wheel lies."""
        return self.folder / WHEELS / name


def read_bundle(folder: Path, needed: frozenset[str]) -> Bundle:
    """Read a bundle.

    Args:
        folder: Made by `ops/make-bundle.sh`.
        needed: Names of units and settings that must be there.

    Raises:
        ConfigError: if something is missing, foreign or cannot be read.
    """
    try:
        wheels = {path.name: _digest(path) for path in sorted((folder / WHEELS).iterdir())}
        units = {path.name: path.read_bytes() for path in sorted((folder / UNITS).iterdir())}
    except OSError as error:
        raise ConfigError(f"bundle {folder}: {error.filename}: {error.strerror}") from error
    foreign = [name for name in (*wheels, *units) if not _NAME.fullmatch(name)]
    foreign += [name for name in wheels if not name.endswith(".whl")]
    if foreign:
        raise ConfigError(f"bundle {folder}: {foreign[0]!r} does not belong to it")
    if sum(name.startswith(_OWN) for name in wheels) != 1:
        raise ConfigError(f"bundle {folder}: holds no wheel of this project, or several (sh ops/make-bundle.sh)")
    missing = sorted(needed - set(units))
    if missing:
        raise ConfigError(f"bundle {folder}: {UNITS}/{missing[0]} is missing (sh ops/make-bundle.sh)")
    return Bundle(folder, wheels, units)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Verdicts that led to something, kept beside the ledger and named by their digest."""

import hashlib
import os
import tempfile
from pathlib import Path

from quantum_trader.core.errors import ConfigError


def place_of(ledger: Path, digest: str) -> Path:
    """Where a verdict is kept."""
    return ledger.parent / "verdicts" / f"{digest}.json"


def keep(ledger: Path, raw: bytes) -> Path:
    """Keep a verdict's bytes, whole or not at all; keeping the same twice changes nothing.

    Raises:
        ConfigError: if it cannot be written.
    """
    path = place_of(ledger, hashlib.sha256(raw).hexdigest())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(prefix=".verdict.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            Path(draft).chmod(0o644)
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"verdict {path}: cannot be kept ({error.strerror})") from error
    return path


def kept(ledger: Path, digest: str) -> bytes:
    """A kept verdict's bytes.

    Raises:
        ConfigError: if it is not there, or was changed.
    """
    path = place_of(ledger, digest)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"verdict {path}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(raw).hexdigest() != digest:
        raise ConfigError(f"verdict {path}: was changed, its bytes do not have the digest of its name")
    return raw

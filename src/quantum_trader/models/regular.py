"""Bytes of a regular file, opened without following a link and read once."""

import os
import stat
from pathlib import Path

from quantum_trader.core.errors import ArtefactError


def read_regular(path: Path, where: str, limit: int, expected_size: int | None = None) -> bytes:
    """The bytes of a file.

    Args:
        path: Of the file.
        where: What it belongs to, such as ``artefact models/xgb_v20260110_020000``, for the error.
        limit: Largest size, bytes.
        expected_size: The size that it must have, where one is known.

    Raises:
        ArtefactError: if it is missing, a link, no regular file, too large or of another size.
    """
    try:
        # O_NONBLOCK: a pipe put in a file's place would otherwise hang the open.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ArtefactError(f"{where}: {path.name} is missing") from error
    except OSError as error:
        rule = "is a link" if path.is_symlink() else f"cannot be read ({error.strerror})"
        raise ArtefactError(f"{where}: {path.name} {rule}") from error
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        os.close(descriptor)
        raise ArtefactError(f"{where}: {path.name} is no regular file")
    with os.fdopen(descriptor, "rb") as file:
        if expected_size is not None and info.st_size != expected_size:
            raise ArtefactError(f"{where}: {path.name} has {info.st_size} bytes, the manifest says {expected_size}")
        if info.st_size > limit:
            raise ArtefactError(f"{where}: {path.name} has {info.st_size} bytes, the limit is {limit}")
        return file.read(info.st_size)

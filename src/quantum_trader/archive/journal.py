"""A file of JSON lines that only grows: each line once, whole, and on disk before anybody relies on it."""

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec


class Journal:
    """Lines are appended and never changed.

    A kill in the middle of a line leaves a part of one. Whatever that line was about was not acknowledged, so it comes
    again: the part is cut off when the file is opened.

    Args:
        path: The file; made with the first line.

    Raises:
        OSError: if the file cannot be read or mended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Digests: the lines themselves may be many, and hold whole entries.
        self._known: set[bytes] = set()
        whole = 0
        with path.open("rb") if path.exists() else io.BytesIO() as file:
            for line in file:
                if line.endswith(b"\n"):
                    whole += len(line)
                    self._known.add(_digest(line))
                else:
                    os.truncate(path, whole)

    def add(self, line: Mapping[str, Any]) -> bool:
        """Append a line unless the very same line is there; says whether it was new.

        Raises:
            OSError: if it cannot be written; the file is then as it was.
        """
        text = msgspec.json.encode(line) + b"\n"
        if _digest(text) in self._known:
            return False
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("ab") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            if self.path.exists():
                os.truncate(self.path, size)
            raise
        self._known.add(_digest(text))
        return True


def _digest(line: bytes) -> bytes:
    return hashlib.sha256(line).digest()

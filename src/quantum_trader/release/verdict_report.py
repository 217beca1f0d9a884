"""The verdict of `quantum gates --json` as a promotion reads it: from its bytes, by its digest."""

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec

from quantum_trader.core.errors import ConfigError


class Line(msgspec.Struct, frozen=True):
    """One gate or check."""

    name: str
    state: str
    section: str = "A"


class Window(msgspec.Struct, frozen=True):
    """Where the judged bars begin: the first one's open, milliseconds since the epoch, and the length of a bar."""

    ts_first: int
    bar_ms: Annotated[int, msgspec.Meta(gt=0)]


class Events(msgspec.Struct, frozen=True):
    """How many bars were judged."""

    bars: int


class _Content(msgspec.Struct, frozen=True):
    model: str
    artefact: str
    state: str
    exit_code: int
    contract: str
    window: Window
    events: Events
    gates: tuple[Line, ...]
    checks: tuple[Line, ...]
    policy_digest: str
    version: int | None = None
    block_mean: float | None = None
    faults: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """A verdict over all sections.

    Attributes:
        digest: SHA-256 of its file.
        content: What a promotion reads of it.
    """

    digest: str
    content: _Content

    @property
    def window_start(self) -> int:
        """Close of the first judged bar, milliseconds since the epoch."""
        return self.content.window.ts_first + self.content.window.bar_ms

    @property
    def window_end(self) -> int:
        """Close of the last judged bar, milliseconds since the epoch."""
        return self.content.window.ts_first + self.content.events.bars * self.content.window.bar_ms


def parse_report(raw: bytes, where: str) -> Report:
    """A verdict from its bytes.

    Raises:
        ConfigError: if they are none over all sections with the artefact and the window that it is about.
    """
    try:
        content = msgspec.json.decode(raw, type=_Content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"verdict {where}: no whole verdict of `quantum gates --json` ({error})") from error
    return Report(hashlib.sha256(raw).hexdigest(), content)


def read_report(path: Path) -> tuple[Report, bytes]:
    """A verdict and its bytes.

    Raises:
        ConfigError: if it cannot be read, or as `parse_report`.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"verdict {path}: cannot be read ({error.strerror})") from error
    return parse_report(raw, str(path)), raw

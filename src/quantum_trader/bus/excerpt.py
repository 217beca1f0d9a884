"""Entries of a stream exactly as the server holds them, and as lines of text that lose no byte.

A line is compact JSON: ``{"id":"...","fields":["event_type","ai.decision",...]}``, names and values in the server's
order; an entry that is no UTF-8 has ``hex`` in place of ``fields``. Nothing is decoded or judged here: evidence is kept
as it was found, and whoever reads it decides what it is worth.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import redis

from quantum_trader.bus.session import Session
from quantum_trader.core.errors import WireError

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class RawEntry:
    """An entry: its id, and names and values in the server's order."""

    entry_id: str
    flat: list[bytes]

    @property
    def ms(self) -> int:
        """When it was written by the server's clock, milliseconds since the epoch."""
        return int(self.entry_id.partition("-")[0])


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    id: str
    fields: tuple[str, ...] | None = None
    hex: tuple[str, ...] | None = None


class RawReader:
    """Reads any stream without being part of a group."""

    def __init__(self, client: redis.Redis) -> None:
        self._session = Session(client)

    def between(self, key: str, since_ms: int, until_ms: int) -> Iterator[RawEntry]:
        """Entries written from `since_ms` on and before `until_ms`, oldest first, read page by page.

        Raises:
            BusError: if the server stays away or refuses.
        """
        start, end = f"{max(since_ms, 0)}-0", f"({max(until_ms, 1)}-0"
        while True:
            page = self._range("XRANGE", key, start, end, _PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            start = f"({page[-1].entry_id}"

    def newest(self, key: str, count: int, since_ms: int = 0) -> list[RawEntry]:
        """At most `count` of the newest entries written from `since_ms` on, oldest first.

        Raises:
            BusError: if the server stays away or refuses.
        """
        return self._range("XREVRANGE", key, "+", f"{max(since_ms, 0)}-0", count)[::-1]

    def close(self) -> None:
        """Give the connection back."""
        self._session.close(broken=True)

    def _range(self, command: str, key: str, start: str, end: str, count: int) -> list[RawEntry]:
        page: list[Any] = self._session.persist(
            f"reading {key}", lambda: self._session.one(command, key, start, end, "COUNT", count)
        )
        return [RawEntry(entry_id.decode(), flat) for entry_id, flat in page]


def to_line(entry: RawEntry) -> bytes:
    """An entry as one line, its line break included.

    >>> to_line(RawEntry("1-0", [b"a", b"b"])).rstrip()
    b'{"id":"1-0","fields":["a","b"]}'
    >>> to_line(RawEntry("1-0", [b"a", bytes([255])])).rstrip()
    b'{"id":"1-0","hex":["61","ff"]}'
    """
    try:
        line = _Line(entry.entry_id, fields=tuple(part.decode() for part in entry.flat))
    except UnicodeDecodeError:
        line = _Line(entry.entry_id, hex=tuple(part.hex() for part in entry.flat))
    return msgspec.json.encode(line) + b"\n"


def from_lines(raw: bytes, where: str) -> list[RawEntry]:
    """The entries of a file of such lines.

    Raises:
        WireError: naming the first line that is none.
    """
    lines = raw.split(b"\n")
    if lines.pop():
        raise WireError(f"{where}: the last line has no line break: it was cut off")
    return [_entry(line, f"{where}: line {number}") for number, line in enumerate(lines, start=1)]


def _entry(raw: bytes, where: str) -> RawEntry:
    try:
        line = msgspec.json.decode(raw, type=_Line)
        if (line.fields is None) == (line.hex is None):
            raise ValueError("needs either fields or hex")
        flat = [part.encode() for part in line.fields or ()] or [bytes.fromhex(part) for part in line.hex or ()]
        return RawEntry(line.id, flat)
    except (msgspec.MsgspecError, ValueError) as error:
        raise WireError(f"{where}: no stream entry ({error})") from error

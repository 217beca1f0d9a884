"""The env file that systemd and the engine read, changed by as little as possible.

- A variable that is set keeps its place: its last line is rewritten, since the last one wins; a new one comes last.
- Of any variable that stands there twice only the last line stays: what is read is the same, what is seen is true.
- Every other line stays byte for byte: comments, blank lines, lines that nobody understands.
- What systemd and the engine's own reader read differently is refused with the number of its line, and so is a line
  that would have to go or change although it is quoted: nothing is guessed about a file that decides who votes.
- A plan says which lines stay and what is put, never what stands in the lines that stay: they may hold passwords.
"""

import difflib
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantum_trader.core.errors import ConfigError

Part = tuple[int, int] | str
"""Lines that stay, the first and one past the last, or text that is put."""

_READ_DIFFERENTLY = re.compile(r"[\r\n\\]|\s#|\s$")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r"[ \t]*(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(?P<value>.*)")
_HALF_READ = re.compile(r"\s*(?:export\s+)?['\"]?(?P<name>[A-Za-z_][A-Za-z0-9_]*)['\"]?\s*(?:=|$)")
"""A line that dotenv reads as a variable and systemd passes over, such as ``export NAME=value``."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_CLOSED = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|'[^'\\]*')[ \t]*""")
_READ_ON = re.compile(r"""\s*(?:export\s+)?(?:'(?:\\'|[^'])*|[^=#\s]+\s*=\s*(?:'(?:\\'|[^'])*|"(?:\\"|[^"])*))""")
"""A line behind which dotenv reads on up to the next quote; for systemd it is a comment, or nothing."""
_QUOTES = ("'", '"')


def is_read_differently(line: str) -> bool:
    """Whether systemd's EnvironmentFile and dotenv do not both give a line back as it was written."""
    return _READ_DIFFERENTLY.search(line) is not None


@dataclass(frozen=True)
class EnvPlan:
    """A change of an env file.

    Attributes:
        before: Its bytes.
        after: Its bytes after the change.
        parts: How the one is made of the other: ranges of lines of `before` that stay, and text between them.
        names: The variables that are set; other values are never shown.
        notes: What else it does, a sentence each: duplicates that go.
    """

    before: bytes
    after: bytes
    parts: tuple[Part, ...]
    names: frozenset[str]
    notes: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether anything is changed at all."""
        return self.before != self.after

    def diff(self, name: str) -> str:
        """The lines that go and come, in the unified format, without their neighbours: those may hold secrets."""
        before, after = (self._shown(content) for content in (self.before, self.after))
        return "\n".join(difflib.unified_diff(before, after, name, name, n=0, lineterm=""))

    def _shown(self, content: bytes) -> list[str]:
        lines = content.decode().split("\n")
        return [line if (name := _assigned(line)) is None or name in self.names else f"{name}=..." for line in lines]


def plan_env(content: bytes, values: Mapping[str, str], where: str) -> EnvPlan:
    """Plan to set variables and to remove duplicates.

    Args:
        content: The file's bytes.
        values: What to set, by name.
        where: What to call the file in an error.

    Raises:
        ConfigError: naming the line and the rule, if the file or a value is not read alike by all its readers.
    """
    _check_values(values, where)
    lines = _lines(content, where)
    last = {name: index for index, line in enumerate(lines) if (name := _assigned(line)) is not None}
    parts: list[Part] = []
    notes: list[str] = []
    for index, line in enumerate(lines):
        name = _assigned(line)
        if name is None:
            _refuse_half_read(line, values, f"{where}: line {index + 1}")
        if name is not None and last[name] != index:
            _refuse_quoted(line, f"{where}: line {index + 1}")
            notes.append(f"line {index + 1}: {name} stands there again below, where it counts; this line goes")
        elif name is None or name not in values or _is(line, name, values[name]):
            _keep(parts, index)
        else:
            _refuse_quoted(line, f"{where}: line {index + 1}")
            parts.append(f"{name}={values[name]}\n")
    missing = [f"{name}={value}\n" for name, value in values.items() if name not in last]
    if missing and lines and _kept_end_is_open(content, parts):
        missing.insert(0, "\n")
    parts += missing
    return EnvPlan(content, apply_parts(content, parts), tuple(parts), frozenset(values), tuple(notes))


def inverse(plan: EnvPlan) -> EnvPlan:
    """The change back: after it the file is what it was before, byte for byte.

    Its one part is the whole old file, secrets included, so it stays in memory: on a host the backup goes back.
    """
    return EnvPlan(plan.after, plan.before, (plan.before.decode(),), plan.names)


def apply_parts(content: bytes, parts: Sequence[Part]) -> bytes:
    """The bytes that a plan's parts make of a file's."""
    lines = _split(content)
    return b"".join(part.encode() if isinstance(part, str) else b"".join(lines[part[0] : part[1]]) for part in parts)


def read_values(content: bytes, where: str) -> dict[str, str]:
    """The value of every variable as all readers see it; the last line of a name counts.

    Raises:
        ConfigError: naming the line, if the file is not read alike by all its readers.
    """
    values: dict[str, str] = {}
    for line in _lines(content, where):
        found = None if _is_comment(line) else _ASSIGNMENT.fullmatch(line)
        if found is not None:
            value = found["value"].rstrip()
            values[found["name"]] = value[1:-1] if value.startswith(_QUOTES) else value
    return values


def readable_values(content: bytes) -> tuple[dict[str, str], frozenset[str]]:
    """What a file that `read_values` refuses says beyond doubt, and the names that stand in its doubtful lines.

    Nothing is beyond doubt where a line may swallow those after it: a backslash at its end, an open quote.
    """
    values: dict[str, str] = {}
    doubtful: set[str] = set()
    for raw in content.split(b"\n"):
        try:
            values |= read_values(raw, "")
        except ConfigError:
            line = raw.decode(errors="replace")
            doubtful.update(_NAME.findall(line))
            if line.endswith("\\") or any(quote in line for quote in _QUOTES):
                return {}, frozenset(_NAME.findall(content.decode(errors="replace")))
    return {name: value for name, value in values.items() if name not in doubtful}, frozenset(doubtful)


def write_env(path: Path, content: bytes) -> None:
    """Replace an env file as a whole, its mode and owner kept; wait until the disk has it.

    Raises:
        ConfigError: if it is no regular file or cannot be written; it is then as it was.
    """
    try:
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"env file {path}: is no regular file")
        _replace(path, content, info)
    except OSError as error:
        raise ConfigError(f"env file {path}: cannot be written ({error.strerror})") from error


def _replace(path: Path, content: bytes, info: os.stat_result) -> None:
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(file.fileno(), info.st_uid, info.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(info.st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sha256(content: bytes) -> str:
    """SHA-256 as 64 hexadecimal characters."""
    return hashlib.sha256(content).hexdigest()


def _check_values(values: Mapping[str, str], where: str) -> None:
    for name, value in values.items():
        line = f"{name}={value}"
        if not _NAME.fullmatch(name):
            raise ConfigError(f"env file {where}: {name!r} is no name of a variable")
        if is_read_differently(line) or _CONTROL.search(line) or value != value.lstrip() or value.startswith(_QUOTES):
            raise ConfigError(
                f"env file {where}: cannot hold {line!r} (a quote, a line break, a backslash, ' #' or a blank end)"
            )


def _lines(content: bytes, where: str) -> list[str]:
    """The lines without their ends, each one of a kind that every reader reads alike or passes over."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        at = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"env file {where}: line {at} is not UTF-8 ({error.reason})") from error
    lines = text.removesuffix("\n").split("\n") if text else []
    for number, line in enumerate(lines, start=1):
        problem = _problem(line, first=number == 1)
        if problem is not None:
            raise ConfigError(f"env file {where}: line {number} {problem}")
    return lines


def _problem(line: str, *, first: bool) -> str | None:
    if "\r" in line:
        return "ends as on Windows (CRLF); write it with plain line ends"
    control = _CONTROL.search(line)
    if control is not None:
        return f"holds the control character {control[0]!r}"
    if first and line.startswith("\ufeff"):
        return "begins with a byte order mark; remove it"
    if line.endswith("\\"):
        return "ends in a backslash: systemd would join it with the next"
    found = None if _is_comment(line) else _ASSIGNMENT.fullmatch(line)
    if found is not None and found["value"].startswith(_QUOTES) and not _CLOSED.fullmatch(found["value"]):
        return "has a quoted value that does not end with its quote"
    if found is None and _READ_ON.fullmatch(line):
        return "opens a quote: dotenv would read on into the next lines; begin a comment with #"
    return None


def _is_comment(line: str) -> bool:
    return line.lstrip(" \t").startswith(("#", ";"))


def _assigned(line: str) -> str | None:
    """The variable that a line sets for every reader."""
    found = None if _is_comment(line) else _ASSIGNMENT.fullmatch(line)
    return None if found is None else found["name"]


def _is(line: str, name: str, value: str) -> bool:
    return line == f"{name}={value}"


def _refuse_quoted(line: str, where: str) -> None:
    found = _ASSIGNMENT.fullmatch(line)
    if found is not None and found["value"].startswith(_QUOTES):
        raise ConfigError(f"env file {where}: {found['name']} is quoted and would be changed; take the quotes away")


def _refuse_half_read(line: str, values: Mapping[str, str], where: str) -> None:
    found = None if _is_comment(line) else _HALF_READ.match(line)
    if found is not None and found["name"] in values:
        raise ConfigError(
            f"env file {where}: says {found['name']} in a form that systemd passes over; write NAME=value"
        )


def _keep(parts: list[Part], index: int) -> None:
    if parts and not isinstance(parts[-1], str) and parts[-1][1] == index:
        parts[-1] = (parts[-1][0], index + 1)
    else:
        parts.append((index, index + 1))


def _kept_end_is_open(content: bytes, parts: Sequence[Part]) -> bool:
    """Whether what was made so far ends without a newline, so that the next text would be glued to it."""
    return not apply_parts(content, parts).endswith(b"\n")


def _split(content: bytes) -> list[bytes]:
    pieces = content.split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])

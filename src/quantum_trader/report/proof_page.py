"""A proof pack's pages for people, PROOF_PACK.md and PROOF_PACK.html: drawn from the document and the outputs alone.

Whoever checks a pack draws both again and compares the bytes. So this is version 1 for ever, its two templates
included: a word changed here makes every older pack fail. Another look is another version, beside this one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from quantum_trader.core.errors import format_ms
from quantum_trader.report.proof import CommandRun, Predicate

MARKDOWN_FILE = "PROOF_PACK.md"
HTML_FILE = "PROOF_PACK.html"

_LINES = 24
_WIDTH = 200
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160), 0x2028, 0x2029], " ")
_JUDGES = "verdict-"
_VERDICTS = {0: "PROMOTE", 2: "REJECT", 3: "HOLD", 4: "INVALID"}


@dataclass(frozen=True)
class Shown:
    """A command for people: the record, its line, how it ended in words, and the beginning of what it printed."""

    run: CommandRun
    line: str
    ended: str
    good: bool
    lines: int
    head: list[str]
    errors: list[str]


@dataclass(frozen=True)
class Fact:
    """One figure or sentence, and the file of the pack that it comes from."""

    label: str
    value: str
    source: str
    good: bool | None = None


def pages(predicate: Predicate, files: Mapping[str, bytes]) -> tuple[bytes, bytes]:
    """Both pages as bytes.

    Args:
        predicate: The document.
        files: Contents of the pack's other files, by name.
    """
    shown = [_shown(run, files) for run in predicate.commands]
    values: dict[str, Any] = {
        "predicate": predicate,
        "shown": shown,
        "facts": _facts(predicate, files),
        "models": _rows(predicate, files, "models", ("model", "role", "digest", "folder", "reason")),
        "checks": _checks(predicate, files),
        "since": format_ms(predicate.since),
        "until": format_ms(predicate.until),
    }
    environment = _environment()
    markdown, html = (environment.get_template(f"proof_v1.{kind}.j2").render(**values) for kind in ("md", "html"))
    return markdown.encode(), html.encode()


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("quantum_trader.report", "templates"),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _cell
    return environment


def _cell(value: object) -> str:
    """A value inside a cell of a Markdown table."""
    return " ".join(str(value).replace("\\", "\\\\").replace("|", "\\|").replace("`", "'").split())


def _shown(run: CommandRun, files: Mapping[str, bytes]) -> Shown:
    lines = _lines(files.get(run.stdout, b""))
    return Shown(
        run=run,
        line=" ".join(run.argv),
        ended=run.problem or f"exit code {run.exit_code}",
        good=run.exit_code == 0 or (run.name.startswith(_JUDGES) and run.exit_code in _VERDICTS),
        lines=len(lines),
        head=_cut(lines),
        errors=_cut(_lines(files.get(run.stderr, b""))),
    )


def _cut(lines: list[str]) -> list[str]:
    """The first lines, shortened, without control characters."""
    kept = [line.translate(_CONTROLS) for line in lines[:_LINES]]
    short = [line if len(line) <= _WIDTH else f"{line[:_WIDTH]} …" for line in kept]
    return short if len(lines) <= _LINES else [*short, f"… {len(lines) - _LINES} more lines in the file"]


def _lines(raw: bytes) -> list[str]:
    """Lines by line feeds alone: what else ends a line is another question in every version of Unicode."""
    lines = raw.decode("utf-8", errors="replace").split("\n")
    return lines if lines[-1] else lines[:-1]


def _facts(predicate: Predicate, files: Mapping[str, bytes]) -> list[Fact]:
    facts = []
    program = predicate.command("program")
    if program is not None:
        said = _object(files.get(program.stdout, b""))
        version, commit = said.get("version", "unknown"), said.get("commit") or "not known to git"
        facts.append(Fact("Program on the host", f"{version}, commit {commit}", program.stdout))
    unit = predicate.command("unit")
    if unit is not None:
        facts.append(_unit(unit, files))
    stream = predicate.command("stream")
    if stream is not None:
        good = stream.exit_code == 0
        facts.append(Fact("Proof on the stream", "held" if good else "did not hold", stream.stdout, good))
        facts += _overhead(stream, files)
    for run in predicate.commands:
        if run.name.startswith(_JUDGES):
            word = _VERDICTS.get(-1 if run.exit_code is None else run.exit_code, "no verdict")
            facts.append(Fact(f"Verdict on {run.name.removeprefix('verdict-')}", word, run.stdout))
    for name in ("decisions", "intents", "bars", "lifecycle"):
        held = predicate.command(name)
        if held is not None:
            count = files.get(held.stdout, b"").count(b"\n")
            facts.append(Fact(f"Entries: {name}", f"{count:,}", held.stdout))
    return facts


def _overhead(stream: CommandRun, files: Mapping[str, bytes]) -> list[Fact]:
    """What each shadow's entry adds to a payload."""
    found = _object(files.get(stream.stdout, b"")).get("overhead", [])
    facts = []
    for one in found if isinstance(found, list) else []:
        if isinstance(one, dict) and isinstance(one.get("largest_percent"), float):
            size = f"{one.get('smallest_bytes')} to {one.get('largest_bytes')} bytes"
            value = f"{size}, at most {one['largest_percent']:.1f} % of a payload"
            facts.append(Fact(f"Entry of {one.get('model')}", value, stream.stdout))
    return facts


def _unit(unit: CommandRun, files: Mapping[str, bytes]) -> Fact:
    pairs = dict(line.partition("=")[::2] for line in _lines(files.get(unit.stdout, b"")))
    if unit.exit_code != 0 or "ActiveState" not in pairs:
        return Fact("Unit", "its state could not be asked", unit.stdout, good=False)
    state = f"{pairs.get('Id', '')}: {pairs['ActiveState']} ({pairs.get('SubState', '')})"
    return Fact("Unit", state, unit.stdout, pairs["ActiveState"] == "active")


def _rows(predicate: Predicate, files: Mapping[str, bytes], name: str, keys: tuple[str, ...]) -> list[dict[str, str]]:
    run = predicate.command(name)
    if run is None:
        return []
    read = [_object(line) for line in files.get(run.stdout, b"").split(b"\n")]
    return [{key: str(one.get(key, "")) for key in keys} for one in read if one]


def _checks(predicate: Predicate, files: Mapping[str, bytes]) -> list[Fact]:
    """What the proof on the stream looked at."""
    run = predicate.command("stream")
    found = _object(files.get(run.stdout, b"")).get("checks", []) if run is not None else []
    checks = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    return [
        Fact(
            str(one.get("name", "")),
            f"{one.get('looked_at', 0)} looked at, {len(one.get('problems', []))} wrong",
            run.stdout if run is not None else "",
            one.get("passed") is True,
        )
        for one in checks
    ]


def _object(raw: bytes) -> dict[str, Any]:
    """A JSON object; nothing where it is none."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

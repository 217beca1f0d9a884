"""Measured numbers as tables: on the screen, and between the markers of README.md."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table as ScreenTable

from quantum_trader.core.errors import ConfigError

README = Path(__file__).with_name("README.md")


@dataclass(frozen=True)
class Table:
    """Rows of text under column heads."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Target:
    """A goal of the design beside what was measured."""

    what: str
    goal: str
    measured: str
    met: bool

    @property
    def verdict(self) -> str:
        """In words."""
        return "met" if self.met else "**fell short**"


def at_least(what: str, measured: float, goal: float, form: str = "{:.1f} x") -> Target:
    """A target from below."""
    return Target(what, "≥ " + form.format(goal), form.format(measured), measured >= goal)


def at_most(what: str, measured: float, goal: float, form: str = "{:.1f}") -> Target:
    """A target from above."""
    return Target(what, "≤ " + form.format(goal), form.format(measured), measured <= goal)


@dataclass(frozen=True)
class Block:
    """One answer: everything between one pair of markers of README.md.

    Attributes:
        name: Of the markers.
        title: For the screen.
        tables: Measurements.
        targets: Goals, if the question has any.
        notes: What a reader must know to judge the numbers.
    """

    name: str
    title: str
    tables: Sequence[Table]
    targets: Sequence[Target] = ()
    notes: Sequence[str] = field(default_factory=tuple)

    def all_tables(self) -> list[Table]:
        """Measurements and, where there are any, targets as one more table."""
        if not self.targets:
            return list(self.tables)
        rows = [(target.what, target.goal, target.measured, target.verdict) for target in self.targets]
        return [*self.tables, Table(("target", "goal", "measured", ""), rows)]

    def markdown(self, measured_on: str) -> str:
        """As the text between the markers."""
        parts = [measured_on, *(_markdown(table) for table in self.all_tables())]
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts)

    def show(self, console: Console) -> None:
        """Print it."""
        console.rule(self.title, align="left")
        for table in self.all_tables():
            screen = ScreenTable(box=None, header_style="bold", padding=(0, 2, 0, 0))
            for number, column in enumerate(table.columns):
                screen.add_column(column, justify="left" if number == 0 else "right")
            for row in table.rows:
                screen.add_row(*(cell.replace("**", "") for cell in row))
            console.print(screen)
        for note in self.notes:
            console.print(f"  {note}", highlight=False)


def _markdown(table: Table) -> str:
    lines = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)], *table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def fill(text: str, name: str, content: str) -> str:
    """Replace what stands between the markers of a name.

    Raises:
        ConfigError: if the text does not hold the pair of markers exactly once.
    """
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ConfigError(f"{README.name}: expected one pair of markers {begin} {end}")
    return pattern.sub(lambda _: f"{begin}\n\n{content}\n\n{end}", text)


def write_readme(contents: dict[str, str], path: Path = README) -> None:
    """Fill blocks of the README by name; all of them or, on an error, none."""
    text = path.read_text(encoding="utf-8")
    for name, content in contents.items():
        text = fill(text, name, content)
    draft = path.with_suffix(".md.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def seconds(value: float) -> str:
    """A duration with three significant digits and a fitting unit.

    >>> seconds(0.00012), seconds(0.0456), seconds(3.2)
    ('120 µs', '45.6 ms', '3.20 s')
    """
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= scale or unit == "µs":
            shown = value / scale
            digits = 2 if shown < 10 else 1 if shown < 100 else 0
            return f"{shown:.{digits}f} {unit}"
    raise AssertionError


def rate(per_second: float) -> str:
    """Events per second, in thousands where there are as many.

    >>> rate(226_000.0), rate(83.2)
    ('226.0k/s', '83/s')
    """
    if per_second < 1000:
        return f"{per_second:.0f}/s"
    return f"{per_second / 1000:.1f}k/s"


def megabytes(count: float) -> str:
    """Bytes in units of 10^6, which is how the targets are meant.

    >>> megabytes(108_300_000)
    '108.3 MB'
    """
    return f"{count / 1e6:.1f} MB"

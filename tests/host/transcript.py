"""What an operator typed and what came back, as a page: the run of the story writes it.

Rule of trimming: an output of more than 64 lines keeps its first 40 and last 23, and says how many are left out; a line
ends after 320 characters. Names of this run's folder and host are written short. A secret in it is an error.
"""

from collections.abc import Sequence
from pathlib import Path

LINES, HEAD, TAIL = 64, 40, 23
WIDTH = 320


class Transcript:
    """Commands with their outputs, written as they come."""

    def __init__(self, path: Path, short: Sequence[tuple[str, str]]) -> None:
        self._path, self._short = path, tuple(short)
        self.secrets: list[str] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# Transcript of the story on the test host\n")

    def add(self, command: str, output: str, code: int, seconds: float) -> None:
        """A command, with its exit code where it is not 0."""
        text = f"$ {command}\n{trimmed(output)}"
        for secret in self.secrets:
            assert secret not in text, f"a secret is in the output of {command}"
        for long, short in self._short:
            text = text.replace(long, short)
        end = f"exit code {code}, " if code else ""
        with self._path.open("a") as file:
            file.write(f"\n```\n{text}\n```\n\n{end}{seconds:.1f} s\n")

    def head(self, title: str) -> None:
        """A new part."""
        with self._path.open("a") as file:
            file.write(f"\n## {title}\n")

    def table(self, rows: Sequence[tuple[str, float]]) -> None:
        """Measured times, last."""
        self.head("Times")
        with self._path.open("a") as file:
            file.write("\n| what | s |\n|---|---|\n")
            file.writelines(f"| {what} | {seconds:.1f} |\n" for what, seconds in rows)


def trimmed(output: str) -> str:
    """By the rule above."""
    lines = "\n".join(line.rstrip()[:WIDTH] for line in output.splitlines()).strip("\n").split("\n")
    if len(lines) <= LINES:
        return "\n".join(lines)
    left = len(lines) - HEAD - TAIL
    return "\n".join([*lines[:HEAD], f"... {left} lines ...", *lines[-TAIL:]])

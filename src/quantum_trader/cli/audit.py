"""`quantum audit list|verify|at`: who did what, when and why; whether the ledger is whole; who was voting then."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantum_trader.cli.run import ConfigFiles, EnvFile

if TYPE_CHECKING:
    from quantum_trader.release.history import Standing
    from quantum_trader.release.ledger_entries import Entry

app = typer.Typer(no_args_is_help=True, help="Read and verify the release ledger.")

Ledger = Annotated[Path | None, typer.Option(help="The ledger; the settings' by default.")]


@app.command("list")
def list_entries(
    ledger: Ledger = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the entries as JSON, one a line.")] = False,
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """List every entry: number, time, who, what, before, after, why. A grant by override says so for ever."""
    from quantum_trader.release.ledger import read_entries
    from quantum_trader.release.ledger_entries import render

    path = _path(ledger, config, env_file)
    entries = read_entries(path)
    if as_json:
        for entry in entries:
            typer.echo(render(entry))
        return
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for name in ("", "when (UTC)", "who", "what", "model", "before", "after", "why"):
        table.add_column(name, overflow="fold")
    for entry in entries:
        table.add_row(*_cells(entry))
    Console(highlight=False).print(table if entries else f"{path}: no entries")


@app.command("verify")
def verify_ledger(
    ledger: Ledger = None,
    key: Annotated[Path | None, typer.Option("--key", help="Public key that signs the ledger's head.")] = None,
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Check every line and the chain; with --key the signed head too, so that a cut tail shows.

    A head that is one append behind is what a process leaves that dies between the two; it is told and is no fault.

    Exit codes: 0 it is whole, 1 it is not (the first broken line is named first), or there is no head to check.
    """
    from rich.console import Console

    from quantum_trader.cli.finish import Finish
    from quantum_trader.release.ledger import head, verify

    path = _path(ledger, config, env_file)
    console = Console(highlight=False, soft_wrap=True)
    problems = verify(path)
    for problem in problems:
        console.print(f"{path}: line {problem.line} {problem.what}", markup=False)
    if problems:
        raise Finish(1)
    count, digest = head(path)
    console.print(f"{path}: {count} entries, unbroken; head {digest}", markup=False)
    if key is not None:
        from quantum_trader.release.sealing import State, check_seal
        from quantum_trader.release.signing import load_public

        found = check_seal(path, load_public(key))
        console.print(f"{path}: {found.state}: {found.sentence}", markup=False)
        if found.state not in (State.SEALED, State.BEHIND):
            raise Finish(1)


@app.command("at")
def standing_at(
    time: Annotated[str, typer.Argument(help="ISO 8601, such as 2026-01-18T08:00:00Z; UTC where no zone is named.")],
    ledger: Ledger = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Say what was voting at a time: model, artefact, weight, and which entry says so."""
    from quantum_trader.release.history import standings
    from quantum_trader.release.ledger import read_entries

    at = parse_time(time)
    path = _path(ledger, config, env_file)
    found = standings(read_entries(path), at)
    if as_json:
        document = {"at": at.isoformat(), "models": [_document(standing) for standing in found.values()]}
        typer.echo(json.dumps(document, indent=2))
        return
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), caption=f"at {at.isoformat()}, by {path}")
    for name in ("model", "role", "artefact", "weight", "since entry", ""):
        table.add_column(name, overflow="fold")
    for standing in found.values():
        state = standing.state
        weight = f"{state.weight:g}" if state.role == "voter" and state.weight else "-"
        mark = "OVERRIDE" if standing.override and state.role == "voter" else ""
        table.add_row(standing.model, state.role, state.artefact or "-", weight, str(standing.since), mark)
    Console(highlight=False).print(table if found else f"{path}: nothing was granted by {at.isoformat()}")


def parse_time(text: str) -> datetime:
    """A time as a user writes it; UTC where it names no zone.

    Raises:
        ConfigError: if it is none.
    """
    from quantum_trader.core.errors import ConfigError

    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"time {text!r}: expected ISO 8601, such as 2026-01-18T08:00:00Z") from error
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def _path(ledger: Path | None, config: list[Path], env_file: Path | None) -> Path:
    from quantum_trader.settings import load_settings

    return load_settings(config, env_file).ledger if ledger is None else ledger


def _cells(entry: "Entry") -> list[str]:
    from rich.markup import escape

    from quantum_trader.release.history import before_and_after

    before, after = before_and_after(entry)
    cells = (
        str(entry.seq),
        entry.at,
        entry.by,
        entry.kind,
        getattr(entry.detail, "model", ""),
        before,
        after,
        entry.reason,
    )
    # Whoever writes a reason must not write to the reader's terminal.
    return [escape("".join(c if c.isprintable() else " " for c in cell)) for cell in cells]


def _document(standing: "Standing") -> dict[str, Any]:
    state = standing.state
    return {
        "model": standing.model,
        "role": state.role,
        "votes": state.role == "voter",
        "artefact": state.artefact,
        "weight": state.weight if state.role == "voter" and state.weight else None,
        "since": standing.since,
        "override": standing.override,
    }

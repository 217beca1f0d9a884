"""`quantum status`: the engine's state and the exact accounting, from the stream server alone."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantum_trader.cli.finish import Finish
from quantum_trader.cli.run import ConfigFiles, EnvFile

if TYPE_CHECKING:
    from quantum_trader.bus.books import Recount
    from quantum_trader.bus.overview import Overview
    from quantum_trader.bus.tally import Tally
    from quantum_trader.settings import Settings

EXIT_LOOK = 5


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    count_again: Annotated[
        bool, typer.Option("--recount", help="Count every decision in the stream again and compare.")
    ] = False,
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Show who runs, what each model said, whether the accounting adds up, what waits and which alarms stand.

    It reads the stream server, and the ledger where there is one, so it works while the engine is down; votes granted
    with --override are shown for ever. For every model and role:
    decisions = on time + late + failed + missing + refused, over every restart and crash.

    Exit codes: 0 all is well, 5 something needs a look (it is named first), 1 any error.
    """
    from quantum_trader.report.findings import findings
    from quantum_trader.settings import load_settings

    settings = load_settings(config, env_file)
    overview, again = _read(settings, count_again=count_again)
    found = findings(overview, settings.symbols, again)
    granted = _overrides(settings)
    if as_json:
        typer.echo(json.dumps({**_document(overview, found, again), "overrides": granted}, indent=2))
    else:
        from rich.console import Console

        from quantum_trader.report.status import status_screen

        Console(highlight=False).print(status_screen(overview, found, settings.symbols, again, granted))
    if found:
        raise Finish(EXIT_LOOK)


def _overrides(settings: "Settings") -> list[str]:
    """From the ledger, where this machine has it; what cannot be read is said in their place."""
    from quantum_trader.core.errors import LedgerError
    from quantum_trader.release.ledger import read_entries
    from quantum_trader.release.overrides import overrides

    try:
        return overrides(read_entries(settings.ledger))
    except LedgerError as error:
        return [f"unknown: {error}"]


def _read(settings: "Settings", *, count_again: bool) -> "tuple[Overview, Recount | None]":
    """Both from the server alone: bootstrap would load the engine, which may be what is broken."""
    from contextlib import closing

    from quantum_trader.bus.books import recount
    from quantum_trader.bus.client import connect
    from quantum_trader.bus.names import StreamNames
    from quantum_trader.bus.overview import read_overview
    from quantum_trader.bus.session import Session

    names = StreamNames(settings.stream_prefix)
    with closing(connect(settings.redis_url)) as client, closing(Session(client)) as session:
        overview = read_overview(client, names, settings.group, settings.symbols)
        return overview, recount(session, names) if count_again else None


def _document(overview: "Overview", found: list[str], again: "Recount | None") -> dict[str, Any]:
    import msgspec

    from quantum_trader.report.findings import standing

    plain: dict[str, Any] = {
        field: msgspec.to_builtins(getattr(overview, field))
        for field in overview.__struct_fields__
        if field not in ("books", "alarms")
    }
    if overview.holder is not None:
        # Names one taking of the lease: of no use to anybody but its holder.
        del plain["holder"]["token"]
    books = overview.books
    accounting = {**_accounting(books.tally), "since": books.tally.since, "problems": books.problems()}
    document = {
        "well": not found,
        "needs_a_look": found,
        **plain,
        "alarms": msgspec.to_builtins(standing(overview)),
        "accounting": accounting,
    }
    if again is not None:
        document["recount"] = {
            **_accounting(again.tally),
            "trimmed": again.trimmed,
            "problems": list(again.problems),
        }
    return document


def _accounting(tally: "Tally") -> dict[str, Any]:
    from quantum_trader.core.predictions import Status

    models = [
        {
            "model": part.model,
            "role": part.role,
            "decisions": tally.took_part(part),
            **{status_.value: tally.answers.get(part, {}).get(status_.value, 0) for status_ in Status},
            "adds_up": tally.took_part(part) == tally.answered(part),
        }
        for part in tally.parts
    ]
    return {"decisions": tally.decisions, "intents": tally.intents, "models": models}

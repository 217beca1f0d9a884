"""`quantum gates --follow`: the verdict goes on with the stream, a line for every cycle."""

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from quantum_trader.archive.follow import Follower
    from quantum_trader.bus.cursor import Cursor
    from quantum_trader.gates.verdict import Verdict
    from quantum_trader.gates.whole_policy import Policy
    from quantum_trader.settings import Settings
    from quantum_trader.stopping import Stop

POLL_S = 1.0
"""Between two looks at a stream in which nothing was new."""


def follow_stream(
    settings: "Settings",
    since_ms: int,
    model: str,
    policy: "Policy",
    models: Path | None,
    version: int | None,
    as_json: bool,
) -> int:
    """Judge every cycle as it completes until PROMOTE, INVALID, SIGTERM or Ctrl-C; the exit code is the last verdict's.

    Raises:
        QuantumError: if the stream cannot be read, or holds no shadow of that name.
    """
    from quantum_trader.bootstrap import wire_cursor
    from quantum_trader.cli.screen import table_console
    from quantum_trader.gates.verdict import VerdictState
    from quantum_trader.stopping import Stop

    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    console, last = table_console(), None
    follower: Follower | None = None
    with wire_cursor(settings, since_ms) as cursor:
        while not stop.is_set():
            if follower is None or follower.stale:
                follower = _begin(cursor, settings, model, policy, models, version, follower, stop)
                if follower is None:
                    break
            else:
                drain(cursor, follower, settings.timeframe)
            for verdict in follower.verdicts():
                last = verdict
                _line(console, follower, verdict, as_json)
                if verdict.state in (VerdictState.PROMOTE, VerdictState.INVALID):
                    stop.set()
                if stop.is_set():
                    break
            if not follower.stale:
                stop.wait(POLL_S)
    return _end(console, follower, last, as_json)


def drain(cursor: "Cursor", follower: "Follower", timeframe: str) -> None:
    """Everything that is new in the stream goes to the follower."""
    from quantum_trader.archive.columns import to_table

    while records := cursor.decisions():
        follower.add(to_table(records), cursor.bars(timeframe))


def _begin(
    cursor: "Cursor",
    settings: "Settings",
    model: str,
    policy: "Policy",
    models: Path | None,
    version: int | None,
    former: "Follower | None",
    stop: "Stop",
) -> "Follower | None":
    """A follower that has read everything there is, as soon as there is a decision; None if it was stopped before."""
    from quantum_trader.archive.codes import codes
    from quantum_trader.archive.columns import to_table
    from quantum_trader.archive.follow import Follower
    from quantum_trader.cli.evidence import judged_model
    from quantum_trader.cli.policies import version_of
    from quantum_trader.cli.registered import departures
    from quantum_trader.core.bars import interval_ms

    cursor.rewind()
    while not (records := cursor.decisions()):
        if stop.wait(POLL_S):
            return None
    table = to_table(records)
    name = judged_model(table, model)
    digests = [text for text in codes(table, f"{name}.artefact")[0] if text]
    number, notes = version_of(name, digests[0] if digests else "", version, models, settings)
    if former is None:
        typer.echo(f"following {name}: {' '.join(notes)}", err=True)
    weight = settings.vote_policy().weights[name]

    def departed(table: "pa.Table", artefact: str) -> tuple[str, ...]:
        faults, said = departures(settings, table, name, artefact, policy)
        if former is None:
            typer.echo(" ".join(said), err=True)
        return faults

    follower = Follower(
        *(name, interval_ms(settings.timeframe), weight, policy),
        version=number,
        symbols=sorted(former.symbols) if former else (),
        departures=departed,
    )
    follower.add(table, cursor.bars(settings.timeframe))
    drain(cursor, follower, settings.timeframe)
    return follower


def _line(console: "Console", follower: "Follower", verdict: "Verdict", as_json: bool) -> None:
    from quantum_trader.core.errors import format_ms

    when = format_ms(follower.ts_end or 0)
    if as_json:
        content = {"ts_end": when, "model": follower.model, **verdict.to_dict()}
        typer.echo(json.dumps(content, allow_nan=False))
        return
    whole = verdict.whole
    log_e = whole.log_e[-1] if whole and whole.log_e else 0.0
    console.print(f"{when} cycle {verdict.cycles}, {verdict.valid:,} events, log E {log_e:+.2f}: {verdict.summary}")


def _end(console: "Console", follower: "Follower | None", last: "Verdict | None", as_json: bool) -> int:
    from quantum_trader.gates.verdict import VerdictState

    if follower is None or last is None:
        typer.echo("no cycle was complete: nothing was judged", err=True)
        return VerdictState.HOLD.exit_code
    if not as_json:
        from rich.text import Text

        from quantum_trader.report.terminal import stated, verdict_parts

        for part in (Text(), stated(last, last.summary), *verdict_parts(last, follower.bar_ms)):
            console.print(part)
            console.print()
    return last.exit_code

"""The engine's state in the terminal: what needs a look first, then the tables. Readable without colour, 100 wide."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quantum_trader.bus.books import Recount
from quantum_trader.bus.overview import GroupState, LastAnswer, Overview
from quantum_trader.bus.tally import Part, Tally
from quantum_trader.core.errors import format_ms
from quantum_trader.core.predictions import DISPLAY_NAMES, Status
from quantum_trader.report.findings import age, alarm_text, standing
from quantum_trader.report.words import NONE, STATUS_WORDS


def status_screen(
    overview: Overview,
    found: Sequence[str],
    symbols: Sequence[str],
    again: Recount | None = None,
    overrides: Sequence[str] = (),
) -> RenderableType:
    """Everything, to be printed on a rich console.

    Args:
        overview: What the server says.
        found: What needs a look, from `findings`.
        symbols: Those that should be decided.
        again: The decisions counted again, if they were.
        overrides: Votes that were granted against the rules, a sentence each.
    """
    parts: list[RenderableType] = [headline(found), engine_lines(overview), models_table(overview)]
    if overrides:
        parts.append(Text("\n".join(f"OVERRIDE  {each}" for each in overrides), style="bold red"))
    parts.append(accounting_table(overview.books.tally, "Accounting", _since(overview.books.tally)))
    if again is not None:
        title = f"Counted again from the stream ({again.trimmed:,} older decisions have left it)"
        parts.append(accounting_table(again.tally, title, ""))
    parts += [symbols_table(overview, symbols), alarms_part(overview)]
    return Group(*[piece for part in parts for piece in (part, Text())][:-1])


def headline(found: Sequence[str]) -> Text:
    """All is well, or a line for everything that needs a look."""
    if not found:
        return Text("✓ all is well", style="bold green")
    line = Text(f"! {len(found)} {'thing needs' if len(found) == 1 else 'things need'} a look", style="bold red")
    for each in found:
        line.append(f"\n  - {each}", style="not bold")
    return line


def engine_lines(overview: Overview) -> Text:
    """Who runs, and what waits."""
    lines = Text()
    lines.append("Engine   ", style="bold").append(_holder(overview))
    lines.append("\nBars     ", style="bold").append(_group(overview.engine, "read by nobody yet"))
    lines.append("\nArchive  ", style="bold").append(_group(overview.archive, "no archive reads the decisions"))
    return lines


def models_table(overview: Overview) -> RenderableType:
    """Each model as it was asked last: role, artefact, answer."""
    if not overview.answers:
        return Text("No decision in the stream, so nobody was asked.")
    table = _table("Model", "Role", "Artefact", "Last answer", "For", "Ago")
    for answer in overview.answers:
        table.add_row(
            _name(answer.model),
            Text(answer.role, style="cyan" if answer.role == "shadow" else ""),
            answer.artefact.removeprefix("sha256:")[:12] or NONE,
            _answer(answer),
            answer.symbol,
            age(overview.now_ms - answer.written_ms),
        )
    return _titled("Models (as they were asked last)", table)


def accounting_table(tally: Tally, title: str, caption: str) -> RenderableType:
    """For each model and role: the decisions it took part in, how its predictions ended, and whether that adds up."""
    if not tally.parts:
        return Text(f"{title}: no decision was counted yet.")
    heads = [STATUS_WORDS[status] for status in Status]
    table = _table("Model", "Role", "decisions =", *heads, "", right=range(2, 3 + len(heads)))
    for part in tally.parts:
        answers = tally.answers.get(part, {})
        counts = [f"{answers.get(status.value, 0):,}" for status in Status]
        table.add_row(_name(part.model), part.role, f"{tally.took_part(part):,}", *counts, _mark(tally, part))
    return _titled(f"{title}: {tally.decisions:,} decisions, {tally.intents:,} intents{caption}", table)


def symbols_table(overview: Overview, symbols: Sequence[str]) -> RenderableType:
    """Each symbol's newest decision."""
    table = _table("Symbol", "Bar close (UTC)", "Action", "Confidence", "Agree", "Ago", right=(3,))
    last = {decision.symbol: decision for decision in overview.decisions}
    for symbol in [*symbols, *(each for each in last if each not in symbols)]:
        decision = last.get(symbol)
        if decision is None:
            table.add_row(symbol, NONE, NONE, NONE, NONE, "never")
            continue
        table.add_row(
            symbol,
            format_ms(decision.ts_close),
            decision.action,
            f"{decision.confidence:.4f}",
            f"{decision.consensus_count} of {decision.voters}",
            age(overview.now_ms - decision.written_ms),
        )
    return _titled("Symbols (newest decision of each)", table)


def alarms_part(overview: Overview) -> RenderableType:
    """Standing alarms, and how many were left behind by a former life of the engine."""
    now, former = standing(overview), len(overview.alarms) - len(standing(overview))
    note = f" ({former} raised before this engine started, and not raised again since)" if former else ""
    if not now:
        return Text(f"No alarm stands.{note}")
    table = _table("Alarm", "What", "For")
    for alarm in now:
        table.add_row(Text(alarm.name, style="red"), Text(alarm_text(alarm)), age(overview.now_ms - alarm.raised_ms))
    return _titled(f"Alarms that stand{note}", table)


def _holder(overview: Overview) -> str:
    if overview.holder is None:
        return f"none: nobody holds the lease of group {overview.group}"
    alive = {True: "has ended", False: "alive", None: "on another machine"}[overview.holder_gone]
    return f"{overview.holder}\n         {alive}, lease renewed {age(overview.holder.silent_ms)} ago"


def _group(group: GroupState | None, none: str) -> str:
    if group is None:
        return none
    unread = "an unknown number" if group.unread is None else f"{group.unread:,}"
    oldest = "" if group.oldest_ms is None else f"; the oldest has waited for {age(group.oldest_ms)}"
    return f"{unread} unread, {group.pending:,} read and not acknowledged{oldest}"


def _answer(answer: LastAnswer) -> Text:
    if answer.status == Status.OK.value:
        return Text(f"{answer.action} {answer.confidence:.4f}")
    return Text(answer.reason if answer.reason.startswith(answer.status) else f"{answer.status}: {answer.reason}")


def _mark(tally: Tally, part: Part) -> Text:
    took, said = tally.took_part(part), tally.answered(part)
    return Text("✓", style="green") if took == said else Text(f"✗ MISMATCH: {said:,}", style="bold red")


def _since(tally: Tally) -> str:
    return "" if tally.since is None else f", since {format_ms(tally.since)}"


def _name(model: str) -> Text:
    return Text(DISPLAY_NAMES.get(model, model))


def _titled(title: str, table: Table) -> RenderableType:
    # A table's own title would be broken at the table's width.
    return Group(Text(title, style="bold"), table)


def _table(*columns: str, right: Sequence[int] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number in right else "left", no_wrap=number in right)
    return table

"""A report in the terminal: the verdict in one sentence first, then the tables. Readable without colour, 100 wide."""

import math

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quantum_trader.core.predictions import DISPLAY_NAMES, Status
from quantum_trader.gates.deployment import RECENT
from quantum_trader.gates.evidence import EVIDENCE
from quantum_trader.gates.result import GateResult
from quantum_trader.gates.verdict import Verdict
from quantum_trader.report.flips import Flips
from quantum_trader.report.intents import IntentLine
from quantum_trader.report.model import ModelReport, ReportData
from quantum_trader.report.words import (
    NONE,
    SECTIONS,
    STATE_MARKS,
    STATUS_WORDS,
    basis_points,
    basis_points_se,
    days,
    decimal,
    gate_needs,
    gate_number,
    gate_sizes,
    gate_threshold,
    interval,
    minute,
    percent,
    percent_se,
    plain_rule,
    price,
    side_by_side,
)

_COLOURS = {
    "PASS": "green",
    "PROMOTE": "green",
    "FAIL": "red",
    "REJECT": "red",
    "INVALID": "red",
    "INSUFFICIENT": "yellow",
    "HOLD": "yellow",
    "BUY": "cyan",
    "SELL": "magenta",
}


def summary(data: ReportData) -> RenderableType:
    """The whole report, to be printed on a rich console."""
    parts: list[RenderableType] = [verdict_line(data), facts(data)]
    if data.models:
        parts += [models_table(data), statuses_table(data)]
    if data.verdict is not None:
        parts += verdict_parts(data.verdict, data.bar_ms)
    if data.charts is not None and data.charts.flips is not None:
        parts.append(flips_line(data.charts.flips, DISPLAY_NAMES[data.judged or ""]))
    if data.models:
        parts.append(intents_table(data.intents))
    parts += [Text(f"Note: {note}") for note in data.notes]
    return Group(*(piece for part in parts for piece in (part, Text())))


def verdict_parts(verdict: Verdict, bar_ms: int) -> list[RenderableType]:
    """The lines of every section, what blocks a promotion, why, and the plain rule beside it."""
    parts: list[RenderableType] = [lines_table(verdict)]
    if verdict.blocking:
        parts.append(blocking(verdict, bar_ms))
    parts.append(reasons(verdict))
    if verdict.plain is not None:
        parts += [plain_table(verdict), Text(plain_rule(verdict))]
    return parts


def verdict_line(data: ReportData) -> Text:
    """The verdict in one sentence, its first word coloured."""
    if data.verdict is None:
        return Text(data.headline, style="bold yellow")
    return stated(data.verdict, data.headline)


def stated(verdict: Verdict, headline: str) -> Text:
    """A sentence on a verdict, its first word coloured."""
    word = verdict.state.value
    line = Text(f"{STATE_MARKS[word]} {headline}", style="bold")
    line.highlight_words([word], style=_COLOURS[word])
    return line


def facts(data: ReportData) -> Text:
    """What was judged: period, symbols, decisions, and whether the market is simulated."""
    if not data.decisions:
        return Text(data.title)
    judged = f", {DISPLAY_NAMES[data.judged]} judged" if data.judged else ""
    actions = ", ".join(f"{name} {percent(count / data.decisions)}" for name, count in data.actions.items())
    line = Text(
        f"{data.title}: {minute(data.ts_first)} to {minute(data.ts_last)} UTC ({days(data.ts_last - data.ts_first)}), "
        f"{_symbols(data.symbols)}, {data.timeframe} bars{judged}.\n"
        f"{data.decisions:,} decisions ({actions}), {data.outcomes:,} with a known outcome."
    )
    if data.simulated:
        line.append("\nThe market is SIMULATED: these numbers say nothing about any real market.", style="bold yellow")
    return line


def _symbols(symbols: tuple[str, ...], shown: int = 6) -> str:
    rest = len(symbols) - shown
    return ", ".join(symbols[:shown]) + (f" and {rest} more" if rest > 0 else "")


def models_table(data: ReportData) -> Table:
    """What each model says, how surely, how often rightly, and whether the ensemble says the same."""
    table = _table("Models (shares of valid answers; mean and spread of confidence; ± standard error by cycles)")
    table.add_column("Model")
    table.add_column("Role")
    for name in ("BUY", "SELL", "HOLD", "Conf.", "Spread", "Hit rate ± se (n)", "Agrees ± se"):
        table.add_column(name, justify="right", no_wrap=True)
    for model in data.models:
        numbers = model.summary
        table.add_row(
            _name(model, data.judged),
            _role(model),
            *(percent(share.value) for share in (numbers.buy, numbers.sell, numbers.hold)),
            decimal(numbers.confidence.value, 3),
            decimal(numbers.spread.value, 3),
            percent_se(numbers.hit_rate, count=True),
            percent_se(numbers.agreement),
        )
    return table


def statuses_table(data: ReportData) -> Table:
    """How each model's predictions ended; every decision is counted exactly once."""
    table = _table("Predictions (every decision is counted once for every model)")
    table.add_column("Model")
    for status in Status:
        table.add_column(STATUS_WORDS[status], justify="right")
    table.add_column("decisions", justify="right")
    for model in data.models:
        counts = [f"{model.statuses[status.value]:,}" for status in Status]
        table.add_row(_name(model, data.judged), *counts, f"{model.decisions:,}")
    return table


def lines_table(verdict: Verdict) -> Table:
    """Every line of the verdict with state, number, sizes and threshold, section by section."""
    table = _table(
        f"Read at the last complete cycle: {verdict.valid:,} valid of {verdict.rows:,} events, {verdict.cycles} cycles"
    )
    table.add_column("Line")
    table.add_column("State")
    table.add_column("Number ± se", justify="right")
    table.add_column("Threshold", justify="right")
    table.add_column("n raw / effective", justify="right")
    checks = () if verdict.whole is None else verdict.whole.checks
    section = ""
    for line in (*verdict.gates, *checks):
        if line.section != section:
            section = line.section
            needed = f"{verdict.policy.passes_needed} of {len(verdict.gates)} must pass" if section == "A" else ""
            table.add_row(Text(f"{section}  {SECTIONS[section]}", style="bold"), needed)
        z = "" if math.isnan(line.z) else f" (z {line.z:.2f})"
        table.add_row(Text(line.name), _state(line.state.value), gate_number(line) + z, *_compared(line))
    return table


def _compared(line: GateResult) -> tuple[str, str]:
    unit = " blocks" if line.name in (EVIDENCE, RECENT) else ""
    return gate_threshold(line), gate_sizes(line) + unit


def blocking(verdict: Verdict, bar_ms: int) -> Text:
    """What stands between the model and a promotion, and what each open line needs, once where several say the same."""
    text = Text("What blocks a promotion", style="bold")
    said: dict[str, list[GateResult]] = {}
    for line in verdict.blocking:
        need = gate_needs(line, bar_ms)
        said.setdefault(f"{line.reason} {need}".rstrip(), []).append(line)
    for why, lines in said.items():
        word = lines[0].state.value
        text.append(f"\n{STATE_MARKS[word]} ", style=_COLOURS[word])
        text.append(f"{', '.join(line.name for line in lines)}: ", style="bold").append(why, style="not bold")
    return text


def reasons(verdict: Verdict) -> Text:
    """Why each other line says what it says."""
    text = Text()
    checks = () if verdict.whole is None else verdict.whole.checks
    for line in (*verdict.gates, *checks):
        if line not in verdict.blocking:
            word = line.state.value
            text.append(f"{STATE_MARKS[word]} ", style=_COLOURS[word])
            text.append(f"{line.name}: ", style="bold").append(f"{line.reason}\n")
    for fault in verdict.faults:
        text.append("Fault: ", style="bold red").append(f"{fault}\n")
    for note in verdict.notes:
        text.append("Note: ", style="bold").append(f"{note}\n")
    text.rstrip()
    return text


def plain_table(verdict: Verdict) -> Table:
    """The contract beside the plain rule, gate by gate."""
    table = _table("Side by side: the contract, and the plain 3-of-4 rule on the same events")
    for name in ("Gate", "Contract", "Its number ± se", "Plain rule", "Its number"):
        table.add_column(name, justify="right" if "number" in name else "left")
    for name, ours, number, plain, its in side_by_side(verdict):
        table.add_row(name, _state(ours), number, _state(plain), its)
    return table


def _state(word: str) -> Text:
    return Text(f"{STATE_MARKS[word]} {word}", style=f"bold {_COLOURS[word]}")


def flips_line(flips: Flips, who: str) -> Text:
    """What the shadow's vote would have changed, in one sentence."""
    share = percent(flips.flipped / flips.decisions)
    line = f"Had {who} voted at weight {flips.weight:g}: {flips.flipped:,} of {flips.decisions:,} decisions ({share}) "
    line += "would have been another action"
    if flips.settled:
        line += f"; {flips.settled:,} of them settled, together {basis_points(flips.total)} after cost "
        line += f"(95%: {interval(flips.total, flips.total_se)}; {basis_points_se(flips.per_flip)} each)"
    return Text(f"{line}.")


def intents_table(intents: tuple[IntentLine, ...]) -> RenderableType:
    """Sample intents, or a sentence where no decision was actionable."""
    if not intents:
        return Text("No intents: every decision was HOLD.")
    table = _table("Sample intents (consensus: agreeing voters of all models in the breakdown)")
    for name in ("Bar close (UTC)", "Symbol", "Side"):
        table.add_column(name)
    for name in ("Entry", "Confidence", "Consensus"):
        table.add_column(name, justify="right")
    table.add_column("Shadow said")
    for line in intents:
        table.add_row(
            minute(line.ts_close),
            Text(line.symbol),
            Text(line.side, style=_COLOURS[line.side]),
            price(line.entry_price),
            f"{line.confidence:.4f}",
            f"{line.consensus}/{line.total}",
            Text(f"{DISPLAY_NAMES[line.shadow]} {line.answer}" if line.shadow else NONE),
        )
    return table


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )


def _name(model: ModelReport, judged: str | None) -> Text:
    return Text(model.display, style="bold" if model.name == judged else "")


def _role(model: ModelReport) -> Text:
    return Text(model.role, style="cyan" if model.roles == ("shadow",) else "")

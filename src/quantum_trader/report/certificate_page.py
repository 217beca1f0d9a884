"""The certificate for people: a table in the terminal, and one HTML file that needs nothing but itself."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quantum_trader.core.predictions import DISPLAY_NAMES
from quantum_trader.report.certificate import (
    EXIT_CODES,
    Certificate,
    FaultResult,
    Kind,
    Latency,
    Ratio,
    Timing,
    Verdict,
)
from quantum_trader.report.chart import Chart
from quantum_trader.report.html import template, write_whole
from quantum_trader.report.svg import Ink, figure, inline, style
from quantum_trader.report.words import NONE, minute

MARKS = {Verdict.PASS: "✓", Verdict.SLOW: "…", Verdict.FAIL: "✗"}
_CONTROL = "The control has no shadow on either side: how far from 1 its ratio lies is the machine's doing."
_COLOURS = {Verdict.PASS: "green", Verdict.SLOW: "yellow", Verdict.FAIL: "red"}
_KINDS = {Verdict.PASS: "good", Verdict.SLOW: "open", Verdict.FAIL: "bad"}


def screen(certificate: Certificate) -> RenderableType:
    """The verdict in one sentence, what it rests on, a row for every fault, and every failed check."""
    word = certificate.verdict
    headline = Text(f"{MARKS[word]} {certificate.sentence}", style="bold")
    headline.highlight_words([word.value], style=_COLOURS[word])
    parts: list[RenderableType] = [headline, Text(_basis(certificate)), _table(certificate)]
    if certificate.kinds:
        parts.append(Text("\n".join(kind_line(kind) for kind in certificate.kinds)))
    times = "Times: from publishing a bar to its decisions and intents, ms."
    parts.append(Text(f"{times} {goals_line(certificate)}\n{_CONTROL}"))
    failures = certificate.failures
    if failures:
        parts.append(Text("\n".join(f"✗ {line}" for line in failures), style="red"))
    return Group(*[piece for part in parts for piece in (part, Text())][:-1])


def _basis(certificate: Certificate) -> str:
    bars, shadow = certificate.bars, DISPLAY_NAMES[certificate.shadow]
    voters = ", ".join(DISPLAY_NAMES[name] for name, member in certificate.models.items() if member.role == "voter")
    return (
        f"{shadow} in shadow, {voters} vote. {bars.groups:,} bars of {len(bars.symbols)} symbols, {bars.timeframe}, "
        f"{minute(bars.ts_first)} to {minute(bars.ts_last)} UTC, of {bars.file}; "
        f"grace {certificate.goals.grace_ms:g} ms."
    )


def goals_line(certificate: Certificate) -> str:
    """What the times had to keep."""
    goals = certificate.goals
    return (
        f"Goals: median of the paired ratios at most {goals.ratio:g}, while the breaker is open at most "
        f"{goals.ratio_open:g}, as the mean over all faults of a kind; of one fault at most {goals.allowance:g} more, "
        f"because one pair of processes tells it no more exactly. 99th percentile of each fault at most "
        f"{goals.grace_ms:g} ms above the one without the shadow."
    )


def _table(certificate: Certificate) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("Fault", no_wrap=True)
    for name in ("Same bytes", "Accounts"):
        table.add_column(name, justify="center")
    table.add_column("Shadow's answers")
    for name in ("p50 off/on", "p99 off/on", "Ratio (95 %)", "Open"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Times")
    table.add_row("(control)", "", "", "no shadow on either side", *_numbers(certificate.control), "")
    for fault in certificate.faults:
        table.add_row(
            fault.fault,
            _mark(good=fault.same_bytes),
            _mark(good=fault.accounted),
            answers(fault),
            *_numbers(fault.timing),
            Text("MISS", "yellow") if fault.timing.missed else Text("PASS", "green"),
        )
    return table


def _numbers(timing: Timing) -> tuple[str, str, str, str]:
    return (
        both(timing.off, timing.on, "p50"),
        both(timing.off, timing.on, "p99"),
        ratio(timing.ratio),
        ratio(timing.ratio_open, interval=False),
    )


def _mark(*, good: bool) -> Text:
    return Text("✓" if good else "✗", style="green" if good else "bold red")


def answers(fault: FaultResult, shown: int = 2) -> str:
    """The shadow's most frequent answers, with their shares."""
    total = sum(fault.answers.values())
    parts = [f"{word} {_share(n / total)}" for word, n in list(fault.answers.items())[:shown]]
    rest = len(fault.answers) - shown
    return ", ".join(parts) + (f", {rest} more" if rest > 0 else "")


def _share(value: float) -> str:
    return "<1%" if f"{value:.0%}" == "0%" else f"{value:.0%}"


def both(off: Latency, on: Latency, field: str) -> str:
    """A percentile of both sides."""
    return " / ".join(f"{getattr(side, field):.1f}" for side in (off, on))


def ratio(value: Ratio | None, *, interval: bool = True) -> str:
    """A median ratio, with its interval if asked for."""
    if value is None:
        return NONE
    return f"{value.median:.3f}" + (f" ({value.low:.2f} to {value.high:.2f})" if interval else "")


def kind_line(kind: Kind) -> str:
    """What a kind of faults costs, against its goal."""
    n = len(kind.faults)
    who = f"{kind.name[0].upper()}{kind.name[1:]} ({n} {'fault' if n == 1 else 'faults'})"
    error = "" if kind.error is None else f" ± {kind.error:.3f}"
    return f"{who}: ratio {kind.ratio:.3f}{error}, goal {kind.goal:g}, {'kept' if kind.met else 'missed'}"


def write_page(certificate: Certificate, path: Path) -> None:
    """Write the HTML file in one step: whole, or not at all.

    Raises:
        OSError: if the folder cannot be written to; an older file is then left as it was.
    """
    write_whole(path, render(certificate))


def render(certificate: Certificate) -> str:
    """The document; the same certificate gives the same bytes."""
    word = certificate.verdict
    charts: list[Chart] = []
    if certificate.faults:
        with style():
            charts = [
                ratios_chart(certificate),
                *(bars_chart(fault, i) for i, fault in enumerate(certificate.faults, 1)),
            ]
    return template("certificate.html.j2").render(
        certificate=certificate,
        names=DISPLAY_NAMES,
        mark=MARKS[word],
        kind=_KINDS[word],
        word=word.value,
        after=certificate.sentence.removeprefix(word.value),
        code=EXIT_CODES[word],
        minute=minute,
        answers=answers,
        both=both,
        ratio=ratio,
        goals_line=goals_line,
        control=_CONTROL,
        kind_line=kind_line,
        charts=charts,
    )


def ratios_chart(certificate: Certificate) -> Chart:
    """The paired median ratio of every fault with its interval, against the goal."""
    timings = {"no shadow (control)": certificate.control, **{one.fault: one.timing for one in certificate.faults}}
    names = list(timings)[::-1]
    drawing = figure(0.7 + 0.24 * len(names))
    axes = drawing.subplots()
    rows = np.arange(len(names))
    ratios = [timings[name].ratio for name in names]
    axes.axvline(1.0, color=Ink.LINE, linewidth=1.2)
    axes.axvline(certificate.goals.ratio, color=Ink.MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.hlines(rows, [r.low for r in ratios], [r.high for r in ratios], color=Ink.ACCENT, linewidth=1.8, alpha=0.6)
    axes.plot([r.median for r in ratios], rows, color=Ink.ACCENT, marker="o", markersize=5, linestyle="none")
    axes.set_yticks(rows, names)
    axes.grid(visible=False)
    axes.set_xlabel("with the shadow / without it, the same bar")
    caption = (
        "Bar to intent with the shadow, divided by the time of the same bar without it: median and 95 % interval "
        "(blocks of neighbouring bars). The dashed line is the goal for the mean of those that answer, "
        f"{certificate.goals.ratio:g}. The control has no shadow on either side."
    )
    said = ", ".join(f"{fault.fault} {fault.timing.ratio.median:.3f}" for fault in certificate.faults)
    title = "What a faulty shadow costs a bar"
    return Chart("ratios", title, caption, inline(drawing, "ratios", f"Median paired ratios by fault: {said}."))


def bars_chart(fault: FaultResult, number: int) -> Chart:
    """The times of every bar under one fault, both sides."""
    drawing = figure(1.55)
    axes = drawing.subplots()
    off, on = (np.asarray(side, dtype=np.float64) for side in (fault.times.off_ms, fault.times.on_ms))
    bars = np.arange(1, len(off) + 1)
    axes.plot(bars, off, color=Ink.MUTED, linewidth=0.8)
    axes.plot(bars, on, color=Ink.ACCENT, linewidth=0.8)
    _milliseconds(axes, min(off.min(), on.min()), max(off.max(), on.max()))
    axes.set_xlim(0.5, len(off) + 0.5)
    axes.set_ylabel("ms")
    label = (
        f"Milliseconds of each of {len(off)} bars with the fault {fault.fault}: median {fault.timing.on.p50:.1f} with "
        f"the shadow, {fault.timing.off.p50:.1f} without it."
    )
    return Chart(f"bars-{number}", fault.fault, f"It {fault.what}.", inline(drawing, f"bars-{number}", label))


def _milliseconds(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis whose few ticks are round numbers."""
    axes.set_yscale("log")
    axes.set_ylim(low / 1.15, high * 1.15)
    known = [step * 10.0**power for power in range(-2, 6) for step in (1, 2, 5)]
    ticks = [tick for tick in known if low / 1.15 <= tick <= high * 1.15]
    axes.set_yticks(ticks[:: max(1, math.ceil(len(ticks) / 4))])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()

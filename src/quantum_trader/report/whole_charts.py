"""The charts that belong to the whole verdict: evidence over time, shares with intervals, answers against answers."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from quantum_trader.core.predictions import DISPLAY_NAMES, Action
from quantum_trader.gates.summary import ModelSummary
from quantum_trader.report.chart import Chart, charted, days_of
from quantum_trader.report.flips import Flips
from quantum_trader.report.model import ReportData
from quantum_trader.report.reliability_chart import reliability_chart
from quantum_trader.report.svg import Ink, date_axis, figure, quiet
from quantum_trader.report.views import IntArray
from quantum_trader.report.whole import EvidenceView, Scored
from quantum_trader.report.words import Z95, decimal, percent, share_interval

_ACTIONS = tuple(action.name for action in Action)


def whole_charts(data: ReportData) -> list[Chart]:
    """The charts of a judged model; none where nothing was judged."""
    if data.charts is None or data.charts.whole is None or data.judged_report is None:
        return []
    view, who = data.charts.whole, DISPLAY_NAMES[data.judged or ""]
    share_max = data.verdict.policy.share_max if data.verdict else math.nan
    again = reliability_chart(view.recalibrated, who, name="recalibrated", title="And after a recalibration?")
    return [
        evidence_chart(view.evidence, who),
        intervals_chart(data.judged_report.summary, share_max, who),
        again.with_caption(_recalibrated(view.before, view.after)) if again.svg else again,
        matrix_chart("confusion", f"What do {who} and the ensemble say?", view.confusion, (who, "ensemble")),
        flips_matrix(data.charts.flips, who),
    ]


def _recalibrated(before: Scored, after: Scored) -> str:
    return (
        "Each probability is corrected by a line fitted, cycle by cycle, to outcomes that were known by then. On these "
        f"{after.n:,} events the calibration error goes from {decimal(before.ece, 3)} to {decimal(after.ece, 3)}, the "
        f"Brier score from {decimal(before.brier)} to {decimal(after.brier)}. The gates read the raw confidence."
    )


def evidence_chart(view: EvidenceView | None, who: str) -> Chart:
    """Logarithm of E at every cycle's end, with what it must reach."""
    title = f"Does {who} know something of its own?"
    if view is None:
        return Chart("evidence", title, "", missing="No cycle is complete yet.")
    best = float(view.log_e.max())
    caption = (
        "Evidence E at every cycle's end, on a logarithmic axis: what a bet on its own view, beyond what the voters "
        f"know, would have made of 1. At the dashed line, E = {math.exp(view.level):.4g}, it is enough, however often "
        f"one looks. Last {_odds(float(view.log_e[-1]))}, highest {_odds(best)}."
    )
    drawing = figure(2.9)
    axes = drawing.subplots()
    x, y = days_of(view.ts), view.log_e / math.log(10.0)
    level = view.level / math.log(10.0)
    axes.axhline(0.0, color=Ink.LINE, linewidth=1.2)
    axes.axhline(level, color=Ink.MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.plot(x, y, color=Ink.ACCENT, linewidth=1.6, marker="o" if len(x) < 3 else "", markersize=4)
    if view.held is not None:
        axes.plot(x[view.held], y[view.held], marker="o", markersize=7, color=Ink.BUY)
        caption += " The dot marks the first cycle at whose end everything held."
    axes.set(ylim=(min(float(y.min()), 0.0) - 0.15, max(float(y.max()), level) + 0.25), ylabel="E")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_formatter(lambda value, _: f"{10.0**value:g}")
    axes.margins(x=0.02)
    date_axis(axes)
    label = f"Evidence over {len(x)} cycles: last {_odds(float(view.log_e[-1]))}, highest {_odds(best)}."
    return charted("evidence", title, caption, drawing, label)


def _odds(log_e: float) -> str:
    return f"{math.exp(min(log_e, 700.0)):.3g}"


def intervals_chart(summary: ModelSummary, share_max: float, who: str) -> Chart:
    """Shares of the three actions with 95 % intervals, and the largest share that is allowed."""
    title = f"How often does {who} say what?"
    shares = {"SELL": summary.sell, "HOLD": summary.hold, "BUY": summary.buy}
    if not summary.valid:
        return Chart("intervals", title, "", missing=f"{who} gave no answer.")
    caption = "Shares of its valid answers with 95% intervals, clustered by cycle"
    caption += "." if math.isnan(share_max) else f"; none may be above {percent(share_max, 0)} (dashed)."
    drawing = figure(1.7)
    axes = drawing.subplots()
    for place, (name, share) in enumerate(shares.items()):
        half = Z95 * (0.0 if math.isnan(share.se) else share.se)
        axes.barh(place, share.value, height=0.62, color=Ink[name], linewidth=0, alpha=0.85)
        axes.hlines(place, max(share.value - half, 0.0), min(share.value + half, 1.0), color=Ink.TEXT, linewidth=1.8)
        axes.text(min(share.value + half, 0.86) + 0.015, place, percent(share.value), va="center", fontsize=9)
    if not math.isnan(share_max):
        axes.axvline(share_max, color=Ink.MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set(xlim=(0, 1), yticks=range(len(shares)))
    axes.set_yticklabels(list(shares))
    axes.tick_params(axis="y", labelcolor=Ink.TEXT)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    words = ", ".join(f"{name} {percent(share.value)} ({share_interval(share)})" for name, share in shares.items())
    return charted("intervals", title, caption, drawing, f"Action shares of {who}: {words}.")


def matrix_chart(name: str, title: str, counts: IntArray, sides: tuple[str, str], caption: str = "") -> Chart:
    """Counts by the action of one side (rows) and of another (columns)."""
    total = int(counts.sum())
    if not total:
        return Chart(name, title, "", missing="There is nothing to compare yet.")
    same = int(np.trace(counts))
    caption = caption or (
        f"{total:,} events on which {sides[0]} answered, by its action (rows) and the {sides[1]}'s (columns); they "
        f"agree on {same:,}, {percent(same / total)}."
    )
    drawing = figure(2.6)
    axes = drawing.subplots()
    for row in range(3):
        for place in range(3):
            _cell(axes, row, place, int(counts[row, place]), total)
    axes.set(xlim=(-0.5, 2.5), ylim=(2.5, -0.5), ylabel=sides[0], xlabel=sides[1])
    axes.set_xticks(range(3), _ACTIONS)
    axes.set_yticks(range(3), _ACTIONS)
    axes.tick_params(labelcolor=Ink.TEXT)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    quiet(axes)
    words = ", ".join(f"{_ACTIONS[i]} and {_ACTIONS[j]} {int(counts[i, j]):,}" for i in range(3) for j in range(3))
    return charted(name, title, caption, drawing, f"{sides[0]} against {sides[1]}: {words}.")


def _cell(axes: Axes, row: int, place: int, count: int, total: int) -> None:
    depth = 0.04 + 0.75 * count / total
    colour = Ink.ACCENT if row == place else Ink.MUTED
    axes.add_patch(Rectangle((place - 0.47, row - 0.46), 0.94, 0.92, facecolor=colour, alpha=depth, linewidth=0))
    weight = "bold" if row == place else "normal"
    axes.text(place, row, f"{count:,}\n{percent(count / total)}", ha="center", va="center", fontsize=9, weight=weight)


def flips_matrix(flips: Flips | None, who: str) -> Chart:
    """Decisions as they were against decisions with the shadow's vote."""
    title = f"Which decisions would {who} have changed?"
    if flips is None:
        return Chart("flips-matrix", title, "", missing="No model watched in shadow, so nobody's vote is missing.")
    caption = (
        f"{flips.decisions:,} decisions as they were (rows) and with {who} voting at weight {flips.weight:g} "
        f"(columns); {flips.flipped:,}, {percent(flips.flipped / flips.decisions)}, would have been another."
    )
    return matrix_chart("flips-matrix", title, flips.matrix, ("decided", f"with {who}"), caption)

"""The charts of a report as inline SVG, each with what it shows in words."""

import math
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from quantum_trader.core.labels import HORIZON
from quantum_trader.core.predictions import DISPLAY_NAMES
from quantum_trader.report.chart import Chart, charted, days_of, thousands
from quantum_trader.report.flips import Flips
from quantum_trader.report.model import ModelReport, ReportData
from quantum_trader.report.reliability_chart import reliability_chart
from quantum_trader.report.svg import Ink, date_axis, figure, quiet, style
from quantum_trader.report.views import (
    CONFIDENCE_EDGES,
    AgreementView,
    FloatArray,
    IntArray,
    PriceView,
    SharesView,
)
from quantum_trader.report.whole_charts import whole_charts
from quantum_trader.report.words import basis_points, percent


def draw_all(data: ReportData) -> list[Chart]:
    """Every chart of a report; none without decisions."""
    if data.charts is None:
        return []
    who = DISPLAY_NAMES[data.judged] if data.judged else "the shadow"
    with style():
        return [
            reliability_chart(data.charts.reliability, who),
            confidence_chart(data.models, data.judged, data.verdict.policy.spread_min if data.verdict else None),
            agreement_chart(data.charts.agreement),
            shares_chart(data.charts.shares),
            flips_chart(data.charts.flips, who),
            *whole_charts(data),
            *(price_chart(view, k) for k, view in enumerate(data.charts.prices, 1)),
        ]


def confidence_chart(models: tuple[ModelReport, ...], judged: str | None, asked: float | None) -> Chart:
    """One histogram of confidence per model."""
    title = "How sure is each model?"
    caption = (
        "Distribution of confidence, max(p_up, 1 − p_up), as a share of each model's valid answers; the judged model "
        "is highlighted; sd is the standard deviation"
    )
    caption += "." if asked is None else f", of which a gate asks at least {asked:g}."
    drawing = figure(3.5)
    rows = (len(models) + 1) // 2
    grid = drawing.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, model in zip(grid, models, strict=False):
        total = max(1, int(model.confidences.sum()))
        colour = Ink.ACCENT if model.name == judged else Ink.MUTED
        widths = np.diff(CONFIDENCE_EDGES) * 0.9
        axes.bar(CONFIDENCE_EDGES[:-1], model.confidences / total, widths, align="edge", color=colour, alpha=0.75)
        spread = model.summary.spread.value
        axes.set_title(model.display + (", no answers" if math.isnan(spread) else f", sd {spread:.3f}"))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.set_xlim(0.5, _top(models))
    for axes in grid[len(models) :]:
        axes.set_visible(False)
    drawing.supxlabel("confidence", fontsize=9, color=Ink.MUTED)
    words = ", ".join(f"{model.display} mean {model.summary.confidence.value:.3f}" for model in models)
    return charted("confidence", title, caption, drawing, f"Histograms of confidence per model: {words}.")


def agreement_chart(view: AgreementView) -> Chart:
    """A matrix of how often two take the same action."""
    title = "Who agrees with whom?"
    caption = (
        "Share of decisions on which two took the same action (BUY, SELL or HOLD), where both answered. A voter is "
        "part of the ensemble and agrees with it for that reason alone; a shadow is not."
    )
    names = [DISPLAY_NAMES.get(name, name.capitalize()) for name in view.names]
    drawing = figure(3.5)
    axes = drawing.subplots()
    m = len(names)
    for i in range(m):
        for j in range(m):
            share = float(view.share[i, j])
            depth = 0.0 if i == j or math.isnan(share) else 0.06 + 0.6 * share**1.5
            box = Rectangle((j - 0.47, i - 0.46), 0.94, 0.92, facecolor=Ink.ACCENT, alpha=depth, linewidth=0)
            axes.add_patch(box)
            weight = "bold" if m - 1 in (i, j) else "normal"
            text = "" if i == j else percent(share, 0)
            axes.text(j, i, text, ha="center", va="center", fontsize=10, fontweight=weight)
    axes.set(xlim=(-0.5, m - 0.5), ylim=(m - 0.5, -0.5))
    axes.set_xticks(range(m), names)
    axes.set_yticks(range(m), names)
    axes.tick_params(labelcolor=Ink.TEXT)
    axes.xaxis.tick_top()
    quiet(axes)
    pairs = [(i, j) for i in range(m) for j in range(i + 1, m)]
    words = ", ".join(f"{names[i]} and {names[j]} {percent(float(view.share[i, j]), 0)}" for i, j in pairs)
    return charted("agreement", title, caption, drawing, f"Agreement matrix: {words}.")


def shares_chart(view: SharesView) -> Chart:
    """Stacked shares of the three actions over time, a strip for each model and the ensemble."""
    title = "What do they say over time?"
    caption = (
        f"Share of BUY (top), HOLD (middle) and SELL (bottom) in periods of {view.bars:,} "
        f"bar{'s' if view.bars > 1 else ''}; an empty period had no answer."
    )
    drawing = figure(3.5)
    names = ["ensemble", *(name for name in view.shares if name != "ensemble")]
    strips = drawing.subplots(len(names), 1, sharex=True, squeeze=False).ravel()
    left, width = days_of(view.edges[:-1]), np.diff(days_of(view.edges))
    for axes, name in zip(strips, names, strict=True):
        sell, hold, buy = np.nan_to_num(view.shares[name]).T
        axes.bar(left, sell, width, align="edge", color=Ink.SELL, linewidth=0, label="SELL")
        axes.bar(left, hold, width, bottom=sell, align="edge", color=Ink.HOLD, linewidth=0, label="HOLD")
        axes.bar(left, buy, width, bottom=sell + hold, align="edge", color=Ink.BUY, linewidth=0, label="BUY")
        axes.set(ylim=(0, 1), xlim=(left[0], left[-1] + width[-1]), yticks=[])
        axes.set_ylabel(
            DISPLAY_NAMES.get(name, "Ensemble"), rotation=0, ha="right", va="center", color=Ink.TEXT, labelpad=6
        )
        quiet(axes)
    date_axis(strips[-1])
    handles, labels = strips[0].get_legend_handles_labels()
    drawing.legend(handles[::-1], labels[::-1], loc="outside upper right", ncols=3, handlelength=1, handleheight=0.9)
    words = ", ".join(
        f"{DISPLAY_NAMES.get(name, 'ensemble')} mean BUY {percent(_mean(view.shares[name][:, 2]), 0)}, "
        f"SELL {percent(_mean(view.shares[name][:, 0]), 0)}"
        for name in names
    )
    return charted("shares", title, caption, drawing, f"Action shares over time: {words}.")


def flips_chart(flips: Flips | None, who: str) -> Chart:
    """Cumulative after-cost log return of the decisions that the shadow's vote would have changed."""
    title = f"What if {who} had voted?"
    if flips is None or not flips.settled:
        why = _no_flips(flips, who)
        return Chart("flips", title, "", missing=why)
    curve = flips.curve
    thinned = f" Each point sums {curve.per_point} flips, the band spans what lies between." * (curve.per_point > 1)
    caption = (
        f"A counterfactual over the whole window: the recorded votes are counted again with {who} at weight "
        f"{flips.weight:g}. Cumulative log return after a cost of {flips.cost:g} per unit of turnover, of the "
        f"{flips.settled:,} flipped decisions whose outcome is known; each is held {HORIZON} bars by itself, "
        f"overlapping ones add up, so this is no account's equity.{thinned}"
    )
    drawing = figure(2.9)
    axes = drawing.subplots()
    x, y = days_of(curve.ts), 1e4 * curve.value
    axes.axhline(0, color=Ink.MUTED, linewidth=1.0)
    if curve.per_point > 1:
        axes.fill_between(x, 1e4 * curve.low, 1e4 * curve.high, color=Ink.ACCENT, alpha=0.2, linewidth=0)
    axes.step(x, y, where="post", color=Ink.ACCENT, linewidth=1.6)
    axes.plot(x[-1:], y[-1:], marker="o", markersize=5, color=Ink.ACCENT)
    axes.set_ylabel("basis points")
    axes.yaxis.set_major_formatter(FuncFormatter(thousands))
    axes.margins(x=0.02)
    date_axis(axes)
    label = (
        f"Equity of flips: {flips.flipped:,} decisions flipped, {flips.settled:,} settled, together "
        f"{basis_points(flips.total)} after cost; lowest {basis_points(float(curve.low.min()))}, "
        f"highest {basis_points(float(curve.high.max()))}."
    )
    return charted("flips", title, caption, drawing, label)


def _no_flips(flips: Flips | None, who: str) -> str:
    if flips is None:
        return "No model watched in shadow, so nobody's vote is missing."
    if not flips.flipped:
        return f"The vote of {who} at weight {flips.weight:g} would have changed none of {flips.decisions:,} decisions."
    return f"{flips.flipped:,} decisions would have been flipped, but no outcome of theirs is known yet."


def price_chart(view: PriceView, number: int) -> Chart:
    """Price of one symbol with its BUY and SELL intents."""
    each = "one bar" if view.per_point == 1 else f"{view.per_point} bars: their last close, the band from low to high"
    intents = f"{int(view.buys.sum()):,} BUY, {int(view.sells.sum()):,} SELL"
    several = max(int(view.buys.max()), int(view.sells.max())) > 1
    caption = f"{intents}. Each point is {each}{'; a larger triangle stands for more intents' if several else ''}."
    drawing = figure(2.7)
    axes = drawing.subplots()
    x = days_of(view.ts)
    axes.fill_between(x, view.low, view.high, color=Ink.MUTED, alpha=0.22, linewidth=0)
    axes.plot(x, view.close, color=Ink.TEXT, linewidth=1.1)
    gap = 0.035 * float(np.nanmax(view.high) - np.nanmin(view.low))
    _marks(axes, x, view.low - gap, view.buys, "^", Ink.BUY)
    _marks(axes, x, view.high + gap, view.sells, "v", Ink.SELL)
    axes.margins(x=0.015, y=0.06)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    date_axis(axes)
    last = view.close[np.isfinite(view.close)][-1]
    label = f"Price of {view.symbol}, last {last:,.6g}, with {intents} intents."
    return charted(f"price-{number}", view.symbol, caption, drawing, label)


def _marks(axes: Axes, x: FloatArray, y: FloatArray, counts: IntArray, marker: str, colour: Ink) -> None:
    """Markers in up to three sizes by how many intents they stand for."""
    most = int(counts.max())
    sizes = (3.2, 4.6, 6.0) if most > 2 else (4.6, 6.0)
    bounds = [0, *(math.ceil(most * k / len(sizes)) for k in range(1, len(sizes) + 1))]
    for size, (above, upto) in zip(sizes, pairwise(bounds), strict=True):
        at = (counts > above) & (counts <= upto)
        if at.any():
            axes.plot(x[at], y[at], linestyle="none", marker=marker, markersize=size, color=colour, markeredgewidth=0)


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _top(models: tuple[ModelReport, ...]) -> float:
    """Where the histograms end: above the largest confidence of any model."""
    used = np.flatnonzero(np.sum([model.confidences for model in models], axis=0))
    return float(CONFIDENCE_EDGES[used[-1] + 1]) if len(used) else 1.0

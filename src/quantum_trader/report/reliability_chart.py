"""The reliability diagram: do stated probabilities come true as often as they say?"""

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from quantum_trader.gates.sample import CYCLE
from quantum_trader.report.chart import Chart, charted, thousands
from quantum_trader.report.svg import Ink, figure
from quantum_trader.report.views import ReliabilityView


def reliability_chart(view: ReliabilityView | None, who: str, *, name: str = "reliability", title: str = "") -> Chart:
    """Share of rises against stated p_up, with intervals, above the histogram of p_up."""
    title = title or f"Does {who} mean what it says?"
    if view is None or not view.n:
        why = "No model was judged." if view is None else f"No outcome of {who} is known yet."
        return Chart(name, title, "", missing=why)
    caption = (
        f"How often the price rose against the stated probability of a rise, in {len(view.points)} bins of about equal "
        f"size; bars are 95% intervals (Wilson, effective size by cycles of {CYCLE} bars). On the dashed line it means "
        f"exactly what it says. {view.n:,} events, expected calibration error {view.ece:.3f}, Brier score "
        f"{view.brier:.4f} (always saying {view.base:.3f} would score {view.base * (1 - view.base):.4f})."
    )
    drawing = figure(3.5)
    top, bottom = drawing.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    x = np.array([point.mean_p for point in view.points])
    y = np.array([point.frequency for point in view.points])
    low = np.array([point.low for point in view.points])
    high = np.array([point.high for point in view.points])
    span = _padded(min(x.min(), view.edges[0]), max(x.max(), view.edges[-1]))
    reach = _padded(min(low.min(), x.min()), max(high.max(), x.max()))
    top.plot([0, 1], [0, 1], color=Ink.MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    top.axhline(view.base, color=Ink.LINE, linewidth=1.2)
    top.vlines(x, low, high, color=Ink.ACCENT, linewidth=1.6, alpha=0.6)
    top.plot(x, y, color=Ink.ACCENT, linewidth=1.2, marker="o", markersize=5, markeredgewidth=0)
    top.set(xlim=span, ylim=reach, ylabel="share that rose")
    top.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    bottom.bar(view.edges[:-1], view.counts, np.diff(view.edges) * 0.92, align="edge", color=Ink.ACCENT, alpha=0.45)
    bottom.set(ylabel="events", xlabel="stated probability of a rise, p_up")
    bottom.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    bottom.yaxis.set_major_formatter(FuncFormatter(thousands))
    drawing.align_ylabels()
    words = ", ".join(f"p {point.mean_p:.2f}: {point.frequency:.2f}" for point in view.points)
    return charted(name, title, caption, drawing, f"Reliability diagram of {who}. Rises per bin: {words}.")


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = 0.06 * max(high - low, 0.05)
    return max(0.0, low - pad), min(1.0, high + pad)

"""The pictures of the error rates as SVG files of their own, light and dark; the same rates, the same bytes."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import NDArray

from quantum_trader.gates.rogues.gallery import Kind, Model
from quantum_trader.gates.rogues.rates import Cell, Rates, pooled
from quantum_trader.report.svg import Ink, figure, inline, style

FloatArray = NDArray[np.float64]

LIGHT = "--text:#17212b;--muted:#566370;--line:#dde3e9;--card:#ffffff;--buy:#0072b2;--sell:#d55e00;--hold:#c3cbd4;"
DARK = "--text:#e7ecf1;--muted:#9dabb9;--line:#2a3541;--card:#161d25;--buy:#4fb3ec;--sell:#f58a4b;--hold:#45525f;"
_ACCENTS = ("--accent:#6a4fc4", "--accent:#ab94f5")
_FONT = 'font-family="system-ui, Segoe UI, Roboto, Helvetica Neue, Noto Sans, Liberation Sans, Arial, sans-serif"'
_MARKS = {Kind.ROGUE: "", Kind.LIMIT: " (limit)", Kind.GOOD: " (no rogue)"}
_LINES = ("-", "-", "--", "--", ":", "-.")
_COLOURS = (Ink.ACCENT, Ink.SELL, Ink.BUY, Ink.TEXT, Ink.MUTED, Ink.BUY)


def promotions_svg(rates: Rates) -> str:
    """For every model: how often the plain rule and the verdict promoted it, all markets together."""
    models = rates.models
    with style():
        drawing = figure(0.9 + 0.2 * len(models))
        axes = drawing.subplots()
        y = np.arange(len(models))[::-1]
        plain = [pooled(cell.legacy_all for cell in rates.by(model.name)).value for model in models]
        ours = [pooled(cell.promoted for cell in rates.by(model.name)) for model in models]
        axes.hlines(y, 0, 1, color=Ink.LINE, linewidth=0.8)
        axes.plot(plain, y, "o", color=Ink.SELL, markersize=5, markerfacecolor="none", label="plain rule")
        axes.hlines(y, [rate.low for rate in ours], [rate.high for rate in ours], color=Ink.ACCENT, linewidth=2)
        axes.plot([rate.value for rate in ours], y, "o", color=Ink.ACCENT, markersize=4.5, label="whole verdict")
        _name_rows(axes, models, y)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.7, len(models) - 0.3), xlabel="promoted at any look")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        words = "; ".join(
            f"{model.name}: plain {was:.0%}, verdict {now.value:.1%}"
            for model, was, now in zip(models, plain, ours, strict=True)
        )
        return _standalone(drawing, "promotions", f"Promotions by model, all markets together. {words}.")


def power_svg(rates: Rates, model: str) -> str:
    """How many decisions a model took until its promotion: the share promoted by then, a line for each market."""
    cells = rates.by(model)
    with style():
        drawing = figure(2.9)
        axes = drawing.subplots()
        for number, cell in enumerate(cells):
            colour, line = _COLOURS[number % len(_COLOURS)], _LINES[number % len(_LINES)]
            axes.plot(*_grown(cell, rates.events), color=colour, linestyle=line, label=cell.market)
        axes.axhline(0.9, color=Ink.LINE, linewidth=1.2)
        axes.set(xlim=(0, rates.events), ylim=(0, 1), xlabel="decisions", ylabel="promoted by then")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.legend(loc="upper left")
        words = "; ".join(f"{cell.market}: {cell.promoted.value:.0%}" for cell in cells)
        return _standalone(drawing, "power", f"Promoted within {rates.events:,} decisions: {words}.")


def _grown(cell: Cell, upto: int) -> tuple[FloatArray, FloatArray]:
    """Decisions, in hundredths of all, and the share promoted by then."""
    x = np.linspace(0.0, upto, 101)
    return x, np.searchsorted(cell.events, x, side="right") / cell.promoted.n


def _name_rows(axes: Axes, models: tuple[Model, ...], y: NDArray[np.int64]) -> None:
    axes.set_yticks(y, [model.name + _MARKS[model.kind] for model in models])
    axes.grid(visible=False)


def _standalone(drawing: Figure, name: str, label: str) -> str:
    """The figure as a file: its colours follow the reader's setting."""
    css = (
        f"svg{{{LIGHT}{_ACCENTS[0]};background:var(--card)}}"
        f"@media(prefers-color-scheme:dark){{svg{{{DARK}{_ACCENTS[1]}}}}}"
    )
    head, _, body = inline(drawing, name, label).partition(">")
    space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"{head} {space} {_FONT}><style>{css}</style>{body}\n"

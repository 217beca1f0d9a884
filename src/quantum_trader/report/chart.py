"""What a chart is: a drawing as inline SVG with a title and a caption, or the sentence that stands in its place."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from matplotlib.figure import Figure

from quantum_trader.report.svg import inline
from quantum_trader.report.views import DAY_MS, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, or the sentence that stands in its place.

    Attributes:
        name: Unique in the report.
        title: Above it.
        caption: How to read it.
        svg: The drawing; empty where there is nothing to draw.
        missing: Why there is nothing to draw; empty where there is something.
    """

    name: str
    title: str
    caption: str
    svg: str = ""
    missing: str = ""

    def with_caption(self, caption: str) -> Self:
        """The same drawing with another caption."""
        return replace(self, caption=caption)


def charted(name: str, title: str, caption: str, drawing: Figure, label: str) -> Chart:
    """A drawing as a chart; `label` says what it shows to readers who do not see it."""
    return Chart(name, title, caption, svg=inline(drawing, name, label))


def days_of(ts: IntArray) -> FloatArray:
    """Milliseconds since the epoch as days, such as matplotlib counts."""
    return np.asarray(ts / DAY_MS)


def thousands(value: float, _: object) -> str:
    """A tick's label with separators and a true minus."""
    return f"{value:,.0f}".replace("-", "−")

"""Figures as inline SVG whose colours follow the page: drawn without pyplot, the same bytes for the same input.

Colours are drawn as marked hex values and replaced by CSS variables, so that one drawing serves light and dark. Text
stays text. Element names get the chart's own prefix, because all drawings live in one document.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import matplotlib.dates as mdates
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Matplotlib gives these two no types.
_LOCATOR: Any = mdates.AutoDateLocator
_FORMATTER: Any = mdates.ConciseDateFormatter


class Ink(StrEnum):
    """Colours by meaning. The values are marks, not colours: the page's style sheet gives each its light and dark."""

    TEXT = "#0101a1"
    MUTED = "#0101a2"
    LINE = "#0101a3"
    CARD = "#0101a4"
    BUY = "#0101a5"
    SELL = "#0101a6"
    HOLD = "#0101a7"
    ACCENT = "#0101a8"


_VARIABLES = {ink.value: f"var(--{ink.name.lower()})" for ink in Ink}
_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "quantum-trader",
    "font.size": 10.0,
    "axes.edgecolor": Ink.LINE.value,
    "axes.facecolor": "none",
    "axes.labelcolor": Ink.MUTED.value,
    "axes.titlecolor": Ink.TEXT.value,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": Ink.LINE.value,
    "grid.linewidth": 0.8,
    "xtick.color": Ink.LINE.value,
    "ytick.color": Ink.LINE.value,
    "xtick.labelcolor": Ink.MUTED.value,
    "ytick.labelcolor": Ink.MUTED.value,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "ytick.major.size": 0.0,
    "text.color": Ink.TEXT.value,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "legend.labelcolor": Ink.MUTED.value,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "path.simplify": True,
}

WIDTH = 5.4
"""Inches of every drawing, 72 units each: a phone shows its 389 units at nine tenths, a desktop at one and a half."""


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's own defaults with ours above them, whatever the user's matplotlibrc says."""
    settings: dict[Any, Any] = {k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith("backend")}
    with mpl.rc_context(settings | _STYLE):
        yield


def figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, inches."""
    return Figure(figsize=(width, height))


def quiet(axes: Axes) -> None:
    """Take away an axes' frame, ticks and grid."""
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def date_axis(axes: Axes) -> None:
    """Label an x axis of days since the epoch with dates, UTC."""
    axes.xaxis_date()
    locator = _LOCATOR(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(
        _FORMATTER(
            locator,
            formats=["%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"],
            zero_formats=["", "%b %Y", "%d %b", "%d %b", "%H:%M", "%H:%M"],
            show_offset=False,
        )
    )


def inline(figure_: Figure, name: str, label: str) -> str:
    """The figure as one `<svg>` element for an HTML document.

    Args:
        figure_: What to draw.
        name: Prefix of every element's name in it.
        label: What it shows, for readers who do not see it.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure_.savefig(buffer, format="svg", metadata=nothing)
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 - our own drawing
    _clean(root, name)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", label)
    text = ET.tostring(root, encoding="unicode")
    for mark, variable in _VARIABLES.items():
        text = text.replace(mark, variable)
    # The parser of HTML knows the namespace by the element's name.
    text = text.replace(f' xmlns="{_SVG}"', "").replace(f' xmlns:svg="{_SVG}"', "").replace("svg:", "")
    return re.sub(r">\s+<", "><", text).strip()


def _clean(root: ET.Element, name: str) -> None:
    """Drop metadata and style sheets, shorten styles, and prefix the names that are used."""
    used = set(re.findall(r"#(\w+)", " ".join(_references(root))))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.replace(f"{{{_SVG}}}", "")
        _rename(element, used, name)
        _shorten(element)


def _references(root: ET.Element) -> Iterator[str]:
    for element in root.iter():
        yield element.get(_HREF, "")
        yield from (value for value in element.attrib.values() if value.startswith("url("))


def _rename(element: ET.Element, used: set[str], name: str) -> None:
    own = element.attrib.pop("id", None)
    if own in used:
        element.set("id", f"{name}-{own}")
    link = element.attrib.pop(_HREF, None)
    if link is not None:
        element.set("href", f"#{name}-{link[1:]}")
    clip = element.get("clip-path")
    if clip is not None:
        element.set("clip-path", clip.replace("#", f"#{name}-"))


def _shorten(element: ET.Element) -> None:
    # The page's own font; matplotlib's list of fall-backs would be repeated for every word.
    if "style" in element.attrib:
        element.set("style", re.sub(r"font-family: [^;]*;? ?", "", element.attrib["style"]))
    if "d" in element.attrib:
        element.set("d", " ".join(element.attrib["d"].split()))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]

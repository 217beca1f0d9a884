"""A report as one HTML file that needs nothing but itself: no network, no script; the same input, the same bytes."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from quantum_trader.core.labels import DELAY, HORIZON
from quantum_trader.core.predictions import DISPLAY_NAMES, Status
from quantum_trader.gates.sample import CYCLE
from quantum_trader.report import words
from quantum_trader.report.charts import Chart, draw_all
from quantum_trader.report.model import PRICE_DAYS, ReportData


def render(data: ReportData) -> str:
    """The document."""
    charts = draw_all(data)
    return template("report.html.j2").render(
        data=data,
        verdict=data.verdict,
        names=DISPLAY_NAMES,
        statuses={status.value: words.STATUS_WORDS[status] for status in Status},
        plain_rule=words.plain_rule(data.verdict) if data.verdict else "",
        charts=_by_name(charts),
        prices=[chart for chart in charts if chart.name.startswith("price-")],
        price_days=PRICE_DAYS,
        cycle=CYCLE,
        horizon=HORIZON,
        delay=DELAY,
    )


def write_html(data: ReportData, path: Path) -> None:
    """Write the document in one step: whole, or not at all.

    Raises:
        OSError: if the folder cannot be written to; an older file is then left as it was.
    """
    write_whole(path, render(data))


def write_whole(path: Path, text: str) -> None:
    """Write a text file in one step: whole, or not at all.

    Raises:
        OSError: if the folder cannot be written to; an older file is then left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _by_name(charts: list[Chart]) -> dict[str, Chart]:
    return {chart.name: chart for chart in charts}


def template(name: str) -> Template:
    """One of the templates, strict, with the words of the reports."""
    environment = Environment(
        loader=PackageLoader("quantum_trader.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    functions: dict[str, Any] = {
        name: getattr(words, name)
        for name in (
            "basis_points",
            "basis_points_se",
            "days",
            "decimal",
            "decimal_se",
            "gate_needs",
            "gate_number",
            "gate_sizes",
            "gate_threshold",
            "minute",
            "percent",
            "percent_se",
            "price",
            "short",
        )
    }
    environment.globals |= functions | {"marks": words.STATE_MARKS}
    environment.filters["short"] = words.short
    return environment.get_template(name)

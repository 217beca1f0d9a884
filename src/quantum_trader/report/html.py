"""A report as one HTML file that needs nothing but itself: no network, no script; the same input, the same bytes."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from quantum_trader.core.labels import DELAY, HORIZON
from quantum_trader.core.predictions import DISPLAY_NAMES, Status
from quantum_trader.gates.result import GateResult
from quantum_trader.gates.sample import CYCLE
from quantum_trader.report import words
from quantum_trader.report.chart import Chart
from quantum_trader.report.charts import draw_all
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
        side_by_side=words.side_by_side(data.verdict) if data.verdict else [],
        sections=_sections(data),
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


def _sections(data: ReportData) -> list[tuple[str, str, str, list[GateResult]]]:
    """Letter, title, question and lines of every section after the contract."""
    whole = data.verdict.whole if data.verdict else None
    if whole is None:
        return []
    letters = sorted({line.section for line in whole.checks})
    return [
        (letter, words.SECTIONS[letter], words.SECTION_WORDS[letter], [c for c in whole.checks if c.section == letter])
        for letter in letters
    ]


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
            "interval",
            "minute",
            "percent",
            "percent_se",
            "price",
            "share_interval",
            "short",
        )
    }
    environment.globals |= functions | {"marks": words.STATE_MARKS}
    environment.filters["short"] = words.short
    return environment.get_template(name)

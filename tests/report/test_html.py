"""The HTML report: self-contained, deterministic, escaped, complete; drawn by a real browser where there is one."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread

from quantum_trader.archive.columns import SCHEMA
from quantum_trader.gates.policy import LEGACY
from quantum_trader.report import words
from quantum_trader.report.html import render, write_html
from quantum_trader.report.model import build_report

CHARTS = (
    "evidence",
    "reliability",
    "recalibrated",
    "intervals",
    "confusion",
    "confidence",
    "agreement",
    "shares",
    "flips-matrix",
    "flips",
)
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; unclosed or wrongly nested tags fail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.styles: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.styles if self._open and self._open[-1] == "style" else self.text).append(data)

    @property
    def words(self) -> str:
        """All text, spaces folded."""
        return " ".join("".join(self.text).split())


def report(world: Any, judged: str | None = "patchtst", **options: Any) -> Any:
    return build_report(world.table, world.bars, judged, **({"simulated": True, "title": "A test"} | options))


@pytest.fixture(scope="module")
def data(world: Any) -> Any:
    return report(world)


@pytest.fixture(scope="module")
def document(data: Any) -> str:
    return render(data)


@pytest.fixture(scope="module")
def page(document: str) -> Page:
    return Page(document)


def test_it_loads_nothing(document: str, page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "base", "img", "image"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "srcset", "data", "poster", "action", "background"}:
                assert value is not None
                assert value.startswith("#") or value == "data:,"
            assert all(target.startswith("#") for target in re.findall(r"url\(\s*['\"]?([^)]*)", value or ""))
    sheet = "".join(page.styles)
    assert "@import" not in sheet
    assert "url(" not in sheet
    assert "://" not in document


def test_names_are_unique_and_links_lead_somewhere(page: Page) -> None:
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    values = [value or "" for _, attributes in page.tags for value in attributes.values()]
    links = {v[1:] for v in values if v.startswith("#") and len(v) > 4} | set(re.findall(r"url\(#([^)]*)", str(values)))
    assert links
    assert links - set(names) == set()
    labels = {attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes}
    assert labels <= set(names)


def test_the_verdict_is_the_first_sentence(data: Any, page: Page) -> None:
    body = page.words.split("Quantum Trader", 2)[-1]
    before, _, _ = body.partition(data.headline)
    assert data.headline in body
    # Only the title's line and the mark stand before it.
    assert before == f" · A test {words.STATE_MARKS[data.verdict.state.value]}"
    assert [tag for tag, _ in page.tags].count("h1") == 1


def test_every_chart_is_drawn_and_described(data: Any, page: Page) -> None:
    names = [a["id"] for tag, a in page.tags if tag == "figure"]
    assert names == [f"chart-{name}" for name in (*CHARTS, "price-1", "price-2", "price-3")]
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(drawings) == len(names)
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert len(drawing["aria-label"] or "") > 30
        assert "width" not in drawing
    # Every colour is one of the page's variables, so that light and dark are the same drawing.
    styles = " ".join(a.get("style") or "" for tag, a in page.tags if tag in {"path", "use", "text", "g", "rect"})
    assert set(re.findall(r"(?:fill|stroke): (?!none|var)[^;]+", styles)) == set()
    assert {f"var(--{name})" for name in ("text", "muted", "line", "buy", "sell", "hold", "accent")} <= set(
        re.findall(r"var\(--\w+\)", styles)
    )


def test_numbers_are_those_of_the_gates(data: Any, document: str) -> None:
    rows = _rows(document, "models-table")
    for model, cells in zip(data.models, rows, strict=True):
        s = model.summary
        shares = [words.percent(share.value) for share in (s.buy, s.hold, s.sell)]
        rest = [words.decimal(s.confidence.value, 3), words.decimal_se(s.spread, 4)]
        rest += [words.percent_se(s.hit_rate, count=True), words.percent_se(s.agreement)]
        assert cells == [model.display, model.role, *shares, "", *rest]
    for model, cells in zip(data.models, _rows(document, "statuses-table"), strict=True):
        counts = [f"{n:,}" for n in model.statuses.values()]
        assert cells[:-1] == [model.display, *counts, f"{model.decisions:,}"]
    for gate in data.verdict.gates:
        card = document.partition(f'data-gate="{gate.name}"')[2].partition("</article>")[0]
        text = Page(f"<article>{card.partition('>')[2]}</article>").words
        for part in (gate.state.value, words.gate_number(gate), words.gate_threshold(gate), words.gate_sizes(gate)):
            assert part in text
        assert " ".join(gate.reason.split()) in text


def test_every_line_of_the_other_sections_is_there(data: Any, document: str, page: Page) -> None:
    for line in data.verdict.whole.checks:
        row = document.partition(f'data-gate="{line.name}"')[2].partition("</tr>")[0]
        text = Page(f"<table><tr>{row.partition('>')[2]}</tr></table>").words
        for part in (line.state.value, words.gate_number(line), words.gate_threshold(line), words.gate_sizes(line)):
            assert part in text
        assert " ".join(line.reason.split()) in text
    blocking = _rows(document, "blocking-table")
    assert [row[0] for row in blocking] == [line.name for line in data.verdict.blocking]
    assert [row[0] for row in _rows(document, "symbols-table")] == list(data.symbols)
    assert [row[0] for row in _rows(document, "regimes-table")] == ["calm", "usual", "volatile"]
    beside = _rows(document, "plain-table")
    assert [(row[0], row[2], row[4]) for row in beside] == [
        (r[0], r[2], r[4]) for r in words.side_by_side(data.verdict)
    ]
    assert data.verdict.whole.policy.digest in page.words


def test_an_invalid_verdict_lists_its_faults(world: Any) -> None:
    series = world.bars["ETHUSDT"]
    close = series.close * 1.0001
    bars = {**world.bars, "ETHUSDT": replace(series, close=close, high=series.high * 1.001)}
    invalid = build_report(world.table, bars, "patchtst", simulated=True, title="A test")
    page = Page(render(invalid))
    assert invalid.headline.startswith("INVALID: 1,030 bars are changed")
    assert all(fault in page.words for fault in invalid.verdict.faults)


def _rows(document: str, table: str) -> list[list[str]]:
    body = document.partition(f'id="{table}"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in body.split("</tr>")[:-1]]
    return [[Page(cell).words for cell in row] for row in cells]


def test_provenance_is_whole(data: Any, page: Page) -> None:
    for model in data.models:
        assert model.artefacts
        assert all(digest in page.words for digest in model.artefacts)
    assert data.verdict.whole.policy.digest in page.words


def test_simulated_data_are_announced_and_real_ones_are_not(world: Any, page: Page) -> None:
    assert "Simulated market" in page.words
    assert "imulated" not in Page(render(report(world, simulated=False))).words


def test_the_same_input_gives_the_same_bytes(world: Any, document: str, tmp_path: Path) -> None:
    pq.write_table(world.table, tmp_path / "decisions.parquet")
    columns = ("ts_open", "open", "high", "low", "close", "volume")
    for name, series in world.bars.items():
        np.savez(tmp_path / f"{name}.npz", **{column: getattr(series, column) for column in columns})
    # Another process with another hash seed, another time zone, another taste in drawings.
    (tmp_path / "matplotlibrc").write_text("font.size: 20\naxes.grid: False\nsvg.fonttype: path\n")
    script = (
        "import sys, numpy as np, pyarrow.parquet as pq; from pathlib import Path\n"
        "from quantum_trader.core.bars import BarSeries\n"
        "from quantum_trader.report.html import write_html; from quantum_trader.report.model import build_report\n"
        "folder = Path(sys.argv[1])\n"
        "bars = {p.stem: BarSeries(p.stem, 300_000, **np.load(p)) for p in folder.glob('*.npz')}\n"
        "data = build_report(pq.read_table(folder / 'decisions.parquet'), bars, 'patchtst', simulated=True,"
        " title='A test')\n"
        "write_html(data, folder / 'out' / 'report.html')\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "MATPLOTLIBRC": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=environment)
    assert (tmp_path / "out" / "report.html").read_bytes() == document.encode()


def test_markup_in_data_stays_text(worlds: Callable[..., Any]) -> None:
    evil = "<script>alert(1)</script>"
    data = report(worlds({evil: 100.0}, decisions=60), title=evil, notes=[evil])
    gates = tuple(replace(gate, reason=evil) for gate in data.verdict.gates)
    verdict = replace(data.verdict, summary=evil, gates=gates)
    document = render(replace(data, verdict=verdict, headline=evil))
    page = Page(document)
    assert "<script" not in document
    assert all(tag != "script" for tag, _ in page.tags)
    assert page.words.count(evil) >= 8


def test_no_decisions_give_a_page_that_says_so() -> None:
    page = Page(render(build_report(SCHEMA.empty_table(), {}, None, simulated=False, title="Empty")))
    assert "Nothing was judged: there are no decisions in the window." in page.words
    assert all(tag not in {"svg", "table"} for tag, _ in page.tags)


@pytest.mark.parametrize(
    ("options", "sentences"),
    [
        ({"decisions": 10, "later": 0}, ["No outcome of PatchTST is known yet."]),
        ({"decisions": 1, "later": 0}, ["No outcome of PatchTST is known yet."]),
        ({"decisions": 60, "shadow": None}, ["Nothing was judged", "No model was judged.", "No model watched"]),
        ({"decisions": 80, "missing": 1.0}, ["No outcome of PatchTST", "would have changed none of 80 decisions"]),
        ({"decisions": 15, "later": 13}, ["expected calibration error"]),
    ],
)
def test_what_is_missing_is_said(worlds: Callable[..., Any], options: dict[str, Any], sentences: list[str]) -> None:
    world = worlds({"BTCUSDT": 100.0}, **options)
    page = Page(render(report(world, options.get("shadow", "patchtst"), simulated=False)))
    for sentence in sentences:
        assert sentence in page.words
    assert "nan" not in re.findall(r"[\w.%]+", page.words.lower())
    figures = [attributes["id"] for tag, attributes in page.tags if tag == "figure"]
    drawn = CHARTS if "shadow" not in options else ("reliability", "confidence", "agreement", "shares", "flips")
    assert figures == [f"chart-{name}" for name in (*drawn, "price-1")]


def test_other_rules_and_broken_data_are_shown_as_what_they_are(worlds: Callable[..., Any]) -> None:
    world = worlds({"BTCUSDT": 100.0}, decisions=60)
    plain = Page(render(report(world, policy=LEGACY)))
    assert "contract only, plain rule" in plain.words
    assert "knows no standard errors" in plain.words
    twice = replace(world, table=pa.concat_tables([world.table, world.table.slice(0, 1)]).unify_dictionaries())
    assert "The data is broken" in Page(render(report(twice))).words


def test_a_long_record_of_many_symbols_stays_small(worlds: Callable[..., Any]) -> None:
    world = worlds({f"C{i:02d}USDT": 10.0 + i for i in range(14)}, decisions=2100)
    document = render(report(world))
    assert len(document.encode()) < 3_000_000
    page = Page(document)
    assert sum(tag == "svg" for tag, _ in page.tags) == len(CHARTS) + 12
    assert "2 more are not drawn" in page.words


def test_a_failed_write_leaves_the_old_file(data: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_html(replace(data, title="half a \ud800 character"), path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    write_html(data, path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_it_without_a_complaint(document: str, tmp_path: Path, scheme: str) -> None:
    source, picture = tmp_path / "report.html", tmp_path / "report.png"
    source.write_text(document, encoding="utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--enable-logging=stderr", "--window-size=1000,3000", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--blink-settings=preferredColorScheme={int(scheme == 'light')}", f"--screenshot={picture}"]
    done = subprocess.run([*command, source.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    pixels = imread(picture)[:, :, :3]
    assert (pixels[5, 5].mean() > 0.5) == (scheme == "light")
    page_colour = pixels[5, 5]
    painted = (np.abs(pixels - page_colour).max(axis=2) > 0.1).any(axis=1)
    assert painted.mean() > 0.4
    assert len(np.unique((pixels * 15).astype(int).reshape(-1, 3), axis=0)) > 50

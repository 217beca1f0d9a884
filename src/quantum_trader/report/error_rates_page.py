"""The error rates for people: a table in the terminal, and the page in the documentation with its pictures.

The page's own text stands outside of two markers; between them everything is written by `write_page`, so that a later
run replaces the numbers and leaves the words.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from quantum_trader.core.errors import ConfigError
from quantum_trader.gates.rogues.gallery import GALLERY, Kind, Model
from quantum_trader.gates.rogues.rates import Cell, Rate, Rates, pooled
from quantum_trader.gates.whole_policy import WHOLE
from quantum_trader.report.error_rates_charts import power_svg, promotions_svg
from quantum_trader.report.html import write_whole
from quantum_trader.report.words import NONE, percent

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
TARGET, POWER = 0.01, 0.90
"""What a rogue may be promoted at most, and the good model at least."""

MARKETS = {
    "neutral": "nothing can be foreseen",
    "real": "windows of real 5-minute bars",
    "bull": "12 bars rise in 55 % of cases",
    "crash": "about an eighth is lost within three hours, then days of wild moves",
    "momentum": "what rose goes on rising a little",
    "common": "all symbols move as one",
}

_PICTURES = ("gates-error-rates-promotions.svg", "gates-error-rates-power.svg")
_BARS_PER_DAY = 288


def screen(rates: Rates) -> RenderableType:
    """A row for every model: the plain rule over all markets, and the verdict on each."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("Model", no_wrap=True)
    for head in ("plain, once", "every 25", "last 200"):
        table.add_column(head, justify="right")
    for market in rates.markets:
        table.add_column(market, justify="right", style="bold")
    for model in rates.models:
        cells = rates.by(model.name)
        plain = [pooled(getattr(cell, name) for cell in cells).value for name in _LOOKS]
        name = model.name if model.kind is Kind.ROGUE else f"{model.name} ({model.kind})"
        table.add_row(name, *(percent(value, 0) for value in plain), *(percent(cell.promoted.value) for cell in cells))
    note = Text("Plain rule: all markets together. Whole verdict: on each market, at any look.", style="dim")
    return Group(table, note, Text(conclusion(rates)))


def gallery_table() -> RenderableType:
    """Every model of the gallery and what it is."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for head in ("Model", "kind", "what it is"):
        table.add_column(head)
    for model in GALLERY:
        table.add_row(model.name, model.kind, model.what)
    return table


def conclusion(rates: Rates) -> str:
    """In words: what rogues and the good model got, and which cells miss their target."""
    return " ".join(part for part in (_on_rogues(rates), _on_the_good(rates)) if part) or "No rogue was tried."


def _on_rogues(rates: Rates) -> str:
    rogues = rates.of(Kind.ROGUE)
    if not rogues:
        return ""
    whole = pooled(cell.promoted for cell in rogues)
    plain = pooled(cell.legacy_all for cell in rogues)
    over = [cell for cell in rogues if cell.promoted.value > TARGET]
    text = (
        f"The whole verdict promoted {whole.k:,} of {whole.n:,} rogues ({percent(whole.value, 2)}); the plain rule, "
        f"looked at every 25 decisions, {plain.k:,} ({percent(plain.value, 0)})."
    )
    if not over:
        return f"{text} No rogue exceeds {percent(TARGET, 0)} on any market."
    return f"{text} Above {percent(TARGET, 0)}: {_list(over, with_name=True)}."


def _on_the_good(rates: Rates) -> str:
    cells = rates.by("good")
    reached = [cell for cell in cells if cell.promoted.value >= POWER]
    missed = [cell for cell in cells if cell.promoted.value < POWER]
    parts = [(reached, f"at least {percent(POWER, 0)}"), (missed, f"less than {percent(POWER, 0)}")]
    said = [f"in {words} of the repetitions on {_list(found, with_name=False)}" for found, words in parts if found]
    return f"The good model was promoted {', and '.join(said)}." if said else ""


def _list(cells: Sequence[Cell], *, with_name: bool) -> str:
    who = [f"{cell.model.name} on {cell.market}" if with_name else cell.market for cell in cells]
    return ", ".join(f"{name} ({_bounded(cell.promoted)})" for name, cell in zip(who, cells, strict=True))


def write_page(path: Path, rates: Rates, seed: int, machine: str, bars: str = "") -> None:
    """Write the page's measured part and its pictures; the pictures first, so that no link leads nowhere.

    Args:
        path: The page; made if there is none, and then without words around the tables.
        rates: What was measured.
        seed: Of the run.
        machine: Where.
        bars: What the real market's bars are, in a few words.

    Raises:
        ConfigError: if the page exists and has not both markers.
    """
    before, after = _around(path)
    images = path.parent / "images"
    write_whole(images / _PICTURES[0], promotions_svg(rates))
    if rates.by("good"):
        write_whole(images / _PICTURES[1], power_svg(rates, "good"))
    write_whole(path, f"{before}{BEGIN}\n\n{measured(rates, seed, machine, bars)}\n{END}{after}")


def measured(rates: Rates, seed: int, machine: str, bars: str = "") -> str:
    """The page's measured part."""
    parts = [conclusion(rates), f"![Promotions by model](images/{_PICTURES[0]})"]
    if rates.by("good"):
        parts += [
            "## Good models",
            _good_table(rates),
            f"![How fast the good model is promoted](images/{_PICTURES[1]})",
        ]
    if rates.of(Kind.LIMIT):
        parts += ["## Known limits", _limits_table(rates)]
    parts += ["## The gallery", _gallery_part(rates)]
    parts += ["## Every model on every market", *(_market_part(rates, market) for market in rates.markets)]
    parts += ["## The run", _run_part(rates, seed, machine, bars)]
    return "\n\n".join(parts) + "\n"


_LOOKS = ("legacy_once", "legacy_all", "legacy_last")


def _good_table(rates: Rates) -> str:
    rows = [
        [
            cell.market,
            _named(cell.model),
            percent(cell.accuracy),
            _bounded(cell.promoted),
            *_durations(cell),
            _open(cell),
        ]
        for cell in rates.of(Kind.GOOD)
    ]
    head = ["market", "model", "accuracy", "promoted (95 %)", "median decisions", "median days", "open at the end"]
    return _table(head, rows)


def _limits_table(rates: Rates) -> str:
    rows = [
        [
            cell.market,
            _named(cell.model),
            percent(cell.accuracy),
            _bounded(cell.promoted),
            _bounded(cell.after_half),
            *_durations(cell),
        ]
        for cell in rates.of(Kind.LIMIT)
    ]
    head = ["market", "model", "accuracy", "promoted (95 %)", "first in the second half", "median decisions"]
    return _table([*head, "median days"], rows)


def _gallery_part(rates: Rates) -> str:
    return _table(["model", "kind", "what it is"], [[_named(m), m.kind.value, m.what] for m in rates.models])


def _named(model: Model) -> str:
    return f"`{model.name}`"


def _market_part(rates: Rates, market: str) -> str:
    cells = rates.on(market)
    rows = [
        [
            _named(cell.model),
            percent(cell.accuracy),
            *(percent(getattr(cell, name).value, 0) for name in _LOOKS),
            f"**{percent(cell.promoted.value, 2)}** ({cell.promoted.k} of {cell.promoted.n})",
            f"{percent(cell.promoted.low, 2)} to {percent(cell.promoted.high, 2)}",
            _open(cell),
        ]
        for cell in cells
    ]
    head = ["model", "accuracy", "plain: once", "every 25", "last 200", "whole verdict", "95 %", "open at the end"]
    title = f"### {market}: {MARKETS.get(market, '')}"
    return f"{title}\n\n{_table(head, rows)}"


def _run_part(rates: Rates, seed: int, machine: str, bars: str) -> str:
    sizes = sorted({cell.promoted.n for cell in rates.cells})
    real = " --bars FILE" if "real" in rates.markets else ""
    lines = [
        f"- Command: `quantum rogues --repetitions {sizes[-1]} --seed {seed}{real} --page docs/gates-error-rates.md`",
        f"- Machine: {machine}.",
        f"- Size: {len(rates.models)} models, {len(rates.markets)} markets, {' or '.join(map(str, sizes))} repetitions "
        f"a cell, {rates.events:,} decisions a repetition.",
        f"- Seeds: repetition r of market m draws from numpy's generator seeded with ({seed}, m, r), a model on it "
        f"from ({seed}, m, r, model), names read as numbers.",
        f"- Policy: the whole verdict's, digest `{WHOLE.digest}`.",
    ]
    return "\n".join([*lines, f"- Real bars: {bars}."] if bars else lines)


def _durations(cell: Cell) -> tuple[str, str]:
    if math.isnan(cell.median_events):
        return NONE, NONE
    return f"{cell.median_events:,.0f}", f"{cell.median_bars / _BARS_PER_DAY:.1f}"


def _open(cell: Cell) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in cell.open[:3] if share >= 0.005) or NONE


def _bounded(rate: Rate) -> str:
    return f"{percent(rate.value, 2)} ({percent(rate.low, 2)} to {percent(rate.high, 2)})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _around(path: Path) -> tuple[str, str]:
    """What stands before and after the measured part."""
    if not path.exists():
        return "# How often the gates err\n\n", "\n"
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ConfigError(f"{path}: expected {BEGIN} and then {END}, once each; nothing was written")
    return text.partition(BEGIN)[0], text.partition(END)[2]

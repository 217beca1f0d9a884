import io
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from quantum_trader.core.errors import ConfigError
from quantum_trader.gates.rogues.gallery import GALLERY
from quantum_trader.gates.rogues.measure import Result
from quantum_trader.gates.rogues.rates import Rates, rates_of
from quantum_trader.gates.whole_policy import WHOLE
from quantum_trader.report.error_rates_charts import power_svg, promotions_svg
from quantum_trader.report.error_rates_page import BEGIN, END, conclusion, gallery_table, measured, screen, write_page


def row(model: str, repetition: int, events: int) -> Result:
    return Result(repetition, model, events, 2 * events, True, 200, 0, 400, 216, () if events else ("Evidence",))


def some_rates(coin: int = 0) -> Rates:
    """40 repetitions of five models on two markets; the coin is promoted in `coin` of them on the first."""
    results = {}
    for market in ("neutral", "real"):
        rows = []
        for r in range(40):
            rows.append(row("coin", r, 1_000 if r < coin and market == "neutral" else 0))
            rows.append(row("weak-leak", r, 1_100))
            rows.append(row("decaying", r, 1_500 if r < 20 else 4_000 if r < 22 else 0))
            rows.append(row("good", r, 2_000 + 10 * r if r < 38 else 0))
        results[market] = rows
    return rates_of(results, events=5_000)


def shown(renderable: object) -> str:
    console = Console(width=132, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


GOOD = (
    "The good model was promoted in at least 90% of the repetitions on neutral (95.00% (83.08% to 99.39%)), real "
    "(95.00% (83.08% to 99.39%))."
)


def test_the_conclusion_names_what_misses_its_target() -> None:
    assert conclusion(some_rates()) == (
        "The whole verdict promoted 0 of 80 rogues (0.00%); the plain rule, looked at every 25 decisions, 80 (100%). "
        f"No rogue exceeds 1% on any market. {GOOD}"
    )
    assert conclusion(some_rates(coin=1)).endswith(f"Above 1%: coin on neutral (2.50% (0.06% to 13.16%)). {GOOD}")
    few = rates_of({"crash": [row("good", r, 900 if r < 3 else 0) for r in range(4)]}, events=5_000)
    assert conclusion(few) == (
        "The good model was promoted in less than 90% of the repetitions on crash (75.00% (19.41% to 99.37%))."
    )
    assert conclusion(rates_of({"crash": [row("weak", 0, 0)]}, events=5_000)) == "No rogue was tried."


def test_the_measured_part_has_every_cell_and_says_how_it_was_made() -> None:
    text = measured(some_rates(coin=1), seed=7, machine="2 cores of a test", bars="two years")
    assert "| `coin` | 54.0% | 100% | 100% | 0% | **2.50%** (1 of 40) | 0.06% to 13.16% | Evidence 98% |" in text
    assert "| real | `decaying` | 54.0% | 55.00% (38.49% to 70.74%) | 5.00% (0.61% to 16.92%) | 1,500 | 10.4 |" in text
    assert "| neutral | `good` | 54.0% | 95.00% (83.08% to 99.39%) | 2,185 | 15.2 | Evidence 5% |" in text
    assert "| `good` | good | right in 54.1 % of its decisions |" in text
    assert f"digest `{WHOLE.digest}`" in text
    assert "quantum rogues --repetitions 40 --seed 7 --bars FILE --page docs/gates-error-rates.md" in text
    assert "2 cores of a test" in text
    assert text.endswith("- Real bars: two years.\n")
    for market in ("neutral", "real"):
        assert f"### {market}: " in text


def test_only_the_measured_part_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "gates-error-rates.md"
    write_page(page, some_rates(), 7, "here")
    made = page.read_text()
    assert made.startswith(f"# How often the gates err\n\n{BEGIN}\n")
    page.write_text(made.replace("# How often", "Words of mine.\n\n# How often") + "\nMore words.\n")
    write_page(page, some_rates(coin=1), 7, "there")
    changed = page.read_text()
    assert changed.startswith("Words of mine.\n\n# How often")
    assert changed.endswith(f"{END}\n\nMore words.\n")
    assert "Above 1%: coin" in changed
    assert "of here" not in changed
    pictures = sorted(path.name for path in (page.parent / "images").iterdir())
    assert pictures == ["gates-error-rates-power.svg", "gates-error-rates-promotions.svg"]


@pytest.mark.parametrize("text", ["# No markers\n", f"{END}\n{BEGIN}\n", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ConfigError, match="expected <!-- measured: begin --> and then"):
        write_page(page, some_rates(), 7, "here")
    assert page.read_text() == text
    assert list(tmp_path.iterdir()) == [page]


def test_pictures_are_files_of_their_own_and_the_same_each_time() -> None:
    for draw in (promotions_svg, lambda rates: power_svg(rates, "good")):
        text = draw(some_rates())
        assert text == draw(some_rates())
        root = ET.fromstring(text)  # noqa: S314
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "prefers-color-scheme:dark" in text
        assert root.attrib["aria-label"].endswith(".")
    assert "neutral: 95%" in power_svg(some_rates(), "good")
    assert "coin: plain 100%, verdict 0.0%" in promotions_svg(some_rates())


def test_the_screen_has_a_row_for_each_model() -> None:
    text = shown(screen(some_rates(coin=1)))
    assert "weak-leak (known limit)" in text
    assert "2.5%" in text
    assert "95.0%" in text
    assert "Above 1%" in text
    listed = shown(gallery_table())
    assert all(model.name in listed for model in GALLERY)

"""The report in the terminal: the verdict first, within 100 columns, readable without colour."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from quantum_trader.archive.columns import SCHEMA
from quantum_trader.report import words
from quantum_trader.report.model import build_report
from quantum_trader.report.terminal import summary


def printed(data: Any, *, width: int = 100, colour: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=colour, color_system="standard" if colour else None
    )
    console.print(summary(data))
    text: str = console.file.getvalue()
    return text


def report(world: Any, **options: Any) -> Any:
    return build_report(world.table, world.bars, "patchtst", **({"simulated": True, "title": "test"} | options))


@pytest.fixture(scope="module")
def data(world: Any) -> Any:
    return report(world, notes=["Trained on a bounded window."])


def test_the_verdict_comes_first(data: Any) -> None:
    joined = " ".join(printed(data).split())
    assert joined.startswith(f"{words.STATE_MARKS[data.verdict.state.value]} {data.headline}")


def test_it_fits_100_columns_without_colour(data: Any) -> None:
    text = printed(data)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "\x1b" not in text
    # No table row is folded: every model has its numbers on one line.
    rows = [line for line in text.splitlines() if line.startswith("PatchTST") and "shadow" in line]
    model = data.judged_report
    assert words.percent_se(model.summary.hit_rate, count=True) in rows[0]
    assert words.percent_se(model.summary.agreement) in rows[0]


def test_every_number_of_the_gates_is_there(data: Any) -> None:
    text = printed(data)
    for gate in (*data.verdict.gates, *data.verdict.whole.checks):
        line = next(line for line in text.splitlines() if line.startswith(gate.name))
        for part in (gate.state.value, words.gate_number(gate), words.gate_threshold(gate), words.gate_sizes(gate)):
            assert part in line


def test_statuses_intents_and_notes_are_there(data: Any) -> None:
    text = printed(data)
    for model in data.models:
        counts = [f"{count:,}" for count in model.statuses.values()]
        assert any(line.split()[:6] == [model.display, *counts] for line in text.splitlines())
    for line in data.intents:
        assert f"{line.consensus}/{line.total}   {'PatchTST'} {line.answer}" in text
    assert "Note: Trained on a bounded window." in text
    assert "SIMULATED" in text


def test_real_data_is_not_called_simulated(world: Any) -> None:
    assert "SIMULATED" not in printed(report(world, simulated=False))


def test_states_are_coloured_on_a_terminal(data: Any) -> None:
    assert "\x1b[1;32m✓ PASS" in printed(data, colour=True)


def test_open_gates_say_what_they_need(worlds: Callable[..., Any]) -> None:
    text = " ".join(printed(report(worlds({"BTCUSDT": 100.0}, decisions=60))).split())
    assert "… HOLD" in text
    assert "Action Diversity, Confidence Spread, Shadow Correlation, Calibration: Nothing is concluded yet" in text


def test_what_blocks_and_why_is_said_once_for_every_line(data: Any) -> None:
    text = " ".join(printed(data).split())
    lines = (*data.verdict.gates, *data.verdict.whole.checks)
    for line in lines:
        assert text.count(f"{line.name}: {line.reason}") + text.count(f", {line.name}: {line.reason}") >= 1
    head, _, tail = text.partition("What blocks a promotion")
    assert head
    for line in data.verdict.blocking:
        assert line.name in tail


def test_the_plain_rule_stands_beside_the_contract(data: Any) -> None:
    text = printed(data).partition("Side by side")[2]
    for name, ours, number, plain, _ in words.side_by_side(data.verdict):
        row = next(line for line in text.splitlines() if line.startswith(name))
        assert ours in row
        assert number in row
        assert row.count(plain) >= 1


def test_brackets_are_printed_as_they_are(worlds: Callable[..., Any]) -> None:
    data = report(worlds({"[red]X": 100.0}, decisions=60), title="[bold]T[/bold]", notes=["[link]n"])
    verdict = replace(data.verdict, notes=("[blink]v",))
    text = printed(replace(data, verdict=verdict))
    for raw in ("[red]X", "[bold]T[/bold]", "[link]n", "[blink]v"):
        assert raw in text


def test_nothing_to_say_is_said() -> None:
    empty = build_report(SCHEMA.empty_table(), {}, None, simulated=False, title="empty window")
    assert printed(empty).split("\n")[0] == "Nothing was judged: there are no decisions in the window."


def test_no_shadow_and_no_intent_are_said(worlds: Callable[..., Any]) -> None:
    world = worlds({"BTCUSDT": 100.0}, decisions=60, shadow=None, min_consensus=4)
    quiet = world.table.filter([action == 0 for action in world.table["action"].to_pylist()])
    data = build_report(quiet, world.bars, None, simulated=False, title="quiet")
    text = printed(data)
    assert text.startswith("Nothing was judged: no model was in shadow.")
    assert "No intents: every decision was HOLD." in text

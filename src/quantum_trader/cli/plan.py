"""`quantum gates --plan`: how long until this can be decided, asked before there is any data."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from quantum_trader.gates.planning import Cadence, Forecast
    from quantum_trader.gates.whole_policy import Policy
    from quantum_trader.settings import Settings


def show_plan(
    settings: "Settings",
    policy: "Policy",
    *,
    symbols: int | None,
    timeframe: str,
    share: float,
    accuracies: Sequence[float],
    version: int | None,
    as_json: bool,
) -> None:
    """Print when a verdict can be expected for models of several accuracies.

    Raises:
        ConfigError: if a number is out of its range.
    """
    from quantum_trader.core.bars import interval_ms
    from quantum_trader.gates.planning import ACCURACIES, Cadence, plan

    name = timeframe or settings.timeframe
    cadence = Cadence(len(settings.pairs) if symbols is None else symbols, interval_ms(name), share)
    forecasts = plan(cadence, tuple(accuracies) or ACCURACIES, policy, version)
    if as_json:
        content = {"cadence": asdict(cadence), "policy_digest": policy.digest, "version": version}
        typer.echo(json.dumps({**content, "forecasts": [asdict(one) for one in forecasts]}, indent=2))
    else:
        _print(cadence, name, forecasts, version)


def _print(cadence: "Cadence", timeframe: str, forecasts: "Sequence[Forecast]", version: int | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    each = "every bar" if cadence.share == 1.0 else f"{cadence.share:.1%} of bars"
    spent = "" if version is None else f", version {version} of its lineage"
    console.print(f"How long until this can be decided: {cadence.symbols} symbols, {timeframe} bars, {each}{spent}\n")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in ("Right in", "Block mean", "Blocks", "Days", "Decisions", "Can reach 0.05 of spread"):
        table.add_column(head, justify="right")
    table.add_column("What decides")
    for one in forecasts:
        numbers = ("–", "never", "–")
        if one.blocks is not None and one.days is not None:
            numbers = (f"{one.blocks:,}", f"{one.days:,.1f}", f"{one.events or 0:,}")
        spread = "yes" if one.reaches_spread else "no"
        table.add_row(f"{one.accuracy:.1%}", f"{one.mean:.3f}", *numbers, spread, one.reason)
    console.print(table)
    console.print(
        "\nCalendar time counts, not decisions: a block is an hour of 5-minute bars, and more symbols that move alike "
        "do not shorten it much.\nEvery number supposes a model whose view overlaps with the voters' by "
        f"{cadence.overlap:g}, beside an ensemble that is right in {cadence.ensemble:.0%} (docs: the gates).\n"
        "A calibrated model that is right in under 56.8 % cannot reach the spread that the contract asks; three of the "
        "four gates are enough."
    )

"""`quantum lookahead-analysis`: which features look ahead, or remember more than their window."""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantum_trader.cli.finish import Finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from quantum_trader.learn.lookahead import Analysis
    from quantum_trader.learn.planted_leaks import FeatureFunction

EXIT_LEAKS = 2


def lookahead_analysis(
    bars: Annotated[Path, typer.Option(help="Parquet, feather or CSV file of bars.")],
    features: Annotated[
        str, typer.Option(help="module:function from a BarSeries to columns by name; without it, our own features.")
    ] = "",
    plant: Annotated[
        str, typer.Option(help="Add a known leak: zscore, shift, centred, cumsum, ema400, or all of them.")
    ] = "",
    symbols: Annotated[str, typer.Option(help="Symbols with commas between; without it, all of the file.")] = "",
    probes: Annotated[int, typer.Option(min=1, help="Bars of each symbol at which to look.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise and of the choice of bars.")] = 0,
) -> None:
    """Find features that look ahead or depend on more than their window, by experiment.

    Exit code 0: none. 2: at least one, which the table names with the bar at which it was caught.
    """
    from rich.console import Console

    from quantum_trader.learn.lookahead import analyse, own_features, together
    from quantum_trader.market.files import read_bars

    function = _load(features) if features else own_features
    planted = _planted(plant)
    wanted = [name.strip() for name in symbols.split(",") if name.strip()] or None
    series = read_bars(bars, wanted)
    examined = together(function, *planted.values())
    analyses = [analyse(examined, own, probes, seed) for own in series.values()]
    console = Console(highlight=False)
    _print(console, analyses)
    leaking = {name for analysis in analyses for name in analysis.leaking}
    if planted:
        console.print(f"planted leaks found: {len(leaking & set(planted))} of {len(planted)}")
    if leaking:
        raise Finish(EXIT_LEAKS)


def _planted(name: str) -> "dict[str, FeatureFunction]":
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.learn.planted_leaks import PLANTED

    if not name or name == "all":
        return PLANTED if name else {}
    if name not in PLANTED:
        raise ConfigError(f"no planted leak {name!r}; there are {', '.join(PLANTED)} and all")
    return {name: PLANTED[name]}


def _load(reference: str) -> "FeatureFunction":
    """The function that ``module:function`` names, also from the current folder."""
    from quantum_trader.core.errors import ConfigError

    module_name, colon, name = reference.partition(":")
    if not (module_name and colon and name):
        raise ConfigError(f"features {reference!r}: expected module:function")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except Exception as error:
        raise ConfigError(f"features {reference!r}: {module_name} cannot be imported ({error!r})") from error
    finally:
        sys.path.pop(0)
    if not callable(found):
        raise ConfigError(f"features {reference!r}: {module_name} has no function {name}")
    function: FeatureFunction = found
    return function


def _print(console: "Console", analyses: "Sequence[Analysis]") -> None:
    """One line a finding kind and feature, and the clean features in one line."""
    from rich.box import SIMPLE
    from rich.table import Table

    from quantum_trader.core.errors import format_ms

    probed = sum(len(analysis.probed) for analysis in analyses)
    console.print(f"{len(analyses)} symbols, {probed} bars looked at, five experiments at each")
    table = Table("feature", "verdict", "first caught at", "value changed", box=SIMPLE, padding=(0, 1, 0, 0))
    clean = []
    for feature in analyses[0].features:
        findings = [finding for analysis in analyses for finding in analysis.of(feature)]
        if not findings:
            clean.append(feature)
        for kind in dict.fromkeys(finding.kind for finding in findings):
            first = next(finding for finding in findings if finding.kind == kind)
            change = f"{first.expected:.4g} to {first.found:.4g}"
            table.add_row(feature, kind, f"{first.symbol} {format_ms(first.ts_open)}", change)
    console.print(f"clean ({len(clean)}): {', '.join(clean) or 'none'}")
    if table.row_count:
        console.print(table)

"""`quantum gates` and `quantum report`: judge a shadow by what it said and what the market then did."""

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantum_trader.cli.finish import Finish
from quantum_trader.cli.run import ConfigFiles, EnvFile

if TYPE_CHECKING:
    import pyarrow as pa

    from quantum_trader.core.bars import BarSeries
    from quantum_trader.gates.policy import ContractPolicy
    from quantum_trader.settings import Settings

Decisions = Annotated[Path | None, typer.Option(help="Folder of Parquet decisions; with --bars.")]
Bars = Annotated[Path | None, typer.Option(help="Bars that give the outcomes, with --decisions.")]
Hours = Annotated[float | None, typer.Option(help="Judge the decisions of the last hours in the stream.")]
Model = Annotated[str, typer.Option(help="Model to judge; the shadow if there is only one.")]
Policy = Annotated[str, typer.Option(help="default, legacy (the plain 3-of-4 rule), or a TOML file of thresholds.")]


def gates(
    hours: Hours = None,
    decisions: Decisions = None,
    bars: Bars = None,
    model: Model = "",
    policy: Policy = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole verdict as JSON.")] = False,
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Judge a model by the four gates, on its decisions joined with the bars that came later.

    Read the stream with --hours 2, or files with --decisions DIR --bars FILE.

    Exit codes: 0 PROMOTE, 2 REJECT, 3 HOLD, 4 INVALID, 1 any error. The verdict is "contract only": vetoes, evidence
    and deployment checks are not judged yet, so it never says PROMOTE by itself.
    """
    from quantum_trader.archive.join import samples
    from quantum_trader.gates.verdict import judge_contract
    from quantum_trader.market.files import is_simulated

    table, series = _evidence(hours, decisions, bars, config, env_file)
    judged = _judged(table, model)
    verdict = judge_contract(samples(table, series)[judged], _policy(policy))
    if as_json:
        typer.echo(json.dumps({"model": judged, **verdict.to_dict()}, indent=2))
    else:
        from rich.console import Console

        from quantum_trader.report.model import build_report
        from quantum_trader.report.terminal import summary

        simulated = bars is not None and is_simulated(bars)
        data = build_report(table, series, judged, simulated=simulated, title=f"Verdict on {judged}", verdict=verdict)
        Console(highlight=False).print(summary(data))
    raise Finish(verdict.exit_code)


def report(
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    hours: Hours = None,
    decisions: Decisions = None,
    bars: Bars = None,
    model: Model = "",
    policy: Policy = "default",
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Draw one self-contained HTML file: verdict, gates, reliability, agreement, flips, prices with intents."""
    from rich.console import Console

    from quantum_trader.market.files import is_simulated
    from quantum_trader.report.html import write_html
    from quantum_trader.report.model import build_report

    table, series = _evidence(hours, decisions, bars, config, env_file)
    judged = _judged(table, model)
    simulated = bars is not None and is_simulated(bars)
    title = f"{judged} in shadow" if decisions is None else f"{judged} in {decisions}"
    data = build_report(table, series, judged, simulated=simulated, title=title, policy=_policy(policy))
    write_html(data, out)
    Console(highlight=False).print(f"report in {out}")


def _evidence(
    hours: float | None, decisions: Path | None, bars: Path | None, config: list[Path], env_file: Path | None
) -> "tuple[pa.Table, dict[str, BarSeries]]":
    """Decisions and later bars, from files or from the stream."""
    from quantum_trader.archive.store import read_decisions
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.market.files import read_bars
    from quantum_trader.settings import load_settings

    if (decisions is None) == (hours is None) or (decisions is None) != (bars is None):
        raise ConfigError("give either --hours N (the stream), or --decisions DIR and --bars FILE")
    if decisions is None or bars is None:
        return _from_stream(load_settings(config, env_file), hours or 0.0)
    table = read_decisions(decisions)
    symbols = sorted(set(table["symbol"].to_pylist()))
    return table, read_bars(bars, symbols)


def _from_stream(settings: "Settings", hours: float) -> "tuple[pa.Table, dict[str, BarSeries]]":
    from quantum_trader.archive.columns import to_table
    from quantum_trader.bootstrap import MS_PER_HOUR, wire_decision_reader
    from quantum_trader.clock import now_ms
    from quantum_trader.core.bars import Bar, BarSeries
    from quantum_trader.core.errors import ConfigError

    if hours <= 0:
        raise ConfigError(f"--hours {hours:g}: expected a positive number")
    with wire_decision_reader(settings) as reader:
        records = list(reader.since(now_ms() - int(hours * MS_PER_HOUR)))
        if not records:
            raise ConfigError(f"no decisions in the last {hours:g} hours of the stream: there is nothing to judge")
        first = min(record.decision.ts_open for record in records)
        found: dict[str, dict[int, Bar]] = {}
        for bar in reader.bars(settings.timeframe, first):
            found.setdefault(bar.symbol, {})[bar.ts_open] = bar
    symbols = {record.decision.symbol for record in records}
    series = {s: BarSeries.from_bars([held[ts] for ts in sorted(held)]) for s, held in found.items() if s in symbols}
    return to_table(records), series


def _judged(table: "pa.Table", model: str) -> str:
    from quantum_trader.archive.join import roles
    from quantum_trader.core.errors import ConfigError

    found = roles(table)
    if model:
        if model not in found:
            raise ConfigError(f"model {model!r}: it took part in no decision here; those that did: {', '.join(found)}")
        return model
    shadows = [name for name, names in found.items() if "shadow" in names]
    if len(shadows) != 1:
        raise ConfigError(f"{len(shadows)} shadows in these decisions: name the model to judge with --model")
    return shadows[0]


def _policy(name: str) -> "ContractPolicy":
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.gates.policy import NAMED, ContractPolicy

    if name in NAMED:
        return NAMED[name]
    try:
        return ContractPolicy.from_mapping(tomllib.loads(Path(name).read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"policy {name}: neither default, legacy nor a readable file ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"policy {name}: {error}") from error

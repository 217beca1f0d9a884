"""`quantum replay`: the service's decisions over a file of bars, without a server, into Parquet."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from quantum_trader.core.calibration import Calibration
    from quantum_trader.engine.replay import ReplayModel


def replay(
    bars: Annotated[Path, typer.Option(help="Parquet or freqtrade feather file of bars.")],
    models: Annotated[Path, typer.Option(help="Folder of artefacts; the newest of each model takes part.")] = Path(
        "models"
    ),
    shadow: Annotated[list[str], typer.Option(help="Model that predicts without a vote.")] = ["patchtst"],  # noqa: B006
    out: Annotated[Path, typer.Option(help="Folder for the Parquet files.")] = Path("replay"),
    timerange: Annotated[str, typer.Option(help="Part of the file, such as 20260101-20260201.")] = "",
    pairs: Annotated[str, typer.Option(help="Only these, such as BTC/USDT,ETH/USDT.")] = "",
    min_consensus: Annotated[int, typer.Option(help="Voters that must agree for BUY or SELL.")] = 2,
    calibration: Annotated[list[str], typer.Option(help="Calibration of a voter, MODEL=FILE@DIGEST.")] = [],  # noqa: B006
    workers: Annotated[int, typer.Option(help="Processes; 0 takes one for every core.")] = 0,
) -> None:
    """Decide every bar that has a whole window of 512 bars before it, exactly as the service would.

    Every model with an artefact in the folder votes, but those named with --shadow. No ledger is asked: a replay
    publishes nothing. The same bars, artefacts, weights and calibrations give the same decisions byte for byte.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from quantum_trader.archive.columns import to_table
    from quantum_trader.archive.store import DecisionFile
    from quantum_trader.core.bars import timeframe_name
    from quantum_trader.core.policy import VotePolicy
    from quantum_trader.engine.replay import replay as decide_all
    from quantum_trader.engine.replay import stretches
    from quantum_trader.market.files import read_bars
    from quantum_trader.market.timerange import parse_timerange

    wanted = [pair for pair in pairs.split(",") if pair] or None
    series = read_bars(bars, wanted, parse_timerange(timerange) if timerange else None)
    cast = replay_cast(models, shadow)
    policy = VotePolicy(min_consensus=min_consensus, calibrations=replay_calibrations(cast, calibration))
    total = sum(len(ends) for _, ends in stretches(series))
    timeframe = timeframe_name(next(iter(series.values())).interval)
    columns = (TextColumn("deciding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    target = out / "decisions.parquet"
    with Progress(*columns) as progress, DecisionFile(target) as file:
        task = progress.add_task("deciding", total=total)
        for records in decide_all(
            series,
            timeframe,
            cast,
            policy,
            workers=workers or os.cpu_count() or 1,
            progress=lambda n: progress.advance(task, n),
        ):
            file.write(to_table(records))
    console = Console()
    roles = ", ".join(f"{item.model} {item.role.value}" for item in cast)
    console.print(f"{total} decisions of {len(series)} symbols ({roles}) in {target}", highlight=False)
    console.print(f"next: quantum gates --decisions {out} --bars {bars}", highlight=False)


def replay_calibrations(cast: "list[ReplayModel]", given: list[str]) -> "dict[str, Calibration]":
    """Calibrations of the voters, by model, from ``MODEL=FILE@DIGEST``.

    Raises:
        ArtefactError: if one is missing, changed or another artefact's.
        ConfigError: if it is of a model that does not vote here.
    """
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.core.predictions import Role
    from quantum_trader.models.artefact import load_artefact
    from quantum_trader.models.calibration import voters_calibrations

    references = dict(item.partition("=")[::2] for item in given)
    voters = {item.model: load_artefact(item.path).digest for item in cast if item.role is Role.VOTER}
    found, idle = voters_calibrations(references, voters)
    for model, why in idle.items():
        raise ConfigError(f"--calibration of {model!r}: {why}")
    return found


def replay_cast(models: Path, shadows: list[str]) -> "list[ReplayModel]":
    """The newest artefact of every model in a folder, with its role.

    Raises:
        ArtefactError: if one of them is broken.
        ConfigError: if a shadow's name is unknown, has no artefact, or nobody would vote.
    """
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.core.predictions import MODELS, Role
    from quantum_trader.engine.replay import ReplayModel
    from quantum_trader.models.store import newest, present

    there = present(models)
    for name in shadows:
        if name not in there:
            raise ConfigError(f"shadow {name!r}: no artefact of it in {models} (there: {', '.join(there) or 'none'})")
    cast = [
        ReplayModel(name, newest(models, name).folder, Role.SHADOW if name in shadows else Role.VOTER)
        for name in MODELS
        if name in there
    ]
    if all(item.role is Role.SHADOW for item in cast):
        raise ConfigError(f"models folder {models}: every model is a shadow; at least one must vote")
    return cast

"""`quantum run`, `quantum init`, `quantum show-config`: the engine and what it starts from."""

import getpass
import json
from pathlib import Path
from typing import Annotated

import typer

from quantum_trader.cli.finish import Finish
from quantum_trader.clock import now_utc
from quantum_trader.core.predictions import MODELS

ConfigFiles = Annotated[
    list[Path],
    typer.Option("-c", "--config", help="TOML file; may be given several times, a later one overrides an earlier one."),
]
EnvFile = Annotated[
    Path | None,
    typer.Option("--env-file", help="File of NAME=value lines, as systemd reads it; the environment overrides it."),
]


def run(config: ConfigFiles = [], env_file: EnvFile = None) -> None:  # noqa: B006 - typer copies the default
    """Run the engine until SIGTERM or Ctrl-C; the batch in hand is finished first.

    Bars are read from quantum:stream:market.bar as a consumer group; every decision goes to quantum:stream:ai.decision,
    actionable ones to quantum:stream:trade.intent. The log is JSON lines on standard error.

    A model votes only if the ledger holds a grant for its artefact AND its flag says false:

        XGB_MODEL_PATH=models/xgb_v20260110_020000 XGB_SHADOW_ONLY=false
    """
    from quantum_trader.bootstrap import run_engine
    from quantum_trader.settings_source import SettingsSource

    if not run_engine(SettingsSource(config, env_file)):
        raise Finish(1)


def init(
    models: Annotated[Path, typer.Option(help="Folder of artefacts; the newest of each model is taken.")] = Path(
        "models"
    ),
    shadow: Annotated[list[str], typer.Option(help="Model that starts in shadow, without a grant.")] = ["patchtst"],  # noqa: B006
    ledger: Annotated[Path, typer.Option(help="Ledger to write the first grants to.")] = Path("ledger.jsonl"),
    env_file: Annotated[Path, typer.Option(help="Env file to write for the engine.")] = Path("ai-engine.env"),
) -> None:
    """Grant the first voters their vote and write the env file; an initialised ledger is never initialised again."""
    from rich.console import Console

    from quantum_trader.models.store import newest, present
    from quantum_trader.release.init import initialise

    there = present(models)
    folders = {model: newest(models, model).folder for model in MODELS if model in there}
    at = now_utc().isoformat(timespec="seconds")
    release = initialise(folders, set(shadow), ledger, env_file, by=getpass.getuser(), at=at)
    console = Console()
    for model, (folder, digest) in release.artefacts.items():
        role = "shadow, no grant" if model in release.shadows else "granted a vote"
        console.print(f"{model:9} {digest[:16]}  {role:17} {folder}", highlight=False)
    console.print(f"ledger {release.ledger}, env file {release.env_file}", highlight=False)
    console.print(f"next: quantum run --env-file {release.env_file}", highlight=False)


def show_config(config: ConfigFiles = [], env_file: EnvFile = None) -> None:  # noqa: B006
    """Print the settings as the engine would see them, as JSON with secrets hidden."""
    from quantum_trader.bus.client import redact
    from quantum_trader.settings import load_settings

    settings = load_settings(config, env_file).model_dump(mode="json")
    settings["redis_url"] = redact(settings["redis_url"])
    typer.echo(json.dumps(settings, indent=2))

"""`quantum host init`: a bare Debian host made ready for the engine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quantum_trader.models.artefact import Artefact

app = typer.Typer(no_args_is_help=True, help="Make a host ready for the engine.")


@app.callback()
def host() -> None:
    """Make a host ready for the engine."""


@app.command()
def init(
    host: Annotated[str, typer.Option(help="Name in the hosts file, USER@ADDRESS, or local. Needs root there.")],
    bundle: Annotated[Path, typer.Option(help="Folder made by ops/make-bundle.sh.")] = Path("dist/host"),
    models: Annotated[
        Path | None, typer.Option(help="First artefacts, the newest of each model; for a host without an env file.")
    ] = None,
    shadow: Annotated[list[str], typer.Option(help="Model that starts in shadow, without a grant.")] = ["patchtst"],  # noqa: B006
    hosts: Annotated[Path | None, typer.Option(help="TOML file of hosts.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look only, and say what would be made.")] = False,
) -> None:
    """Install user, folders, program, stream server and units on a Debian host, and start the engine.

    Every step looks first and changes only what does not hold: a second run changes nothing, a run that was cut off is
    finished by the next. A running engine is not restarted: what is new counts from its next start on.

    Exit codes: 0 everything holds (or, with --dry-run, was looked at), 1 any error; steps before it stay made.
    """
    from quantum_trader.clock import now_us
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.release.bundle import read_bundle
    from quantum_trader.release.host import check_clock
    from quantum_trader.release.host_settings import load_host
    from quantum_trader.release.provision import NEEDED, Provision
    from quantum_trader.release.steps import carry_out

    settings = load_host(host, hosts)
    content = read_bundle(bundle, NEEDED)
    artefacts = _first(models)
    reach = settings.connect()
    try:
        check_clock(reach, now_us)
        provision = Provision(reach, settings, content, artefacts, shadow)
        if not provision.initialised and not artefacts:
            raise ConfigError(f"host {reach.name}: has no env file yet; give --models FOLDER with its first artefacts")
        steps = provision.steps()
        changed = carry_out(steps, typer.echo, dry_run=dry_run)
    finally:
        reach.close()
    if not changed:
        typer.echo(f"{reach.name}: all {len(steps)} steps hold already, nothing was changed")
    else:
        typer.echo(f"{reach.name}: {changed} of {len(steps)} steps {'to do' if dry_run else 'made'}")


def _first(models: Path | None) -> "Mapping[str, Artefact]":
    from quantum_trader.models.store import newest, present

    return {} if models is None else {model: newest(models, model) for model in present(models)}

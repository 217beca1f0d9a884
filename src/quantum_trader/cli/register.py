"""`quantum register`: write down what a shadow will be judged by, before it is observed."""

import getpass
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantum_trader.cli.run import ConfigFiles, EnvFile

if TYPE_CHECKING:
    from quantum_trader.core.predictions import Role
    from quantum_trader.gates.whole_policy import Policy
    from quantum_trader.models.artefact import Artefact
    from quantum_trader.release.ledger_entries import Electorate, Entry, Registration
    from quantum_trader.settings import Settings


def register(
    model: Annotated[str, typer.Argument(help="The shadow: xgb, lgbm, nhits or patchtst.")],
    policy: Annotated[str, typer.Option(help="default, or a TOML file of thresholds.")] = "default",
    start: Annotated[str, typer.Option(help="When the window begins, ISO 8601, not in the past; now by default.")] = "",
    reason: Annotated[str, typer.Option(help="Why, for the ledger.")] = "to be judged in shadow",
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Write into the ledger by what a shadow will be judged, before its window begins.

    Policy, artefact, electorate, symbols, timeframe and the window's start are taken from the settings, the grants and
    the artefacts as they are now. A verdict that departs from any of them later is INVALID. Registering the very same
    again changes nothing.
    """
    from rich.console import Console

    from quantum_trader.cli.audit import parse_time
    from quantum_trader.clock import now_utc
    from quantum_trader.core.errors import ConfigError, format_ms
    from quantum_trader.release.ledger import append_entries, read_entries
    from quantum_trader.release.ledger_entries import New
    from quantum_trader.release.registration import milliseconds, registered, registration_for
    from quantum_trader.settings import load_settings

    settings = load_settings(config, env_file)
    entries = read_entries(settings.ledger)
    now = now_utc()
    begin = milliseconds(parse_time(start) if start else now)
    wanted = _registration(settings, entries, model, _policy(policy), begin)
    console = Console(highlight=False, soft_wrap=True)
    last = registration_for(entries, model, wanted.artefact)
    if last is not None and _same(registered(last), wanted, start):
        console.print(
            f"{model} is registered already, entry {last.seq} of {last.at}: "
            f"its window begins {format_ms(registered(last).window_start)}",
            markup=False,
        )
        return
    if begin < milliseconds(now):
        raise ConfigError(f"--start {start}: has passed; a window begins now or later")
    new = New(at=now.isoformat(), by=getpass.getuser(), reason=reason, detail=wanted)
    entry = append_entries(settings.ledger, [new])[0]
    console.print(
        f"{model} {wanted.artefact[:16]} registered, entry {entry.seq} of {settings.ledger}: "
        f"version {wanted.version} of {wanted.lineage}, policy {wanted.policy[:16]}, "
        f"window from {format_ms(wanted.window_start)}",
        markup=False,
    )


def _same(last: "Registration", wanted: "Registration", start: str) -> bool:
    """Whether that stands in the ledger already; who names no beginning asks for none."""
    from quantum_trader.release.registration import same_registration

    return same_registration(last, wanted) and (not start or wanted.window_start == last.window_start)


def _policy(name: str) -> "Policy":
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.gates.whole_policy import WHOLE, Policy

    if name == WHOLE.name:
        return WHOLE
    try:
        return Policy.from_mapping(tomllib.loads(Path(name).read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"policy {name}: neither default nor a readable file ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"policy {name}: {error}") from error


def _registration(
    settings: "Settings", entries: "list[Entry]", model: str, policy: "Policy", window_start: int
) -> "Registration":
    """What is to be registered.

    Raises:
        QuantumError: if the model is unknown, not configured or no shadow, an artefact is none, or nobody votes.
    """
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.core.predictions import MODELS, Role
    from quantum_trader.core.roles import asks_for_vote
    from quantum_trader.models.artefact import load_artefact
    from quantum_trader.release.ledger import voting
    from quantum_trader.release.ledger_entries import Registration

    if model not in MODELS:
        raise ConfigError(f"model {model!r}: unknown, expected one of {', '.join(MODELS)}")
    loaded = {
        name: load_artefact(own.model_path)
        for name, own in settings.models.items()
        if own.model_path is not None and (name == model or asks_for_vote(own.shadow_only))
    }
    if model not in loaded:
        raise ConfigError(f"model {model}: {model.upper()}_MODEL_PATH is not set, so there is nothing to register")
    foreign = next((name for name, found in loaded.items() if found.manifest.model != name), None)
    if foreign is not None:
        kind, folder = loaded[foreign].manifest.model, loaded[foreign].folder
        raise ConfigError(f"artefact {folder}: it is a {kind} model, configured as {foreign}")
    roles = _roles(settings, loaded, voting(entries))
    if roles[model] is Role.VOTER:
        raise ConfigError(f"model {model}: it votes already; only a shadow is registered")
    own = loaded[model]
    if not own.manifest.schema_known:
        raise ConfigError(f"artefact {own.folder}: imported, its feature schema is unknown; it can never earn a vote")
    voters = {name: found for name, found in loaded.items() if roles[name] is Role.VOTER}
    return Registration(
        model=model,
        artefact=own.digest,
        lineage=own.manifest.lineage,
        version=own.manifest.version,
        policy=policy.digest,
        electorate=_electorate(settings, model, voters),
        features=own.manifest.features,
        symbols=sorted(settings.symbols),
        timeframe=settings.timeframe,
        window_start=window_start,
    )


def _roles(
    settings: "Settings", loaded: "Mapping[str, Artefact]", granted: Mapping[str, set[str]]
) -> "dict[str, Role]":
    """The engine's own rule, on what it would load."""
    from quantum_trader.core.roles import assign_role

    return {
        name: assign_role(
            name,
            found.digest,
            granted.get(name, ()),
            settings.models[name].shadow_only,
            schema_known=found.manifest.schema_known,
        ).role
        for name, found in loaded.items()
    }


def _electorate(settings: "Settings", model: str, voters: "Mapping[str, Artefact]") -> "Electorate":
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.models.calibration import voters_calibrations
    from quantum_trader.release.ledger_entries import Electorate

    if not voters:
        raise ConfigError("no model votes, so there is nobody to judge a shadow against")
    weights = settings.vote_policy().weights
    digests = {name: found.digest for name, found in voters.items()}
    calibrations, _ = voters_calibrations(settings.calibrations, digests)
    return Electorate(
        weights={name: weights[name] for name in voters},
        artefacts=digests,
        shadow_weight=weights[model],
        min_consensus=settings.min_consensus,
        calibrations={name: found.digest for name, found in calibrations.items()},
    )

"""Settings: defaults, then TOML files in their order, then the environment; the last one to speak wins.

Every setting is also an environment variable (``QUANTUM_`` and its name in capitals); the models' artefacts and flags,
and the shadow's grace, keep the names that operators know: ``PATCHTST_MODEL_PATH``, ``PATCHTST_SHADOW_ONLY``,
``SHADOW_GRACE_MS``.
"""

import itertools
import math
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from quantum_trader.core.bars import interval_ms, venue_symbol
from quantum_trader.core.errors import ConfigError
from quantum_trader.core.policy import IntentPolicy, VotePolicy
from quantum_trader.core.predictions import DEFAULT_WEIGHTS, MODELS

PREFIX = "QUANTUM_"

NOT_SETTINGS = frozenset({"QUANTUM_SHARED", "QUANTUM_TEST_HOST_CACHE", "QUANTUM_TEST_HOST_NAME"})
"""Variables of the prefix that belong to the tests."""


def _timeframe(value: str) -> str:
    interval_ms(value)
    return value


def _pairs(values: list[str]) -> list[str]:
    for value in values:
        venue_symbol(value)
    if len({venue_symbol(value) for value in values}) < len(values):
        raise ConfigError(f"pairs {', '.join(values)}: one is named twice")
    return values


def _none_if_blank(value: object) -> object:
    # An empty path is no path: systemd passes NAME= for a variable that was blanked by hand.
    return None if isinstance(value, str) and not value.strip() else value


def _rising(values: list[float]) -> list[float]:
    if not all(0 < low < high for low, high in itertools.pairwise([*values, math.inf])):
        raise ConfigError(f"setting weight_ramp: {values} do not rise from above 0")
    return values


OptionalPath = Annotated[Path | None, BeforeValidator(_none_if_blank)]


class Strict(BaseModel):
    """A group of settings: frozen, an unknown key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class ModelSettings(Strict):
    """One model: the folder of its artefact, its flag, and its calibration as ``FILE@DIGEST``.

    Only the word ``false`` asks for a vote.
    """

    model_path: OptionalPath = None
    shadow_only: str | None = None
    calibration: Annotated[str | None, BeforeValidator(_none_if_blank)] = None


class IntentSettings(Strict):
    """Size and stops written into intents."""

    position_size_usd: float = 10.0
    leverage: int = 1
    stop_atr: float = 1.25
    take_atr: float = 3.0


class Settings(Strict):
    """Everything `quantum run` needs."""

    pairs: Annotated[list[str], AfterValidator(_pairs), Field(min_length=1)] = [
        "BTC/USDT",
        "ETH/USDT",
        "BNB/USDT",
        "SOL/USDT",
        "XRP/USDT",
    ]
    timeframe: Annotated[str, AfterValidator(_timeframe)] = "5m"
    redis_url: str = "redis://127.0.0.1:6379/0"
    stream_prefix: str = "quantum:stream:"
    group: str = "ai-engine"
    consumer: str = "engine-1"
    ledger: Path = Path("ledger.jsonl")
    signing_key: OptionalPath = None
    ready_file: OptionalPath = None
    linger_ms: Annotated[int, Field(ge=0, le=600_000)] = 1500
    lease_wait_s: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    health_address: str = "127.0.0.1:9464"
    shadow_grace_ms: Annotated[float, Field(ge=0, le=60_000)] = 20.0
    shadow_memory_mb: Annotated[int, Field(ge=256, le=1_048_576)] = 2048
    retention_hours: Annotated[float, Field(gt=0)] = 192.0
    min_consensus: Annotated[int, Field(ge=1)] = 2
    log_format: Annotated[str, Field(pattern="^(json|console)$")] = "json"
    weights: dict[str, float] = dict(DEFAULT_WEIGHTS)
    weight_ramp: Annotated[list[float], AfterValidator(_rising), Field(min_length=1)] = [0.10, 0.20, 0.25]
    verdict_max_age_hours: Annotated[float, Field(gt=0)] = 24.0
    reload_command: list[str] = ["systemctl", "reload", "quantum-ai-engine.service"]
    restart_command: list[str] = ["systemctl", "restart", "quantum-ai-engine.service"]
    alert_urls: list[SecretStr] = []
    intent: IntentSettings = IntentSettings()
    models: dict[str, ModelSettings] = {name: ModelSettings() for name in MODELS}

    @property
    def symbols(self) -> list[str]:
        """Venue symbols of the pairs."""
        return [venue_symbol(pair) for pair in self.pairs]

    def vote_policy(self) -> VotePolicy:
        """How votes count."""
        return VotePolicy({**DEFAULT_WEIGHTS, **self.weights}, self.min_consensus)

    @property
    def calibrations(self) -> dict[str, str]:
        """By model that has one, where its calibration lies and which digest it has: ``FILE@DIGEST``."""
        return {name: model.calibration for name, model in self.models.items() if model.calibration is not None}

    def intent_policy(self) -> IntentPolicy:
        """How intents are sized."""
        return IntentPolicy(**self.intent.model_dump())


NOT_THE_ENGINES = frozenset(
    {"weight_ramp", "verdict_max_age_hours", "reload_command", "restart_command", "alert_urls", "signing_key"}
)
"""Settings of releases and of the watch; the engine does not read them."""

_SPECIAL: dict[str, tuple[str, ...]] = {"SHADOW_GRACE_MS": ("shadow_grace_ms",)}
for _model in MODELS:
    _SPECIAL[f"{_model.upper()}_MODEL_PATH"] = ("models", _model, "model_path")
    _SPECIAL[f"{_model.upper()}_SHADOW_ONLY"] = ("models", _model, "shadow_only")
    _SPECIAL[f"{_model.upper()}_CALIBRATION"] = ("models", _model, "calibration")
for _name in IntentSettings.model_fields:
    _SPECIAL[f"{PREFIX}INTENT_{_name.upper()}"] = ("intent", _name)


def load_settings(
    config_files: Sequence[Path] = (), env_file: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Settings:
    """Resolve the settings.

    Args:
        config_files: TOML files; a later one overrides an earlier one, key by key.
        env_file: A file of NAME=value lines, as systemd's EnvironmentFile; the real environment overrides it.
        environ: The environment.

    Raises:
        ConfigError: naming the setting and its rule; an unknown ``QUANTUM_`` variable or TOML key is refused.
    """
    merged: dict[str, Any] = {}
    for path in config_files:
        _merge(merged, _read_toml(path))
    if env_file is not None:
        _merge(merged, _from_environment(read_env(env_file), str(env_file)))
    _merge(merged, _from_environment(environ, "environment"))
    _flags_as_text(merged)
    _refuse_booleans(merged, "setting ")
    try:
        settings = Settings(**merged)
        settings.vote_policy()
        settings.intent_policy()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise ConfigError(f"setting {where}: {first['msg']} (got {first['input']!r})") from error
    unknown = sorted((set(settings.models) | set(settings.weights)) - set(MODELS))
    if unknown:
        raise ConfigError(f"setting models.{unknown[0]}: unknown model, expected one of {', '.join(MODELS)}")
    return settings


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config {path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path}: {error}") from error


def read_env(path: Path) -> dict[str, str]:
    """The variables of an env file, as systemd would read them.

    Raises:
        ConfigError: if it is missing or not UTF-8, or a line would mean another thing to systemd.
    """
    if not path.is_file():
        raise ConfigError(f"env file {path}: no such file")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        values = dotenv_values(path, interpolate=False)
    except UnicodeDecodeError as error:
        raise ConfigError(f"env file {path}: not UTF-8 ({error.reason} at byte {error.start})") from error
    for number, line in enumerate(lines, start=1):
        # dotenv drops a comment behind a value, systemd makes it part of the value: one flag, two meanings.
        if " #" in line and not line.lstrip().startswith(("#", ";")):
            raise ConfigError(f"env file {path}: line {number} has a comment behind its value; put it on its own line")
        # A comment for systemd; dotenv would read a quoted value that goes on over the next lines.
        if line.lstrip().startswith(";") and re.search(r"=\s*['\"]", line):
            raise ConfigError(f"env file {path}: line {number} is a comment with a quoted value; begin it with #")
    return {name: value for name, value in values.items() if value is not None}


def _from_environment(environ: Mapping[str, str], where: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in environ.items():
        path = _SPECIAL.get(name)
        if path is None and name.startswith(PREFIX):
            path = _plain_path(name, where)
        if path is not None:
            _put(out, path, _parsed(path, value))
    return out


def _plain_path(name: str, where: str) -> tuple[str, ...] | None:
    field = name.removeprefix(PREFIX).lower()
    if field in Settings.model_fields and field not in {"models", "intent"}:
        return (field,)
    if name in NOT_SETTINGS:
        return None
    raise ConfigError(f"{where}: {name} is no setting (see quantum show-config)")


def _words(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError as error:
        raise ConfigError(f"a list of words cannot be read ({error})") from error


LISTS: Mapping[str, Callable[[str], list[str]]] = {
    "weight_ramp": lambda value: [part.strip() for part in value.split(",")],
    "reload_command": _words,
    "restart_command": _words,
    "alert_urls": str.split,
}
"""How a variable's text is a list: weights with commas, a command's words as in a shell, addresses with blanks."""


def _parsed(path: tuple[str, ...], value: str) -> Any:
    if path == ("pairs",):
        return [pair.strip() for pair in value.split(",") if pair.strip()]
    if path[0] in LISTS:
        return LISTS[path[0]](value)
    if path == ("weights",):
        return dict(_weight(item) for item in value.split(",") if item.strip())
    return value


def _weight(item: str) -> tuple[str, float]:
    name, _, number = item.partition("=")
    try:
        return name.strip(), float(number)
    except ValueError as error:
        raise ConfigError(f"setting weights: {item!r} is not like patchtst=0.2") from error


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _merge(tree: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = dict(value) if isinstance(value, Mapping) else value


def _flags_as_text(merged: dict[str, Any]) -> None:
    """TOML's own true and false become the words; any other type of flag stays wrong and is told so."""
    models = merged.get("models", {})
    if not isinstance(models, dict):
        raise ConfigError("setting models: expected a table for each model")
    for fields in models.values():
        if isinstance(fields, dict) and isinstance(fields.get("shadow_only"), bool):
            fields["shadow_only"] = str(fields["shadow_only"]).lower()


def _refuse_booleans(tree: Mapping[str, Any], where: str) -> None:
    """No setting is a boolean; pydantic would take TOML's true for the number 1."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            _refuse_booleans(value, f"{where}{key}.")
        elif isinstance(value, bool):
            raise ConfigError(f"{where}{key}: {str(value).lower()} is neither a number nor a text")

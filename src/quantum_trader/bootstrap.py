"""The only wiring place: from settings to a service with its bus, models, shadows and log."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import redis
import structlog
from structlog.typing import Processor

from quantum_trader.bus.client import connect, durability
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.reader import BarReader, DecisionReader
from quantum_trader.bus.writer import BarWriter, DecisionWriter
from quantum_trader.clock import now_us
from quantum_trader.core.errors import ConfigError
from quantum_trader.core.predictions import MODELS
from quantum_trader.core.roles import asks_for_vote
from quantum_trader.engine.loading import ModelSpec, load_cast
from quantum_trader.engine.service import Service, ServiceConfig
from quantum_trader.engine.shadow import ShadowRing
from quantum_trader.release.ledger import granted_digests, read_grants
from quantum_trader.settings import ModelSettings, Settings

MS_PER_HOUR = 3_600_000


def configure_logging(log_format: str) -> None:
    """Send the log to standard error: JSON lines with the text under `message`, or a console's layout."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.EventRenamer("message"),
    ]
    renderer = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(event_key="message")
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)


def model_specs(settings: Settings) -> list[ModelSpec]:
    """The models that are configured: those with a path.

    Raises:
        ConfigError: if a model is told to vote and has no path; it would vanish from the vote without a word.
    """
    specs = []
    for name in MODELS:
        model = settings.models.get(name, ModelSettings())
        if model.model_path is not None:
            specs.append(ModelSpec(name, model.model_path, model.shadow_only))
        elif asks_for_vote(model.shadow_only):
            raise ConfigError(f"{name.upper()}_SHADOW_ONLY=false, but {name.upper()}_MODEL_PATH is not set")
    return specs


@contextlib.contextmanager
def wire_service(settings: Settings) -> Iterator[Service]:
    """The service with everything it needs, closed again when the block ends.

    Raises:
        QuantumError: one line, if a file, the ledger, a model or the bus does not let it run.
    """
    cast = load_cast(model_specs(settings), granted_digests(read_grants(settings.ledger)))
    vote_policy = settings.vote_policy()
    shadows = ShadowRing(cast.shadows, settings.shadow_grace_ms, vote_policy.weights)
    config = ServiceConfig(settings.symbols, settings.timeframe, settings.linger_ms, settings.claim_idle_ms)
    retention = int(settings.retention_hours * MS_PER_HOUR)
    with contextlib.closing(shadows), _connected(settings) as (client, names):
        reader = BarReader(client, names, settings.group, settings.consumer)
        writer = DecisionWriter(client, names, durability(client), retention_ms=retention)
        policies = (vote_policy, settings.intent_policy())
        shadows.start()
        yield Service(config, reader, writer, cast, shadows, policies, now_us=now_us)


@contextlib.contextmanager
def _connected(settings: Settings) -> Iterator[tuple[redis.Redis, StreamNames]]:
    """A client of the stream server and the streams' names, closed when the block ends."""
    client = connect(settings.redis_url)
    try:
        yield client, StreamNames(settings.stream_prefix)
    finally:
        client.close()


@contextlib.contextmanager
def wire_bar_writer(settings: Settings) -> Iterator[BarWriter]:
    """A writer of the bar stream, closed when the block ends."""
    with _connected(settings) as (client, names):
        yield BarWriter(client, names)


@contextlib.contextmanager
def wire_decision_reader(settings: Settings) -> Iterator[DecisionReader]:
    """A reader of decisions and intents, closed when the block ends."""
    with _connected(settings) as (client, names):
        yield DecisionReader(client, names)


@dataclass(frozen=True)
class ReadyFile:
    """Tells whoever waits that the engine is ready, and only while it is: gone before the start and after the end."""

    path: Path | None

    def __enter__(self) -> Self:
        self._remove()
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def write(self) -> None:
        """The engine is ready."""
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("ready\n", encoding="utf-8")

    def _remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)

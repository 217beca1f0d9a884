"""The only wiring place: from settings to a service with its bus, models, shadows and log."""

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import redis
import structlog
from structlog.typing import Processor

from quantum_trader import __version__
from quantum_trader.bus.client import connect, durability
from quantum_trader.bus.cursor import Cursor
from quantum_trader.bus.identity import Identity
from quantum_trader.bus.lease import Lease
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.reader import BarReader, DecisionReader
from quantum_trader.bus.tail import DecisionTail
from quantum_trader.bus.writer import BarWriter, DecisionWriter, LifecycleWriter
from quantum_trader.clock import now_us
from quantum_trader.core.errors import BusError, ConfigError, LedgerError, QuantumError
from quantum_trader.core.features import SCHEMA
from quantum_trader.core.honesty import Honesty
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import MODELS, Role
from quantum_trader.core.roles import asks_for_vote
from quantum_trader.engine.health import Vitals, serve_health
from quantum_trader.engine.loading import Cast, ModelSpec, Seat, cast_of, seats
from quantum_trader.engine.metrics import Metrics, Running
from quantum_trader.engine.notify import Notifier
from quantum_trader.engine.oversight import Oversight
from quantum_trader.engine.pulse import Pulse
from quantum_trader.engine.reload import Standing, parts_of
from quantum_trader.engine.reloading import Asked, Reloader
from quantum_trader.engine.service import Service, ServiceConfig
from quantum_trader.engine.shadow import WORKER, ShadowRing
from quantum_trader.engine.stage import Stage
from quantum_trader.engine.steady_clock import SteadyClock
from quantum_trader.models.calibration import voters_calibrations
from quantum_trader.release.ledger import read_entries, voting
from quantum_trader.settings import NOT_THE_ENGINES, ModelSettings, Settings
from quantum_trader.settings_source import SettingsSource

log = logging.getLogger(__name__)

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


def calibrated_policy(settings: Settings, cast: Cast) -> VotePolicy:
    """How votes count, with the calibrations of those who vote.

    Raises:
        ArtefactError: if a voter's calibration is missing, changed or another artefact's.
    """
    voters = {name: model.digest for name, model in cast.voters.items()}
    calibrations, idle = voters_calibrations(settings.calibrations, voters)
    for model, found in calibrations.items():
        log.info("calibration of %s is %s", model, found.digest[:16])
    for model, why in idle.items():
        log.warning("calibration of %s: %s", model, why)
    return replace(settings.vote_policy(), calibrations=calibrations)


def _standing(settings: Settings, taken: Mapping[str, Seat]) -> Standing:
    """Everybody's part, and every other setting."""
    rest = settings.model_dump(exclude={"models", "weights", *NOT_THE_ENGINES})
    rest["calibrations"] = settings.calibrations
    return Standing(parts_of(taken, settings.vote_policy().weights), rest)


def _read_again(source: SettingsSource, running: Standing) -> Standing:
    """What settings, artefacts and ledger say now.

    Where the ledger cannot be read, the grants of whoever votes now are taken as they were: nobody else can come to
    vote by that, and a flag that says shadow still ends a vote.

    Raises:
        QuantumError: if settings or artefacts cannot be read.
    """
    settings = source.again()
    try:
        granted = voting(read_entries(settings.ledger))
    except LedgerError as error:
        log.error("%s; grants are taken as they were, only flags are followed", error)
        granted = {model: {part.digest} for model, part in running.parts.items() if part.role is Role.VOTER}
    return _standing(settings, seats(model_specs(settings), granted))


@contextlib.contextmanager
def wire_service(
    source: SettingsSource, shadow_program: Sequence[str] = WORKER, reload_asked: Asked | None = None
) -> Iterator[Service]:
    """The service with everything it needs, closed again when the block ends.

    Args:
        source: Of the settings; read again when a reload is asked for.
        shadow_program: What every shadow's process runs; another one than the worker only for certificates and demos.
        reload_asked: How often a reload was asked for.

    Raises:
        QuantumError: one line, if a file, the ledger, a model or the bus does not let it run.
    """
    settings = source.first
    notifier = Notifier.from_environment(os.environ, os.getpid())
    taken = seats(model_specs(settings), voting(read_entries(settings.ledger)))
    cast = cast_of(taken)
    vote_policy = calibrated_policy(settings, cast)
    shadows = ShadowRing(
        cast.shadows,
        settings.shadow_grace_ms,
        vote_policy.weights,
        memory_mb=settings.shadow_memory_mb,
        program=shadow_program,
    )
    vitals = Vitals(time.monotonic())
    metrics = Metrics(_running(cast, vote_policy))
    metrics.watch_shadows(lambda: shadows.states().values())
    metrics.watch_vitals(lambda: not vitals.hindrances(time.monotonic()), lambda: vitals.loop_age_s(time.monotonic()))
    config = ServiceConfig(settings.symbols, settings.timeframe, settings.linger_ms, settings.lease_wait_s)
    retention = int(settings.retention_hours * MS_PER_HOUR)
    with contextlib.ExitStack() as stack:
        stack.callback(notifier.close)
        stack.enter_context(serve_health(settings.health_address, vitals, metrics.registry))
        stack.enter_context(contextlib.closing(shadows))
        client, names = stack.enter_context(_connected(settings))
        lease = Lease(client, names, settings.group, Identity.here(settings.consumer))
        stack.callback(_give_back, lease)
        promised = durability(client)
        reader = BarReader(client, names, settings.group, settings.consumer)
        writer = DecisionWriter(client, names, promised, retention_ms=retention, lease=lease)
        oversight = Oversight(metrics, Honesty(cast.references), LifecycleWriter(client, names, promised, retention))
        pulse = Pulse(vitals, notifier)
        reloader = Reloader(reload_asked or Asked(), partial(_read_again, source), shadows)
        stack.callback(reloader.close)
        stage = Stage(
            cast, shadows, _standing(settings, taken), reloader, (pulse, oversight), partial(_described, vote_policy)
        )
        shadows.start()
        yield Service(
            config,
            (lease, reader, writer),
            stage,
            (vote_policy, settings.intent_policy()),
            SteadyClock(now_us, lambda: time.monotonic_ns() // 1000),
            (pulse, oversight),
        )


def run_engine(source: SettingsSource, shadow_program: Sequence[str] = WORKER) -> bool:
    """Run the engine until SIGTERM or SIGINT; False if it ended with an error, which is then in its log.

    SIGHUP makes it read its settings and its ledger again; one that comes while it starts is kept until then.

    Args:
        source: Of its settings.
        shadow_program: As in `wire_service`.
    """
    settings, reload_asked = source.first, Asked()
    signal.signal(signal.SIGHUP, reload_asked)
    configure_logging(settings.log_format)
    try:
        with (
            ReadyFile(settings.ready_file) as ready_file,
            wire_service(source, shadow_program, reload_asked) as service,
        ):
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: service.stop())

            def ready() -> None:
                log.info("READY: every voter is loaded and has predicted once")
                ready_file.write()

            service.run(ready)
    except QuantumError as error:
        log.critical("%s", error)
        return False
    return True


def _running(cast: Cast, policy: VotePolicy) -> Running:
    voters = {name: model.digest for name, model in cast.voters.items()}
    return _described(policy, voters, {spec.model: spec.digest for spec in cast.shadows})


def _described(policy: VotePolicy, voters: Mapping[str, str], shadows: Mapping[str, str]) -> Running:
    return Running(__version__, SCHEMA.digest, policy.digest(tuple(voters)), voters, shadows)


def _give_back(lease: Lease) -> None:
    """Spare the next engine the wait; where the server is away it waits for the lease to run out."""
    try:
        lease.release()
    except BusError as error:
        log.warning("the lease was not given back: %s", error)
    lease.close()


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


@contextlib.contextmanager
def wire_cursor(settings: Settings, since_ms: int = 0) -> Iterator[Cursor]:
    """A spectator that follows decisions and bars, closed when the block ends."""
    with _connected(settings) as (client, names), contextlib.closing(Cursor(client, names, since_ms)) as cursor:
        yield cursor


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
        """The engine is ready. It is, too, where the file cannot be written: that is told, and nothing ends."""
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("ready\n", encoding="utf-8")
        except OSError as error:
            log.error("ready file %s: not written (%s)", self.path, error.strerror)

    def _remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def wire_decision_tail(settings: Settings, group: str, consumer: str) -> Iterator[DecisionTail]:
    """The one reader of a group on the decision stream, closed when the block ends."""
    with _connected(settings) as (client, names), contextlib.closing(DecisionTail(client, names, group, consumer)) as t:
        yield t

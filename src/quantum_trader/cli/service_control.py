"""The engine's service, from another verb: its restart or reload command, and a word on the lifecycle stream."""

import subprocess
from collections.abc import Mapping, Sequence

from quantum_trader.core.errors import BusError, ConfigError
from quantum_trader.settings import Settings

PATIENCE_S = 120.0


def call(command: Sequence[str]) -> None:
    """Run a command, word by word and without a shell.

    Raises:
        ConfigError: if it cannot be run, fails or does not end in two minutes.
    """
    if not command:
        raise ConfigError("no command is set to reload or restart the engine")
    try:
        done = subprocess.run(  # noqa: S603 - words from the settings, no shell
            list(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"command {command[0]}: {error}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ConfigError(f"command {' '.join(command)}: exit code {done.returncode}{': ' + said[-1] if said else ''}")


def announce(settings: Settings, kind: str, detail: Mapping[str, str]) -> str:
    """Publish a lifecycle event; returns why it could not be, or nothing. What was done does not wait for it."""
    from contextlib import closing

    from quantum_trader.bus.client import connect, durability
    from quantum_trader.bus.names import StreamNames
    from quantum_trader.bus.writer import LifecycleWriter
    from quantum_trader.clock import now_us

    try:
        with closing(connect(settings.redis_url)) as client:
            retention = int(settings.retention_hours * 3_600_000)
            writer = LifecycleWriter(client, StreamNames(settings.stream_prefix), durability(client), retention)
            with closing(writer):
                writer.publish(kind, detail, now_us())
    except BusError as error:
        return str(error)
    return ""

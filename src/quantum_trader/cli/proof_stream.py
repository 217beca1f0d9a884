"""Evidence read from this machine: the streams' entries, the ledger, the models, the program."""

import json
import time
from contextlib import closing
from datetime import UTC, datetime
from typing import BinaryIO

import msgspec

from quantum_trader.bus.client import connect
from quantum_trader.bus.excerpt import RawEntry, RawReader, to_line
from quantum_trader.bus.names import StreamNames
from quantum_trader.core.bars import interval_ms
from quantum_trader.core.errors import ConfigError, LedgerError
from quantum_trader.settings import Settings

_AROUND_MS = 5_000
"""A decision and its intent are written in one transaction; its two entries may bear neighbouring milliseconds."""

_LOOK_S = 0.5
"""Between two looks for an intent."""


def moment_ms(text: str) -> int:
    """Milliseconds of a time in ISO 8601; one without a zone is UTC.

    Raises:
        ConfigError: if it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"time {text!r}: expected ISO 8601, such as 2026-01-10T02:30:00+00:00") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def await_intent(settings: Settings, since_ms: int, wait_s: float) -> None:
    """Wait until there is an intent, but no longer than so many seconds.

    Raises:
        BusError: if the server stays away or refuses.
    """
    end = time.monotonic() + wait_s
    with closing(connect(settings.redis_url)) as client, closing(RawReader(client)) as reader:
        key = StreamNames(settings.stream_prefix).intents
        while time.monotonic() < end and not reader.newest(key, 1, since_ms):
            time.sleep(min(_LOOK_S, max(end - time.monotonic(), 0.0)))


def read_events(settings: Settings, count: int, since_ms: int) -> tuple[list[RawEntry], list[RawEntry]]:
    """The newest intents and every decision of the same time; without an intent, the newest decisions.

    Raises:
        BusError: if the server stays away or refuses.
    """
    names = StreamNames(settings.stream_prefix)
    with closing(connect(settings.redis_url)) as client, closing(RawReader(client)) as reader:
        intents = reader.newest(names.intents, count, since_ms)
        if not intents:
            return [], reader.newest(names.decisions, count, since_ms)
        first, last = max(intents[0].ms - _AROUND_MS, since_ms), intents[-1].ms + _AROUND_MS
        return intents, list(reader.between(names.decisions, first, last))


def print_excerpt(out: BinaryIO, what: str, settings: Settings, since_ms: int, until_ms: int) -> None:
    """Write one piece of evidence.

    Raises:
        QuantumError: if it cannot be read.
    """
    if what == "program":
        out.write(_program())
    elif what == "models":
        from quantum_trader.cli.proof_facts import model_facts

        for fact in model_facts(settings):
            out.write(msgspec.json.encode(fact) + b"\n")
    elif what == "ledger":
        try:
            # A ledger is replaced whole, so that one reading sees one state of it.
            out.write(settings.ledger.read_bytes())
        except OSError as error:
            raise LedgerError(f"ledger {settings.ledger}: cannot be read ({error.strerror})") from error
    else:
        _print_entries(out, what, settings, since_ms, until_ms)
    out.flush()


def _print_entries(out: BinaryIO, what: str, settings: Settings, since_ms: int, until_ms: int) -> None:
    names = StreamNames(settings.stream_prefix)
    if what == "bars":
        # The bar of the first decision was published before it.
        since_ms -= 2 * interval_ms(settings.timeframe)
    with closing(connect(settings.redis_url)) as client, closing(RawReader(client)) as reader:
        for entry in reader.between(getattr(names, what), since_ms, until_ms):
            out.write(to_line(entry))


def _program() -> bytes:
    from importlib.metadata import distributions

    from quantum_trader.cli.certify_facts import machine, program

    libraries = {distribution.name: distribution.version for distribution in distributions()}
    document = {
        **msgspec.to_builtins(program()),
        "machine": machine(),
        "libraries": dict(sorted(libraries.items(), key=lambda item: item[0].lower())),
    }
    return json.dumps(document, indent=1).encode() + b"\n"

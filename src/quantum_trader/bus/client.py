"""Connecting to Valkey or Redis, and what the server promises about its disk.

redis-py repeats a command by itself after a lost reply; a repeated XADD is a second entry. Clients made here never
repeat anything: whoever writes decides what a repeat means (see `guarded`).
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from quantum_trader.core.errors import BusError

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
_PROBE_MS = 2000


class Durability(StrEnum):
    """What makes an acknowledged write survive the loss of the server process.

    In trials `appendfsync everysec` alone lost acknowledged entries in 1 of 25 kills under disk pressure.
    """

    ALWAYS = "always"
    """The server answers only after its log is on disk (`appendfsync always`): survives a loss of power too."""
    WAITAOF = "waitaof"
    """The writer asks with WAITAOF (Valkey, Redis >= 7.2) and waits.

    Traced system calls show Valkey 9.1 answering after write() and before fdatasync(): that survives the loss of the
    process, not of power. `always` is the better choice.
    """
    NONE = "none"
    """Neither: an acknowledged intent can be lost."""


def connect(url: str, *, timeout_s: float = TIMEOUT_S) -> redis.Redis:
    """A client that opens its connections when first used, speaks RESP2 and never repeats a command by itself.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with ACL user and password where needed.
        timeout_s: Of connecting and of every reply, seconds.

    Raises:
        BusError: if the URL cannot be read; the message never holds the password.
    """
    try:
        return redis.Redis.from_url(
            url,
            protocol=2,
            decode_responses=False,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            health_check_interval=0,
        )
    except (ValueError, TypeError, redis.RedisError) as error:
        raise BusError(f"stream server URL {redact(url)}: {error}") from None


def redact(url: str) -> str:
    """The URL with every password replaced by ``***``.

    >>> redact("rediss://qt:secret@host:6380/0?password=x")
    'rediss://qt:***@host:6380/0?password=***'
    """
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return "(unreadable)"
    netloc = parts.netloc
    if password is not None:
        credentials, _, host = netloc.rpartition("@")
        netloc = f"{credentials.partition(':')[0]}:***@{host}"
    query = re.sub(r"(?i)(^|&)([^=&]*pass[^=&]*)=[^&]*", r"\1\2=***", parts.query)
    return f"{parts.scheme}://{netloc}{parts.path}{'?' if query else ''}{query}"


def address(client: redis.Redis) -> str:
    """Where a client connects to, for messages: host and port, or the socket's path."""
    settings = client.connection_pool.connection_kwargs
    return str(settings.get("path") or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}")


@contextmanager
def bus_errors(client: redis.Redis, doing: str) -> Iterator[None]:
    """Turn every error of redis-py into one line that names the server and what was being done.

    Raises:
        BusError: in place of any redis or socket error.
    """
    try:
        yield
    except (redis.RedisError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BusError(f"stream server {address(client)}: {doing}: {reason}") from error


def ping_or_raise(client: redis.Redis) -> None:
    """Make sure that the server answers.

    Raises:
        BusError: one line that names the server and the reason.
    """
    with bus_errors(client, "no answer to PING"):
        client.ping()


def durability(client: redis.Redis) -> Durability:
    """What this server offers; a loud warning where it offers nothing.

    CONFIG may be closed to us (ACL, hosted servers), so a refusal only means that WAITAOF is tried.

    Raises:
        BusError: if the server does not answer.
    """
    with bus_errors(client, "asking for its durability"):
        found = _durability(client)
    if found is Durability.NONE:
        log.warning(
            "stream server %s keeps no log on disk that can be waited for: acknowledged intents can be lost "
            "(set appendonly yes and appendfsync always, or use Redis >= 7.2 or Valkey)",
            address(client),
        )
    return found


def _durability(client: redis.Redis) -> Durability:
    try:
        settings = {**client.config_get("appendonly"), **client.config_get("appendfsync")}
    except redis.ResponseError:
        settings = {}
    text = {_text(key): _text(value) for key, value in settings.items()}
    if text.get("appendonly") == "yes" and text.get("appendfsync") == "always":
        return Durability.ALWAYS
    if text.get("appendonly") == "no" or text.get("appendfsync") == "no":
        return Durability.NONE
    try:
        local, _ = client.waitaof(1, 0, _PROBE_MS)
    except redis.ResponseError:
        return Durability.NONE
    return Durability.WAITAOF if int(local) >= 1 else Durability.NONE


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

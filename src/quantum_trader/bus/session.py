"""One connection, held: commands of one call travel together, and a broken connection is never used again.

redis-py's pools reconnect silently. After a silent reconnection a WATCH is gone and WAITAOF answers for a connection
that has written nothing; here a lost connection is always an exception, and the caller decides what to do again.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis
from redis.exceptions import AuthorizationError

from quantum_trader.bus.client import address, bus_errors
from quantum_trader.core.errors import BusError

log = logging.getLogger(__name__)

T = TypeVar("T")
Command = tuple[str | bytes | int, ...]

PAUSES_S = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 2.0)
"""Before each further try: together about six seconds, enough for a server that restarts with its log."""

PATIENCE_S = 10.0
"""After this long a call is not tried again: where a server hangs, every try lasts as long as a reply may take."""

_LOST = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, OSError)
_HOPELESS = (redis.AuthenticationError, AuthorizationError)


class Session:
    """Commands over one connection of a client's pool. Not for use by two threads at once."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        # A redis.connection.Connection; half of its methods carry no types.
        self._connection: Any = None
        self._owed: tuple[Command, ...] = ()

    def call(self, *commands: Command, wait_s: float = 0.0) -> list[Any]:
        """Send commands in one go and return a reply for each.

        Args:
            commands: Each a name and its arguments.
            wait_s: How much longer than the usual timeout a reply may take (blocking commands).

        Raises:
            redis.ResponseError: the first refusal among the replies, after all of them were read.
            redis.RedisError: if the connection was lost; whether the commands were carried out is then unknown.
        """
        self.ask(*commands)
        return self.answers(wait_s)

    def ask(self, *commands: Command) -> None:
        """Send commands and return; `answers` reads what they gave. Whatever is sent in between reads it, unused.

        Raises:
            redis.RedisError: if the connection was lost.
        """
        if self._owed:
            with contextlib.suppress(redis.ResponseError):
                self.answers()
        try:
            connection = self._held()
            # In one piece: redis-py would write pieces of six kilobytes, and a server on this thread's processor would
            # be woken by the first one and take the processor before the next is written.
            connection.send_packed_command([b"".join(connection.pack_commands(commands))])
            self._owed = commands
        except BaseException:
            self.close(broken=True)
            raise

    def asked(self, *commands: Command) -> bool:
        """Whether exactly these were asked last, over the connection that is held, and not answered yet."""
        return bool(commands) and self._owed == commands

    def answers(self, wait_s: float = 0.0) -> list[Any]:
        """A reply for each of the commands that were asked; errors as in `call`."""
        try:
            connection, how = self._held(), self._patience(wait_s)
            replies = [self._reply(connection, **how) for _ in self._owed]
            self._owed = ()
        except BaseException:
            self.close(broken=True)
            raise
        for reply in replies:
            if isinstance(reply, redis.ResponseError):
                raise reply
        return replies

    def one(self, *command: str | bytes | int, wait_s: float = 0.0) -> Any:
        """The reply to a single command; errors as in `call`."""
        return self.call(command, wait_s=wait_s)[0]

    def persist(self, doing: str, attempt: Callable[[], T], pauses_s: Sequence[float] = PAUSES_S) -> T:
        """Run `attempt` until it gets through; it must be safe to repeat after a lost reply.

        Raises:
            BusError: if the server refused, or stayed away for all tries or longer than patience lasts.
        """
        until = time.monotonic() + PATIENCE_S
        with bus_errors(self.client, doing):
            for pause in pauses_s:
                try:
                    return attempt()
                except _HOPELESS:
                    raise
                except _LOST as error:
                    self.close(broken=True)
                    if time.monotonic() >= until:
                        raise
                    log.info("stream server %s: %s: %s; trying again", address(self.client), doing, error)
                    time.sleep(pause)
            return attempt()

    def close(self, *, broken: bool = False) -> None:
        """Give the connection back to the pool, closed if it may still owe a reply or hold a WATCH."""
        connection, self._connection = self._connection, None
        broken, self._owed = broken or bool(self._owed), ()
        if connection is not None:
            if broken:
                connection.disconnect()
            self.client.connection_pool.release(connection)

    def _held(self) -> Any:
        if self._connection is None:
            self._connection = self.client.connection_pool.get_connection()
        return self._connection

    def _patience(self, wait_s: float) -> dict[str, float]:
        if not wait_s:
            return {}
        settings = self.client.connection_pool.connection_kwargs
        return {"timeout": wait_s + float(settings.get("socket_timeout") or 0.0)}

    @staticmethod
    def _reply(connection: Any, **how: float) -> Any:
        try:
            return connection.read_response(**how)
        except redis.ConnectionError:
            # Some refusals (LOADING, wrong password) are connection errors in redis-py; the connection goes.
            raise
        except redis.ResponseError as error:
            return error


def require_stream(session: Session, *keys: str, kind: str = "stream") -> None:
    """Refuse keys that hold something else: a MULTI would carry out its other half.

    Raises:
        BusError: naming the key and what it holds.
    """
    for key, held in zip(keys, session.call(*(("TYPE", key) for key in keys)), strict=True):
        if held not in (kind.encode(), b"none"):
            where = address(session.client)
            raise BusError(f"stream server {where}: key {key} holds a {held.decode()}, not a {kind}")

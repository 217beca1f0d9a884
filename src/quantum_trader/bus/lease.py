"""One engine for one consumer group: a lease on the server, and a fence that no late write can pass.

- Who holds the lease is a key that vanishes by itself, by the server's clock, unless its holder renews it.
- Every taking raises the lease's *epoch*, a second key that never vanishes and names the taker. The epoch is the fence:
  whoever writes watches it in the same transaction, and a write under an epoch that passed is void, however late it
  arrives.
- A holder whose key vanished while nobody took it (server away, machine paused) holds it still, and renews it.
- A lease that somebody else took is lost for good: this engine has missed bars and must start again.
- A lease is free when its key vanished or was given back, or when its holder was a process of this very machine that
  has ended: a kill and a restart cost no waiting. A process that is only stopped has not ended.
"""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar
from uuid import uuid4

import msgspec
import redis

from quantum_trader.bus.client import address
from quantum_trader.bus.identity import Identity
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.session import Session
from quantum_trader.core.errors import BusError, format_ms

log = logging.getLogger(__name__)

T = TypeVar("T")

TTL_MS = 10_000
"""How long a holder may be silent before another engine may take over, milliseconds."""

_TRIES = 100
_POLL_S = 0.2


class LeaseLostError(BusError):
    """Another engine took the lease; nothing that this one still holds may be written."""


class LeaseHeldError(BusError):
    """Another engine holds the lease."""


class Fence(NamedTuple):
    """A key, and the token that must stand in it for a write to be allowed."""

    key: str
    token: bytes

    def check(self, value: bytes | None) -> None:
        """Make sure that what was read from the key is the token.

        Raises:
            LeaseLostError: if it is not.
        """
        if value != self.token:
            how = "vanished from the stream server" if value is None else "was taken by another engine"
            raise LeaseLostError(f"the lease behind {self.key} {how}; this engine writes nothing more")


class Holder(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who holds a lease. Times by the server's clock.

    Attributes:
        identity: The process.
        token: Of this one taking.
        since: When it was taken, milliseconds since the epoch.
        ttl_ms: How long it lasts without renewal.
        left_ms: How much of that was left when it was read; 0 in the key itself.
    """

    identity: Identity
    token: str
    since: int
    ttl_ms: int
    left_ms: int = 0

    @property
    def silent_ms(self) -> int:
        """How long ago it was renewed when it was read, milliseconds."""
        return max(self.ttl_ms - self.left_ms, 0)

    def __str__(self) -> str:
        return f"{self.identity}, since {format_ms(self.since)}"


class Lease:
    """A claim to be the one engine of a group. Not for use by two threads at once.

    Args:
        client: From `client.connect`.
        names: Keys.
        group: Consumer group.
        identity: Who asks.
        ttl_ms: How long the lease lasts without renewal.
    """

    def __init__(
        self, client: redis.Redis, names: StreamNames, group: str, identity: Identity, ttl_ms: int = TTL_MS
    ) -> None:
        self.group, self.ttl_ms = group, ttl_ms
        self._identity = identity
        self._key, self._epoch_key = names.lease(group), names.lease_epoch(group)
        self._session = Session(client)
        self._token = uuid4().hex
        self._epoch: bytes | None = None
        self._seen: bytes | None = None
        self._value = b""
        self._renewed = 0.0

    @property
    def held(self) -> bool:
        """Whether it is ours, as far as this end knows."""
        return self._epoch is not None

    @property
    def fence(self) -> Fence:
        """What a write has to watch.

        Raises:
            LeaseLostError: if the lease is not held.
        """
        if self._epoch is None:
            raise LeaseLostError(f"the lease {self._key} is not held")
        return Fence(self._epoch_key, self._epoch)

    def acquire(self) -> Holder | None:
        """Take the lease if it is free; None if it is ours now, otherwise who holds it.

        Raises:
            BusError: if the server stays away or refuses.
        """
        return self._persist(f"taking the lease {self._key}", self._acquire)

    def wait(self, wait_s: float, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Take the lease, waiting for whoever holds it to end or fall silent.

        Args:
            wait_s: How long to wait at most, seconds.
            stopped: Asked between the tries; True ends the waiting.

        Returns:
            Whether the lease is ours: False only if `stopped` said so.

        Raises:
            LeaseHeldError: if it is still held in the end, naming the holder.
            BusError: if the server stays away or refuses.
        """
        until = time.monotonic() + wait_s
        said = ""
        while (holder := self.acquire()) is not None:
            if stopped():
                return False
            if time.monotonic() >= until:
                raise LeaseHeldError(
                    f"group {self.group} has an engine already: {holder}; "
                    "stop that one, or give this one another QUANTUM_GROUP and QUANTUM_STREAM_PREFIX"
                )
            if said != holder.token:
                said = holder.token
                log.warning(
                    "group %s has an engine: %s; waiting up to %.0f s for its lease", self.group, holder, wait_s
                )
            time.sleep(_POLL_S)
        return True

    def renew(self) -> bool:
        """Make the lease last its whole time again; False if another engine took it.

        Raises:
            BusError: if the server stays away or refuses.
        """
        return self._persist(f"renewing the lease {self._key}", self._renew)

    def keep(self) -> None:
        """Renew the lease if a third of its time has passed; to be called at every turn of a loop.

        Raises:
            LeaseLostError: if another engine took it.
            BusError: if the server stays away or refuses.
        """
        fence = self.fence
        if time.monotonic() - self._renewed >= self.ttl_ms / 3000 and not self.renew():
            fence.check(self._seen)

    def release(self) -> None:
        """Give the lease back, if it is held, so that the next engine need not wait.

        Raises:
            BusError: if the server stays away or refuses.
        """
        if self._epoch is not None:
            self._persist(f"giving back the lease {self._key}", self._release)
        self._epoch = None

    def close(self) -> None:
        """Give the connection back."""
        self._session.close(broken=True)

    def _acquire(self) -> Holder | None:
        raw, epoch, now_ms = self._watch()
        holder = _decode(self._key, raw)
        if holder is not None and holder.token == self._token:
            self._hold(epoch, raw or b"")
            return None
        if holder is not None and not holder.identity.gone():
            return holder
        if holder is not None:
            log.warning("group %s: the engine before is gone (%s); its lease is taken over", self.group, holder)
        # A try whose reply was lost may have raised the epoch already.
        ours = _taker(epoch) == self._token
        raised = epoch if ours and epoch else b"%d %s" % (_count(self._epoch_key, epoch) + 1, self._token.encode())
        value = msgspec.json.encode(Holder(self._identity, self._token, now_ms, self.ttl_ms))
        self._exec(("SET", self._key, value, "PX", self.ttl_ms), ("SET", self._epoch_key, raised))
        self._hold(raised, value)
        return None

    def _renew(self) -> bool:
        _, epoch, _ = self._watch()
        if self._epoch is None or epoch != self._epoch:
            self._epoch, self._seen = None, epoch
            return False
        self._exec(("SET", self._key, self._value, "PX", self.ttl_ms))
        self._renewed = time.monotonic()
        return True

    def _release(self) -> None:
        raw, epoch, _ = self._watch()
        holder = _decode(self._key, raw)
        if epoch == self._epoch and holder is not None and holder.token == self._token:
            self._exec(("DEL", self._key))

    def _watch(self) -> tuple[bytes | None, bytes | None, int]:
        """The lease, its epoch and the server's time in milliseconds; both keys are watched from here to `_exec`."""
        # A connection that still watches the fence for an earlier call starts anew.
        replies = self._session.call(
            ("UNWATCH",), ("WATCH", self._key, self._epoch_key), ("MGET", self._key, self._epoch_key), ("TIME",)
        )
        (raw, epoch), (seconds, micros) = replies[2:]
        return raw, epoch, int(seconds) * 1000 + int(micros) // 1000

    def _exec(self, *commands: tuple[str | bytes | int, ...]) -> None:
        done = self._session.call(("MULTI",), *commands, ("EXEC",))[-1]
        if done is None:
            raise _ContendedError
        for reply in done:
            if isinstance(reply, redis.ResponseError):
                raise reply

    def _hold(self, epoch: bytes | None, value: bytes) -> None:
        self._epoch, self._value, self._renewed = epoch, value, time.monotonic()

    def _persist(self, doing: str, attempt: Callable[[], T]) -> T:
        for _ in range(_TRIES):
            try:
                return self._session.persist(doing, attempt)
            except _ContendedError:
                continue
        raise BusError(f"stream server {address(self._session.client)}: {doing}: other engines kept interfering")


class _ContendedError(Exception):
    """The lease changed, or its time ran out, between reading and EXEC."""


def read_holder(session: Session, names: StreamNames, group: str) -> Holder | None:
    """Who holds a group's lease now; None if nobody does.

    Raises:
        BusError: if the key holds something else.
        redis.RedisError: from the session.
    """
    key = names.lease(group)
    raw, left_ms = session.call(("GET", key), ("PTTL", key))
    holder = _decode(key, raw)
    return None if holder is None else msgspec.structs.replace(holder, left_ms=max(int(left_ms), 0))


def _decode(key: str, raw: bytes | None) -> Holder | None:
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=Holder)
    except msgspec.MsgspecError as error:
        raise BusError(f"lease key {key} holds {raw[:40]!r}: {error}") from None


def _taker(epoch: bytes | None) -> str:
    return "" if epoch is None else epoch.partition(b" ")[2].decode(errors="replace")


def _count(key: str, epoch: bytes | None) -> int:
    try:
        return 0 if epoch is None else int(epoch.partition(b" ")[0])
    except ValueError:
        raise BusError(f"lease key {key} holds {epoch!r}: expected a number and a token") from None

"""Writes that neither a lost reply nor a second writer can double.

- Every write belongs to a *guard*: a key that holds the last position written under it (positions only grow), the
  token of the call that wrote it, and where its writes build on one another a *note* that each leaves for the next.
- A call watches its guards, reads them, and sends what is still to be written together with the new guards as one
  MULTI. All of it happens, or nothing.
- A write at or below its guard's position was made before and is refused.
- When the reply is lost, the call starts again. If a guard then holds the call's own token, its MULTI was carried out
  and nothing is sent again; an EXEC of the lost connection that arrives late meets a changed guard and is void.
- A fence is watched with the guards: where its token is not the writer's any more, nothing is written.
- Counters move with the writes that are made, and with no others.
- Where durability asks for it, the call ends only when the server says that its log is on disk.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import uuid4

import redis

from quantum_trader.bus.client import Durability, address
from quantum_trader.bus.lease import Fence
from quantum_trader.bus.session import Command, Session
from quantum_trader.core.errors import BusError

_CONTENTION_TRIES = 100
_WAITAOF_MS = 5000


@dataclass(frozen=True, slots=True)
class Write:
    """Commands that happen once: together, and only while `position` is above their guard's.

    Attributes:
        guard: Key of the guard.
        position: Where this write stands in the guard's order.
        commands: What to send.
        forget_ms: After how long the guard may vanish, milliseconds; None for never.
        counts: Fields of the writer's hash of counters that grow by one with this write.
        follow: For a write that builds on the one before it: from that one's note (empty for the first) to the command
            that goes before the others, and the note for the next. It is asked anew by every try.
        note: What the write leaves in its guard; comes from `follow`.
    """

    guard: str
    position: int
    commands: tuple[Command, ...]
    forget_ms: int | None = None
    counts: tuple[str, ...] = ()
    follow: Callable[[bytes], tuple[Command, bytes]] | None = None
    note: bytes = b""


class _Held(NamedTuple):
    position: int
    token: bytes
    note: bytes


class _ContendedError(Exception):
    """Somebody else wrote a guard between reading and EXEC."""


class GuardedWriter:
    """Applies guarded writes over one session.

    Args:
        session: Connection.
        durability: Whether a call waits for the disk.
        sync_key: Written when a fresh connection must wait for everything before it to reach the disk.
        counters: Key of the hash in which writes are counted.
    """

    def __init__(self, session: Session, durability: Durability, sync_key: str, counters: str) -> None:
        self._session, self._sync_key, self._counters = session, sync_key, counters
        self._waits = durability is Durability.WAITAOF

    def look_ahead(self, guards: Sequence[str], fence: Fence | None = None) -> None:
        """Ask already for what the next `apply` of writes under these guards has to read first; waits for nothing.

        Nothing depends on it: whatever is sent in between, and any failure, leaves the work to `apply`.
        """
        with contextlib.suppress(redis.RedisError, OSError):
            self._session.ask(*_watching(_keys(guards, fence)))

    def apply(
        self, doing: str, writes: Sequence[Write], always: Sequence[Command] = (), fence: Fence | None = None
    ) -> list[bool]:
        """Make the writes that were not made before, in order, as one MULTI.

        Args:
            doing: For messages, such as "publishing 3 bars".
            writes: In the order in which they shall stand in their streams.
            always: Idempotent commands that belong to the same MULTI whatever is refused.
            fence: What must hold for anything to be written; None for nothing.

        Returns:
            For each write whether this call made it.

        Raises:
            LeaseLostError: if the fence does not hold; nothing was written by this call then.
            BusError: if the server stays away, refuses, or does not get its log to disk.
        """
        if not writes and not always:
            return []
        token = uuid4().hex.encode()
        planned: list[bool] = []

        def attempt() -> list[bool]:
            nonlocal planned
            held, fenced_by = self._watch(writes, fence)
            if not any(guard.token == token for guard in held.values()):
                plan = _plan(writes, held)
                planned = [write is not None for write in plan]
                if always or any(planned):
                    if fence is not None:
                        fence.check(fenced_by)
                    self._exec(doing, [write for write in plan if write is not None], always, token)
            self._settle()
            return planned

        for _ in range(_CONTENTION_TRIES):
            try:
                return self._session.persist(doing, attempt)
            except _ContendedError:
                continue
        raise BusError(f"stream server {address(self._session.client)}: {doing}: other writers kept interfering")

    def position(self, guard: str) -> int | None:
        """Where a guard stands; None if nothing was ever written under it.

        Raises:
            BusError: if the server stays away or refuses.
        """
        value = self._session.persist(f"reading {guard}", lambda: self._session.one("GET", guard))
        return None if value is None else _parse(guard, value).position

    def _watch(self, writes: Sequence[Write], fence: Fence | None) -> tuple[dict[str, _Held], bytes | None]:
        """The guards that were ever written, and what stands in the fence; all of them are watched."""
        guards = list(dict.fromkeys(write.guard for write in writes))
        keys = _keys(guards, fence)
        if not keys:
            return {}, None
        commands = _watching(keys)
        # Asked ahead or now: an EXEC or a new connection in between would have ended the watch, and then it counts not.
        replies = self._session.answers() if self._session.asked(*commands) else self._session.call(*commands)
        values = replies[2]
        fenced_by = None if fence is None else values.pop()
        held = {key: _parse(key, value) for key, value in zip(guards, values, strict=True) if value is not None}
        return held, fenced_by

    def _exec(self, doing: str, writes: Sequence[Write], always: Sequence[Command], token: bytes) -> None:
        last = {write.guard: write for write in writes}
        commands: list[Command] = [("MULTI",), *(command for write in writes for command in write.commands), *always]
        commands += [_guard_command(write, token) for write in last.values()]
        commands += [("HINCRBY", self._counters, field, n) for field, n in _grown(writes).items()]
        done = self._session.call(*commands, ("EXEC",))[-1]
        if done is None:
            raise _ContendedError
        for reply in done:
            if isinstance(reply, redis.ResponseError):
                raise BusError(f"stream server {address(self._session.client)}: {doing}: carried out in part: {reply}")

    def _settle(self) -> None:
        """Wait for the disk, for what an earlier try or another writer wrote as well."""
        if not self._waits:
            return
        # WAITAOF speaks for what its own connection wrote, and this one may be new: it writes once, after all the rest.
        # Sent behind the SET in one go, Valkey would answer only at its next tick, up to 100 ms later.
        self._session.one("SET", self._sync_key, "1")
        local, _ = self._session.one("WAITAOF", 1, 0, _WAITAOF_MS, wait_s=_WAITAOF_MS / 1000)
        if local < 1:
            where = address(self._session.client)
            raise BusError(f"stream server {where}: written, but its log did not reach the disk in {_WAITAOF_MS} ms")


def _keys(guards: Sequence[str], fence: Fence | None) -> list[str]:
    return list(guards) if fence is None else [*guards, fence.key]


def _watching(keys: Sequence[str]) -> tuple[Command, ...]:
    # WATCH adds to what is watched, so an attempt that ended between the two starts with UNWATCH.
    return ("UNWATCH",), ("WATCH", *keys), ("MGET", *keys)


def _plan(writes: Sequence[Write], held: dict[str, _Held]) -> list[Write | None]:
    """Each write as it is to be made now; None for one that was made before."""
    last = {key: (guard.position, guard.note) for key, guard in held.items()}
    plan: list[Write | None] = []
    for write in writes:
        position, note = last.get(write.guard, (None, b""))
        if position is not None and write.position <= position:
            plan.append(None)
            continue
        made = write if write.follow is None else _following(write, write.follow(note))
        last[write.guard] = made.position, made.note
        plan.append(made)
    return plan


def _following(write: Write, by: tuple[Command, bytes]) -> Write:
    command, note = by
    return replace(write, commands=(command, *write.commands), note=note)


def _grown(writes: Sequence[Write]) -> Counter[str]:
    grown: Counter[str] = Counter()
    # Most writes of a batch count the same fields.
    for fields, n in Counter(write.counts for write in writes).items():
        for field in fields:
            grown[field] += n
    return grown


def _guard_command(write: Write, token: bytes) -> Command:
    value = b" ".join(filter(None, (b"%d" % write.position, token, write.note)))
    command: Command = ("SET", write.guard, value)
    return command if write.forget_ms is None else (*command, "PX", write.forget_ms)


def _parse(key: str, value: bytes) -> _Held:
    position, _, rest = value.partition(b" ")
    token, _, note = rest.partition(b" ")
    try:
        return _Held(int(position), token, note)
    except ValueError:
        raise BusError(f"guard key {key} holds {value[:40]!r}: expected a position and a token") from None

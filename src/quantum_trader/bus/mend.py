"""An append-only log that a kill cut off inside a transaction: written anew before anybody writes behind the cut.

Redis 7.0 leaves the beginning of the cut MULTI in its log and appends behind it. At the *next* start that beginning is
carried out together with what follows, so a write that was repeated after the crash stands there twice. Valkey 9
cuts the log itself. A rewrite from memory, before the first write, leaves nothing of the beginning on either.
"""

import time
from pathlib import Path

import redis

from quantum_trader.core.errors import BusError

_LOG = Path("appendonlydir") / "appendonly.aof.manifest"
_PATIENCE_S = 120.0
_POLL_S = 0.01


def has_log(data_dir: Path) -> bool:
    """Whether a server has written a log in this data folder before."""
    return (data_dir / _LOG).exists()


def rewrite_log(client: redis.Redis) -> None:
    """Have the server write its log anew from memory, and wait until it has.

    Raises:
        BusError: if it fails or takes longer than two minutes.
    """
    client.bgrewriteaof()
    until = time.monotonic() + _PATIENCE_S
    while True:
        state = client.info("persistence")
        if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
            break
        if time.monotonic() > until:
            raise BusError(f"stream server: rewriting its log takes longer than {_PATIENCE_S:.0f} s")
        time.sleep(_POLL_S)
    if state["aof_last_bgrewrite_status"] != "ok":
        raise BusError("stream server: its log could not be written anew (is the disk full?)")

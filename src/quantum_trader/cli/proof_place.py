"""Where a proof pack's commands run, this machine or a host that ssh reaches, and how the ledger there is told."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantum_trader.release.ledger_entries import Proof
    from quantum_trader.release.proof_run import Reach
    from quantum_trader.settings import Settings

OURSELVES = (sys.executable, "-m", "quantum_trader.cli.main")


@dataclass(frozen=True)
class Place:
    """A place: how commands reach it, the words of our command line there, its settings and its unit."""

    reach: "Reach"
    quantum: tuple[str, ...]
    settings: tuple[str, ...]
    unit: str


def here(quantum: str, config: Sequence[Path], env_file: Path | None, unit: str) -> Place:
    """This machine."""
    from quantum_trader.release.proof_run import Here

    words = [word for path in config for word in ("-c", str(path))]
    words += ["--env-file", str(env_file)] if env_file is not None else []
    return Place(Here("local"), (quantum,) if quantum else OURSELVES, tuple(words), unit)


@contextmanager
def at_host(name: str, hosts: Path | None) -> Iterator[Place]:
    """A host of the hosts file, its connection closed when the block ends.

    Raises:
        ConfigError: if there is no such host.
        HostError: if it cannot be reached, or its clock differs by more than 5 s.
    """
    from quantum_trader.clock import now_us
    from quantum_trader.release.host import check_clock
    from quantum_trader.release.host_settings import load_host

    host = load_host(name, hosts)
    reach = host.connect()
    try:
        check_clock(reach, now_us)
        quantum = (host.engine_python, "-m", "quantum_trader.cli.main")
        yield Place(reach, quantum, ("--env-file", str(host.env_file)), host.unit)
    finally:
        reach.close()


def enter(place: Place, entry: "Proof", settings: "Settings | None") -> None:
    """Tell the ledger of a place that a pack was made there.

    Args:
        place: Where.
        entry: What the ledger is told.
        settings: Of this machine; None where the place is another, whose own settings name its ledger.

    Raises:
        QuantumError: if the ledger is broken, cannot be written or reached.
    """
    if settings is not None:
        record_entry(settings, entry)
        return
    words = (entry.statement, "--entries", str(entry.entries), "--head", entry.head, "--host", entry.host)
    place.reach.run((*place.quantum, "proof", "record", *words, *place.settings), timeout_s=60.0)


def record_entry(settings: "Settings", entry: "Proof") -> None:
    """Append an entry of kind proof to this machine's ledger.

    Raises:
        LedgerError: if the ledger is broken or cannot be written.
        ProofError: if the key of its head cannot be used.
    """
    import getpass

    from quantum_trader.clock import now_utc
    from quantum_trader.release.appending import append
    from quantum_trader.release.ledger_entries import New

    at = now_utc().isoformat(timespec="seconds")
    new = New(at=at, by=getpass.getuser(), reason="proof pack: quantum proof build", detail=entry)
    append(settings.ledger, [new], settings.signing_key)

"""`quantum certify`: the proof that a shadow changes, delays and loses nothing, whatever is wrong with it."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantum_trader.cli.finish import Finish

if TYPE_CHECKING:
    from quantum_trader.engine.faults import Fault

GROUPS = 400
LEAST_GROUPS = 20
"""A crash on the seventh bar, an opened breaker and a restart need as many."""


def certify(
    bars: Annotated[Path, typer.Option(help="Parquet, feather or CSV file of bars.")],
    groups: Annotated[
        int,
        typer.Option(
            min=LEAST_GROUPS,
            help="Bars of each symbol under each fault. Four times as many tell a ratio twice as exactly.",
        ),
    ] = GROUPS,
    fault: Annotated[
        list[str] | None, typer.Option(help="Only this fault; may be repeated. All thirteen if not given.")
    ] = None,
    symbols: Annotated[str, typer.Option(help="Only these, such as BTC/USDT,ETH/USDT.")] = "",
    shadow: Annotated[str, typer.Option(help="The model that is the shadow; all others vote.")] = "patchtst",
    models: Annotated[
        Path | None,
        typer.Option(help="Folder of artefacts, the newest of each is taken. Default: models, or trained ones."),
    ] = None,
    grace_ms: Annotated[float, typer.Option(min=0, help="Longest wait for the shadow, SHADOW_GRACE_MS.")] = 20.0,
    out: Annotated[Path, typer.Option(help="Folder for certificate.json and certificate.html.")] = Path("certify-out"),
    keep: Annotated[bool, typer.Option("--keep", help="Keep logs, server data and trained models too.")] = False,
) -> None:
    """Give the newest bars of a file to two real engines, without the shadow and with it under each fault.

    Every decision must be the same bytes with the shadow, without it and in a replay without a server; every answer
    must be counted; every intent must carry the shadow's marked entry. The time from bar to intent is measured in
    pairs. It needs no running server and touches no configured engine.

    Exit codes: 0 PASS, 2 FAIL (a byte differs, or something is not accounted for), 3 SLOW (only a time missed its
    goal), 1 any error.
    """
    from rich.console import Console

    from quantum_trader.cli.certify_run import Order, certify_order
    from quantum_trader.clock import now_utc
    from quantum_trader.engine.pairing import Goals
    from quantum_trader.report.certificate import EXIT_CODES, Verdict, encode
    from quantum_trader.report.certificate_page import screen, write_page
    from quantum_trader.report.html import write_whole

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 132)
    wanted = [symbol for symbol in symbols.split(",") if symbol]
    order = Order(bars, wanted, groups, models, shadow, _faults(fault), Goals(grace_ms=grace_ms))
    with _workplace(out, keep=keep) as place:
        certificate = certify_order(console, order, place.folder, now_utc())
        place.keep = place.keep or certificate.verdict is Verdict.FAIL
    write_whole(out / "certificate.json", encode(certificate).decode())
    write_page(certificate, out / "certificate.html")
    console.print()
    console.print(screen(certificate))
    console.print(f"\n{out / 'certificate.html'}, {out / 'certificate.json'}; took {certificate.seconds:.0f} s")
    code = EXIT_CODES[certificate.verdict]
    if code:
        raise Finish(code)


def _faults(names: "Sequence[str] | None") -> "list[Fault]":
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.engine.faults import CERTIFIED

    known = {fault.value: fault for fault in CERTIFIED}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"fault {name!r}: unknown, expected one of {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names or known)]


@dataclass
class _Workplace:
    """A folder for everything that is not the certificate, and whether it stays."""

    folder: Path
    keep: bool


@contextmanager
def _workplace(out: Path, *, keep: bool) -> Iterator[_Workplace]:
    """It stays if asked for, and where an engine went wrong: its log tells why."""
    from quantum_trader.core.errors import ConfigError, QuantumError

    out.mkdir(parents=True, exist_ok=True)
    place = _Workplace(Path(tempfile.mkdtemp(prefix="work-", dir=out)), keep)
    try:
        yield place
    except QuantumError as error:
        place.keep = place.keep or not isinstance(error, ConfigError)
        raise
    finally:
        if not place.keep:
            shutil.rmtree(place.folder, ignore_errors=True)

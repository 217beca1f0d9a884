"""`quantum proof build|verify|record`: a proof pack made, checked, and entered in the ledger."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantum_trader.cli.finish import Finish
from quantum_trader.cli.proof_place import OURSELVES, Place, at_host, enter, here, record_entry
from quantum_trader.cli.run import ConfigFiles, EnvFile

if TYPE_CHECKING:
    from rich.console import Console

    from quantum_trader.release.proof_verify import Report
    from quantum_trader.release.signing import SigningKey
    from quantum_trader.report.proof import CommandRun
    from quantum_trader.settings import Settings

MS_PER_HOUR = 3_600_000
UNIT = "quantum-ai-engine.service"

Key = Annotated[Path | None, typer.Option("--key", help="Private key; the setting signing_key where it is not given.")]


def build(
    out: Annotated[Path, typer.Option(help="Folder of the pack; it must not exist.")],
    key: Key = None,
    hours: Annotated[float, typer.Option(min=0.001, help="Length of the excerpts that end now.")] = 24.0,
    since: Annotated[str, typer.Option(help="Or where they begin, ISO 8601.")] = "",
    title: Annotated[str, typer.Option(help="First line of the pages.")] = "Quantum Trader, AI engine",
    host: Annotated[str, typer.Option(help="Host of the hosts file whose evidence it is; local for here.")] = "local",
    hosts: Annotated[Path | None, typer.Option(help="TOML file of hosts.")] = None,
    unit: Annotated[str, typer.Option(help="Systemd unit of the engine on this machine.")] = UNIT,
    quantum: Annotated[str, typer.Option(help="Program to call here instead of this one.")] = "",
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Make a proof pack: a fixed list of commands is run, and everything that they print is signed.

    The folder holds the outputs, the whole audit ledger, PROOF_PACK.md and PROOF_PACK.html for people, and
    statement.json with the SHA-256 of every file. It is made whole or not at all. The ledger then gets an entry of
    kind proof with the digest of the statement. A command that fails is evidence too and stops nothing; without the
    ledger there is no pack. On another host every command runs over ssh; the key stays here.
    """
    from quantum_trader.clock import now_ms
    from quantum_trader.core.errors import ConfigError, ProofError
    from quantum_trader.release.signing import load_private
    from quantum_trader.settings import load_settings

    settings = load_settings(config, env_file)
    key_file = key or settings.signing_key
    if key_file is None:
        raise ProofError("no key to sign with: give --key or the setting signing_key (quantum proof keygen makes one)")
    signing = load_private(key_file)
    until = now_ms()
    begin = _begin(since, hours, until)
    if begin >= until:
        raise ConfigError(f"--since {since}: the excerpts would end before they begin")
    if host == "local":
        _make(here(quantum, config, env_file, unit), out, title, (begin, until), signing, settings)
    else:
        with at_host(host, hosts) as place:
            _make(place, out, title, (begin, until), signing, None)


def _make(
    place: Place, out: Path, title: str, span: tuple[int, int], key: "SigningKey", settings: "Settings | None"
) -> None:
    import shutil

    from rich.console import Console

    from quantum_trader.clock import now_us
    from quantum_trader.core.errors import QuantumError
    from quantum_trader.release.proof_build import Order, build_pack
    from quantum_trader.release.proof_commands import Scene

    console = Console(highlight=False)
    scene = Scene(place.quantum, place.settings, place.unit, *span)
    order = Order(out, title, _maker(), scene, place.quantum if settings is not None else OURSELVES)
    pack = build_pack(order, place.reach, key, now_us, lambda run: _tell(console, run))
    try:
        enter(place, pack.entry, settings)
    except QuantumError:
        # A pack that the ledger cannot learn of is taken back.
        shutil.rmtree(pack.folder, ignore_errors=True)
        raise
    console.print(f"pack {out}: {len(pack.predicate.commands)} commands, signed by key {key.key_id[:16]}")
    console.print(f"ledger: entry of kind proof, statement {pack.entry.statement[:16]}")


def _begin(since: str, hours: float, until: int) -> int:
    from quantum_trader.cli.proof_stream import moment_ms

    return moment_ms(since) if since else until - int(hours * MS_PER_HOUR)


def _maker() -> dict[str, str]:
    from quantum_trader.cli.certify_facts import program

    made_by = program()
    return {"version": made_by.version, "code": made_by.code, "commit": made_by.commit or "unknown"}


def _tell(console: "Console", run: "CommandRun") -> None:
    mark = "✓" if run.exit_code == 0 else "·"
    console.print(f"{mark} {run.name:18} {run.seconds:6.2f} s  {run.problem or f'exit code {run.exit_code}'}")


def record(
    statement: Annotated[str, typer.Argument(help="SHA-256 of the pack's statement.json.")],
    entries: Annotated[int, typer.Option(min=0, help="Entries of the ledger in the pack.")],
    head: Annotated[str, typer.Option(help="SHA-256 of the last of them.")],
    host: Annotated[str, typer.Option(help="Where the pack's commands ran.")] = "local",
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Enter a pack in the ledger of this machine; `quantum proof build` does it by itself."""
    from quantum_trader.release.ledger_entries import Proof
    from quantum_trader.settings import load_settings

    entry = Proof(statement=statement, entries=entries, head=head, host=host)
    record_entry(load_settings(config, env_file), entry)


def verify(
    folder: Annotated[Path, typer.Argument(help="A proof pack.")],
    key: Annotated[Path, typer.Option("--key", help="Public key of whoever signed it.")],
    judge: Annotated[bool, typer.Option(help="Judge the excerpts again; takes the analysis packages.")] = True,
) -> None:
    """Check a pack: offline, on any machine, from the public key alone.

    First whether it is what was signed: the signature, every file's digest, no file missing or extra. Then whether it
    is true of itself: the ledger's chain and head, artefact digests, decisions from their votes, intents from their
    breakdowns, verdicts and both pages are computed again.

    Exit codes: 0 it holds, 1 it does not, or any error.
    """
    from rich.console import Console

    from quantum_trader.release.proof_verify import verify_pack
    from quantum_trader.release.signing import load_public

    report = verify_pack(folder, load_public(key), _judge if judge else None, _maker()["code"])
    _show(Console(highlight=False), folder, report)
    if not report.holds:
        raise Finish(1)


def _judge(decisions: bytes, bars: bytes, model: str) -> tuple[int, bytes]:
    """The gates' verdict on excerpts, by this program."""
    import os

    from quantum_trader.release.proof_build import own_environment
    from quantum_trader.release.proof_derive import derive, verdict_words
    from quantum_trader.release.proof_run import Here

    with tempfile.TemporaryDirectory(prefix="proof-") as place:
        derive(decisions, bars, Path(place))
        done = Here(folder=Path(place), environ=own_environment(os.environ)).run(
            (*OURSELVES, *verdict_words(model)), check=False
        )
    return done.code, done.out


def _show(console: "Console", folder: Path, report: "Report") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = report.predicate
    console.print(f"{folder}: {report.files} files are what key {report.key_id[:16]} signed", soft_wrap=True)
    console.print(f"{made.title}, made {made.made} on {made.host}", soft_wrap=True, markup=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("Computed again", "How many", "Same"):
        table.add_column(name, justify="left" if name == "Computed again" else "right")
    for one in report.computed:
        same = one.left_out or ("✓" if not one.problems else f"✗ {len(one.problems)}")
        table.add_row(one.name, f"{one.count:,}", same, style="red" if one.problems else None)
    console.print(table)
    for one in report.computed:
        for problem in one.problems[:5]:
            console.print(f"✗ {problem}", style="red", markup=False, soft_wrap=True)
    word = "HOLDS" if report.holds else "CONTRADICTS ITSELF"
    console.print(word, style="green" if report.holds else "bold red")

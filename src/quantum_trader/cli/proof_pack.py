"""`quantum proof build|verify|record`: a proof pack made, checked, and entered in the ledger."""

import getpass
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantum_trader.cli.finish import Finish
from quantum_trader.cli.run import ConfigFiles, EnvFile

if TYPE_CHECKING:
    from rich.console import Console

    from quantum_trader.release.ledger_entries import Proof
    from quantum_trader.release.proof_verify import Report
    from quantum_trader.report.proof import CommandRun
    from quantum_trader.settings import Settings

MS_PER_HOUR = 3_600_000
OURSELVES = (sys.executable, "-m", "quantum_trader.cli.main")

Key = Annotated[Path | None, typer.Option("--key", help="Private key; the setting signing_key where it is not given.")]


def build(
    out: Annotated[Path, typer.Option(help="Folder of the pack; it must not exist.")],
    key: Key = None,
    hours: Annotated[float, typer.Option(min=0.001, help="Length of the excerpts that end now.")] = 24.0,
    since: Annotated[str, typer.Option(help="Or where they begin, ISO 8601.")] = "",
    title: Annotated[str, typer.Option(help="First line of the pages.")] = "Quantum Trader, AI engine",
    unit: Annotated[str, typer.Option(help="Systemd unit of the engine.")] = "quantum-ai-engine.service",
    quantum: Annotated[str, typer.Option(help="Program to call instead of this one.")] = "",
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Make a proof pack: a fixed list of commands is run, and everything that they print is signed.

    The folder holds the outputs, the whole audit ledger, PROOF_PACK.md and PROOF_PACK.html for people, and
    statement.json with the SHA-256 of every file. It is made whole or not at all. The ledger then gets an entry of
    kind proof with the digest of the statement. A command that fails is evidence too and stops nothing; without the
    ledger there is no pack.
    """
    from rich.console import Console

    from quantum_trader.clock import now_ms, now_us
    from quantum_trader.core.errors import ConfigError, ProofError
    from quantum_trader.release.proof_build import Order, build_pack
    from quantum_trader.release.proof_commands import Scene
    from quantum_trader.release.proof_run import Here
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
    program = (quantum,) if quantum else OURSELVES
    scene = Scene(program, _settings_words(config, env_file), unit, begin, until)
    console = Console(highlight=False)
    pack = build_pack(
        Order(out, title, _maker(), scene, program), Here("local"), signing, now_us, lambda run: _tell(console, run)
    )
    _enter(settings, pack.entry, pack.folder)
    console.print(f"pack {out}: {len(pack.predicate.commands)} commands, signed by key {signing.key_id[:16]}")
    console.print(f"ledger {settings.ledger}: entry of kind proof, statement {pack.entry.statement[:16]}")


def _begin(since: str, hours: float, until: int) -> int:
    from quantum_trader.cli.proof_stream import moment_ms

    return moment_ms(since) if since else until - int(hours * MS_PER_HOUR)


def _settings_words(config: Sequence[Path], env_file: Path | None) -> tuple[str, ...]:
    words = [word for path in config for word in ("-c", str(path))]
    return (*words, *(("--env-file", str(env_file)) if env_file is not None else ()))


def _maker() -> dict[str, str]:
    from quantum_trader.cli.certify_facts import program

    made_by = program()
    return {"version": made_by.version, "code": made_by.code, "commit": made_by.commit or "unknown"}


def _tell(console: "Console", run: "CommandRun") -> None:
    mark = "✓" if run.exit_code == 0 else "·"
    console.print(f"{mark} {run.name:18} {run.seconds:6.2f} s  {run.problem or f'exit code {run.exit_code}'}")


def _enter(settings: "Settings", entry: "Proof", folder: Path) -> None:
    """The ledger learns of the pack; a pack that it cannot learn of is taken back."""
    import shutil

    from quantum_trader.core.errors import QuantumError

    try:
        record_entry(settings, entry)
    except QuantumError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def record_entry(settings: "Settings", entry: "Proof") -> None:
    """Append an entry of kind proof to the ledger.

    Raises:
        LedgerError: if the ledger is broken or cannot be written.
    """
    from quantum_trader.clock import now_utc
    from quantum_trader.release.appending import append
    from quantum_trader.release.ledger_entries import New

    at = now_utc().isoformat(timespec="seconds")
    new = New(at=at, by=getpass.getuser(), reason="proof pack: quantum proof build", detail=entry)
    append(settings.ledger, [new], settings.signing_key)


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

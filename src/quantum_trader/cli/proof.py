"""`quantum proof keygen|build|verify|stream|excerpt`: evidence that a stranger can check."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from quantum_trader.cli.finish import Finish
from quantum_trader.cli.proof_pack import build, record, verify
from quantum_trader.cli.run import ConfigFiles, EnvFile

app = typer.Typer(no_args_is_help=True, help="Make and check evidence of a deployment.")

app.command("build")(build)
app.command("verify")(verify)
app.command("record")(record)


@app.command("keygen")
def keygen(out: Annotated[Path, typer.Option(help="Folder for both files; made where it is missing.")]) -> None:
    """Make a pair of Ed25519 keys: signing-key.pem (mode 0600) and signing-key.pub.pem.

    A file of either name is never overwritten. Give the public key to whoever shall check packs; keep the private one
    where only the signing user reads it.
    """
    from quantum_trader.release.signing import PRIVATE_FILE, PUBLIC_FILE, generate

    key = generate(out)
    typer.echo(f"private key {out / PRIVATE_FILE}\npublic key  {out / PUBLIC_FILE}\nkey id      {key.key_id}")


@app.command("stream")
def stream(
    count: Annotated[int, typer.Option(min=1, help="How many of the newest intents to judge.")] = 20,
    since: Annotated[
        str, typer.Option(help="Only events from this time on, ISO 8601; such as when the deployment ended.")
    ] = "",
    wait_s: Annotated[
        float, typer.Option("--wait-s", min=0, max=86_400, help="Wait so many seconds for an intent, if there is none.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Prove on the newest events that the deployed shadow is marked, is the deployed artefact, and counts for nothing.

    It reads intents and the decisions behind them, and compares them with the artefacts and the ledger that the env
    file names. A shadow's entry must stay under 130 bytes and under 12 % of its payload. No intent is no proof.

    Exit codes: 0 everything held, 1 something did not, or any error.
    """
    from quantum_trader.cli.proof_facts import deployed
    from quantum_trader.cli.proof_stream import await_intent, moment_ms, read_events
    from quantum_trader.release.stream_proof import prove
    from quantum_trader.settings import load_settings

    settings = load_settings(config, env_file)
    wanted = deployed(settings)
    since_ms = moment_ms(since) if since else 0
    await_intent(settings, since_ms, wait_s)
    proof = prove(*read_events(settings, count, since_ms), wanted)
    if as_json:
        import json

        import msgspec

        document = {"passed": proof.passed, **msgspec.to_builtins(proof)}
        for check, shown in zip(proof.checks, document["checks"], strict=True):
            shown["passed"] = check.passed
        typer.echo(json.dumps(document, indent=2))
    else:
        from rich.console import Console

        from quantum_trader.cli.proof_screen import show_proof

        show_proof(Console(highlight=False), proof)
    if not proof.passed:
        raise Finish(1)


class What(StrEnum):
    """What `quantum proof excerpt` prints."""

    PROGRAM = "program"
    MODELS = "models"
    LEDGER = "ledger"
    DECISIONS = "decisions"
    INTENTS = "intents"
    BARS = "bars"
    LIFECYCLE = "lifecycle"


@app.command("excerpt")
def excerpt(
    what: Annotated[What, typer.Argument(help="What to print.")],
    since_ms: Annotated[int, typer.Option(min=0, help="Of a stream: from this time on, milliseconds.")] = 0,
    until_ms: Annotated[int, typer.Option(min=1, help="Of a stream: before this time.")] = 2**53,
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Print one piece of evidence as it is: what `quantum proof build` stores of this machine.

    The streams' entries come as the server holds them, one JSON line each; the ledger byte for byte; the models with
    their manifests; the program with its version, commit and libraries.
    """
    import sys

    from quantum_trader.cli.proof_stream import print_excerpt
    from quantum_trader.settings import load_settings

    print_excerpt(sys.stdout.buffer, what.value, load_settings(config, env_file), since_ms, until_ms)

"""`quantum`: every verb in one place, each imported when it is called."""

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console

from quantum_trader import __version__
from quantum_trader.cli.extras import hint
from quantum_trader.cli.finish import Finish
from quantum_trader.core.errors import QuantumError

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130

VERBS = {
    "demo": ("quantum_trader.cli.demo", "demo", "Train four models, run the real service, judge, report."),
    "train": ("quantum_trader.cli.train", "train", "Train models on bars and write artefacts."),
    "models": ("quantum_trader.cli.models", "app", "List, show and import artefacts."),
    "init": ("quantum_trader.cli.run", "init", "Grant the first voters and write the engine's env file."),
    "register": ("quantum_trader.cli.register", "register", "Write down by what a shadow will be judged."),
    "audit": ("quantum_trader.cli.audit", "app", "Read and verify the release ledger."),
    "host": ("quantum_trader.cli.host", "app", "Make a Debian host ready for the engine."),
    "run": ("quantum_trader.cli.run", "run", "Run the engine: bars in, decisions and intents out."),
    "deploy": ("quantum_trader.cli.deploy", "deploy", "Bring an artefact to a host, in shadow."),
    "rollback": ("quantum_trader.cli.rollback", "rollback", "Go back: to shadow, to the baseline, to the backup."),
    "status": ("quantum_trader.cli.status", "status", "Show who runs, the exact accounting, lags and alarms."),
    "feed": ("quantum_trader.cli.feed", "feed", "Write bars to the stream, from a file or an exchange."),
    "server": ("quantum_trader.cli.feed", "server", "Run the embedded Valkey server in the foreground."),
    "archive": ("quantum_trader.cli.archive", "archive", "Keep every decision of the stream as daily Parquet."),
    "replay": ("quantum_trader.cli.replay", "replay", "Decide a file of bars without a server, into Parquet."),
    "certify": ("quantum_trader.cli.certify", "certify", "Prove that a faulty shadow changes nothing."),
    "gates": ("quantum_trader.cli.gates", "gates", "Judge a shadow model by the four gates."),
    "calibrate": ("quantum_trader.cli.calibrate", "calibrate", "Fit what a model's stated probability means."),
    "rogues": ("quantum_trader.cli.rogues", "rogues", "Measure how often the gates promote what they must not."),
    "promote": ("quantum_trader.cli.promote", "promote", "Give a shadow its vote, by a verdict that holds."),
    "weight": ("quantum_trader.cli.promote", "weight", "Change a voter's weight, step by step."),
    "watch": ("quantum_trader.cli.watch", "watch", "After a promotion: keep it, or demote it at once."),
    "report": ("quantum_trader.cli.gates", "report", "Draw the HTML report of a folder of decisions."),
    "proof": ("quantum_trader.cli.proof", "app", "Make and check evidence of a deployment."),
    "counterfactual": (
        "quantum_trader.cli.counterfactual",
        "counterfactual",
        "Vote again on recorded decisions under other rules.",
    ),
    "show-config": ("quantum_trader.cli.run", "show_config", "Print the resolved settings, secrets hidden."),
    "download-data": ("quantum_trader.cli.market", "download_data", "Download bars from an exchange; resumable."),
    "simulate-data": ("quantum_trader.cli.market", "simulate_data", "Make simulated bars from a seed."),
    "bars": ("quantum_trader.cli.market", "bars_info", "Describe a file of bars: range, gaps, defects."),
    "lookahead-analysis": (
        "quantum_trader.cli.lookahead",
        "lookahead_analysis",
        "Find features that look ahead or depend on more than their window.",
    ),
}


def build(requested: str | None) -> typer.Typer:
    """The command line with the requested verb imported and the others named only: `quantum run` loads no trainer."""
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode="rich",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(root)
    for verb, (module, attribute, summary) in VERBS.items():
        if verb != requested:
            app.command(verb, help=summary)(_unrequested)
            continue
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            for command in found.registered_commands:
                if command.callback is not None and not hasattr(command.callback, "__wrapped__"):
                    command.callback = _interruptible(command.callback)
            app.add_typer(found, name=verb, help=summary)
        else:
            app.command(verb, short_help=summary)(_interruptible(found))
    return app


def _interruptible(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with Ctrl-C as exit code 130; typer by itself would make it 1, a user's mistake."""

    @functools.wraps(verb)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            verb(*arguments, **options)
        except KeyboardInterrupt:
            _say("interrupted; nothing is half-written")
            raise Finish(EXIT_INTERRUPTED) from None

    return run


def _unrequested() -> None:
    """Stands in the list of verbs; only the requested verb is ever called."""


def root(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    """Four trained models vote at every bar close; a retrained one watches from the shadow until it earns a vote.

    Shadow means: it predicts on every bar, is logged and published, and counts for nothing. It is not paper trading.

    `quantum VERB --help` explains each verb.
    """
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run a verb; a user's mistake is one line and exit code 1, Ctrl-C is exit code 130."""
    requested = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)
    try:
        build(requested)(prog_name="quantum")
    except QuantumError as error:
        _say(str(error))
        sys.exit(EXIT_ERROR)
    except ModuleNotFoundError as error:
        missing = hint(error)
        if missing is None:
            raise
        _say(missing)
        sys.exit(EXIT_ERROR)
    except Finish as finish:
        sys.exit(finish.code)
    except SystemExit as ended:
        # A wrong option would be exit code 2, which is a REJECT verdict's.
        sys.exit(EXIT_ERROR if ended.code else 0)


def _say(text: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"quantum: {text}", markup=False)


if __name__ == "__main__":
    main()

"""`quantum archive`: the decision stream into daily Parquet files, each decision once."""

import logging
import signal
from pathlib import Path
from typing import Annotated

import typer

from quantum_trader.cli.finish import Finish
from quantum_trader.cli.run import ConfigFiles, EnvFile

EXIT_INTERRUPTED = 130


def archive(
    out: Annotated[Path, typer.Option(help="Folder of the archive; its decisions/ is what `quantum gates` reads.")],
    once: Annotated[bool, typer.Option("--once", help="Keep what is in the stream now, and stop.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Longest wait of a decision for its file, seconds.")] = 60.0,
    rows: Annotated[int, typer.Option(min=1, help="Most decisions held in memory before they are written.")] = 20_000,
    group: Annotated[str, typer.Option(help="Consumer group; every archive folder needs one of its own.")] = "archive",
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Keep every decision of quantum:stream:ai.decision, HOLD included, as one Parquet file a day, until SIGTERM.

    It reads as a consumer group of its own, from the oldest decision in the stream, and acknowledges only what is on
    disk: after a kill at any moment every decision is there once. The stream keeps decisions for eight days; if some
    left it unkept, that is an error that names the span.

    Exit codes: 0 all is kept, 1 any error; with --once also if decisions are missing or set aside, 130 Ctrl-C.
    """
    from quantum_trader.archive.daily import DailyArchive
    from quantum_trader.archive.keeper import Keeper, KeeperConfig
    from quantum_trader.bootstrap import configure_logging, wire_decision_tail
    from quantum_trader.core.errors import QuantumError
    from quantum_trader.settings import load_settings
    from quantum_trader.stopping import Stop

    settings = load_settings(config, env_file)
    configure_logging(settings.log_format)
    log = logging.getLogger("quantum_trader.archive")
    # The keeper says once that the server is away; the bus would say it at every try.
    logging.getLogger("quantum_trader.bus.session").setLevel(logging.WARNING)
    stop, interrupted = Stop(), Stop()

    def end(number: int, _: object) -> None:
        stop.set()
        if number == signal.SIGINT:
            interrupted.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        # The folder's own name is the consumer's: a group that serves another folder is noticed.
        with DailyArchive(out) as folder, wire_decision_tail(settings, group, f"archive-{folder.name}") as tail:
            keeper = Keeper(tail, folder, KeeperConfig(every, rows), stop)
            (keeper.catch_up if once else keeper.run)()
            log.info("stopped: %s", keeper.summary())
    except QuantumError as error:
        log.critical("%s", error)
        raise Finish(1) from error
    if interrupted.is_set():
        raise Finish(EXIT_INTERRUPTED)
    if once:
        typer.echo(keeper.summary())
        raise Finish(0 if keeper.complete else 1)

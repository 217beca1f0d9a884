"""`quantum rogues`: how often do the plain rule and the whole verdict promote models that must not be promoted?"""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from quantum_trader.cli.rogues_pool import Executor
    from quantum_trader.cli.rogues_run import Order

REPETITIONS = 400
SEED = 20260101


def rogues(
    repetitions: Annotated[int, typer.Option(min=1, help="Of every model on every market.")] = REPETITIONS,
    market: Annotated[
        list[str] | None,
        typer.Option(help="Only this market; may be repeated: neutral, real, bull, crash, momentum, common."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Only this model of the gallery; may be repeated. --list names all.")
    ] = None,
    bars: Annotated[
        Path | None, typer.Option(help="Bars whose returns are the market 'real'; without them it is left out.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same numbers.")] = SEED,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one per core.")] = 0,
    work: Annotated[Path, typer.Option(help="The run's folder; the same command goes on there.")] = Path("var/rogues"),
    page: Annotated[
        Path | None, typer.Option(help="Markdown page to write the tables into; pictures go to images/ beside it.")
    ] = None,
    ray: Annotated[
        str, typer.Option(help="Compute on a Ray cluster at this address, or 'auto'; needs the extra 'distributed'.")
    ] = "",
    show_list: Annotated[bool, typer.Option("--list", help="List the gallery and stop.")] = False,
) -> None:
    """Try known-bad and known-good models on simulated markets and on real returns, and count promotions.

    Each repetition draws a market, three voters and 5,000 decisions, and tries every model of the gallery on it: under
    the plain 3-of-4 rule (one look at the first 200 decisions; a look every 25 at all so far; a look every 25 at the
    last 200) and under the whole verdict, which is looked at after every cycle. "Promoted" means: at any look.

    Ctrl-C, a kill or a power cut lose seconds: the same command goes on where it was. More repetitions later compute
    only what is new. Results depend on the seed alone, not on the number of workers or machines.

    Try it: quantum rogues --repetitions 20 --market neutral --work var/rogues-20
    """
    from rich.console import Console

    from quantum_trader.cli.demo_models import progress_bar
    from quantum_trader.cli.rogues_run import run
    from quantum_trader.gates.rogues.rates import rates_of
    from quantum_trader.report.error_rates_page import gallery_table, screen

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 132)
    if show_list:
        console.print(gallery_table())
        return
    order = _order(repetitions, market, model, bars, seed)
    _announce(console, order, work)
    started = time.monotonic()
    with progress_bar(console, "repetitions") as report:
        results = run(order, work, _executor(workers, ray), report)
    rates = rates_of(results, order.events)
    console.print(screen(rates))
    console.print(f"\nresults in {work}; took {time.monotonic() - started:.0f} s")
    if page is not None:
        from quantum_trader.report.error_rates_page import write_page

        write_page(page, rates, order.seed, _machine(), _described(bars, order))
        console.print(f"written: {page}")


def _order(
    repetitions: int, market: list[str] | None, model: list[str] | None, bars: Path | None, seed: int
) -> "Order":
    from quantum_trader.cli.rogues_run import MODELS, ORDER, Order, chosen, prices_of
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.gates.rogues.market import REAL
    from quantum_trader.market.files import read_bars

    markets = chosen(market, ORDER, "market")
    if bars is None:
        if market and REAL in markets:
            raise ConfigError("market 'real': give its bars with --bars FILE")
        markets = tuple(name for name in markets if name != REAL)
    prices = prices_of(read_bars(bars)) if bars is not None and REAL in markets else None
    return Order(markets, chosen(model, MODELS, "model"), repetitions, seed, prices)


def _announce(console: "Console", order: "Order", work: Path) -> None:
    from quantum_trader.gates.rogues.market import REAL
    from quantum_trader.gates.whole_policy import WHOLE

    console.print(
        f"rogues    {len(order.models)} models on {len(order.markets)} markets, {order.repetitions} repetitions of "
        f"{order.events:,} decisions, seed {order.seed}, policy {WHOLE.digest[:12]}"
    )
    if REAL not in order.markets:
        console.print("          without real returns: give bars with --bars FILE to add them")
    console.print(f"          Ctrl-C is safe: the same command goes on; {work} holds what is done")


def _executor(workers: int, ray: str) -> "Executor":
    from quantum_trader.cli.rogues_pool import LocalPool, RayCluster

    if ray:
        return RayCluster(ray)
    return LocalPool(workers or len(os.sched_getaffinity(0)))


def _described(bars: Path | None, order: "Order") -> str:
    if bars is None or order.prices is None:
        return ""
    count, symbols = order.prices.shape
    return f"`{bars.name}`, {count:,} bars of {symbols} symbols"


def _machine() -> str:
    """Cores and processor, as the system names it."""
    cores = len(os.sched_getaffinity(0))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{cores} cores of {names[0] if names else 'an unnamed processor'}"

"""`quantum download-data`, `simulate-data` and `bars`: files of bars, fetched, made and described."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantum_trader.cli.finish import Finish

if TYPE_CHECKING:
    from rich.console import Console

    from quantum_trader.market.quality import Quality

Pairs = Annotated[str, typer.Option(help="Pairs with commas between: BTC/USDT, or BTC/USDT:USDT for the perpetual.")]
Timeframe = Annotated[str, typer.Option(help="Length of a bar, such as 1m, 5m or 1h.")]

_PADDING = (0, 1, 0, 0)


def _split(pairs: str) -> list[str]:
    return [pair.strip() for pair in pairs.split(",") if pair.strip()]


def download_data(
    exchange: Annotated[str, typer.Option(help="Name of the exchange in ccxt.")] = "binance",
    pairs: Pairs = "BTC/USDT,ETH/USDT,BNB/USDT,SOL/USDT,XRP/USDT",
    timeframe: Timeframe = "5m",
    timerange: Annotated[
        str, typer.Option(help="Which bars: 20260101-20260201, or 20260101- until now (days in UTC, end exclusive).")
    ] = "",
    out: Annotated[Path, typer.Option(help="Parquet file to write; one that exists is extended.")] = Path(
        "bars.parquet"
    ),
    exchange_config: Annotated[
        Path | None, typer.Option(help="JSON file merged into ccxt's configuration of the exchange: proxies, URLs.")
    ] = None,
) -> None:
    """Download bars from an exchange into a Parquet file.

    Stop it with Ctrl-C at any time: what has arrived is kept, and the same command goes on from there.
    """
    from rich.console import Console

    from quantum_trader.clock import now_ms
    from quantum_trader.core.errors import QuantumError
    from quantum_trader.market.download import download, kept_bars
    from quantum_trader.market.timerange import TimeRange, parse_timerange

    config = _exchange_config(exchange_config)
    ranged = parse_timerange(timerange) if timerange else TimeRange()
    console = Console(stderr=True, highlight=False)
    try:
        with _Bars(console) as bars:
            series = download(exchange, _split(pairs), timeframe, ranged, out, now_ms(), bars.show, config)
    except (KeyboardInterrupt, QuantumError):
        kept = kept_bars(out)
        if kept:
            console.print(f"{kept:,} downloaded bars are kept; the same command goes on from there", markup=False)
        raise
    _describe(Console(highlight=False), out, list(series))


def _exchange_config(path: Path | None) -> dict[str, Any]:
    import msgspec

    from quantum_trader.core.errors import ConfigError

    if path is None:
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: no JSON object of ccxt settings ({error})") from None


def simulate_data(
    bars: Annotated[int, typer.Option(help="Bars of every symbol.")] = 20_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 1,
    pairs: Pairs = "BTC/USDT,ETH/USDT,BNB/USDT,SOL/USDT,XRP/USDT",
    timeframe: Timeframe = "5m",
    start: Annotated[str, typer.Option(help="First day, YYYYMMDD in UTC.")] = "20250101",
    edge: Annotated[float, typer.Option(help="Strength of the planted momentum; 0 leaves nothing to learn.")] = 0.05,
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("simulated.parquet"),
) -> None:
    """Make simulated bars: clustered volatility, fat tails, correlated symbols, and one weak regularity.

    They let everything run where no real bars are; no figure computed from them says anything of a real market.
    """
    from rich.console import Console

    from quantum_trader.market.files import SIMULATED, write_bars
    from quantum_trader.market.simulator import simulate
    from quantum_trader.market.timerange import parse_timerange

    series = simulate(bars, seed, _split(pairs), timeframe, parse_timerange(f"{start}-").start_ms or 0, edge)
    write_bars(out, series, f"{SIMULATED} seed={seed} edge={edge}")
    _describe(Console(highlight=False), out, list(series))


def bars_info(
    file: Annotated[Path, typer.Argument(help="Parquet, feather or CSV file of bars.")],
    gaps: Annotated[int, typer.Option(help="Gaps to list.")] = 10,
) -> None:
    """Describe a file of bars: symbols, range, gaps and defects. Exit code 1 where a bar breaks a rule."""
    from rich.console import Console

    if not _describe(Console(highlight=False), file, max_gaps=gaps):
        raise Finish(1)


class _Bars:
    """One progress bar for every pair, drawn while the block runs."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "_Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, pair: str, done: int, total: int) -> None:
        """Move a pair's bar."""
        if pair not in self._tasks:
            self._tasks[pair] = self._progress.add_task(pair)
        self._progress.update(self._tasks[pair], completed=done, total=total)


def _describe(console: "Console", path: Path, symbols: list[str] | None = None, max_gaps: int = 10) -> bool:
    """Print the tables of a file; whether every bar obeys the rules."""
    from quantum_trader.core.bars import timeframe_name
    from quantum_trader.market.files import read_source, read_unchecked
    from quantum_trader.market.quality import examine

    held = read_unchecked(path)
    found = [examine(series) for symbol, series in held.items() if symbols is None or symbol in symbols]
    interval = next(iter(held.values())).interval
    source = read_source(path)
    console.print(f"{path}: bars of {timeframe_name(interval)}, source: {source or 'not in the file'}", soft_wrap=True)
    _print_series(console, found)
    _print_gaps(console, found, max_gaps)
    return not _print_defects(console, found)


def _print_series(console: "Console", found: "list[Quality]") -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from quantum_trader.core.errors import format_ms

    held = Table("symbol", "bars", "first opens", "last opens", "gaps", "missing", box=SIMPLE, padding=_PADDING)
    odd = Table("symbol", "no trade", "flat", "largest move", "breaking a rule", box=SIMPLE, padding=_PADDING)
    for own in found:
        holes = (f"{len(own.gaps):,}", f"{own.missing:,}")
        held.add_row(own.symbol, f"{own.bars:,}", format_ms(own.ts_first), format_ms(own.ts_last), *holes)
        broken = sum(defect.count for defect in own.defects)
        odd.add_row(own.symbol, f"{own.zero_volume:,}", f"{own.flat:,}", f"{own.largest_move:.2%}", f"{broken:,}")
    console.print(held)
    console.print(odd)


def _print_gaps(console: "Console", found: "list[Quality]", most: int) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from quantum_trader.core.errors import format_ms

    gaps = [gap for own in found for gap in own.gaps]
    if not gaps or most < 1:
        return
    console.print(f"{min(most, len(gaps))} of {len(gaps)} gaps:")
    table = Table("gap in", "from", "missing bars", box=SIMPLE, padding=_PADDING)
    for gap in gaps[:most]:
        table.add_row(gap.symbol, format_ms(gap.ts_first), f"{gap.missing:,}")
    console.print(table)


def _print_defects(console: "Console", found: "list[Quality]") -> bool:
    """Print broken rules; whether there are any."""
    from rich.box import SIMPLE
    from rich.table import Table

    from quantum_trader.core.errors import format_ms

    defects = [defect for own in found for defect in own.defects]
    if not defects:
        console.print("defects: none, every bar obeys the rules")
        return False
    console.print("defects:")
    table = Table("symbol", "rule", "bars", "first opens", box=SIMPLE, padding=_PADDING)
    for defect in defects:
        table.add_row(defect.symbol, defect.rule, f"{defect.count:,}", format_ms(defect.ts_first))
    console.print(table)
    return True

"""`quantum feed` and `quantum server`: bars onto the stream, and a stream server where none is installed."""

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantum_trader.cli.run import ConfigFiles, EnvFile

if TYPE_CHECKING:
    from quantum_trader.bus.writer import BarWriter
    from quantum_trader.settings import Settings

BATCH_BARS = 2000


def feed(
    bars: Annotated[Path | None, typer.Option(help="Parquet or freqtrade feather file to write to the stream.")] = None,
    timerange: Annotated[str, typer.Option(help="Part of the file, such as 20260101-20260201.")] = "",
    exchange: Annotated[str, typer.Option(help="Follow closed bars of a ccxt exchange instead, such as binance.")] = "",
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Write bars to quantum:stream:market.bar: all of a file in time order, or an exchange's as they close.

    A bar that is in the stream already is not written twice, so the command may be repeated after any failure.
    """
    from quantum_trader.bootstrap import wire_bar_writer
    from quantum_trader.core.errors import ConfigError
    from quantum_trader.settings import load_settings

    settings = load_settings(config, env_file)
    if (bars is None) == (not exchange):
        raise ConfigError("feed: give either --bars FILE or --exchange NAME")
    with wire_bar_writer(settings) as writer:
        if bars is not None:
            _feed_file(settings, writer, bars, timerange)
        else:
            asyncio.run(_follow_exchange(settings, writer, exchange))


def _feed_file(settings: "Settings", writer: "BarWriter", path: Path, timerange: str) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from quantum_trader.clock import now_us
    from quantum_trader.market.files import read_bars
    from quantum_trader.market.merge import in_time_order
    from quantum_trader.market.timerange import parse_timerange

    wanted = parse_timerange(timerange) if timerange else None
    series = read_bars(path, settings.pairs, wanted, settings.timeframe)
    total = sum(len(bars) for bars in series.values())
    written = 0
    with Progress() as progress:
        task = progress.add_task("bars", total=total)
        for batch in in_time_order(series, BATCH_BARS):
            written += writer.publish(batch, settings.timeframe, now_us())
            progress.advance(task, len(batch))
    Console().print(f"{written} of {total} bars written; the rest was there already", highlight=False)


async def _follow_exchange(settings: "Settings", writer: "BarWriter", exchange: str) -> None:
    from rich.console import Console

    from quantum_trader.clock import now_ms, now_us
    from quantum_trader.core.bars import interval_ms
    from quantum_trader.core.errors import format_ms
    from quantum_trader.market.live import closed_bars

    console = Console(highlight=False)
    # After a stop of the feed the bars in between are fetched: a hole would cost the engine a whole window.
    last = [writer.last_open_ms(symbol, settings.timeframe) for symbol in settings.symbols]
    known = [ts for ts in last if ts is not None]
    since = min(known) + interval_ms(settings.timeframe) if known else None
    bars = closed_bars(exchange, settings.pairs, settings.timeframe, now_ms, since_ms=since, notice=console.print)
    async with contextlib.aclosing(bars):
        async for bar in bars:
            # The bus client is synchronous; one bar is a fraction of a millisecond and nothing else shares this loop.
            new = writer.publish([bar], settings.timeframe, now_us())
            console.print(f"{format_ms(bar.ts_close)} {bar.symbol} {bar.close}{'' if new else ' (known)'}")


def server(
    data_dir: Annotated[Path, typer.Option(help="Where the server keeps its append-only file.")] = Path("valkey-data"),
    port: Annotated[int, typer.Option(help="TCP port on loopback; 0 takes any free one.")] = 6379,
) -> None:
    """Run the embedded Valkey server on loopback until Ctrl-C; what it acknowledges is on disk."""
    from rich.console import Console

    from quantum_trader.bus.embedded import EmbeddedServer
    from quantum_trader.stopping import Stop

    done = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with EmbeddedServer(data_dir, port=port or None) as running:
        Console().print(f"Valkey at {running.url}, data in {data_dir}; Ctrl-C stops it", highlight=False)
        done.wait()

"""`python -m benchmarks`: measure, print the tables, and with --write put them into README.md."""

import argparse
import importlib
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from benchmarks.harness import Progress, Workplace
    from benchmarks.tables import Block

# Those that need no training library come first: once torch is imported, it stays.
BENCHMARKS = ("features", "decisions", "bus", "replay_bars", "serving", "live", "honesty", "cage", "reload")
INTERRUPTED = 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="measure this one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="few rounds of small work; the numbers say nothing")
    parser.add_argument("--full", action="store_true", help="replay_bars: also the whole file of bars (minutes)")
    parser.add_argument("--install", action="store_true", help="serving: also install it afresh (downloads packages)")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/README.md")
    arguments = parser.parse_args()
    if arguments.quick and arguments.write:
        parser.error("--write: the numbers of a --quick run say nothing, so they are not written")
    return arguments


def main() -> int:
    """Run what was asked for; 130 after Ctrl-C, with the tables measured until then."""
    arguments = _arguments()
    from rich.console import Console

    from benchmarks import machine
    from benchmarks.harness import Workplace
    from benchmarks.tables import Block, Table, write_readme

    console = Console()
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="quantum-bench-") as folder:
        about = Block("machine", "machine", [Table(("", "measured with"), machine.rows(Path(folder)))])
        busy, measured_on = machine.load_note(), machine.one_line()
        about.show(console)
        if busy:
            console.print(f"  {busy}", style="yellow", highlight=False)
        blocks: list[Block] = []
        with _progress(console) as progress:
            place = Workplace(
                Path(folder), arguments.quick, arguments.full, arguments.install, console=console, progress=progress
            )
            try:
                for name in arguments.only or BENCHMARKS:
                    blocks += _measure(name, place)
            except KeyboardInterrupt:
                interrupted = True
    if arguments.quick:
        console.print("\na quick run: these numbers say nothing", style="yellow")
    if interrupted:
        console.print("\nstopped; what is above was measured", style="yellow")
        return INTERRUPTED
    if arguments.write:
        noted = f"{measured_on} Note: {busy}." if busy else measured_on
        write_readme({"machine": about.markdown(""), **{block.name: block.markdown(noted) for block in blocks}})
        console.print("\nwritten to benchmarks/README.md")
    missed = [f"{block.name}: {target.what}" for block in blocks for target in block.targets if not target.met]
    console.print(f"\nfell short: {'; '.join(missed) or 'nothing'}", highlight=False)
    return 0


def _measure(name: str, place: "Workplace") -> "list[Block]":
    started = time.monotonic()
    module = importlib.import_module(f"benchmarks.{name}")
    blocks: list[Block] = module.run(place)
    for block in blocks:
        block.show(place.console)
    place.console.print(f"  ({name} took {time.monotonic() - started:.0f} s)\n", style="dim", highlight=False)
    return blocks


@contextmanager
def _progress(console: "Console") -> "Iterator[Progress]":
    """One line that says what is being measured; gone at the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total)


if __name__ == "__main__":
    sys.exit(main())

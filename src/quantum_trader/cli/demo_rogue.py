"""The demo's rogue: what a faulty shadow did, when it was caught, and that no decision knew of it."""

from collections import Counter
from typing import TYPE_CHECKING

from quantum_trader.cli.demo_service import AlarmEvent, ServiceRun
from quantum_trader.core.predictions import cause_of
from quantum_trader.engine.faults import Fault

if TYPE_CHECKING:
    from rich.console import Console

WITHIN_BARS = 24
"""An alarm that comes later than this many bars of a symbol is too late."""

CAUGHT_BY = {Fault.CONSTANT_INPUT: ("constant-input", "shadow-input")}
"""The alarms that a rogue must raise; any other one is caught by its silence."""

_SILENT = ("shadow-silent",)


def caught(console: "Console", run: ServiceRun, rogue: Fault, model: str) -> bool:
    """Say what the rogue did and which alarms it raised.

    Args:
        console: Where to.
        run: Of the service with the rogue as its shadow.
        rogue: What was planted.
        model: Whose process it was planted in.

    Returns:
        Whether every alarm that it must raise stood within WITHIN_BARS bars.
    """
    answers = Counter(_ending(record.shadows[model].status, record.shadows[model].reason) for record in run.records)
    console.print(f"\n[bold]The rogue: {rogue}[/]")
    for ending, n in answers.most_common():
        console.print(f"  {n:6,} of {len(run.records):,} answers: {ending}")
    hashes = {record.shadows[model].input_hash for record in run.records} - {""}
    given = {record.decision.input_hash for record in run.records}
    if hashes:
        console.print(f"  it predicted on {len(hashes):,} different inputs; the market gave {len(given):,}")
    bars = {alarm: _bars_until(run, alarm) for alarm in run.alarms if alarm.state == "raised"}
    for alarm, n in bars.items():
        where = " ".join(part for part in (alarm.model, alarm.symbol) if part)
        console.print(f"  [red]ALARM[/] {alarm.name:15} at bar {n:2}  {where}: {alarm.detail}")
    first = {alarm.name: n for alarm, n in reversed(bars.items())}
    late = [name for name in CAUGHT_BY.get(rogue, _SILENT) if first.get(name, WITHIN_BARS + 1) > WITHIN_BARS]
    if late:
        console.print(f"  [bold red]not caught[/]: no {' and no '.join(late)} within {WITHIN_BARS} bars")
    else:
        slowest = max(first[name] for name in CAUGHT_BY.get(rogue, _SILENT))
        console.print(f"  [bold green]caught[/] at bar {slowest} of each symbol; no decision knew of it")
    return not late


def _ending(status: str, reason: str) -> str:
    return f"{status}, {cause_of(reason)}" if reason else status


def _bars_until(run: ServiceRun, alarm: AlarmEvent) -> int:
    """Bars of one symbol that were decided when the alarm came."""
    return len({r.decision.ts_open for r in run.records if r.ts_decision <= alarm.at_ms})

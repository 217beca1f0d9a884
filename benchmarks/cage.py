"""What does a shadow cost a bar, from its publication to its intent: healthy, slow, hung, crashing, NaN, ten megabytes?

The certificate's own harness: two real engines on one embedded server, one without the shadow and one with it, decide
the same bars in turns; the one whose turn it is not stands still. Ratios are taken bar by bar.
"""

from collections.abc import Mapping

import msgspec

from benchmarks.data import replay_bars, simulated
from benchmarks.harness import Workplace
from benchmarks.tables import Block, Table, Target, at_most
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.cli.certify_engines import Stage, compare_engines, env_files, opened_bars
from quantum_trader.cli.certify_facts import newest_stretch
from quantum_trader.core.bars import WINDOW, BarSeries
from quantum_trader.core.decision import canonical
from quantum_trader.core.predictions import DISPLAY_NAMES
from quantum_trader.engine.faults import Fault
from quantum_trader.engine.pairing import Goals, compare
from quantum_trader.report.certificate import Latency, Timing

CASES: Mapping[str, Fault | None] = {
    "off on both sides (control)": None,
    "healthy": Fault.HEALTHY,
    "slow (1 s a batch)": Fault.SLEEPING,
    "SIGSTOP": Fault.HUNG,
    "crash loop": Fault.CRASH_ON_EVERY,
    "NaN": Fault.NAN,
    "10 MB of output": Fault.OUTPUT_10MB,
}
GROUPS = {5: 400, 50: 150}
QUICK = 20
CASTS = ((5, "patchtst"), (5, "nhits"), (50, "patchtst"), (50, "nhits"))


def run(place: Workplace) -> list[Block]:
    """Measure."""
    return [_block(place, symbols, shadow) for symbols, shadow in CASTS]


def _block(place: Workplace, symbols: int, shadow: str) -> Block:
    name = f"cage-{symbols}-{shadow}"
    folder = place.folder / name
    folder.mkdir()
    groups = QUICK if place.quick else GROUPS[symbols]
    series, source = _bars(symbols, groups)
    files = env_files(place.models.paths, shadow, folder)
    goals = Goals()
    with EmbeddedServer(folder / "valkey") as server:
        stage = Stage(server.url, series, files, goals.grace_ms, folder)
        found = {case: _measure(place, stage, name, case, shadow, goals) for case in CASES}
    notes = [
        f"{groups} bars of {symbols} symbols under each fault, {source}; {DISPLAY_NAMES[shadow]} is the shadow, the "
        f"other three vote; every decision was compared and had the same bytes on both sides",
        "from the call that publishes the bars to the arrival of their decisions and intents by a blocking read: two "
        "transactions on a server with `appendfsync always`, and everything between them",
        "the control has no shadow on either side: how far from 1 its ratio lies is the machine's doing",
        f"p99.9 of {groups} bars is hardly more than their largest; grace {goals.grace_ms:g} ms",
        place.models.described(),
    ]
    title = f"cage: bar to intent, {symbols} symbols, {DISPLAY_NAMES[shadow]} in shadow"
    return Block(name, title, [_table(found)], _targets(found, goals), notes)


def _bars(symbols: int, groups: int) -> tuple[Mapping[str, BarSeries], str]:
    n = WINDOW - 1 + groups
    if symbols != 5:
        return simulated(symbols, n), "SIMULATED bars"
    series, source = replay_bars(groups)
    return newest_stretch(series, n), source


def _measure(place: Workplace, stage: Stage, name: str, case: str, shadow: str, goals: Goals) -> Timing:
    fault = CASES[case]
    stream = "control" if fault is None else fault.value
    both = compare_engines(stage, stream, fault, lambda done, total: place.progress(f"{name}: {case}", done, total))
    off, on = (
        {record.decision.decision_id: canonical(record.decision) for record in side.records}
        for side in (both.off, both.on)
    )
    if off != on or not on:
        raise RuntimeError(f"{name}, {case}: the decisions differ with the shadow and without it")
    opened = opened_bars(both.on.records, shadow) if fault is not None else [False] * len(both.on_ms)
    timing = compare(both.off_ms, both.on_ms, opened, goals)
    return msgspec.convert(timing, Timing, from_attributes=True)


def _table(found: Mapping[str, Timing]) -> Table:
    rows = [
        (
            case,
            *(_both(timing.off, timing.on, field) for field in ("p50", "p99", "p999")),
            f"{timing.ratio.median:.3f} ({timing.ratio.low:.3f} to {timing.ratio.high:.3f})",
            "" if timing.ratio_open is None else f"{timing.ratio_open.median:.3f} ({timing.ratio_open.n})",
        )
        for case, timing in found.items()
    ]
    columns = ("shadow", "p50 off / on, ms", "p99", "p99.9", "median ratio (95 %)", "breaker open (bars)")
    return Table(columns, rows)


def _both(off: Latency, on: Latency, field: str) -> str:
    return f"{getattr(off, field):.2f} / {getattr(on, field):.2f}"


def _targets(measured: Mapping[str, Timing], goals: Goals) -> list[Target]:
    found = {case: timing for case, timing in measured.items() if CASES[case] is not None}
    targets = [
        at_most(f"median ratio, {case}", timing.ratio.median, goals.ratio, "{:.3f}") for case, timing in found.items()
    ]
    case, worst = max(found.items(), key=lambda item: item[1].on.p99 - item[1].off.p99)
    excess = worst.on.p99 - worst.off.p99
    targets.append(at_most(f"p99 above off's, the worst ({case})", excess, goals.grace_ms, "{:.1f} ms"))
    opened = {case: timing.mostly_open.median for case, timing in found.items() if timing.mostly_open is not None}
    if opened:
        case = max(opened, key=opened.__getitem__)
        what = f"median ratio with the breaker open, the worst ({case})"
        targets.append(at_most(what, opened[case], goals.ratio_open, "{:.3f}"))
    return targets

"""What does an exactly-once commit cost, beside a plain pipelined XADD of the same entries to the same server?

Ours is the engine's own write: encoding, guards and the lease's fence watched and read, one MULTI with decisions,
intents, counters, acknowledgement of the bars and the new guards. Plain is what a script does: redis-py's pipeline with
one XADD an entry, encoded beforehand, no guard, no count, no acknowledgement; as it comes, and wrapped in MULTI. All go
to the embedded server with `appendfsync always`: every reply means that the entries are on disk.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import redis

from benchmarks.data import SEED, simulated
from benchmarks.harness import Samples, Workplace, paired
from benchmarks.tables import Block, Table, at_least, rate, seconds
from quantum_trader.bus.client import connect, durability
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.identity import Identity
from quantum_trader.bus.lease import Lease
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.reader import BarReader
from quantum_trader.bus.wire import Fields, encode_intent, encode_record
from quantum_trader.bus.writer import BarWriter, CommitBatch, DecisionWriter
from quantum_trader.clock import now_us
from quantum_trader.core.bars import Bar
from quantum_trader.core.decision import DecisionRecord, Occasion, decide
from quantum_trader.core.intent import build_intent
from quantum_trader.core.policy import IntentPolicy, VotePolicy
from quantum_trader.core.predictions import MODELS, ModelOutput, Thresholds

BATCHES = (5, 50)
COMMITS = {5: 40, 50: 12}
"""Commits in one sample."""

ROUNDS = 9
GOAL = 0.5
_PLAIN = StreamNames("plain:stream:")

Records = Sequence[tuple[DecisionRecord, Mapping[str, Any] | None]]


@dataclass(frozen=True)
class Desk:
    """One sample's work: commits prepared for ours, and the same entries encoded for the plain side."""

    commits: Sequence[CommitBatch]
    plain: Sequence[Sequence[tuple[str, Fields]]]


def run(place: Workplace) -> list[Block]:
    """Measure."""
    rows, targets = [], []
    with EmbeddedServer(place.folder / "valkey") as server:
        client = connect(server.url)
        try:
            for batch in BATCHES:
                found = _measure(place, client, batch)
                rows += _rows(batch, found)
                for side in ("plain", "multi"):
                    what = f"share of the decisions a second of {_LABELS[side]}, batches of {batch}"
                    targets.append(at_least(what, found.ratio(side, "ours"), GOAL, "{:.0%}"))
        finally:
            client.close()
    notes = [
        "embedded Valkey with `appendfsync always`, one connection, one writer: every reply has waited for the disk",
        "ours encodes and writes decisions and the intents of actionable ones, counts them, acknowledges their bars, "
        "moves a guard per symbol, and proves that it holds the lease; "
        "plain writes the same decision and intent entries and nothing else",
        "the server flushes once a turn of its loop: a MULTI is one turn, a long plain pipeline is read in several",
    ]
    table = Table(("", "one batch", "decisions", "ours takes, against it"), rows)
    return [Block("bus", "bus: decisions committed", [table], targets, notes)]


_LABELS = {"ours": "DecisionWriter", "plain": "plain pipelined XADD", "multi": "pipelined XADD in MULTI"}


def _rows(batch: int, found: Samples) -> list[tuple[str, str, str, str]]:
    rows = []
    for side, label in _LABELS.items():
        each = found.median(side)
        cost = "" if side == "ours" else f"{found.ratio('ours', side):.2f} x"
        rows.append((f"{label}, batches of {batch}", seconds(each), rate(batch / each), cost))
    return rows


def _measure(place: Workplace, client: redis.Redis, batch: int) -> Samples:
    rounds, commits = place.rounds(ROUNDS), COMMITS[batch]
    names = StreamNames(f"bench{batch}:stream:")
    # One sample more than rounds: the first one warms up.
    desks = _desks(client, names, batch, commits, rounds + 1)
    lease = Lease(client, names, "ai-engine", Identity.here("bench"))
    if not lease.wait(0.0):
        raise RuntimeError("the lease of the benchmark's own server is held")
    writer = DecisionWriter(client, names, durability(client), lease=lease)
    seconds_of: dict[str, list[float]] = {side: [] for side in _LABELS}
    try:
        for turn, desk in enumerate(desks):
            calls = {
                "ours": partial(_commit, writer, desk),
                "plain": partial(_plain, client, desk, multi=False),
                "multi": partial(_plain, client, desk, multi=True),
            }
            # Every sample is new work (a guard refuses what was written), so each round is measured for itself.
            once = paired(calls, 1, f"batches of {batch}: round {turn}", place.progress, warm_up=False)
            if turn:
                for side, values in once.seconds.items():
                    seconds_of[side].append(values[0] / commits)
    finally:
        writer.close()
        lease.close()
    return Samples(seconds_of)


def _commit(writer: DecisionWriter, desk: Desk) -> None:
    for commit in desk.commits:
        result = writer.commit(commit)
        if result.refused:
            raise RuntimeError(f"{len(result.refused)} decisions were refused")


def _plain(client: redis.Redis, desk: Desk, *, multi: bool) -> None:
    for entries in desk.plain:
        pipe = client.pipeline(transaction=multi)
        for stream, fields in entries:
            pipe.xadd(stream, fields)  # type: ignore[arg-type]
        pipe.execute()


def _desks(client: redis.Redis, names: StreamNames, batch: int, commits: int, samples: int) -> Iterator[Desk]:
    """Prepare one sample's work after another: bars published and read by the group, records decided."""
    series = list(simulated(batch, samples * commits).values())
    rng = np.random.default_rng(SEED)
    bars, reader = BarWriter(client, names), BarReader(client, names)
    reader.ensure_group()
    try:
        for sample in range(samples):
            made: list[CommitBatch] = []
            for at in range(sample * commits, (sample + 1) * commits):
                now = [one.bar(at) for one in series]
                bars.publish(now, "5m", now_us())
                entries = reader.read(batch)
                records = _records(now, rng)
                made.append(
                    CommitBatch(
                        entry_ids=[entry.entry_id for entry in entries],
                        group=reader.group,
                        records=records,
                        now_us=now_us(),
                    )
                )
            yield Desk(made, [_encoded(commit) for commit in made])
    finally:
        reader.close()
        bars.close()


def _records(bars: Sequence[Bar], rng: np.random.Generator) -> Records:
    n = len(bars)
    thresholds = Thresholds(0.52, 0.48)
    outputs = {
        model: ModelOutput.of(rng.uniform(0.4, 0.6, n).astype(np.float32).astype(np.float64), thresholds, "5" * 64)
        for model in MODELS
    }
    occasion = Occasion(
        timeframe="5m",
        symbols=[bar.symbol for bar in bars],
        ts_open=[bar.ts_open for bar in bars],
        ts_close=[bar.ts_close for bar in bars],
        prices=[bar.close for bar in bars],
        atr_fractions=rng.uniform(0.001, 0.01, n).tolist(),
        input_hashes=["0123456789abcdef"] * n,
    )
    records = []
    for decision in decide(occasion, outputs, VotePolicy()):
        record = DecisionRecord(decision=decision, shadows={}, reasons={}, ts_decision=decision.ts_close)
        records.append((record, build_intent(decision, {}, IntentPolicy(), decision.ts_close * 1000)))
    return records


def _encoded(commit: CommitBatch) -> list[tuple[str, Fields]]:
    entries = []
    for record, intent in commit.records:
        entries.append((_PLAIN.decisions, encode_record(record)))
        if intent is not None:
            entries.append((_PLAIN.intents, encode_intent(intent, record.decision.decision_id, commit.now_us)))
    return entries

"""Drills on the test host: the verbs as an operator calls them, one fault each, the way back timed.

    python -m tests.host.drills COUNT [--seed N] [--json FILE] [--first N] [--kind KIND] [--way WAY] [--phase PHASE]

Each drill deploys a shadow with `quantum deploy`, gives it a vote in half of them, and goes back with `quantum
rollback`. One fault strikes at a random moment of one of the two. Then the next run finishes or undoes it, and the host
is wholly old or wholly new: env file, artefacts by digest, no draft, the engine active and on the named artefact, the
ledger unbroken, and no rollback has given anybody influence.

What is drawn comes from the seed and the drill's number alone: `--first 17` with a count of 1 repeats drill 17,
and of `--kind`, `--way` and `--phase` only the drills that fit are run.
"""

import argparse
import itertools
import json
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from tests.host.drill import Drill, Failed
from tests.host.faults import KINDS, PHASES, Fault, draw
from tests.host.ground import Ground
from tests.host.guest import booted, why_not
from tests.host.measures import WAYS, Record, tables

Drawn = tuple[str, bool, Fault]


def drawn(seed: int, number: int) -> Drawn:
    """Way back, whether the model has a vote by then, and the fault; every way and kind comes up equally often."""
    ways = np.random.default_rng([seed, 1, number // len(WAYS)]).permutation(WAYS)
    kinds = np.random.default_rng([seed, 2, number // len(KINDS)]).permutation(KINDS)
    draws = np.random.default_rng([seed, 3, number])
    way, kind = str(ways[number % len(WAYS)]), str(kinds[number % len(KINDS)])
    return way, bool(draws.integers(2)), draw(draws, kind, way)


def main(arguments: Sequence[str]) -> int:
    """Run them and print what came of them; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.host.drills", description="Drills on the test host.")
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--json", type=Path, help="file for every drill and every time")
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--phase", choices=PHASES)
    options = parser.parse_args(arguments)
    problem = why_not()
    if problem:
        sys.exit(f"drills: {problem}")
    signal.signal(signal.SIGTERM, _interrupted)
    print(f"{options.count} drills from number {options.first}, seed {options.seed}", flush=True)
    records: list[Record] = []
    fitting = _fitting(options)
    try:
        while len(records) < options.count:
            _on_one_host(options, fitting, records)
    except KeyboardInterrupt:
        print("interrupted; the host is removed", file=sys.stderr)
    failed = [record for record in records if record.failure]
    if records:
        print(f"\n{tables(records)}\n")
    print(f"{len(records)} drills, seed {options.seed}: {len(failed)} failed")
    return 1 if failed or len(records) < options.count else 0


def _fitting(options: argparse.Namespace) -> Iterator[tuple[int, Drawn]]:
    """Drills from the first one on, without those that were not asked for."""
    wanted = {"way": options.way, "kind": options.kind, "phase": options.phase}
    for number in itertools.count(options.first):
        way, votes, fault = drawn(options.seed, number)
        found = {"way": way, "kind": fault.kind, "phase": fault.phase}
        if all(word in (None, found[name]) for name, word in wanted.items()):
            yield number, (way, votes, fault)


def _on_one_host(options: argparse.Namespace, fitting: Iterator[tuple[int, Drawn]], records: list[Record]) -> None:
    """Drills on a fresh host, until all are done or one fails: what it left behind is not gone on with."""
    # A short name: sockets of ssh lie below it.
    with tempfile.TemporaryDirectory(prefix="dr") as folder, booted(Path(folder)) as guest:
        ground = Ground(guest)
        while len(records) < options.count:
            number, (way, votes, fault) = next(fitting)
            record = Record(number, way, asdict(fault))
            try:
                Drill(ground, record, fault, resume=number % 2 == 0, reload=number % 4 < 2).run(votes=votes)
            except Failed as error:
                record.failure = str(error)
            records.append(record)
            print(record.line(), flush=True)
            _write(options, records)
            if record.failure:
                return


def _write(options: argparse.Namespace, records: Sequence[Record]) -> None:
    if options.json is not None:
        content: dict[str, Any] = {"seed": options.seed, "first": options.first, "count": options.count}
        content["drills"] = [record.as_json() for record in records]
        options.json.write_text(json.dumps(content, indent=1))


def _interrupted(number: int, frame: FrameType | None) -> None:
    """A polite end is Ctrl-C too: the host has to be removed."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

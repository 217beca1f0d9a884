"""``make mutants``: change the gates one place at a time; the tests of the changed module must notice.

Every mutant is a forked process that runs the own tests of the changed module, whose code exists in memory only,
and ends at the first failure. Not noticed means: they all pass. Known survivors stand in ``survivors.toml``, each
with the sentence that says why it is none the worse; another survivor ends the run with exit code 1.
"""

import argparse
import json
import sys
import time
import tomllib
from pathlib import Path

import numpy as np

from tests.conftest import ROOT
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.page import PAGE, page
from tests.mutation.trying import GATES, Outcome, attempt, tests_of

HERE = Path(__file__).parent
SURVIVORS = HERE / "survivors.toml"
SHARE = 0.15
"""Of each module's mutants: what fits a quarter of an hour."""

RESULTS = ROOT / "build" / "mutants.json"


def chosen(share: float, seed: int, modules: list[str]) -> tuple[list[Mutant], dict[str, int]]:
    """A sample of every module's mutants, the same for the same seed, and how many each module has."""
    sample: list[Mutant] = []
    counts: dict[str, int] = {}
    for path in sorted(GATES.glob("*.py")):
        found = mutants_of(path.stem, path.read_text(encoding="utf-8"))
        if not found or (modules and path.stem not in modules):
            continue
        counts[path.stem] = len(found)
        rng = np.random.default_rng([seed, *path.stem.encode()])
        size = len(found) if share >= 1 else max(1, round(share * len(found)))
        sample += [found[at] for at in sorted(rng.choice(len(found), size, replace=False).tolist())]
    return sample, counts


def known() -> dict[str, str]:
    """Why each known survivor is none the worse, by its name."""
    listed = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))["survivor"]
    return {item["mutant"]: item["why"] for item in listed}


def earlier() -> dict[str, str]:
    """Outcomes of the last run by the mutants' names."""
    found: dict[str, str] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def sound(modules: list[str], limit_s: int) -> bool:
    """Whether the tests of all these modules pass without any change."""
    broken = [module for module in modules if attempt(None, tests_of(module), limit_s) is not Outcome.SURVIVED]
    print(*(f"{module}: its tests fail without any change" for module in broken), sep="\n", end="", file=sys.stderr)
    return not broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--share", type=float, default=SHARE, help="share of each module's mutants to try")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--limit-s", type=int, default=15, help="most processor time of one mutant's tests, seconds")
    parser.add_argument("--again", action="store_true", help="try those that the last run left, after adding tests")
    parser.add_argument("modules", nargs="*", help="only these modules of the gates; writes no page")
    args = parser.parse_args()
    reasons = known()
    sample, counts = chosen(args.share, args.seed, args.modules)
    before = earlier() if args.again else {}
    if not sound(sorted({mutant.module for mutant in sample}), args.limit_s):
        return 1
    began, rows = time.monotonic(), []
    for number, mutant in enumerate(sample, start=1):
        outcome = before.get(mutant.key, "")
        if outcome in {"", Outcome.SURVIVED.value}:
            outcome = attempt(mutant, tests_of(mutant.module), args.limit_s).value
        rows.append((mutant.module, mutant.key, outcome))
        if outcome == Outcome.SURVIVED:
            mark = "" if mutant.key in reasons else "NEW "
            print(f"{number}/{len(sample)} {mark}line {mutant.line}: {mutant.key}", flush=True)
    left = [key for _, key, outcome in rows if outcome == Outcome.SURVIVED]
    minutes = (time.monotonic() - began) / 60
    print(f"{len(rows) - len(left)} of {len(rows)} noticed; there are {sum(counts.values())}; {minutes:.1f} minutes")
    if not args.modules:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({key: outcome for _, key, outcome in rows}, indent=0) + "\n")
        PAGE.write_text(page(counts, rows, args.seed, reasons), encoding="utf-8")
    return 1 if set(left) - set(reasons) else 0


if __name__ == "__main__":
    sys.exit(main())

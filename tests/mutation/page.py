"""The page of results, made by ``make mutants``."""

from collections import Counter
from collections.abc import Mapping, Sequence

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "explanation" / "mutation-of-the-gates.md"

_HEAD = """# Mutation of the gates

Made by `make mutants`. A mutant is the gates' code with one small change: a comparison's boundary or direction, an
arithmetic or boolean operator, a number, what is returned, `min` for `max`. Words and types are not changed. The tests
of the changed module run until the first one fails. A mutant that they do not notice shows a missing test, or a change
that makes no difference; every one that is left is listed below with the reason.
"""

_WHY_OWN = """
The driver is our own ([tests/mutation](../../tests/mutation/mutants.py)). mutmut 3.8 was tried and works, at 3.4
mutants a second. But much of what it changes are the words of reasons, which stay unnoticed and say nothing; it leaves
the thresholds in class bodies alone; and its 346 mutants of `evidence` alone (275 noticed, 67 left, 4 without an end)
would be about seven thousand for all.
"""


def page(counts: Mapping[str, int], rows: Sequence[Sequence[str]], seed: int, reasons: Mapping[str, str]) -> str:
    """The page of one run.

    Args:
        counts: Mutants that each module has.
        rows: Module, name and outcome of every mutant that was tried.
        seed: Of the sample.
        reasons: Why a survivor is none the worse, by its name.
    """
    tried = Counter(module for module, _, _ in rows)
    survived = Counter(module for module, _, outcome in rows if outcome == "survived")
    late = sum(outcome == "timeout" for *_, outcome in rows)
    whole = sum(counts.values())
    noticed = len(rows) - sum(survived.values())
    sample = "all of them" if len(rows) == whole else f"a sample with seed {seed}"
    lines = [
        _HEAD,
        f"**{noticed:,} of {len(rows):,} noticed ({noticed / max(len(rows), 1):.1%})**, {late} of them by running too "
        f"long. There are {whole:,} mutants; tried was {sample}.",
        _WHY_OWN,
        "| module | mutants | tried | noticed | left |",
        "|---|---|---|---|---|",
    ]
    for module, count in counts.items():
        n, left = tried[module], survived[module]
        lines.append(f"| `{module}` | {count} | {n} | {n - left} | {left} |")
    lines += ["", "## Those that are left", ""]
    by_reason: dict[str, list[str]] = {}
    for _, key, outcome in rows:
        if outcome == "survived":
            by_reason.setdefault(reasons.get(key, "**Not looked at yet.**"), []).append(key)
    for why, keys in by_reason.items():
        lines += [why, "", *(f"- `{key.replace('`', '')}`" for key in keys), ""]
    return "\n".join(lines).rstrip("\n") + "\n"

"""One mutant, one forked process: the module's tests against code that exists in memory only."""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from types import ModuleType

# Loaded here once, so that every fork has them; none of them loads the gates.
import _pytest.assertion.rewrite
import _pytest.doctest
import hypothesis
import hypothesis.extra.numpy
import pytest
import scipy.optimize
import scipy.special
import scipy.stats

from tests.conftest import ROOT
from tests.mutation.mutants import Mutant, mutated

GATES = ROOT / "src" / "quantum_trader" / "gates"
TESTS = ROOT / "tests" / "gates"

_PRELOADED = (_pytest.assertion.rewrite, _pytest.doctest, hypothesis, scipy.optimize, scipy.special, scipy.stats)

_QUIET = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
"""What was loaded before is not rewritten again, as it should not be."""

_ALSO = {
    "calibration": ["quality"],
    "clustered": ["tallies", "contract"],
    "contract": ["judge"],
    "counterfactual": ["judge"],
    "degenerate": ["vetoes"],
    "deployment": ["judge"],
    "events": ["trial", "judge"],
    "evidence": ["judge"],
    "isotonic": ["calibration", "trend"],
    "logits": ["overlay", "panel", "counterfactual", "vetoes", "judge"],
    "panel": ["judge", "counterfactual"],
    "result": ["contract", "verdict", "judge"],
    "sample": ["judge"],
    "scores": ["calibration"],
    "tallies": ["contract", "trial", "judge"],
    "track": ["vetoes", "deployment", "judge"],
    "trend": ["contract"],
    "trial": ["judge"],
    "veto_sums": ["vetoes", "trial", "judge"],
    "vetoes": ["judge", "matrix"],
    "verdict": ["judge"],
    "volatility": ["overlay", "trial", "counterfactual", "judge"],
    "watch": ["matrix"],
    "distance": ["watch"],
    "confidence": ["multiplicity"],
}
"""Tests that a module has besides those of its own name, nearest first."""


class Outcome(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    TIMEOUT = "timeout"
    SURVIVED = "survived"


def tests_of(module: str) -> list[Path]:
    """The test files of a module, nearest first."""
    names = [module, *_ALSO.get(module, ())]
    return [path for path in (TESTS / f"test_{name}.py" for name in names) if path.exists()]


def attempt(mutant: Mutant | None, tests: Sequence[Path], limit_s: int) -> Outcome:
    """Run tests against a mutant, or against the code as it is; what takes too long has noticed it, too."""
    child = os.fork()
    if child == 0:
        _in_the_child(mutant, tests, limit_s)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return Outcome.TIMEOUT if os.WTERMSIG(status) in {signal.SIGXCPU, signal.SIGKILL} else Outcome.KILLED
    return Outcome.KILLED if os.WEXITSTATUS(status) else Outcome.SURVIVED


def _in_the_child(mutant: Mutant | None, tests: Sequence[Path], limit_s: int) -> None:
    code = 1
    try:
        # Time of the processor, so that a busy machine decides nothing.
        resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with tempfile.TemporaryDirectory() as scratch:
            os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = scratch
            if mutant is not None:
                sys.meta_path.insert(0, _Finder(mutant))
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            options = [
                "-x",
                "-q",
                "--hypothesis-seed=0",
                "-p",
                "no:xdist",
                "-p",
                "no:cacheprovider",
                "-m",
                "not slow",
                *_QUIET,
            ]
            code = int(pytest.main([*options, *map(str, tests)]))
    finally:
        os._exit(code)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the changed module in place of the one on disk."""

    def __init__(self, mutant: Mutant) -> None:
        self._name = f"quantum_trader.gates.{mutant.module}"
        self._path = GATES / f"{mutant.module}.py"
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=str(self._path))

    def exec_module(self, module: ModuleType) -> None:
        tree = mutated(self._path.read_text(encoding="utf-8"), self._mutant)
        exec(compile(tree, str(self._path), "exec"), module.__dict__)  # noqa: S102

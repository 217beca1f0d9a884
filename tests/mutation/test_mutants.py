"""The mutator itself: every change is another program, and is told to be one."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.mutation.__main__ import known
from tests.mutation.mutants import mutants_of, mutated

SOURCE = '''"""Doc."""
LIMIT: int = 3


def f(x: int, y: float = 0.0) -> bool:
    """Doc with 1 < 2."""
    if not x < LIMIT and y != 1.5:
        raise ValueError(f"{x + 1} is too much")
    return min(x, -2) <= y | True
'''


def test_every_kind_of_place_is_changed() -> None:
    found = {mutant.change for mutant in mutants_of("m", SOURCE)}
    assert found == {
        "3 becomes 4", "0.0 becomes 1.0", "and becomes or", "not is gone", "< becomes <=", "< becomes >=",
        "!= becomes ==", "1.5 becomes 3.0", "returns None", "<= becomes <", "<= becomes >", "min becomes max",
        "- is gone", "2 becomes 3", "| becomes &", "True becomes False",
    }  # fmt: skip


def test_words_annotations_and_messages_are_not() -> None:
    assert not any("too much" in mutant.source or "Doc" in mutant.source for mutant in mutants_of("m", SOURCE))
    assert mutants_of("m", "x: 'Literal[1]' = y\n") == []


@pytest.mark.parametrize("path", sorted((ROOT / "src" / "quantum_trader" / "gates").glob("*.py")), ids=lambda p: p.stem)
def test_a_mutant_is_one_other_program_with_a_name_of_its_own(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    found = mutants_of(path.stem, source)
    assert len({mutant.key for mutant in found}) == len(found)
    plain = ast.unparse(ast.parse(source))
    for mutant in found[::7]:
        tree = mutated(source, mutant)
        compile(tree, str(path), "exec")
        assert ast.unparse(tree) != plain, mutant.key


def test_a_change_is_made_where_it_says() -> None:
    (mutant,) = [m for m in mutants_of("m", SOURCE) if m.change == "< becomes <="]
    assert mutant.line == 7
    assert "if not x <= LIMIT and" in ast.unparse(mutated(SOURCE, mutant))


def test_a_survivor_has_a_sentence() -> None:
    for key, why in known().items():
        assert key.partition(": ")[2]
        assert why.endswith(".")

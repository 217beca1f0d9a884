"""Small changes to a module's source that a good test notices: every place, one at a time.

What is changed: comparisons (their boundary, and their opposite), arithmetic, boolean and bitwise operators, numbers,
True and False, what is returned, and calls that have an opposite (min and max, any and all). What is not: words,
annotations, docstrings and the messages of errors.
"""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_BOUNDARY: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_CALLS = {
    "min": "max",
    "max": "min",
    "minimum": "maximum",
    "maximum": "minimum",
    "any": "all",
    "all": "any",
    "argmin": "argmax",
    "argmax": "argmin",
    "floor": "ceil",
    "ceil": "floor",
}

Change = Callable[[ast.AST], ast.AST]


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        module: Such as ``evidence``.
        place: Number of the changed node in the walk of the module's tree.
        line: Of the source, from 1.
        source: That line, stripped.
        change: In words, such as ``< becomes <=``.
        nth: Which of the mutants with this source and change it is, from 0.
    """

    module: str
    place: int
    line: int
    source: str
    change: str
    nth: int

    @property
    def key(self) -> str:
        """Its name, which survives that lines are moved."""
        again = f" #{self.nth + 1}" if self.nth else ""
        return f"{self.module}: {self.source} [{self.change}]{again}"


def mutants_of(module: str, source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its source."""
    lines, found, seen = source.splitlines(), [], dict[tuple[str, str], int]()
    for place, node in _places(ast.parse(source)):
        for change in _changes(node):
            text = lines[node.lineno - 1].strip()
            nth = seen.get((text, change), 0)
            seen[text, change] = nth + 1
            found.append(Mutant(module, place, node.lineno, text, change, nth))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.place))


def mutated(source: str, mutant: Mutant) -> ast.Module:
    """The tree of the source with that one change."""
    tree = ast.parse(source)
    for place, node in _places(tree):
        if place == mutant.place:
            change = _changes(node)[mutant.change]
            return ast.fix_missing_locations(_Replace(node, change).visit(tree))
    raise LookupError(mutant.key)


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, change: Change) -> None:
        self._target, self._change = target, change

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self._target:
            return ast.copy_location(self._change(copy.copy(node)), node)
        return self.generic_visit(node)


def _places(tree: ast.AST) -> Iterator[tuple[int, ast.expr | ast.stmt]]:
    """Nodes that may change, each with its number; numbers depend on the source only."""
    for number, node in enumerate(_walk(tree)):
        if isinstance(node, ast.expr | ast.stmt):
            yield number, node


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "decorator_list"} or isinstance(value, ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr | ast.Raise | ast.Import):
                yield from _walk(child)


def _changes(node: ast.AST) -> dict[str, Change]:
    """What can be done to a node, by its words."""
    match node:
        case ast.Compare():
            return _comparisons(node)
        case ast.BinOp() | ast.AugAssign():
            return _operators(node)
        case ast.BoolOp():
            other = ast.Or if isinstance(node.op, ast.And) else ast.And
            return {f"{_name(node.op)} becomes {_name(other())}": _setting(op=other())}
        case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub()):
            return {f"{_name(node.op)} is gone": lambda n: n.operand}  # type: ignore[attr-defined]
        case ast.Constant(value=bool() | int() | float()):
            return _constants(node)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.JoinedStr | ast.Constant):
            return {"returns None": _setting(value=ast.Constant(None))}
        case ast.Call(func=ast.Name(id=name)) if name in _CALLS:
            return {f"{name} becomes {_CALLS[name]}": _setting(func=ast.Name(_CALLS[name], ast.Load()))}
        case ast.Call(func=ast.Attribute(attr=name, value=value)) if name in _CALLS:
            other_ = ast.Attribute(value, _CALLS[name], ast.Load())
            return {f"{name} becomes {_CALLS[name]}": _setting(func=other_)}
    return {}


def _comparisons(node: ast.Compare) -> dict[str, Change]:
    out: dict[str, Change] = {}
    for at, op in enumerate(node.ops):
        for table in (_BOUNDARY, _OPPOSITE):
            other = table.get(type(op))
            if other is not None:
                ops = [*node.ops[:at], other(), *node.ops[at + 1 :]]
                where = f" ({at + 1})" if len(node.ops) > 1 else ""
                out[f"{_name(op)} becomes {_name(other())}{where}"] = _setting(ops=ops)
    return out


def _operators(node: ast.BinOp | ast.AugAssign) -> dict[str, Change]:
    other = _BINARY.get(type(node.op))
    # `*` between keyword-only arguments or `|` between types is no arithmetic; types stand in annotations only.
    return {} if other is None else {f"{_name(node.op)} becomes {_name(other())}": _setting(op=other())}


def _constants(node: ast.Constant) -> dict[str, Change]:
    value = node.value
    if isinstance(value, bool):
        return {f"{value} becomes {not value}": _setting(value=not value)}
    other = value + 1 if isinstance(value, int) else value * 2 or 1.0
    return {f"{value!r} becomes {other!r}": _setting(value=other)}


def _setting(**fields: object) -> Change:
    def change(node: ast.AST) -> ast.AST:
        for name, value in fields.items():
            setattr(node, name, value)
        return node

    return change


def _name(op: ast.AST) -> str:
    return {
        "Lt": "<", "LtE": "<=", "Gt": ">", "GtE": ">=", "Eq": "==", "NotEq": "!=", "Is": "is", "IsNot": "is not",
        "In": "in", "NotIn": "not in", "Add": "+", "Sub": "-", "Mult": "*", "Div": "/", "FloorDiv": "//", "Mod": "%",
        "Pow": "**", "BitAnd": "&", "BitOr": "|", "And": "and", "Or": "or", "Not": "not", "Invert": "~", "USub": "-",
    }[type(op).__name__]  # fmt: skip

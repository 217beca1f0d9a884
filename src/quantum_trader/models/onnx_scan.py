"""Look through an ONNX file's bytes for references to other files, before any parser of the runtime sees them.

onnxruntime reads a tensor's "external data" from whatever path the file names, so bytes that nobody's digest covers
would be served. An artefact keeps all its weights in one file; a tensor that says otherwise refuses it. Only as much of
the protobuf wire format is read as this takes (https://protobuf.dev/programming-guides/encoding/); field numbers are
those of onnx/onnx.proto.
"""

import re
from collections.abc import Iterator

from quantum_trader.core.errors import ArtefactError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 32
_MAX_KEY = 2**32 - 1
"""Parsers in C++ cut a longer key to 32 bits: a field of external data could pass as another one here."""

# A tree's thresholds and links: hundreds of thousands of single fixed32 and varint fields, numbers 7 and 8 of an
# attribute. Neither can hold a message, so a run of them is stepped over at once.
_RUN_OF_NUMBERS = re.compile(rb"(?:\x3d.{4})+|(?:\x40[\x80-\xff]{0,9}[\x00-\x7f])+", flags=re.DOTALL)

# Which fields of a message hold which messages, along every path that leads to a tensor.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def check_self_contained(raw: bytes, where: str) -> None:
    """Refuse an ONNX file that is malformed or that names data outside itself.

    Raises:
        ArtefactError: naming the artefact and the rule.
    """
    try:
        external = _external(memoryview(raw), "model", 0)
    except (ValueError, IndexError) as error:
        raise ArtefactError(f"artefact {where}: the model file is not well-formed ONNX ({error})") from error
    if external:
        raise ArtefactError(
            f"artefact {where}: the model file keeps weights in another file (external data), which no digest covers"
        )


def _external(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deep")
    children = _CHILDREN[kind]
    for field, value in _fields(message):
        if kind == "tensor" and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0)):
            return True
        child = children.get(field)
        if child is None:
            continue
        if isinstance(value, int):
            raise ValueError(f"field {field} of a {kind} is no message")
        if _external(value, child, depth + 1):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(message):
        if run := _RUN_OF_NUMBERS.match(message, at):
            at = run.end()
            continue
        key, at = _varint(message, at)
        if key > _MAX_KEY:
            raise ValueError("a field number beyond 29 bits")
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield field, value
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise ValueError("cut short")
        yield field, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")

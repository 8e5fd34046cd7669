"""The operators of an ONNX file, read off its protobuf encoding: needs neither onnx nor memory for weights.

A plan looks at a file before any tool is imported; tensors are stepped over, so that gigabytes of them cost nothing.
Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_GRAPH, _FUNCTION = 7, 25  # of a model
_NODE, _GRAPH_INPUT, _FUNCTION_NODE = 1, 11, 7
_INPUT, _NAME, _OP_TYPE, _ATTRIBUTE = 1, 3, 4, 5  # of a node
_INNER_GRAPHS = (6, 11)  # of an attribute
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

#: what the operators that compute with quantized values begin with, in whatever domain
_QUANTIZED = (
    *("QLinear", "QGemm", "QAttention", "QMoE", "QEmbed", "QOrdered", "DynamicQuantize", "MatMulInteger"),
    *("ConvInteger", "MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"),
)
#: operators that draw numbers
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")


@dataclass(frozen=True)
class Operator:
    """A node as far as it is looked at: its type, its name, and what it reads."""

    op_type: str
    name: str
    inputs: tuple[str, ...]


def operators(path: Path) -> tuple[list[Operator], set[str]]:
    """Every node, those of bodies and functions among them, and the names of the graph's inputs.

    Nothing for what is not there, empty, or no ONNX file: whoever loads it says what is wrong with it.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(data)
    except (OSError, ValueError, IndexError):
        return [], set()


def quantized_operators(path: Path) -> tuple[str, ...]:
    """Types of operators by which a file is quantized already; none of a float file.

    Values that are only read from, or only written to, the file's edge in 8 bits quantize nothing.
    """
    nodes, inputs = operators(path)
    found = {n.op_type for n in nodes if n.op_type.startswith(_QUANTIZED)}
    found |= {n.op_type for n in nodes if n.op_type == "DequantizeLinear" and n.inputs[0] not in inputs}
    if found:
        found |= {n.op_type for n in nodes if n.op_type == "QuantizeLinear"}
    return tuple(sorted(found))


def random_operators(path: Path) -> tuple[Operator, ...]:
    """The nodes that draw numbers; Dropout draws only where it is told to train."""
    return tuple(n for n in operators(path)[0] if n.op_type in RANDOM or (n.op_type == "Dropout" and n.inputs[2:]))


def _read(data: mmap.mmap) -> tuple[list[Operator], set[str]]:
    nodes: list[Operator] = []
    inputs: set[str] = set()
    for number, start, end in _fields(data, 0, len(data)):
        if number == _GRAPH:
            nodes += _nodes(data, start, end, _NODE)
            inputs |= {_text(data, *f) for f in _parts(data, start, end, _GRAPH_INPUT)}
        elif number == _FUNCTION:
            nodes += _nodes(data, start, end, _FUNCTION_NODE)
    return nodes, inputs


def _text(data: mmap.mmap, start: int, end: int) -> str:
    """The name of a value: its field 1."""
    return next((data[a:b].decode() for n, a, b in _fields(data, start, end) if n == 1), "")


def _parts(data: mmap.mmap, start: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    return ((a, b) for n, a, b in _fields(data, start, end) if n == number)


def _nodes(data: mmap.mmap, start: int, end: int, number: int) -> Iterator[Operator]:
    for a, b in _parts(data, start, end, number):
        op_type, name, inputs = "", "", []
        for field, first, last in _fields(data, a, b):
            if field == _INPUT:
                inputs.append(data[first:last].decode())
            elif field == _NAME:
                name = data[first:last].decode()
            elif field == _OP_TYPE:
                op_type = data[first:last].decode()
            elif field == _ATTRIBUTE:
                for inner, x, y in _fields(data, first, last):
                    if inner in _INNER_GRAPHS:
                        yield from _nodes(data, x, y, _NODE)
        yield Operator(op_type, name, tuple(inputs))


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, first, last) of every field that has a length. Raises ValueError for what is no protobuf."""
    at = start
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _BYTES:
            size, at = _varint(data, at)
            if at + size > end:
                raise ValueError("a field ends after its message")
            yield key >> 3, at, at + size
            at += size
        elif kind == _VARINT:
            _, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"there is no wire type {kind}")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")

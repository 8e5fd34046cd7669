"""The external data files of an ONNX model in memory: found without onnx, weights skipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from mmap import mmap

Bytes = bytes | mmap

#: a message's fields that lead to tensors, by number: the message in each (onnx.proto3)
_INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_KEY = b"location"
_LENGTH = 2
_FIXED = {1: 8, 5: 4}


def external_data(model: Bytes) -> list[str]:
    """The places of tensors that are not in the model itself. Raises ValueError for what is not protobuf."""
    found, waiting = set[str](), [("model", 0, len(model))]
    while waiting:
        kind, start, end = waiting.pop()
        inside = _INSIDE[kind]
        for number, value, inner in _fields(model, start, end):
            if inner is None:
                if number == _DATA_LOCATION and value and kind == "tensor":
                    found |= _places(model, start, end)
            elif number in inside:
                waiting.append((inside[number], *inner))
    return sorted(found)


def _places(model: Bytes, start: int, end: int) -> set[str]:
    """Of a tensor outside: its file, `?` where it names none."""
    found = set()
    for number, _, inner in _fields(model, start, end):
        if number == _EXTERNAL_DATA and inner is not None:
            entry = {n: model[i[0] : i[1]] for n, _, i in _fields(model, *inner) if i is not None}
            if entry.get(1) == _KEY:
                found.add(entry.get(2, b"").decode(errors="replace"))
    return found or {"?"}


def _fields(data: Bytes, at: int, end: int) -> Iterator[tuple[int, int, tuple[int, int] | None]]:
    """(number, value of a varint, span of what has a length) of each field of a message."""
    while at < end:
        tag, at = _varint(data, at, end)
        wire = tag & 7
        value, span = 0, None
        if wire == 0:
            value, at = _varint(data, at, end)
        elif wire == _LENGTH:
            length, at = _varint(data, at, end)
            span = (at, at + length)
            at += length
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            raise ValueError(f"a field of wire type {wire}")
        if at > end:
            raise ValueError("it is cut short")
        yield tag >> 3, value, span


def _varint(data: Bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            return value, at
        shift += 7
    raise ValueError("it is cut short")

"""QuantizeLinear and DequantizeLinear pairs and quantized weights, with the scales and the rounding they need."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]

#: least scale: where a range is zero, everything becomes zero. For float16 it is the smallest number there is: what
#: is lost below it, float16 weights would lose too. For float32, its inverse and products with others stay finite.
_LEAST = {np.dtype(np.float16): 2.0**-24, np.dtype(np.float32): 2.0**-100}


@dataclass(frozen=True)
class _Format:
    """An 8-bit type: its largest number in use, and how floats in range become it."""

    largest: float
    dtype: np.dtype[Any]
    rounded: Callable[[Array], Array]


#: by name, int8 or float8
FORMATS = {
    "int8": _Format(127.0, np.dtype(np.int8), np.rint),  # halves to even, as QuantizeLinear rounds
    "float8": _Format(448.0, np.dtype(ml_dtypes.float8_e4m3fn), np.asarray),
}


class Pairs:
    """Nodes in order, and the pairs and quantized weights among them, each made once."""

    def __init__(self, dtype: str, taken: Iterable[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._to, self._suffix, self._taken = FORMATS[dtype], dtype, set(taken)
        self._made: dict[tuple[str, int | None, np.dtype[Any]], str] = {}

    def activation(self, name: str, largest: float, kind: np.dtype[Any]) -> str:
        """`name`, quantized where it is first read and dequantized."""
        key = (name, None, kind)
        if key not in self._made:
            label = self._label(name)
            by = self._parameters(label, _scales(largest, self._to.largest, kind))
            self.nodes.append(helper.make_node("QuantizeLinear", [name, *by], [label], f"{label}_quantize"))
            self._made[key] = self._dequantized(label, by)
        return self._made[key]

    def weight(self, tensor: onnx.TensorProto, axis: int | None, kind: np.dtype[Any]) -> str:
        """A weight, stored quantized and dequantized; its numbers are right for the scales as rounded to `kind`."""
        key = (tensor.name, axis, kind)
        if key not in self._made:
            label = self._label(tensor.name)
            values = numpy_helper.to_array(tensor).astype(np.float32)
            others = tuple(i for i in range(values.ndim) if i != axis)
            largest = np.abs(values).max(axis=others if axis is not None else None, initial=0.0)
            scales = _scales(largest, self._to.largest, kind)
            wide = scales.astype(np.float32)
            if axis is not None:
                wide = np.expand_dims(wide, others)
            self._add(label, _stored(values / wide, self._to))
            self._made[key] = self._dequantized(label, self._parameters(label, scales), axis)
        return self._made[key]

    def _label(self, name: str) -> str:
        label = f"{name}_{self._suffix}"
        while label in self._taken:  # one weight along two axes, or beside two types
            label += "_more"
        self._taken.add(label)
        return label

    def _parameters(self, label: str, scales: Array) -> tuple[str, str]:
        zeros = np.zeros(scales.shape, self._to.dtype)
        return self._add(f"{label}_scale", scales), self._add(f"{label}_zero", zeros)

    def _dequantized(self, label: str, by: tuple[str, str], axis: int | None = None) -> str:
        along = {} if axis is None else {"axis": axis}
        made, name = f"{label}_back", f"{label}_dequantize"
        self.nodes.append(helper.make_node("DequantizeLinear", [label, *by], [made], name, **along))
        return made

    def _add(self, name: str, values: Array) -> str:
        self.tensors.append(numpy_helper.from_array(values, name))
        return name


def _scales(largest: float | Array, of: float, kind: np.dtype[Any]) -> Array:
    """largest / of, kept positive and finite, and for float16 rounded up.

    Small float16 numbers stand far apart: rounded down, a scale could clip a tenth of its range.
    """
    exact = np.clip(np.asarray(largest, np.float64) / of, _LEAST[kind], np.finfo(kind).max)
    near = exact.astype(kind)
    if kind == np.float16:
        with np.errstate(over="ignore"):  # above the largest, which is not taken
            near = np.where(near < exact, np.nextafter(near, np.array(np.inf, kind)), near)
    return near


def _stored(values: Array, to: _Format) -> Array:
    return np.clip(to.rounded(values), -to.largest, to.largest).astype(to.dtype)

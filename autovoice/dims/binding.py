"""Arrays against declared tensors: names, dtypes, ranks, and all dims jointly."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Any

import numpy as np

from autovoice.dims.expressions import ExprError, evaluate, is_symbol, symbols
from autovoice.dims.solving import least_size
from autovoice.errors import FeedError, choices, nearest
from autovoice.spec import Dim


class Binder:
    """Checks feeds of a fixed set of inputs and binds every symbol of their shapes to its size."""

    def __init__(self, tensors: Mapping[str, Mapping[str, Any]], dims: Mapping[str, Dim]) -> None:
        self.dims = dims
        self.tensors = {n: (np.dtype(t["dtype"]), tuple(t["shape"])) for n, t in tensors.items()}
        self.defaults = {n: t["default"] for n, t in tensors.items() if t.get("default") is not None}
        formulas = {n: d.formula for n, d in dims.items() if d.formula}
        order = TopologicalSorter({n: symbols(f) for n, f in formulas.items()}).static_order()
        self._arithmetic = [
            (n, i, axis)
            for n, (_, shape) in self.tensors.items()
            for i, axis in enumerate(shape)
            if isinstance(axis, str) and not is_symbol(axis)
        ]
        self.formulas = {n: formulas[n] for n in order if n in formulas}  # each after those it reads

    def bind(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The feeds, completed by defaults. Raises FeedError with the tensor, what it is, what was expected."""
        if feeds.keys() != self.tensors.keys():
            self._check_names(feeds)
        sizes: dict[str, int] = {}
        source: dict[str, str] = {}
        for name, array in feeds.items():
            self._check_one(name, array, sizes, source)
        self._solve(feeds, sizes, source)
        self._check_derived(feeds, sizes)
        if len(feeds) == len(self.tensors):
            return dict(feeds)
        return dict(feeds) | {n: self._default(n, sizes) for n in self.tensors.keys() - feeds.keys()}

    def _check_names(self, feeds: Mapping[str, np.ndarray]) -> None:
        for name in feeds:
            if name not in self.tensors:
                raise FeedError(f"there is no input '{name}'", nearest(name, self.tensors))
        for name in self.tensors:
            if name not in feeds and name not in self.defaults:
                raise FeedError(
                    f"input '{name}' is missing", f"given: {choices(feeds)}; inputs: {choices(self.tensors)}"
                )

    def _check_one(self, name: str, array: Any, sizes: dict[str, int], source: dict[str, str]) -> None:
        dtype, shape = self.tensors[name]
        if not isinstance(array, np.ndarray):
            _check_device_array(name, array, dtype)
        elif array.dtype != dtype:
            raise FeedError(f"input '{name}' is {array.dtype}, expected {dtype}", f"{name}.astype(np.{dtype})")
        if array.ndim != len(shape):
            raise FeedError(
                f"input '{name}' has shape {list(array.shape)}, expected {_format_shape(shape)}",
                f"{len(shape)} axes, got {array.ndim}",
            )
        for i, (size, axis) in enumerate(zip(array.shape, shape, strict=True)):
            if axis == size:
                continue
            if isinstance(axis, int):
                raise FeedError(f"input '{name}' axis {i} is {size}, expected {axis}", f"shape {_format_shape(shape)}")
            if is_symbol(axis):
                self._bind_symbol(name, i, axis, size, sizes, source)

    def _bind_symbol(
        self, name: str, i: int, symbol: str, size: int, sizes: dict[str, int], source: dict[str, str]
    ) -> None:
        known = sizes.get(symbol)
        if known is not None:
            if known != size:
                raise FeedError(
                    f"input '{name}' axis {i} ({symbol}) is {size}, but {source[symbol]} has {known}",
                    f"inputs that share '{symbol}' must agree",
                )
            return
        dim = self.dims[symbol]
        where = f"input '{name}' axis {i} ({symbol})"
        if not dim.min <= size <= dim.max:
            point = "min" if size < dim.min else "max"
            raise FeedError(
                f"{where} is {size}, the built profile is {dim.min} … {dim.max}",
                f"build for it with {_roots(dim, point)}",
            )
        if size % dim.multiple:
            raise FeedError(f"{where} is {size}, expected a multiple of {dim.multiple}", "pad it")
        sizes[symbol] = size
        source[symbol] = f"input '{name}'"

    def _solve(self, feeds: Mapping[str, np.ndarray], sizes: dict[str, int], source: dict[str, str]) -> None:
        """Bind symbols that stand in arithmetic alone (`256*frames`), each from the first axis that has no other."""
        for name, i, axis in self._arithmetic:
            unknown = symbols(axis) - sizes.keys() - self.formulas.keys()
            if name not in feeds or len(unknown) != 1:
                continue
            (symbol,) = unknown
            dim, size = self.dims[symbol], feeds[name].shape[i]
            found = least_size(axis, size, symbol, sizes, range(dim.min, dim.max + 1))
            if found > dim.max or _value(axis, {**sizes, symbol: found}) != size:
                raise FeedError(
                    f"input '{name}' axis {i} ({axis}) is {size}, which no {symbol} of {dim.min} … {dim.max} gives",
                    f"build for it with {_roots(dim, 'min' if found == dim.min else 'max')}, or pad it",
                )
            self._bind_symbol(name, i, symbol, found, sizes, source)

    def _check_derived(self, feeds: Mapping[str, np.ndarray], sizes: dict[str, int]) -> None:
        """Formulas whose symbols are all known: derived dims that are axes, and arithmetic in shapes."""
        for name, formula in self.formulas.items():
            if symbols(formula) <= sizes.keys():
                value = _value(formula, sizes)
                if sizes.setdefault(name, value) != value:
                    raise FeedError(f"{name} is {sizes[name]}, but {formula} is {value}", f"at {_at(formula, sizes)}")
        for name, array in feeds.items():
            for i, axis in enumerate(self.tensors[name][1]):
                if isinstance(axis, str) and not is_symbol(axis) and symbols(axis) <= sizes.keys():
                    value = _value(axis, sizes)
                    if value != array.shape[i]:
                        raise FeedError(
                            f"input '{name}' axis {i} is {array.shape[i]}, expected {axis} = {value}",
                            f"at {_at(axis, sizes)}",
                        )

    def _default(self, name: str, sizes: Mapping[str, int]) -> np.ndarray:
        dtype, shape = self.tensors[name]
        try:
            return np.full([evaluate(axis, sizes) for axis in shape], self.defaults[name], dtype)
        except (KeyError, ExprError) as e:
            raise FeedError(
                f"input '{name}' has a default, but no size: {_format_shape(shape)}",
                "no other input given has these dims; give this one too",
            ) from e


def _check_device_array(name: str, array: Any, dtype: np.dtype[Any]) -> None:
    """Raise FeedError for what is neither numpy's nor, of the right dtype, in a GPU's memory."""
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None:
        fix = "give a numpy array, or one in GPU memory: torch's, cupy's"
        raise FeedError(f"input '{name}' is a {type(array).__name__}", fix)
    if np.dtype(interface["typestr"]) != dtype:
        got = np.dtype(interface["typestr"])
        raise FeedError(f"input '{name}' is {got}, expected {dtype}", f"convert it to {dtype} first")


def _roots(dim: Dim, point: str) -> str:
    """What to change so that a dim's profile is wider: itself, or what it follows."""
    expr = dim.formula or dim.profile
    return " and ".join(f"dims.{s}.{point}=…" for s in sorted(symbols(expr) if expr else {dim.name}))


def _value(expr: str, sizes: Mapping[str, int]) -> int:
    try:
        return evaluate(expr, sizes)
    except ExprError as e:  # sizes between the profile's corners may leave a remainder
        raise FeedError(str(e), f"at {_at(expr, sizes)}") from e


def _at(expr: str, sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{s}={sizes[s]}" for s in sorted(symbols(expr)))


def _format_shape(shape: tuple[str | int, ...]) -> str:
    return "[" + ", ".join(str(a) for a in shape) + "]"

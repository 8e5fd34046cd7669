"""A graph run on seeded inputs at several sizes of its free dims: what it does, whatever its annotations say."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from autovoice.dims.expressions import ExprError, evaluate
from autovoice.dims.solving import with_formulas
from autovoice.errors import first_line
from autovoice.onnx_tools.ort import plain_session, run_briefly

if TYPE_CHECKING:
    from autovoice.spec.ports import TensorField

Arrays = dict[str, np.ndarray]
Sizes = dict[str, int]
#: sizes for all free dims alike, where others do not run
_ALIKE = (1, 2, 3, 4, 8, 16)


@dataclass
class Probe:
    """Declared inputs and outputs {name: {dtype, shape}}, the sizes to trace with, and formulas of derived dims."""

    inputs: Mapping[str, TensorField]
    outputs: Mapping[str, TensorField]
    trace: Mapping[str, int]
    formulas: Mapping[str, str]

    def runs(self, model: onnx.ModelProto, small: bool = False) -> list[Run]:
        """Up to three runs that came to an end, at different sizes where there are any; none if it never does.

        At the sizes of tracing, at larger and at smaller ones: what is cut shows at larger, what is filled up at
        smaller. Or, where `small`, at the two least that the graph takes: that costs little.
        """
        try:
            session = plain_session(model)
        except Exception as e:  # onnxruntime raises a class of its own per status code; who asks finds no run
            _log(f"onnxruntime cannot load the graph: {first_line(e)}")
            return []
        for whole in (1, 0):  # integers are indices, lengths or ids: every table has a first, most a second
            found = list(islice(self._runs(session, self._sizes(small), whole), 2 if small else 3))
            if found:
                return found
        return []

    def _runs(self, session: Any, every: Iterable[Sizes], whole: int) -> Iterator[Run]:
        for sizes in every:
            feeds = self._feeds(sizes, whole)
            if feeds is None:
                continue
            try:
                yield Run(sizes, feeds, run_briefly(session, feeds))
            except TimeoutError as e:
                _log(f"{e} at {sizes}")
                return
            except Exception as e:  # these sizes are not for this graph; onnxruntime has a class per status code
                _log(f"the graph does not run at {sizes}: {first_line(e)}")

    def _sizes(self, small: bool) -> list[Sizes]:
        free = {n: s for n, s in self.trace.items() if n not in self.formulas}
        least = [{n: start + 2 * i for i, n in enumerate(free)} for start in (2, 5)]
        traced = [free, {n: 2 * s for n, s in free.items()}, {n: max(s // 2, 1) for n, s in free.items()}]
        found = [*least, *traced] if small else [*traced, *least]
        found += [dict.fromkeys(free, s) for s in _ALIKE]
        unique = [s for i, s in enumerate(found) if s not in found[:i]]
        return [with_formulas(s, self.formulas) for s in unique]

    def _feeds(self, sizes: Sizes, whole: int) -> Arrays | None:
        rng = np.random.default_rng(0)
        try:
            shapes = {n: [evaluate(a, sizes) for a in t["shape"]] for n, t in self.inputs.items()}
            made = [evaluate(a, sizes) for t in self.outputs.values() for a in t["shape"]]
        except (ExprError, KeyError):
            return None
        if any(axis < 1 for shape in (*shapes.values(), made) for axis in shape):
            return None
        return {n: _seeded(np.dtype(t["dtype"]), shapes[n], whole, rng) for n, t in self.inputs.items()}


def _log(text: str) -> None:
    """To the step's log: of no meaning where other sizes run, and the reason where none does."""
    print(f"probe: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Run:
    """What went in and came out at some sizes."""

    sizes: Sizes
    feeds: Arrays
    outputs: Mapping[str, Any]


def _seeded(dtype: np.dtype[Any], shape: Sequence[int], whole: int, rng: np.random.Generator) -> np.ndarray:
    values = rng.standard_normal(shape)
    if dtype.kind == "f":
        return values.astype(dtype)
    return np.asarray(values > 0) if dtype.kind == "b" else np.full(shape, whole, dtype)


def answers_to(model: onnx.ModelProto, asked: Sequence[Arrays]) -> list[dict[str, Any]]:
    """One run after another, in one session. Raises what onnxruntime does."""
    session = plain_session(model)
    return [run_briefly(session, feeds) for feeds in asked]


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """In words, how two answers differ beyond rounding."""
    for name, a in one.items():
        b = other[name]
        if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
            continue
        if a.shape != b.shape or a.dtype != b.dtype:
            yield f"'{name}' becomes {b.dtype} {list(b.shape)}, was {a.dtype} {list(a.shape)}"
        elif not _close(a, b):
            yield f"'{name}' becomes another value"


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind != "f":
        return bool((a == b).all())
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return False
    x, y = a[finite].astype(np.float64), b[finite].astype(np.float64)
    allowed = 1e-2 if a.dtype == np.float16 else 1e-4
    return bool(np.linalg.norm(x - y) <= allowed * np.linalg.norm(x) + 1e-6 * np.sqrt(max(x.size, 1)))

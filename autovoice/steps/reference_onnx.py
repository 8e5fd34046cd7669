"""An existing ONNX file's own answers in float32: the reference where there is no module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from autovoice.config.onnx_scan import quantized_operators, random_operators
from autovoice.errors import ExportError, first_line, nearest
from autovoice.measure.parity import unlike
from autovoice.measure.points import POINTS, feeds_at, save_point
from autovoice.onnx_tools.io import external_files, unread_inputs
from autovoice.onnx_tools.ort import NO_OVERFLOW
from autovoice.steps.context import Context
from autovoice.steps.reference import checked

if TYPE_CHECKING:
    from autovoice.steps.fields import ReferenceOnnxFields


def run(context: Context[ReferenceOnnxFields]) -> dict[str, Any]:
    """Write one npz of outputs a point, by wire. Raises ExportError where the file answers at random."""
    path, fields = context.files["onnx"], context.fields
    external_files(path)  # before anything of it is loaded: none may lie outside its folder
    session = _session(path)
    names = fields["output_order"]
    got = [o.name for o in session.get_outputs()]
    for name in names:
        if name not in got:
            raise ExportError(f"{path}: has no output '{name}'", nearest(name, got))
    unread = _unread(path, session)
    for point in POINTS:
        feeds = unread | feeds_at(point, fields["reads"], context.needs)
        outputs = _answers(session, names, feeds, path)
        if point == POINTS[0] and random_operators(path):
            _check_repeats(outputs, _answers(session, names, feeds, path), path)
        save_point(context.out, point, checked(outputs, feeds, fields, point))
    return {"from": "the ONNX file in float32"}


def options_for(path: Path) -> ort.SessionOptions:
    """No graph optimisation; of a file that is quantized already, what its integer kernels need not to overflow.

    The entry works through a rewrite of the graph, which ONNX Runtime does at level extended.
    """
    options, levels = ort.SessionOptions(), ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL
    if quantized_operators(path):
        options.graph_optimization_level = levels.ORT_ENABLE_EXTENDED
        options.add_session_config_entry(*NO_OVERFLOW)
    return options


def _session(path: Path) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(str(path), options_for(path), providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime raises a class of its own per status code, all plain Exceptions
        raise ExportError(f"{path}: onnxruntime cannot load it", first_line(e)) from e


def _answers(
    session: ort.InferenceSession, names: Sequence[str], feeds: Mapping[str, np.ndarray], path: Path
) -> dict[str, np.ndarray]:
    try:
        return dict(zip(names, session.run(names, feeds), strict=True))
    except Exception as e:  # the file's own sizes or inputs are not the declared ones
        shapes = ", ".join(f"{n} {list(v.shape)}" for n, v in feeds.items())
        raise ExportError(f"{path}: onnxruntime cannot run it: {first_line(e)}", f"given {shapes}") from e


def _check_repeats(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], path: Path) -> None:
    """Raise ExportError where one input has two answers; a node whose noise reaches no output does no harm."""
    name = unlike(first, second)
    if name is not None:
        drawn = ", ".join(f"{n.op_type} '{n.name}'" if n.name else n.op_type for n in random_operators(path))
        fix = "make the noise an input: onnx.utils.extract_model cuts the graph where it is drawn"
        raise ExportError(f"{path}: output '{name}' is random ({drawn})", fix)


def _unread(path: Path, session: ort.InferenceSession) -> dict[str, np.ndarray]:
    """Something for inputs that nothing in the file reads: onnxruntime asks for them all the same."""
    names = unread_inputs(path)
    given = {}
    for value in (v for v in session.get_inputs() if v.name in names):
        kind = _KINDS.get(value.type.removeprefix("tensor(").removesuffix(")"))
        if kind is not None:
            given[value.name] = np.zeros([n if isinstance(n, int) else 1 for n in value.shape], kind)
    return given


#: numpy's names of onnxruntime's types
_KINDS = {"float": "float32", "double": "float64", "bool": "bool", "float16": "float16"} | {
    f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}

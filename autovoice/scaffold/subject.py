"""The network to be described: an ONNX file or a module, with its declared inputs, as something to run."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from autovoice.errors import AutovoiceError, ConfigError, ExportError, Fault, first_line
from autovoice.onnx_tools.io import dtype_name, read
from autovoice.onnx_tools.ort import plain_session, run_briefly
from autovoice.spec import DTYPES
from autovoice.terminal.overrides import setting

if TYPE_CHECKING:
    from autovoice.spec.fields import ModuleField

Arrays = Mapping[str, np.ndarray]
#: what exporters call an axis that they have no name for
_NAMELESS = re.compile(r"unk__\d+$|dynamic_axes?|\?|-1$")
#: seconds that one run may take
PATIENCE = 20.0


@dataclass(frozen=True)
class Declared:
    """An input as the network has it: dtype, and its axes: numbers, or names of what may vary."""

    dtype: str
    axes: tuple[str | int, ...]


@dataclass(frozen=True)
class Subject:
    """`node` is what the component's YAML says of it; `tables` are how many rows the table of an index has.

    `varying` are the (output, axis) that the network itself declares to vary.
    """

    name: str
    node: Mapping[str, Any]
    inputs: Mapping[str, Declared]
    run: Callable[[Arrays], dict[str, np.ndarray]]
    tables: Mapping[str, int] = field(default_factory=dict)
    varying: Collection[tuple[str, int]] = ()


def from_onnx(path: Path, written: str, name: str | None) -> Subject:
    """An ONNX file, `written` so in a configuration.

    Raises AutovoiceError for what no component can have: strings, sequences, no inputs.
    """
    try:
        model = read(path)
        session = plain_session(model)
    except ExportError as e:
        raise ConfigError([Fault("onnx", e.fact, e.fix)]) from e
    except Exception as e:  # onnxruntime raises a class of its own per status code
        raise AutovoiceError(f"{path}: ONNX Runtime cannot load it: {first_line(e)}", "see its words") from e
    weights = {t.name for t in model.graph.initializer}
    inputs = {v.name: _declared(path, v) for v in model.graph.input if v.name not in weights}
    if not inputs:
        raise AutovoiceError(f"{path}: has no inputs", "a component computes something out of its inputs")
    outputs = {v.name: _declared(path, v) for v in model.graph.output}
    varying = [(n, i) for n, d in outputs.items() for i, a in enumerate(d.axes) if isinstance(a, str)]

    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        return {name: np.asarray(value) for name, value in run_briefly(session, feeds, PATIENCE).items()}

    return Subject(name or identifier(path.stem), {"onnx": written}, inputs, run, _tables(model), varying)


def _declared(path: Path, value: onnx.ValueInfoProto) -> Declared:
    """The axes of a value, those without a name called after it and their place."""
    if value.type.WhichOneof("value") != "tensor_type":
        raise AutovoiceError(f"{path}: '{value.name}' is no tensor", "components exchange tensors alone")
    dtype = dtype_name(value.type.tensor_type.elem_type)
    if dtype not in DTYPES:
        raise AutovoiceError(f"{path}: '{value.name}' is {dtype}", f"components exchange {', '.join(DTYPES)}")
    axes = []
    for i, axis in enumerate(value.type.tensor_type.shape.dim):
        unnamed = "batch" if i == 0 else f"{identifier(value.name)}_{i}"
        named = "" if _NAMELESS.match(axis.dim_param) else axis.dim_param
        axes.append(axis.dim_value if axis.HasField("dim_value") else identifier(named or unnamed))
    return Declared(dtype, tuple(axes))


def _tables(model: onnx.ModelProto) -> dict[str, int]:
    """{input: rows} of inputs that a Gather takes as indices into weights."""
    rows = {t.name: t.dims[0] for t in model.graph.initializer if t.dims}
    inputs = {v.name for v in model.graph.input}
    found: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[1] in inputs and node.input[0] in rows:
            name = node.input[1]
            found[name] = min(found.get(name, rows[node.input[0]]), rows[node.input[0]])
    return found


def from_module(target: str, kwargs: Mapping[str, Any], shapes: Mapping[str, Any], name: str | None) -> Subject:
    """A torch module, with the shapes of its inputs as the user gives them. Raises AutovoiceError."""
    import torch

    from autovoice.modules.loading import load_module
    from autovoice.modules.outputs import flat_values

    inputs = {n: _given(n, shape) for n, shape in shapes.items()}
    if not inputs:
        example = setting("shapes", {"mel": ["batch", 80, "frames"]})
        raise ConfigError([Fault("shapes", "a module needs the shapes of its inputs", example)])
    made: ModuleField = {"model": {"target": target, "kwargs": kwargs}, "seed": 0, "checkpoint": None}
    module, _ = load_module(made, inputs, {})

    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        with torch.no_grad():
            got = module(**{n: torch.from_numpy(np.asarray(a)) for n, a in feeds.items()})
        values = flat_values(got)
        names = (
            list(got) if isinstance(got, Mapping) else [f"output_{i}" if i else "output" for i in range(len(values))]
        )
        return {n: v.numpy() for n, v in zip(names, values, strict=True)}

    node = {"model": {"_target_": target, **kwargs}}
    return Subject(name or identifier(target.rpartition(".")[2].lower()), node, inputs, run)


def _given(name: str, shape: Any) -> Declared:
    """`[batch, 80, frames]`, or `{dtype: int64, shape: […]}`."""
    node = shape if isinstance(shape, Mapping) else {"shape": shape}
    axes, dtype = node.get("shape"), node.get("dtype", "float32")
    sound = isinstance(axes, list | tuple) and all(type(a) is int or isinstance(a, str) for a in axes)
    if axes is None or not sound or dtype not in DTYPES:
        fix = setting(f"shapes.{name}", {"dtype": "float32", "shape": ["batch", 80, "frames"]})
        raise ConfigError([Fault(f"shapes.{name}", f"{shape!r} is no shape", fix)])
    return Declared(dtype, tuple(a if isinstance(a, int) else identifier(a) for a in axes))


def identifier(text: str) -> str:
    """The text as a name of this configuration: letters, digits and _."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "value"
    return f"n_{name}" if name[0].isdigit() else name

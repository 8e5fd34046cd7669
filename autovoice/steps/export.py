"""A torch module → ONNX with the declared names on every input, output and dynamic axis."""

from __future__ import annotations

import functools
import hashlib
import re
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from autovoice.dims.expressions import symbols
from autovoice.errors import ExportError
from autovoice.modules.loading import TORCH_DTYPES, call, load_module
from autovoice.modules.outputs import flat_values
from autovoice.modules.tracing import trace_inputs
from autovoice.onnx_tools.axes import name_axes
from autovoice.onnx_tools.graph import captured, name_nodes, rename_reads
from autovoice.onnx_tools.io import save
from autovoice.onnx_tools.probe import Probe
from autovoice.onnx_tools.simplify import simplified
from autovoice.steps.context import Context

if TYPE_CHECKING:
    from autovoice.steps.fields import ExportFields, ImportOnnxFields


def run(context: Context[ExportFields]) -> dict[str, Any]:
    """Write model.onnx."""
    fields = context.fields
    module, weights = load_module(fields, fields["inputs"], context.files)
    feeds = trace_inputs(fields["inputs"], fields["trace"])
    outputs = call(module, feeds, fields["output_order"])
    check_outputs(outputs, fields)
    with flattened(module):
        model = exported(module, feeds, list(outputs), fields)
    name_inputs(model, list(feeds))
    probe = Probe(fields["inputs"], fields["outputs"], fields["trace"], fields["formulas"])
    name_axes(model, fields["inputs"], fields["outputs"], fields["formulas"], probe.runs)
    model, notes = simplified(model, probe, fields["export"]["simplify"])
    name_weights(model, module)
    model.producer_name, model.doc_string = "autovoice", ""
    name_nodes(model)
    save(model, context.out / "model.onnx")
    parameters = sum(p.numel() for p in module.parameters())
    return {"nodes": len(model.graph.node), "parameters": parameters, "weights": weights, "notes": notes}


@contextmanager
def flattened(module: torch.nn.Module) -> Iterator[None]:
    """Let forward return a plain tuple of tensors meanwhile: the exporter knows few of the containers there are."""
    forward = module.forward

    @functools.wraps(forward)
    def plain(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        return flat_values(forward(*args, **kwargs))

    module.forward = plain
    try:
        yield
    finally:
        del module.forward


def name_inputs(model: onnx.ModelProto, names: list[str]) -> None:
    """Give inputs back the names that they were traced by, in place: one that is returned as it came has another."""
    graph = model.graph
    if len(graph.input) != len(names):
        return
    renamed = {v.name: n for v, n in zip(graph.input, names, strict=True) if v.name != n}
    for value in graph.input:
        value.name = renamed.get(value.name, value.name)
    rename_reads(graph.node, renamed)
    for node in [n for n in graph.node if n.op_type == "Identity" and n.input[0] == n.output[0]]:
        graph.node.remove(node)  # an output called like the input that it is


def name_weights(model: onnx.ModelProto, module: torch.nn.Module) -> None:
    """Call constants that are a parameter, or its transpose, bit for bit, by that parameter's name, in place.

    Optimisers fold the transposes of linear layers and name what comes out by number; policies mean nodes by the
    names of their weights. Parameters that equal another one are left as they are.
    """
    known: dict[tuple[tuple[int, ...], bytes], set[str]] = {}
    for name, parameter in module.named_parameters():
        if parameter.dtype is not torch.float32:
            continue
        for array in (parameter.detach().numpy(), parameter.detach().numpy().T)[: min(parameter.ndim, 2)]:
            known.setdefault(_identity(array), set()).add(name)
    graph = model.graph
    taken = {t.name for t in graph.initializer} | {o for n in graph.node for o in n.output}
    # what the outside or a graph inside this one calls by name keeps it
    fixed = {v.name for v in (*graph.input, *graph.output)} | {i for n in graph.node for i in captured(n)}
    renamed: dict[str, str] = {}
    for tensor in model.graph.initializer:
        plain = len(tensor.dims) > 1 and tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in fixed
        names = known.get(_identity(onnx.numpy_helper.to_array(tensor)), set()) if plain else set()
        if len(names) == 1 and not names & taken:
            (name,) = names
            taken.add(name)
            renamed[tensor.name] = name
            tensor.name = name
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)


def _identity(array: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return array.shape, hashlib.sha256(np.ascontiguousarray(array).data).digest()


def check_outputs(outputs: Mapping[str, torch.Tensor], fields: ImportOnnxFields) -> None:
    """What forward really returned against what is declared; formulas are checked on the exported graph."""
    for name, tensor in outputs.items():
        declared = fields["outputs"][name]
        place = f"component.<name>.outputs.{declared.get('wire', name)}"
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype != declared["dtype"]:
            raise ExportError(
                f"output '{name}' is {dtype}, declared {declared['dtype']}",
                (f"{place}.dtype={dtype}, or " if dtype in TORCH_DTYPES else "") + "convert it in forward()",
            )
        fixed = [a if isinstance(a, int) else None for a in declared["shape"]]
        same = len(fixed) == tensor.ndim and all(f in (None, n) for f, n in zip(fixed, tensor.shape, strict=True))
        if not same:
            raise ExportError(
                f"output '{name}' is {list(tensor.shape)}, declared {declared['shape']}",
                f"traced with {_sizes(fields)}; correct {place}.shape",
            )


def exported(
    module: torch.nn.Module, feeds: Mapping[str, torch.Tensor], names: list[str], fields: ExportFields
) -> onnx.ModelProto:
    """The dynamo exporter's graph. Raises ExportError with advice where the cause is known."""
    dims: dict[str, Any] = {}
    shapes = {name: _dynamic(t["shape"], dims) for name, t in fields["inputs"].items()}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                kwargs=dict(feeds),
                dynamo=True,
                dynamic_shapes=shapes,
                output_names=names,
                opset_version=fields["export"]["opset"],
                external_data=False,
                optimize=True,
                verbose=False,
            )
    except Exception as e:
        raise _advised(e, type(module).__name__) from e
    assert program is not None
    return program.model_proto


def _dynamic(shape: Sequence[str | int], dims: dict[str, Any]) -> dict[int, Any]:
    """One named Dim per distinct symbolic axis, without bounds: profiles belong to engines, not to exports."""
    axes = {}
    for i, axis in enumerate(shape):
        if isinstance(axis, str):
            name = axis if axis.isidentifier() else "axis_" + re.sub(r"\W", "_", axis)
            axes[i] = dims.setdefault(axis, torch.export.Dim(name))
    return axes


_TORCH = str(Path(torch.__file__).parent)
_ADVICE = (
    (
        r"data-dependent|GuardOnDataDependent|DataDependent|Could not extract specialized integer|unbacked",
        "its control flow or a size depends on the values of a tensor",
        "use masks and torch.where instead of `if tensor:`, and no .item(), .tolist() or int(tensor) in forward()",
    ),
    (
        r"specialized|was inferred to be a constant|ConstraintViolation|[Cc]onstraints violated|not all values of",
        "it fixes an axis that is declared dynamic",
        "something in forward() turns a size into a constant (int(), range() over a shape, a stored length)",
    ),
    (
        r"[Nn]o ONNX function|UnsupportedOperator|DispatchError|not supported",
        "it uses an operator that ONNX cannot express",
        "replace the operator, or raise export.opset",
    ),
)


def _advised(error: Exception, name: str) -> ExportError:
    """The exporter's failure in the terms of the module's author."""
    texts = [f"{type(e).__name__}: {e}" for e in _chain(error)]
    for pattern, fact, fix in _ADVICE:
        for text in texts:
            if m := re.search(pattern, text):
                line = text[text.rfind("\n", 0, m.start()) + 1 :].splitlines()[0].strip()[:160]
                return ExportError(f"{name} cannot be exported: {fact}", f"{fix} ({_source(error) or line})")
    line = texts[-1].splitlines()[0][:200]
    return ExportError(f"{name} cannot be exported: {line}", "the exporter's whole report is in the step's log")


def _source(error: Exception) -> str:
    """`model.py:32: if x.sum() > 0:`, the last line of the module's own code that the exporter reached."""
    frames = [f for e in _chain(error) for f in traceback.extract_tb(e.__traceback__)]
    own = [f for f in frames if not f.filename.startswith((_TORCH, __file__))]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}: {own[-1].line}" if own else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _sizes(fields: ImportOnnxFields) -> str:
    used = {s for t in fields["inputs"].values() for axis in t["shape"] for s in symbols(axis)}
    return ", ".join(f"{n}={fields['trace'][n]}" for n in sorted(used)) or "fixed sizes"

"""Guarded calls of other people's tools: their exceptions as errors of two lines, their results checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx

from autovoice.errors import AutovoiceError, LoweringError, StepError, first_line

#: what ONNX Runtime raises where it lacks a kernel: the graph is sound, another engine may have one
_NO_KERNEL = "NotImplemented"


@contextmanager
def guarded(tool: str, fix: str, error: type[StepError] = LoweringError) -> Iterator[None]:
    """Whatever a tool raises inside, as an error that names the tool and repeats its words."""
    try:
        yield
    except AutovoiceError:
        raise
    except Exception as e:  # a library may raise anything
        raise error(f"{tool} failed: {type(e).__name__}: {first_line(e)}"[:400], fix) from e


def inferred(model: onnx.ModelProto, data_prop: bool = False) -> onnx.GraphProto:
    """The graph with all that shape inference tells, or as it is where it tells nothing: types are a help, no proof."""
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=data_prop).graph
    except Exception:  # as above; whoever needs a type that is not there says so
        return model.graph


def invalid(model: onnx.ModelProto) -> str | None:
    """Why onnx's checker or ONNX Runtime refuses a model; None for one that both accept."""
    from autovoice.onnx_tools.ort import plain_session

    try:
        onnx.checker.check_model(model)
        plain_session(model)
    except Exception as e:  # onnxruntime raises a class of its own per status code, all plain Exceptions
        return None if type(e).__name__ == _NO_KERNEL else first_line(e)
    return None

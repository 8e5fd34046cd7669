"""Graphs made simpler by other people's tools, each result held against the graph it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx

from autovoice.errors import first_line
from autovoice.onnx_tools.probe import Probe, Run, answers_to, differences

Change = Callable[[onnx.ModelProto], onnx.ModelProto]


def simplified(model: onnx.ModelProto, probe: Probe, simplify: bool = True) -> tuple[onnx.ModelProto, list[str]]:
    """The model without local functions and, with `simplify`, through onnxslim; and what was left out, and why.

    A tool that raises, or whose graph does not load or answers something else, is left out. Inputs and outputs stay
    as they are, unread ones too.
    """
    steps: list[tuple[str, Change]] = [("onnx's inliner", _inlined)] if model.functions else []
    steps += [("onnxslim", _slim)] if simplify else []
    runs = probe.runs(model, small=True) if steps else []
    notes = []
    for tool, change in steps:
        made, fault = _tried(model, change, runs)
        if fault is not None:
            notes.append(f"{tool} is left out: {fault}"[:300])
        model = model if made is None else made
    return model, notes


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx.inliner

    made: onnx.ModelProto = onnx.inliner.inline_local_functions(model, convert_version=True)
    return made


def _slim(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxslim

    made: onnx.ModelProto = onnxslim.slim(model)
    return made


def _tried(model: onnx.ModelProto, change: Change, runs: list[Run]) -> tuple[onnx.ModelProto | None, str | None]:
    """What a tool made, or why that cannot be used."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        made = change(copy)
        for values, own in ((made.graph.input, model.graph.input), (made.graph.output, model.graph.output)):
            del values[:]
            values.extend(own)
        del made.graph.value_info[:]
        onnx.checker.check_model(made)
    except Exception as e:  # a library may raise anything
        return None, f"it raised {type(e).__name__}: {first_line(e)}"
    fault = _fault(model, made, runs)
    return (None, fault) if fault else (made, None)


def _fault(model: onnx.ModelProto, made: onnx.ModelProto, runs: list[Run]) -> str | None:
    if not runs:
        return "onnxruntime runs the graph on no seeded input, so that nothing can be compared"
    for run in runs:
        sizes = ", ".join(f"{n}={v}" for n, v in run.sizes.items()) or "fixed sizes"
        try:
            (answers,) = answers_to(made, [run.feeds])
        except Exception as e:  # onnxruntime raises a class of its own per status code, all plain Exceptions
            return f"its graph does not run at {sizes}: {first_line(e)}"
        found = next(differences(run.outputs, answers), None)
        if found and not (_draws(model, run) and _draws(made, run) and _alike(run.outputs, answers)):
            return f"{found} at {sizes}"
    return None


def _draws(model: onnx.ModelProto, run: Run) -> bool:
    """True for a graph that answers otherwise each time: of random numbers only shapes can be compared."""
    first, second = answers_to(model, [run.feeds] * 2)
    return next(differences(first, second), None) is not None


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(np.shape(v) == np.shape(other[n]) for n, v in one.items())

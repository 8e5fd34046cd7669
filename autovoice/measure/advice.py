"""Advice where a gate is missed: by what the engine computes in, not the same to everybody."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from autovoice.measure.gates import Report, judged_value, misses, worst
from autovoice.spec import ERRORS

if TYPE_CHECKING:
    from autovoice.spec.fields import AboutField as About

#: (report, metric, threshold) → the second line of an error
Advice = Callable[[Report, str, float], str]
_NAME = "component.<name>"


def component_advice(about: About) -> Advice:
    return partial(_component, about)


def end_to_end_advice(about: Mapping[str, About]) -> Advice:
    return partial(_end_to_end, about)


def _component(about: About, report: Report, metric: str, threshold: float) -> str:
    which = f" (<name>: {', '.join(about['members'])})" if about["members"] else ""
    causes = _float32 if about["type"] == "float32" else _lower
    return f"{causes(about, report, metric, threshold)}{which}; or {_loosened('component', about, report, metric)}"


def _float32(about: About, report: Report, metric: str, threshold: float) -> str:
    """Precision is not to blame: the engine computes something else."""
    if about["given"]:
        return "the file is quantized already: engine and reference may round at other places"
    if about["module"]:
        return "engine and reference are the same module: backend.session.compile, or the GPU's own arithmetic, differs"
    wrong = [p for p, wires in report.items() if any(misses(w, {metric: threshold}) for w in wires.values())]
    right = [p for p in report if p not in wrong]
    if right:
        return (
            f"in float32 the engine computes something else at {', '.join(wrong)}, not at {', '.join(right)}: a size "
            "that the graph has as a constant (int(), range() or a table in forward())"
        )
    return (
        "in float32 the engine computes something else at every size: an operator that exports otherwise; "
        f"++{_NAME}.export.simplify=false tells whether it is the graph's clean-up"
    )


def _lower(about: About, *_: Any) -> str:
    if about["quantized"]:
        higher = f", or {_NAME}.precision={about['higher']}" if about["higher"] else ""
        return (
            "do its calibration samples look like real inputs (notes of a build tell what is odd)? "
            f"task=search targets=[<name>] output=found.yaml finds what to leave out{higher}"
        )
    if about["type"] == "tfloat32":
        return f"TF32 rounds what it multiplies to 10 bits: {_NAME}.precision=fp32"
    keep = f"inputs=[{','.join(about['inputs'])}]" if about["module"] else "op_types=[LayerNormalization,Softmax]"
    return f"++{_NAME}.keep.{keep} keeps what is sensitive in float32, as {_NAME}.precision=fp32 does with all"


def _end_to_end(about: Mapping[str, About], report: Report, metric: str, threshold: float) -> str:
    lower = [name for name, a in about.items() if a["type"] != "float32"]
    loosest = min(about.values(), key=lambda a: a["type"] == "float32")
    loosened = _loosened("end_to_end", loosest, report, metric)
    if not lower:
        return f"in float32 the engines' own errors add up, or one is wrong: its verify step tells; or {loosened}"
    raised = " or ".join(f"component.{n}.precision={about[n]['higher'] or 'fp32'}" for n in lower[:3])
    return f"errors of {', '.join(lower)} add up: {raised}; or {loosened}"


def _loosened(scope: str, about: About, report: Report, metric: str) -> str:
    """`gate.component.snr_db.int8=18.2`: the threshold that is just met."""
    found = worst(report, metric)
    value = judged_value(found[2], metric) if found else None
    assert value is not None
    return f"gate.{scope}.{metric}.{about['gate']}={_rounded(value, up=metric in ERRORS)}"


def _rounded(value: float, up: bool) -> str:
    """To three digits, never past the value itself."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    return f"{(math.ceil if up else math.floor)(value / step) * step:.4g}"

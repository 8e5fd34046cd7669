"""The node `quantize:`, which nodes of a graph are quantized: a precision's policy, or a component's over it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from autovoice.config.example import override
from autovoice.config.reader import Reader
from autovoice.errors import nearest
from autovoice.spec import QUANTIZABLE, Component, Quantize

_ENTRY = "{pattern: head.*, backends: [tensorrt]}"


def read_quantize(r: Reader, base: Quantize | None, backends: Callable[[], Collection[str]]) -> Quantize | None:
    """The policy under `quantize:`, key by key over `base`; None where there is neither.

    Of `exclude`, an entry may be {pattern, backends}: it counts on those alone, which are some of `backends`.
    """
    if r.raw("quantize") is None:
        return base
    q, old = r.child("quantize", "{op_types: [Conv, MatMul]}"), base or Quantize()
    lists: dict[str, Any] = {k: q.strings(k) for k in ("op_types", "include") if q.raw(k) is not None}
    for op in lists.get("op_types", ()):
        if op not in QUANTIZABLE:
            q.fault("op_types", f"'{op}' cannot be quantized", nearest(op, QUANTIZABLE))
    if q.raw("exclude") is not None:
        lists |= _excluded(q, backends)
    spec = replace(old, **lists, first=q.take("first", bool, old.first), last=q.take("last", bool, old.last))
    q.done()
    return spec


def _excluded(q: Reader, backends: Callable[[], Collection[str]]) -> dict[str, Any]:
    """{"exclude": patterns, "only_on": the backends of those that count on some alone}."""
    values = q.raw("exclude")
    if not isinstance(values, list) or not any(isinstance(v, Mapping) for v in values):
        return {"exclude": q.strings("exclude"), "only_on": {}}
    everywhere, only_on = [v for v in values if isinstance(v, str)], dict[str, tuple[str, ...]]()
    for value in values:
        if isinstance(value, str):
            continue
        if isinstance(value, Mapping):
            entry = Reader(value, q.path("exclude"), q.faults)
            pattern, named = entry.take("pattern", str, example="head.*"), entry.raw("backends")
            if not isinstance(named, list) or not named:
                fix = override(q.path("exclude"), f"[{_ENTRY}]")  # no override reaches into a list
                entry.fault("", f"'{pattern}' needs a list of the backends that it is for, got {named!r}", fix)
                named = []
            for name in (str(n) for n in named if n not in backends()):
                entry.fault("", f"'{pattern}' is excluded on '{name}', which is no backend", nearest(name, backends()))
            entry.done()
            only_on[pattern] = (*only_on.get(pattern, ()), *named)
        else:
            fix = override(q.path("exclude"), f"[head.*, {_ENTRY}]")
            q.fault("exclude", f"must be patterns, or {{pattern, backends}}, got {value!r}", fix)
    some = {pattern: named for pattern, named in only_on.items() if pattern not in everywhere}
    return {"exclude": (*everywhere, *some), "only_on": some}


def prequantized_note(c: Component) -> str:
    """`asr: encoder.onnx is quantized already (MatMulInteger), kept as it is: int8 rewrites nothing`."""
    assert c.onnx is not None
    fact = f"{c.name}: {c.onnx.path.name} is quantized already ({', '.join(c.prequantized)}), kept as it is"
    return fact if c.precision.name == "fp32" else f"{fact}: {c.precision.name} rewrites nothing"

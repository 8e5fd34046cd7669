"""The float32 module's own answers, on what its producers' modules really send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from autovoice.dims.expressions import evaluate, is_symbol, symbols
from autovoice.dims.solving import with_formulas
from autovoice.errors import StepError
from autovoice.measure.points import POINTS, feeds_at, save_point
from autovoice.steps.context import Context

if TYPE_CHECKING:
    from autovoice.steps.fields import DeclaredFields, ReferenceFields


def run(context: Context[ReferenceFields]) -> dict[str, Any]:
    """Write one npz of outputs a point, by wire. Raises StepError on values that are not finite.

    At the smallest sizes, where that costs least, forward() is called twice and must answer alike.
    """
    import torch  # here, so that `reference_onnx` shares `checked` without it

    from autovoice.modules.determinism import repeatable
    from autovoice.modules.loading import call, load_module

    fields = context.fields
    module, _ = load_module(fields, fields["inputs"], context.files)
    notes: list[str] = []
    for point in POINTS:
        feeds = feeds_at(point, fields["reads"], context.needs)
        tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
        if point == POINTS[0]:
            arrays, notes = repeatable(module, tensors, fields["output_order"])
        else:
            arrays = {n: t.numpy() for n, t in call(module, tensors, fields["output_order"]).items()}
        save_point(context.out, point, checked(arrays, feeds, fields, point))
    return {"from": "torch", "notes": notes}


def checked(
    outputs: Mapping[str, np.ndarray], feeds: Mapping[str, np.ndarray], fields: DeclaredFields, point: str
) -> dict[str, np.ndarray]:
    """The outputs by wire, of the declared sizes at the sizes of `feeds`.

    A reference that is not finite proves nothing, so it is an error.
    """
    sizes = _sizes(feeds, fields)
    for name, value in outputs.items():
        _check_shape(name, value.shape, fields["outputs"][name]["shape"], sizes, point)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            bad = int((~np.isfinite(value)).sum())
            raise StepError(
                f"the module's own output '{name}' has {bad} values that are not finite at {point}",
                f"shape {list(value.shape)}; look at its weights and at its inputs' `example:`",
            )
    return {fields["outputs"][name]["wire"]: value for name, value in outputs.items()}


def _sizes(feeds: Mapping[str, np.ndarray], fields: DeclaredFields) -> dict[str, int]:
    """Every dim that the inputs' shapes tell, derived ones among them."""
    sizes: dict[str, int] = {}
    for name, tensor in fields["inputs"].items():
        sizes |= {axis: n for axis, n in zip(tensor["shape"], feeds[name].shape, strict=True) if is_symbol(axis)}
    return with_formulas(sizes, fields["formulas"])


def _check_shape(
    name: str, got: tuple[int, ...], declared: Sequence[str | int], sizes: Mapping[str, int], point: str
) -> None:
    known = [evaluate(a, sizes) if symbols(a) <= sizes.keys() else None for a in declared]
    if len(got) != len(known) or any(k not in (None, n) for k, n in zip(known, got, strict=True)):
        at = ", ".join(f"{n}={v}" for n, v in sorted(sizes.items()))
        raise StepError(
            f"output '{name}' has shape {list(got)} at {point}, declared {list(declared)}",
            f"which is {[n if n is not None else '?' for n in known]} at {at}; correct the shape, or the dim's formula",
        )

"""What the float32 module itself answers, on what its producers' modules really send."""

from __future__ import annotations

from typing import Any

import numpy as np

from autovoice.errors import StepError
from autovoice.steps.context import Context
from autovoice.steps.points import POINTS, feeds_at, save_point


def run(context: Context) -> dict[str, Any]:
    """Write one npz of outputs a point, by wire. Raises StepError on values that are not finite."""
    import torch  # here, so that `reference_onnx` shares `checked` without it

    from autovoice.steps.module import call, load_module

    fields = context.fields
    module = load_module(fields, context.files)
    for point in POINTS:
        feeds = feeds_at(point, fields["reads"], context.needs)
        tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
        outputs = call(module, tensors, fields["outputs"])
        save_point(context.out, point, checked({n: t.numpy() for n, t in outputs.items()}, fields, point))
    return {"from": "torch"}


def checked(outputs: dict[str, np.ndarray], fields: Any, point: str) -> dict[str, np.ndarray]:
    """The outputs by wire. A reference that is not finite proves nothing, so it is an error."""
    for name, value in outputs.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            bad = int((~np.isfinite(value)).sum())
            raise StepError(
                f"the module's own output '{name}' has {bad} values that are not finite at {point}",
                f"shape {list(value.shape)}; look at its weights and at its inputs' `example:`",
            )
    return {fields["outputs"][name]["wire"]: value for name, value in outputs.items()}

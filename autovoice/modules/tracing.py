"""The inputs that a module is traced with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from autovoice.dims.expressions import evaluate
from autovoice.modules.loading import TORCH_DTYPES

if TYPE_CHECKING:
    from autovoice.spec.ports import TensorField


def trace_inputs(inputs: Mapping[str, TensorField], trace: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Seeded inputs of the sizes to trace with: they must run, they limit nothing."""
    generator = torch.Generator().manual_seed(0)
    feeds = {}
    for name, tensor in inputs.items():
        shape = [evaluate(axis, trace) for axis in tensor["shape"]]
        values = torch.randn(shape, generator=generator)
        dtype = TORCH_DTYPES[tensor["dtype"]]
        if dtype is torch.bool:
            feeds[name] = values > 0
        elif dtype.is_floating_point:
            feeds[name] = values.to(dtype)
        else:
            feeds[name] = torch.ones(shape, dtype=dtype)  # an index that every table has
    return feeds

"""Arrays of any kind to torch tensors, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class TorchArray:
    """A tensor on a GPU for whoever reads `__cuda_array_interface__`, DLPack or, by copying, numpy."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.contiguous()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def ndim(self) -> int:
        return int(self.tensor.ndim)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(str(self.tensor.dtype).removeprefix("torch."))

    @property
    def nbytes(self) -> int:
        return int(self.tensor.nbytes)

    def numpy(self) -> np.ndarray:
        """A copy in host memory, once the work before it is done."""
        with torch.cuda.stream(torch.cuda.default_stream(self.tensor.device)):
            array: np.ndarray = self.tensor.cpu().numpy()
        return array

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        interface: dict[str, Any] = self.tensor.__cuda_array_interface__
        return interface

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array on a GPU cannot become a numpy array without a copy")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)


def tensor_from(value: Any, device: torch.device) -> Tensor:
    """`value` on `device`, without a copy where it is there already."""
    if isinstance(value, TorchArray):
        value = value.tensor
    if isinstance(value, Tensor):
        return value.to(device)
    if device.type == "cuda" and not isinstance(value, np.ndarray):
        if hasattr(value, "__dlpack__"):  # first: it orders the producer's stream before ours
            return torch.from_dlpack(value).to(device)
        if hasattr(value, "__cuda_array_interface__"):
            return torch.as_tensor(value, device=device)
    array = np.asarray(value)
    if not array.flags.writeable or any(s < 0 for s in array.strides):  # torch has neither
        array = array.copy()
    return torch.from_numpy(array).to(device)

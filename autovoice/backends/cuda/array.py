"""`DeviceArray`: an array in the memory of a GPU that numpy, torch, cupy and others can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autovoice.backends.cuda import dlpack
from autovoice.errors import BuildError

if TYPE_CHECKING:
    from autovoice.backends.cuda.arena import Arena
    from autovoice.backends.cuda.memory import Block


class DeviceArray:
    """A view of device memory, contiguous in C order.

    An output of a session is good until the session runs again or is closed; `numpy()` makes a copy that stays.
    `torch.from_dlpack` and `cupy.from_dlpack` copy nothing. Work on torch's or cupy's default stream is ordered with
    the session's; for other streams, `__dlpack__` and `__cuda_array_interface__` order what comes after.
    """

    __slots__ = ("__weakref__", "_arena", "_block", "dtype", "key", "nbytes", "ptr", "shape")

    def __init__(self, block: Block, shape: tuple[int, ...], dtype: np.dtype[Any], arena: Arena) -> None:
        self._block = block
        self._arena = arena
        self.ptr = block.ptr
        self.shape = shape
        self.dtype = dtype
        size = dtype.itemsize
        for axis in shape:
            size *= axis
        self.nbytes = size
        #: what a session knows it by, made once; the stream stands in for the arena it belongs to
        self.key = (self.ptr, shape, dtype.str, arena.stream.handle)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return self.nbytes // self.dtype.itemsize

    @property
    def alive(self) -> bool:
        """False once its memory was given back."""
        return self._block.alive

    @property
    def stream(self) -> int:
        """The handle of the stream that writes it."""
        return self._arena.stream.handle

    def numpy(self) -> np.ndarray:
        """A copy in host memory that the caller owns, once the work before it is done."""
        return self._arena.to_host(self)

    def checked(self) -> DeviceArray:
        """Itself. Raises BuildError when its memory is gone."""
        if not self._block.alive:
            raise BuildError(
                f"the memory of this array ({self!r}) was given back",
                "use it before its session is closed or runs with longer inputs; .numpy() makes a copy",
            )
        return self

    def hold(self) -> None:
        """Its memory stays, whatever becomes of the session, until `release`."""
        self._block.hold()

    def release(self) -> None:
        self._block.release()

    @property
    def device(self) -> int:
        """The ordinal of its GPU."""
        return self._arena.device

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        self.checked()
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.ptr, False),
            "strides": None,
            "stream": self._arena.stream.handle,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self._arena.device

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        if copy:
            raise BufferError("this array is given without a copy only; use .numpy(), or copy what you get")
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            raise BufferError(f"this array is on device {self.__dlpack_device__()}, not {tuple(dl_device)}")
        with self._arena.lock, self._arena.active():
            self.checked()
            if stream != -1:  # -1: the consumer orders the streams itself
                self._arena.stream.lead(1 if stream is None else stream)
            return dlpack.capsule_from_array(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array on a GPU cannot become a numpy array without a copy")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without axes")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype.name}, device={self.device})"

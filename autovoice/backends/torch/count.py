"""In what types a module really computes: its operations counted while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

HEAVY = {
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("convolution", "_convolution", "cudnn_convolution", "cudnn_convolution_transpose", "linear", "matmul"),
    *("mm", "bmm", "mv", "addmm", "baddbmm", "addmv", "einsum", "bilinear", "scaled_dot_product_attention"),
    *("lstm", "gru", "rnn_tanh", "rnn_relu"),
    # what attention and recurrent layers are outside of inference mode, by where they run
    *(f"_scaled_dot_product_{how}_attention" for how in ("flash", "efficient", "cudnn", "fused_overrideable")),
    *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math"),
    *("_cudnn_rnn", "miopen_rnn", "mkldnn_rnn_layer", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell"),
    *("_native_multi_head_attention", "_transformer_encoder_layer_fwd"),
}
#: these only copy, convert or make values
_NEUTRAL = {
    *("to", "_to_copy", "type_as", "clone", "contiguous", "copy_", "detach", "alias", "lift_fresh"),
    *("empty", "empty_like", "zeros", "zeros_like", "ones", "ones_like", "full", "full_like", "arange"),
    *("new_empty", "new_zeros", "new_ones", "new_full", "scalar_tensor", "resolve_conj", "resolve_neg"),
}


class CountOperations(TorchDispatchMode):
    """`counts` {type: operations} and `heavy`, convolutions and matrix products alone, by the first float output."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.heavy: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        dtype = next((_name(t) for t in _tensors(out) if t.is_floating_point()), None)
        if dtype is not None and name not in _NEUTRAL:
            self.counts[dtype] += 1
            if name in HEAVY:
                self.heavy[dtype] += 1
        return out


def stored(state: Mapping[str, Tensor]) -> dict[str, int]:
    """{type: tensors stored in it}."""
    return dict(Counter(_name(t) for t in state.values()))


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _tensors(out: Any) -> Iterator[Tensor]:
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, list | tuple):
        for item in out:
            yield from _tensors(item)

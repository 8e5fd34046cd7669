"""What every test of a pass asks: the same values at several sizes, the same inputs and outputs, nothing left to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from autovoice.onnx_tools.passes import apply
from tests.onnx_models import INT64, model, node, value

SIZES = ({"B": 1, "T": 16}, {"B": 2, "T": 16}, {"B": 2, "T": 29})
_KINDS = {1: np.float32, 10: np.float16, 7: np.int64, 9: np.bool_}

__all__ = ["INT64", "model", "node", "value"]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def copied(made: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    return copy


def ops(made: onnx.ModelProto) -> Counter[str]:
    return Counter(n.op_type for n in made.graph.node)


def names(made: onnx.ModelProto, op: str) -> set[str]:
    return {n.name for n in made.graph.node if n.op_type == op}


def tensor(made: onnx.ModelProto, name: str) -> np.ndarray:
    return onnx.numpy_helper.to_array(next(t for t in made.graph.initializer if t.name == name))


def run(made: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """By ONNX Runtime as the graph stands."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(made.SerializeToString(), options).run(None, dict(feeds))


def feeds_of(made: onnx.ModelProto, sizes: Mapping[str, int], seed: int = 7) -> dict[str, np.ndarray]:
    """Normal numbers for every input; masks, by their name, are 0, 1 or between."""
    rng, feeds = np.random.default_rng(seed), {}
    for v in made.graph.input:
        shape = [d.dim_value or sizes[d.dim_param] for d in v.type.tensor_type.shape.dim]
        x = rng.choice([0.0, 0.5, 1.0], size=shape) if "mask" in v.name else rng.normal(size=shape)
        feeds[v.name] = x.astype(_KINDS[v.type.tensor_type.elem_type])
    return feeds


def rewritten(
    made: onnx.ModelProto,
    passes: str | Sequence[str],
    expected: int | None = None,
    within: float = 1e-6,
    sizes: Sequence[Mapping[str, int]] = SIZES,
) -> onnx.ModelProto:
    """`made` after passes, once all that must hold for any pass is found to hold."""
    run_these = [passes] if isinstance(passes, str) else list(passes)
    result = copied(made)
    counts = apply(result, run_these)
    if expected is not None:
        assert sum(counts.values()) == expected
    if expected == 0:
        assert result == made
    onnx.checker.check_model(result, full_check=True)
    assert list(result.graph.input) == list(made.graph.input)
    assert list(result.graph.output) == list(made.graph.output)
    once = copied(result)
    assert set(apply(once, run_these).values()) <= {0}
    assert once == result
    for size in sizes:
        feeds = feeds_of(made, size)
        for got, want in zip(run(result, feeds), run(made, feeds), strict=True):
            assert got.shape == want.shape
            assert got.dtype == want.dtype
            assert np.abs(want).max() > 0
            assert difference(got, want) <= within
    return result


def difference(got: Any, want: Any) -> float:
    wide = np.asarray(want, np.float64)
    return float(np.abs(np.asarray(got, np.float64) - wide).max() / np.abs(wide).max())

"""What is said where an engine fails while it runs: the component, what it was given, and the tool's own words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from autovoice.backends.base import Shared, naming
from autovoice.backends.onnxruntime.backend import OnnxRuntime
from autovoice.backends.torch.session import TorchSession
from autovoice.errors import BuildError, EngineError, FeedError
from autovoice.runtime.opened import Opened
from autovoice.runtime.pipeline import Pipeline


def model(path: Path, op: str, *constants: onnx.TensorProto) -> Path:
    """`op` of the int64 input `sizes` and of constants."""
    sizes = helper.make_tensor_value_info("sizes", TensorProto.INT64, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT if op == "ConstantOfShape" else TensorProto.INT64, None)
    node = helper.make_node(op, ["sizes", *(c.name for c in constants)], ["y"], "big")
    graph = helper.make_graph([node], "g", [sizes], [y], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_out_of_memory_in_onnxruntime_is_two_lines_with_what_it_was_given(tmp_path: Path) -> None:
    path = model(tmp_path / "engine.onnx", "ConstantOfShape")
    with OnnxRuntime({}).session_from_engine(path, ("y",)) as session:
        assert session.run({"sizes": np.array([3])})["y"].shape == (3,)
        with pytest.raises(EngineError) as raised:
            session.run({"sizes": np.array([1 << 45])})
    fact, fix = str(raised.value).splitlines()
    assert fact.startswith("onnxruntime failed on 'sizes' 1: ")
    assert "ConstantOfShape" in fact
    assert fix == "  out of memory: give it less at a time, as a shorter recording or a smaller batch"


def test_another_failure_is_in_the_tools_words(tmp_path: Path) -> None:
    path = model(tmp_path / "engine.onnx", "Reshape", helper.make_tensor("shape", TensorProto.INT64, [2], [2, -1]))
    with OnnxRuntime({}).session_from_engine(path, ("y",)) as session, pytest.raises(EngineError) as raised:
        session.run({"sizes": np.arange(5)})
    assert raised.value.fact.startswith("onnxruntime failed on 'sizes' 5: ")
    assert "reshape" in raised.value.fact.lower()
    assert raised.value.fix.startswith("build it again, or on another backend")


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory: "),
        (MemoryError(), "out of memory: "),
        (RuntimeError("shapes cannot be multiplied " + "x" * 999), "build it again"),
    ],
)
def test_torch_fails_in_the_same_way(error: Exception, fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = object.__new__(TorchSession)
    monkeypatch.setattr(session, "_module", object(), raising=False)
    monkeypatch.setattr(session, "_run", failing(error), raising=False)
    with pytest.raises(EngineError) as raised:
        session.run({"x": np.zeros((1, 80, 7), np.float32), "rate": 3})
    assert raised.value.fact.startswith("torch failed on 'x' 1×80×7, 'rate' a scalar: ")
    assert len(raised.value.fact) < 400
    assert raised.value.fix.startswith(fix)


def failing(error: Exception) -> Callable[..., Any]:
    def run(*_: Any) -> Any:
        raise error

    return run


class Engine:
    memory = "host"

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        if self.error:
            raise self.error
        return {"out": feeds["in"]}


def pipeline(error: Exception) -> Pipeline:
    tensor = {"dtype": "float32", "shape": [2], "default": None}
    chain = [
        {"name": name, "inputs": {"in": a}, "outputs": {"out": {"wire": b}}}
        for name, a, b in (("mel", "x", "m"), ("vocoder", "m", "y"))
    ]
    manifest = {
        "dims": {},
        "contract": {},
        "inputs": ["x"],
        "outputs": ["y"],
        "tensors": dict.fromkeys("xmy", tensor),
        "components": chain,
    }
    engines: Any = {"mel": Opened(Engine(), "a"), "vocoder": Opened(Engine(error), "a")}  # type: ignore[arg-type]
    return Pipeline(Path(), manifest, engines, ExitStack(), Shared())


X = np.zeros(2, np.float32)


@pytest.mark.parametrize("kind", [EngineError, BuildError])
def test_a_pipeline_names_the_component(kind: type[EngineError]) -> None:
    built = pipeline(kind("onnxruntime failed", "less"))
    with pytest.raises(kind) as raised:
        built.run({"x": X})
    assert str(raised.value) == "vocoder: onnxruntime failed\n  less"
    with pytest.raises(kind) as raised:
        built.component("vocoder").run({"in": X})
    assert str(raised.value) == "vocoder: onnxruntime failed\n  less"
    assert built.component("mel").run({"in": X})["out"].shape == (2,)


@pytest.mark.parametrize("error", [FeedError("no", "do"), KeyError("a bug")])
def test_other_errors_stay_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        pipeline(error).run({"x": X})
    assert raised.value is error
    with pytest.raises(type(error)) as raised, naming("vocoder"):
        raise error
    assert raised.value is error


def test_a_step_over_all_components_names_the_one_that_failed() -> None:
    with pytest.raises(EngineError, match=r"^vocoder: it failed\n  less$"), naming("vocoder"):
        raise EngineError("it failed", "less")

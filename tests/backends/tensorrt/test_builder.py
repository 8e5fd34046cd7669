"""ONNX → engine by three generations of TensorRT's API, by a fake module: what is set, proven and refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from autovoice.backends.build import Delivered
from autovoice.backends.tensorrt import inspector
from autovoice.backends.tensorrt.engine_backend import EngineBackend
from autovoice.backends.tensorrt.versions import RTX, TENSORRT, Tool
from autovoice.errors import BuildError, PrecisionError
from autovoice.machine.gpus import Gpu
from autovoice.onnx_tools.lowering.floating import to_float16
from autovoice.steps.build import request_from
from tests.fakes.cuda import FakeCuda
from tests.fakes.tensorrt import FakeTensorRT
from tests.onnx_models import keep, model, node, saved, value

GENERATIONS = ("10", "11", "rtx")
PROFILE = {"x": {"min": [1, 3, 2], "opt": [1, 3, 8], "max": [2, 3, 16]}}
FIELDS: dict[str, Any] = {
    "precision": {"name": "fp16", "type": "float16", "scope": "all"},
    "profiles": [PROFILE],
    "environment": {"tensorrt": "10.6.0", "gpu": "NVIDIA Fake", "compute_capability": "9.0"},
    "inputs": {"x": {"dtype": "float32", "shape": ["B", 3, "T"]}},
    "outputs": {"y": {"dtype": "float32", "shape": ["B", 4, "T"], "wire": "y"}},
    "keep": keep(),
}
AHEAD = {"tensorrt_rtx": "1.7", "compute_capabilities": ["7.5", "8.9"]}


@pytest.fixture
def lowered(tmp_path: Path) -> Path:
    """A convolution with an activation, in float16."""
    w = np.random.default_rng(0).standard_normal((4, 3, 1), np.float32)
    made = model(
        [node("Conv", "x w", "h"), node("Tanh", "h", "y")],
        [value("x", "B", 3, "T")],
        [value("y", "B", 4, "T")],
        {"w": w},
    )
    to_float16(saved(made, tmp_path / "model.onnx"), tmp_path / "half.onnx", keep())
    return tmp_path / "half.onnx"


class Built:
    """One build by the fake module of a generation."""

    def __init__(self, cuda: FakeCuda, generation: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.trt = FakeTensorRT(cuda, generation)
        self.ahead = generation == "rtx"
        self.folder = folder / "out"
        self.folder.mkdir()
        monkeypatch.setattr("autovoice.backends.tensorrt.make.imported", lambda tool: self.trt)
        monkeypatch.setattr(
            "autovoice.backends.tensorrt.make.gpus", lambda: () if self.ahead else (Gpu("NVIDIA Fake", "9.0", 1, ""),)
        )

    @property
    def tool(self) -> Tool:
        return RTX if self.ahead else TENSORRT

    def make(self, path: Path, options: Mapping[str, Any] | None = None, **fields: Any) -> Delivered:
        class Backend(EngineBackend):
            tool = self.tool

        given = {**FIELDS, **({"environment": AHEAD} if self.ahead else {}), **fields}
        caches = given.pop("caches", None)
        request = request_from(given, path, path, self.folder / "engine.engine")
        return Backend(options or {}).engine_from_onnx(replace(request, caches=caches))

    @property
    def config(self) -> Any:
        return self.trt.built[-1][1]

    @property
    def network(self) -> Any:
        return self.trt.built[-1][0]


@pytest.fixture(params=GENERATIONS)
def built(request: pytest.FixtureRequest, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Built:
    return Built(cuda, request.param, monkeypatch, tmp_path)


@pytest.fixture
def ten(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Built:
    return Built(cuda, "10", monkeypatch, tmp_path)


def test_the_network_is_strongly_typed_and_the_file_is_the_plan(built: Built, lowered: Path) -> None:
    told = built.make(lowered)
    assert built.network.strongly_typed
    assert told.heavy == {"float16": 1}
    assert told.file["float16"] >= 2
    assert told.told_by == ("network" if built.ahead else "inspector")
    assert (built.folder / "engine.engine").stat().st_size > 0
    assert (built.folder / "builder.log").is_file()


def test_inputs_outputs_and_profiles_stand_beside_it(built: Built, lowered: Path) -> None:
    told = built.make(lowered)
    said = json.loads((built.folder / "engine.engine.json").read_bytes())
    assert said["inputs"] == {"x": {"dtype": "float32", "shape": [-1, 3, -1]}}
    assert said["outputs"] == {"y": {"dtype": "float32", "shape": [-1, 4, -1]}}
    assert said["profiles"] == [PROFILE]
    assert said["compute_capability"] == (["7.5", "8.9"] if built.ahead else ["9.0"])
    assert said["tool"] == built.tool.name
    assert set(told.beside) <= {p.name for p in built.folder.iterdir()}


def test_options_reach_the_configuration(built: Built, lowered: Path) -> None:
    options = {"workspace_mb": 64, "builder_optimization_level": 5, "version_compatible": True, "max_aux_streams": 2}
    built.make(lowered, options)
    flags, config = built.trt.BuilderFlag, built.config
    assert config.get_memory_pool_limit(built.trt.MemoryPoolType.WORKSPACE) == 64 << 20
    assert config.builder_optimization_level == 5
    assert config.max_aux_streams == 2
    assert config.get_flag(flags.VERSION_COMPATIBLE)
    assert not config.get_flag(flags.TF32)
    assert config.profiling_verbosity == built.trt.ProfilingVerbosity.DETAILED
    assert [p.get_shape("x") for p in config.profiles] == [[(1, 3, 2), (1, 3, 8), (2, 3, 16)]]


def test_the_default_workspace_is_512_mebibytes(built: Built, lowered: Path) -> None:
    built.make(lowered)
    assert built.config.get_memory_pool_limit(built.trt.MemoryPoolType.WORKSPACE) == 512 << 20


def test_tf32_only_where_it_is_asked_for(built: Built, tmp_path: Path) -> None:
    made = model([node("Tanh", "x", "y")], [value("x", "B", 3, "T")], [value("y", "B", 3, "T")])
    path = saved(made, tmp_path / "tanh.onnx")
    built.make(path, precision={"name": "tf32", "type": "tfloat32"})
    assert built.config.get_flag(built.trt.BuilderFlag.TF32)


def test_several_profiles(built: Built, lowered: Path) -> None:
    wide = {"x": {"min": [1, 3, 17], "opt": [1, 3, 32], "max": [2, 3, 64]}}
    built.make(lowered, profiles=[PROFILE, wide])
    assert built.config.num_optimization_profiles == 2


def test_engines_ahead_of_time_name_their_gpus(cuda: FakeCuda, monkeypatch: Any, tmp_path: Path, lowered: Path) -> None:
    built = Built(cuda, "rtx", monkeypatch, tmp_path)
    built.make(lowered)
    assert [c.name for c in built.config.compute_capabilities.values()] == ["SM75", "SM89"]


@pytest.mark.parametrize(
    ("where", "words", "fact"),
    [
        ("build", "No tactics for node conv", "built nothing: No tactics for node conv"),
        ("parse", "NonZero is not supported", "cannot parse the graph: node 'node_x' (NonZero): NonZero"),
        ("profile", "kOPT differs", "the optimization profile is refused: x [1, 3, 2] … [1, 3, 8] … [2, 3, 16]"),
    ],
)
def test_what_only_returns_nothing_is_an_error_in_the_tools_words(
    built: Built, lowered: Path, where: str, words: str, fact: str
) -> None:
    built.trt.fail(where, words)
    with pytest.raises(BuildError) as raised:
        built.make(lowered)
    assert fact in raised.value.fact
    assert raised.value.fix
    assert "\n" not in raised.value.fact + raised.value.fix


def test_what_one_of_several_gpus_cannot_run_is_built_for_the_newest(
    cuda: FakeCuda, monkeypatch: Any, tmp_path: Path, lowered: Path
) -> None:
    built = Built(cuda, "rtx", monkeypatch, tmp_path)
    built.trt.fail("build", "Cannot compile operation 'n' for Turing (SM75): FP32 GEMM is not supported")
    with pytest.raises(BuildError) as raised:
        built.make(lowered)
    assert raised.value.fix.startswith("for the newest GPU alone: backend.options.compute_capabilities=['8.9']")


def test_an_engine_that_cannot_run_its_smallest_shape_is_none(built: Built, lowered: Path) -> None:
    built.trt.warn("build", "kMIN values are not self-consistent: IConvolutionLayer needs 5")
    with pytest.raises(BuildError, match=r"cannot run its smallest shapes: kMIN values are not self-consistent"):
        built.make(lowered)


def test_the_log_is_kept_where_a_build_fails_too(ten: Built, lowered: Path) -> None:
    ten.trt.fail("build", "out of workspace memory")
    with pytest.raises(BuildError) as raised:
        ten.make(lowered, {"workspace_mb": 100})
    assert "out of workspace memory" in (ten.folder / "builder.log").read_text()
    assert raised.value.fix.startswith("backend.options.workspace_mb=200")


def test_timings_are_kept_by_gpu_and_version(ten: Built, lowered: Path, tmp_path: Path) -> None:
    ten.make(lowered, caches=tmp_path / "caches")
    assert [p.name for p in (tmp_path / "caches").iterdir()] == ["timings-NVIDIA-Fake-9.0-10.6.0.bin"]
    ten.trt.fail("timing_cache", "made by another version")
    ten.make(lowered, caches=tmp_path / "caches")  # started anew, not failed
    ten.make(lowered, {"timing_cache": False}, caches=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_every_layer_is_listed_with_its_types_and_time(ten: Built, lowered: Path) -> None:
    ten.make(lowered)
    layers = inspector.load((ten.folder / "engine.engine.layers.json").read_text())
    conv = next(x for x in layers if x.heavy)
    assert (conv.nodes, conv.type, conv.reads[0], conv.writes) == (("n_h",), "float16", "float16", ("float16",))
    assert conv.tactic == "fake_convolution"


def test_float32_where_float16_was_asked_is_a_failure(ten: Built, lowered: Path, monkeypatch: Any) -> None:
    """The wrong engine must not pass because the build did."""
    real = inspector.layers_of

    def lying(*given: Any) -> list[inspector.Layer]:
        from dataclasses import replace

        return [replace(x, reads=("float32",), writes=("float32",)) for x in real(*given)]

    monkeypatch.setattr("autovoice.backends.tensorrt.make.inspector.layers_of", lying)
    with pytest.raises(PrecisionError, match=r"asked float16, but 1 layers are not: n_h is float32"):
        ten.make(lowered)


def test_a_compatibility_level_that_a_version_lacks_is_refused(ten: Built, lowered: Path) -> None:
    ten.trt.HardwareCompatibilityLevel = type("Level", (), {"NONE": 0})
    with pytest.raises(BuildError, match="has no such level"):
        ten.make(lowered, {"hardware_compatibility": "ampere_plus"})


def test_the_session_of_what_was_built_runs(ten: Built, lowered: Path) -> None:
    ten.make(lowered)
    from autovoice.backends.tensorrt.log import Log
    from autovoice.backends.tensorrt.session import EngineSession
    from autovoice.backends.tensorrt.sidecar import read_sidecar

    engine = ten.folder / "engine.engine"
    with EngineSession(ten.trt, engine, read_sidecar(engine), ("y",), {}, log=Log(ten.trt)) as session:
        out = session.run({"x": np.ones((2, 3, 2), np.float32)})["y"]
        assert np.asarray(out).shape == (2, 4, 2)


def test_onnx_of_the_lowered_graph_is_what_is_read(ten: Built, lowered: Path) -> None:
    ten.make(lowered)
    names = {n.name for n in onnx.load(lowered).graph.node}
    assert {layer.name for layer in ten.network.layers} == names

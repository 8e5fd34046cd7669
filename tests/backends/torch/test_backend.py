"""The component's own module as an engine: it answers as ONNX Runtime does, from one file without code in it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from autovoice.backends.build import Delivered
from autovoice.backends.onnxruntime.backend import OnnxRuntime
from autovoice.backends.torch.backend import Torch
from autovoice.errors import ArtefactError, BuildError, ExportError
from autovoice.steps.build import _check_built, request_from
from autovoice.steps.context import Context
from autovoice.steps.export import run as export

FLOW = "autovoice.models.flow_decoder.FlowDecoder"
HERE = "torch_engine_models"
CPU = {"device": "cpu"}
KEEP: dict[str, list[str]] = {"op_types": [], "nodes": [], "inputs": []}
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


def f32(*shape: str | int) -> dict[str, Any]:
    return {"dtype": "float32", "shape": list(shape)}


def build_fields(target: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """What a build step is given, and an export step too."""
    return {
        "model": {"target": target, "kwargs": changes.pop("kwargs", {})},
        "checkpoint": None,
        "seed": 0,
        "files": {},
        "inputs": dict(inputs),
        "outputs": dict(outputs),
        "output_order": list(outputs),
        "precision": {"name": "fp32", "type": "float32", "scope": "all"},
        "keep": KEEP,
        "trace": {"batch": 2, "frames": 20},
        "formulas": {},
        "export": {"opset": 18, "simplify": True},
        **changes,
    }


FLOW_FIELDS = build_fields(
    FLOW,
    {
        "latent_input": f32("batch", 192, "frames"),
        "mask": f32("batch", 1, "frames"),
        "conditioning": f32("batch", 704, "frames"),
    },
    {"output_latent": f32("batch", 192, "frames")},
    kwargs={"channels": 192, "conditioning": 704},
)


def write(backend: Torch, engine: Path, fields: Mapping[str, Any]) -> Delivered:
    """Of a backend that runs modules, the graph is not read."""
    unread = engine.with_name("unread.onnx")
    return backend.engine_from_onnx(replace(request_from(fields, unread, unread, engine), files=fields["files"]))


HALF = {"name": "fp16", "type": "float16", "scope": "all"}


def flow_feeds(batch: int, frames: int, temperature: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1000 * batch + frames)
    latent = rng.standard_normal((batch, 192, frames), dtype=np.float32)
    mask = np.ones((batch, 1, frames), np.float32)
    mask[-1, :, frames - frames // 4 :] = 0 if batch > 1 else 1
    return {
        "latent_input": latent * np.float32(temperature),
        "mask": mask,
        "conditioning": rng.standard_normal((batch, 704, frames), dtype=np.float32),
    }


def snr_db(got: np.ndarray, expected: np.ndarray) -> float:
    error = np.square(got.astype(np.float64) - expected).sum()
    return float(10 * np.log10(np.square(expected, dtype=np.float64).sum() / error)) if error else 200.0


# -- against ONNX Runtime --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Delivered, Path]:
    """The shipped flow decoder: its torch engine, what was delivered, and the export of the same module."""
    folder = tmp_path_factory.mktemp("flow")
    torch_log = logging.getLogger("torch.onnx")
    torch_log.disabled = True
    export(Context(FLOW_FIELDS, {}, {}, folder))
    torch_log.disabled = False
    engine = folder / "engine.safetensors"
    return engine, write(Torch(CPU), engine, FLOW_FIELDS), folder / "model.onnx"


@pytest.mark.parametrize(
    ("batch", "frames", "temperature"),
    [(1, 100, 1.0), (1, 37, 1.0), (2, 100, 1.0), (1, 100, 0.7), (1, 100, 0.0), (2, 37, 0.7)],
    ids=["latent 1×192×100", "another length", "batch 2, padded", "temperature 0.7", "temperature 0", "all at once"],
)
def test_the_flow_decoder_answers_as_onnx_runtime_does(
    flow: tuple[Path, Delivered, Path], batch: int, frames: int, temperature: float
) -> None:
    engine, _, model = flow
    feeds = flow_feeds(batch, frames, temperature)
    before = {name: value.copy() for name, value in feeds.items()}
    with Torch(CPU).session_from_engine(engine, ("output_latent",)) as session:
        got = session.run(feeds)["output_latent"]
    with OnnxRuntime({}).session_from_engine(model, ("output_latent",)) as session:
        expected = session.run(feeds)["output_latent"]
    assert got.shape == expected.shape == (batch, 192, frames)
    assert got.dtype == expected.dtype == np.float32
    assert np.abs(expected).max() > 0.1  # nothing that a silent engine would match
    assert snr_db(got, expected) >= 100
    for name, value in before.items():
        np.testing.assert_array_equal(feeds[name], value)


def test_the_seed_of_the_record_is_what_was_built(tmp_path: Path, flow: tuple[Path, Delivered, Path]) -> None:
    """Weights of another seed are far away: the comparison above sees weights."""
    other = tmp_path / "engine.safetensors"
    write(Torch(CPU), other, FLOW_FIELDS | {"seed": 1})
    feeds = flow_feeds(1, 40)
    answers = []
    for path in (flow[0], other):
        with Torch(CPU).session_from_engine(path, ("output_latent",)) as session:
            answers.append(session.run(feeds)["output_latent"])
    assert snr_db(*answers) < 10


def test_what_is_delivered_counts_operations_that_really_ran(flow: tuple[Path, Delivered, Path]) -> None:
    delivered = flow[1]
    # per flow: before, conditioning, 4 layers of 2, after
    assert delivered.heavy == delivered.executed == {"float32": 4 * (1 + 1 + 8 + 1)}
    assert delivered.file["float32"] > 100
    assert delivered.weights == {"float32": len(load_file(flow[0]))}
    assert (delivered.more, delivered.unit) == ({"device": "cpu"}, "operations")
    _check_built("float32", {"float32": 208}, delivered, False)


# -- the file --------------------------------------------------------------------------------------


def test_the_file_is_tensors_and_json_alone(flow: tuple[Path, Delivered, Path]) -> None:
    with safe_open(flow[0], "pt") as file:
        metadata, names = file.metadata(), set(file.keys())
    assert list(metadata) == ["autovoice"]
    record = json.loads(metadata["autovoice"])
    assert record["target"] == FLOW
    assert record["kwargs"] == {"channels": 192, "conditioning": 704}
    assert (record["seed"], record["dtype"]) == (0, "float32")
    assert list(record["inputs"]) == ["latent_input", "mask", "conditioning"]
    assert record["outputs"] == {"output_latent": "float32"}
    assert names == set(pytest.importorskip("autovoice.models.flow_decoder").FlowDecoder().state_dict())
    header = int.from_bytes(flow[0].read_bytes()[:8], "little")
    tensors = 4 * sum(t.numel() for t in load_file(flow[0]).values())
    assert flow[0].stat().st_size == 8 + header + tensors  # and nothing else


def test_the_same_build_writes_the_same_bytes(tmp_path: Path, flow: tuple[Path, Delivered, Path]) -> None:
    again = tmp_path / "engine.safetensors"
    write(Torch(CPU), again, FLOW_FIELDS)
    assert again.read_bytes() == flow[0].read_bytes()


def test_loading_needs_the_file_alone_and_leaves_random_numbers_as_they_were(
    tmp_path: Path, flow: tuple[Path, Delivered, Path]
) -> None:
    alone = tmp_path / "renamed.safetensors"
    alone.write_bytes(flow[0].read_bytes())
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    with Torch(CPU).session_from_engine(alone, ("output_latent",)) as session:
        assert session.run(flow_feeds(1, 8))["output_latent"].shape == (1, 192, 8)
    assert torch.rand(1) == expected


def test_importing_the_backend_imports_no_torch() -> None:
    code = "import autovoice.backends.torch.backend as t, sys; t.BACKEND({}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- modules of many kinds -------------------------------------------------------------------------


class Kinds(nn.Module):
    """Weight norm, a buffer that is not in the state, tied weights, a nested module, and outputs by name."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 1))
        self.middle = middle
        self.tied = nn.Conv1d(4, 4, 1)
        self.again = nn.Conv1d(4, 4, 1)
        self.again.weight = self.tied.weight
        self.register_buffer("noise", torch.randn(4, 1), persistent=False)

    def forward(self, x: Tensor, step: Tensor) -> dict[str, Tensor]:
        y = self.again(self.tied(self.middle(self.normed(x)))) + self.noise
        return {"second": y - 1, "first": y * step}


class Gain(nn.Module):
    def __init__(self, start: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor([start]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


class Two(nn.Module):
    """Nothing to learn, two outputs by position."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x - 1


class Careless(nn.Module):
    """Overwrites its input, hands out another, and a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x.mul_(2), y, self.weight


class Stateful(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x

    def get_extra_state(self) -> dict[str, int]:
        return {"epoch": 1}

    def set_extra_state(self, state: Any) -> None: ...


def made() -> nn.Module:
    return Two()


def unsaid():  # type: ignore[no-untyped-def]
    return Two()


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """This file's classes under a name that can be imported, as a package of the user's."""
    package = ModuleType(HERE)
    for one in (Kinds, Gain, Two, Careless, Stateful, made, unsaid):
        setattr(package, one.__name__, one)
    monkeypatch.setitem(sys.modules, HERE, package)
    return package


X = {"x": f32("batch", 4, "frames")}
KINDS = build_fields(
    f"{HERE}.Kinds",
    {**X, "step": {"dtype": "int64", "shape": [1]}},
    {"first": f32("batch", 4, "frames"), "second": f32("batch", 4, "frames")},
    kwargs={"middle": {"_target_": f"{HERE}.Gain", "start": 2.5}},
)
TWO = build_fields(f"{HERE}.Two", X, {"above": X["x"], "below": X["x"]})


@pytest.fixture
def built(tmp_path: Path) -> Callable[..., Path]:
    def build(fields: Mapping[str, Any]) -> Path:
        write(Torch(CPU), tmp_path / "engine.safetensors", fields)
        return tmp_path / "engine.safetensors"

    return build


def test_a_module_of_every_kind_comes_back(built: Callable[..., Path]) -> None:
    path = built(KINDS)
    assert "noise" not in load_file(path)
    assert "normed.weight" in load_file(path)  # folded, as in the exported graph
    torch.manual_seed(0)
    expected = Kinds(Gain(2.5)).eval()
    x, step = np.random.default_rng(0).standard_normal((2, 4, 9), dtype=np.float32), np.array([3])
    with torch.no_grad():
        wanted = expected(torch.from_numpy(x), torch.from_numpy(step))
    with Torch(CPU).session_from_engine(path, ("second", "first")) as session:
        got = session.run({"x": x, "step": step})
    assert list(got) == ["second", "first"]
    for name, value in got.items():
        assert snr_db(value, wanted[name].numpy()) > 120


def test_weights_come_from_the_checkpoint(tmp_path: Path, built: Callable[..., Path]) -> None:
    save_file({"net.gain": torch.tensor([7.0])}, tmp_path / "w.safetensors")
    fields = build_fields(f"{HERE}.Gain", X, {"y": X["x"]}, kwargs={"start": 1.0})
    fields |= {
        "checkpoint": {"key": None, "prefix": "net.", "strict": True},
        "files": {"checkpoint": tmp_path / "w.safetensors"},
    }
    path = built(fields)
    (tmp_path / "w.safetensors").unlink()
    with Torch(CPU).session_from_engine(path, ("y",)) as session:
        np.testing.assert_array_equal(session.run({"x": np.ones((1, 4, 2), np.float32)})["y"], 7)


def test_outputs_by_position_keep_their_names_in_any_order_asked(built: Callable[..., Path]) -> None:
    fields = TWO | {"outputs": dict(reversed(TWO["outputs"].items()))}  # as sorted JSON may give them
    x = np.zeros((1, 4, 2), np.float32)
    with Torch(CPU).session_from_engine(built(fields), ("below", "above")) as session:
        got = session.run({"x": x})
    assert [(n, v.flat[0]) for n, v in got.items()] == [("below", -1), ("above", 1)]


def test_a_module_without_weights_delivers_what_it_computes(tmp_path: Path) -> None:
    delivered = write(Torch(CPU), tmp_path / "e.safetensors", TWO)
    assert delivered.file == {"float32": 2}
    assert delivered.heavy == delivered.weights == {}
    _check_built("float32", {"float32": 2}, delivered, False)


def test_the_caller_owns_what_goes_in_and_comes_out(built: Callable[..., Path]) -> None:
    fields = build_fields(f"{HERE}.Careless", {"x": f32(2, 3), "y": f32(2, 3)}, {n: f32(2, 3) for n in "abc"})
    feeds = {"x": np.ones((2, 3), np.float32), "y": np.ones((2, 3), np.float32)}
    with Torch(CPU).session_from_engine(built(fields), ("a", "b", "c")) as session:
        for _ in range(2):  # the weight that was handed out is not the session's own
            got = session.run(feeds)
            assert [v.flat[0] for v in got.values()] == [2, 1, 1]
            for value in got.values():
                value += 5
    assert {v.flat[0] for v in feeds.values()} == {1}


def test_arrays_that_torch_cannot_read_in_place(built: Callable[..., Path]) -> None:
    x = np.arange(8, dtype=np.float32).reshape(1, 4, 2)
    locked = x.copy()
    locked.flags.writeable = False
    with Torch(CPU).session_from_engine(built(TWO), ("above",)) as session:
        for given in (locked, x[:, ::-1], np.asfortranarray(x)):
            np.testing.assert_array_equal(session.run({"x": given})["above"], given + 1)


def test_a_session_of_the_host(built: Callable[..., Path]) -> None:
    feeds = {"x": np.zeros((1, 4, 2), np.float32)}
    session = Torch(CPU).session_from_engine(built(TWO), ("above",))
    assert session.memory == "host"
    assert session.put(feeds)["x"] is feeds["x"]
    assert session.notes == ()
    session.wait()
    session.close()
    session.close()
    with pytest.raises(BuildError, match="this session is closed\n  load it again"):
        session.run(feeds)


def test_a_session_that_is_closed_while_it_runs(built: Callable[..., Path]) -> None:
    """Every run ends with its answer, or says that it came too late."""
    feeds = {"x": np.zeros((1, 4, 2), np.float32)}
    path = built(TWO)
    for _ in range(5):
        session = Torch(CPU).session_from_engine(path, ("above",))

        def work(session: Any = session) -> str:
            try:
                while True:
                    assert session.run(feeds)["above"].max() == 1
            except BuildError as e:
                return str(e.fact)

        with ThreadPoolExecutor(2) as threads:
            working = [threads.submit(work) for _ in range(2)]
            session.close()
            assert {w.result(10) for w in working} == {"this session is closed"}


def test_a_fork_of_the_process_that_loaded_it(built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    session = Torch(CPU).session_from_engine(built(TWO), ("above",))
    parent = os.getpid()
    monkeypatch.setattr("autovoice.backends.guard.os.getpid", lambda: parent + 1)
    with pytest.raises(BuildError) as raised:
        session.run({"x": np.zeros((1, 4, 2), np.float32)})
    assert str(raised.value) == (
        f"this session was loaded by process {parent}, and process {parent + 1} is a fork of it\n"
        "  load it in the process that runs it, or start processes by 'spawn'"
    )


def test_forward_that_raises_is_told_with_the_shapes_it_was_given(built: Callable[..., Path]) -> None:
    with Torch(CPU).session_from_engine(built(KINDS), ("first",)) as session:
        feeds = {"x": np.zeros((1, 5, 2), np.float32), "step": np.array([1])}
        with pytest.raises(ExportError, match=r"forward\(\) of Kinds raised RuntimeError: .*\n  given x \[1, 5, 2\]"):
            session.run(feeds)


# -- what is refused -------------------------------------------------------------------------------


def test_code_that_is_gone_is_named(built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = built(TWO)
    monkeypatch.delitem(sys.modules, HERE)
    with pytest.raises(ArtefactError) as raised:
        Torch(CPU).session_from_engine(path, ("above",))
    fact, fix = str(raised.value).split("\n")
    assert fact.startswith(f"{HERE}.Two cannot be imported: ModuleNotFoundError: No module named")
    assert fix.startswith("  a torch engine needs the model's code")


def test_code_that_became_another(built: Callable[..., Path], models: ModuleType) -> None:
    path = built(build_fields(f"{HERE}.Gain", X, {"y": X["x"]}, kwargs={"start": 1.0}))
    models.Gain = Two  # type: ignore[attr-defined]
    with pytest.raises(ArtefactError, match=r"cannot be made: TypeError.*\n  a torch engine needs the model's code as"):
        Torch(CPU).session_from_engine(path, ("y",))


def rewritten(path: Path, tensors: Mapping[str, Tensor], **changes: Any) -> None:
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["autovoice"])
    save_file(dict(tensors), path, {"autovoice": json.dumps(record | changes)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("middle.gain"), "it has no 'middle.gain'"),
        (lambda s: s.update(more=torch.ones(1)), "the module has no 'more'"),
        (lambda s: s.update({"middle.gain": torch.ones(2)}), r"'middle.gain' is \[2\] in the file, \[1\] in the mod"),
    ],
    ids=["missing", "extra", "another shape"],
)
def test_weights_that_do_not_fit(built: Callable[..., Path], change: Callable[..., Any], said: str) -> None:
    path = built(KINDS)
    state = load_file(path)
    change(state)
    rewritten(path, state)
    with pytest.raises(ArtefactError, match=rf"engine.safetensors does not fit {HERE}.Kinds: {said}.*\n  the model's"):
        Torch(CPU).session_from_engine(path, ("first",))


@pytest.mark.parametrize("content", [b"", b"not an engine", b"\x80\x04."], ids=["empty", "text", "pickle"])
def test_a_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "engine.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match="is not a torch engine that can be read"):
        Torch(CPU).session_from_engine(path, ("y",))


def test_safetensors_of_another_kind(tmp_path: Path) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ArtefactError, match="its metadata has no 'autovoice'\n  build it again"):
        Torch(CPU).session_from_engine(tmp_path / "w.safetensors", ("y",))


@pytest.mark.parametrize(
    ("target", "kwargs"),
    [
        ("os.system", {"command": "touch called"}),
        (f"{HERE}.Gain", {"start": {"_target_": "os.system", "command": "touch called"}}),
        (f"{HERE}.Gain", {"start": [{"_target_": "subprocess.check_call", "_args_": [["touch", "called"]]}]}),
        (f"{HERE}.Gain", {"start": "${oc.decode:'{_target_: os.system, command: touch called}'}"}),
        ("torch.fx.graph_module.reduce_graph_module", {"body": {}, "import_block": "open('called', 'w')"}),
        (f"{HERE}.unsaid", {}),
    ],
    ids=["function", "nested function", "in a list", "interpolation", "runs source code", "says no type"],
)
def test_an_engine_calls_nothing_but_modules(
    tmp_path: Path, built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, target: str, kwargs: dict[str, Any]
) -> None:
    path = built(TWO)
    monkeypatch.chdir(tmp_path)
    rewritten(path, {}, target=target, kwargs=kwargs)
    said = r"not known to make a torch.nn.Module|is an interpolation"
    with pytest.raises(ArtefactError, match=said):
        Torch(CPU).session_from_engine(path, ("above",))
    with pytest.raises(BuildError, match=said):
        built(TWO | {"model": {"target": target, "kwargs": kwargs}})
    assert not (tmp_path / "called").exists()


def test_a_function_that_says_what_it_makes(built: Callable[..., Path]) -> None:
    engine = built(TWO | {"model": {"target": f"{HERE}.made", "kwargs": {}}})
    with Torch(CPU).session_from_engine(engine, ("above",)) as session:
        x = np.ones((1, 4, 3), np.float32)
        assert np.array_equal(session.run({"x": x})["above"], x + 1)


def test_float16_on_a_cpu(tmp_path: Path, built: Callable[..., Path]) -> None:
    said = "torch runs float16 on a GPU alone, and this is a CPU\n  precision=fp32, or a GPU"
    with pytest.raises(BuildError, match=said):
        built(TWO | {"precision": HALF})
    assert not (tmp_path / "engine.safetensors").exists()
    path = built(TWO)
    rewritten(path, {}, dtype="float16")
    with pytest.raises(BuildError, match=said):
        Torch(CPU).session_from_engine(path, ("above",))


@pytest.mark.parametrize("key", ["op_types", "nodes"])
def test_float16_that_keeps_nodes(built: Callable[..., Path], key: str) -> None:
    with pytest.raises(BuildError, match=rf"keep.{key} \(Softmax\) is about nodes of an ONNX graph"):
        built(TWO | {"precision": HALF, "keep": KEEP | {key: ["Softmax"]}})


def test_state_that_is_no_tensor(built: Callable[..., Path]) -> None:
    with pytest.raises(BuildError, match="Stateful keeps a dict in its state, as '_extra_state'"):
        built(build_fields(f"{HERE}.Stateful", X, {"y": X["x"]}))


def test_an_output_that_is_not_there(built: Callable[..., Path]) -> None:
    with pytest.raises(BuildError, match=r"Two has no output 'abov'\n  did you mean 'above'\?"):
        Torch(CPU).session_from_engine(built(TWO), ("abov",))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"devise": "cpu"}, r"unknown key 'devise'\n  did you mean 'device'\?"),
        ({"device": "tpu"}, r"backend.options.device: 'tpu'\n"),
        ({"compile": "yes"}, r"backend.session.compile: 'yes'"),
        (
            {"compile": "max-autotune", "cuda_graphs": True},
            "compile=max-autotune records CUDA graphs of its own\n  .*max-autotune-no-cudagraphs",
        ),
    ],
    ids=["key", "device", "switch", "graphs twice"],
)
def test_options_that_are_wrong(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BuildError, match=said):
        Torch(options)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"device": "cuda"}, "sees no CUDA device"), ({"device": "cpu", "cuda_graphs": True}, "CUDA graphs need a GPU")],
    ids=["device", "graphs"],
)
def test_what_needs_a_gpu_is_refused_without_one(
    built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], said: str
) -> None:
    path = built(TWO)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BuildError, match=said):
        Torch(options).session_from_engine(path, ("above",))


# -- on a GPU --------------------------------------------------------------------------------------


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("graphs", [False, True], ids=["eager", "graphs"])
@pytest.mark.parametrize(("precision", "least"), [("float32", 100), ("float16", 45)])
def test_the_flow_decoder_on_a_gpu(
    tmp_path: Path, flow: tuple[Path, Delivered, Path], precision: str, least: float, graphs: bool
) -> None:
    backend = Torch({"device": "cuda", "cuda_graphs": graphs})
    path = tmp_path / "engine.safetensors"
    fields = FLOW_FIELDS | {"precision": {"name": "p", "type": precision, "scope": "all"}}
    delivered = write(backend, path, fields)
    assert delivered.heavy == {precision: 44}
    before = torch.backends.cudnn.conv.fp32_precision
    with (
        backend.session_from_engine(path, ("output_latent",)) as session,
        Torch(CPU).session_from_engine(flow[0], ("output_latent",)) as exact,
    ):
        assert session.memory == "cuda"
        kept = []
        for frames in (100, 37, 100):
            feeds = flow_feeds(2, frames)
            out = session.run(session.put(feeds))["output_latent"]
            assert (out.shape, out.dtype) == ((2, 192, frames), np.float32)
            assert torch.as_tensor(out, device="cuda").data_ptr() == torch.from_dlpack(out).data_ptr()  # no copies
            host = np.array(out)  # what a graph gives holds until the next run
            assert snr_db(host, exact.run(feeds)["output_latent"]) >= least
            kept.append((out, host))
            np.testing.assert_array_equal(np.asarray(session.run(feeds)["output_latent"]), host)
            chained = session.run({**session.put(feeds), "latent_input": session.run(feeds)["output_latent"]})
            assert np.isfinite(np.asarray(chained["output_latent"])).all()
        for out, host in kept if not graphs else ():  # otherwise no run writes over what another gave
            np.testing.assert_array_equal(np.asarray(out), host)
    assert torch.backends.cudnn.conv.fp32_precision == before

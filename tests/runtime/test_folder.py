"""Folders from elsewhere: what is in them is read within bounds, and nothing of it is run without being asked for."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from autovoice import Pipeline
from autovoice.backends.onnxruntime import backend
from autovoice.errors import ArtefactError, TrustError
from autovoice.runtime.manifest import dump
from autovoice.store.switch import replacing
from tests.folders import entry, fill, manifest, model, own

X = {"x": np.ones(3, np.float32)}


def two_lines(folder: Path, **options: Any) -> list[str]:
    """What a folder that must not be loaded says."""
    with pytest.raises(ArtefactError) as caught:
        Pipeline.load(folder, **options)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    return [lines[0].replace(f"{folder}/", ""), lines[1].strip()]


# -- what is no file -------------------------------------------------------------------------------


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_link(path: Path) -> None:
    path.with_name("real").write_bytes(model(2))
    path.symlink_to("real")


@pytest.mark.parametrize(
    ("make", "said", "fix"),
    [
        (a_pipe, "is a pipe, not a regular file", "copy the whole folder, or build it again"),
        (Path.mkdir, "is a folder, not a regular file", "copy the whole folder, or build it again"),
        (a_device, "is a link, not a regular file", "copy the whole folder with files in place of links, cp -rL, or"),
        (a_link, "is a link, not a regular file", "copy the whole folder with files in place of links, cp -rL, or"),
    ],
    ids=["pipe", "folder", "device", "link"],
)
def test_an_engine_that_is_no_file(make: Callable[[Path], object], said: str, fix: str, tmp_path: Path) -> None:
    (fill(tmp_path / "built", 2) / "scale.onnx").unlink()
    make(tmp_path / "built" / "scale.onnx")
    fact, way = two_lines(tmp_path / "built")
    assert fact == f"scale.onnx: {said}"
    assert way.startswith(fix)


def test_an_engine_larger_than_memory_is_not_read(tmp_path: Path) -> None:
    """It has holes, and takes no room on the disk."""
    with open(fill(tmp_path, 2) / "scale.onnx", "r+b") as file:
        file.truncate(1 << 43)
    assert two_lines(tmp_path)[0] == f"scale.onnx: has {1 << 43} bytes, more than this machine has memory"


def test_a_folder_that_is_a_file_or_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert two_lines(tmp_path / "file")[0] == f"{tmp_path / 'file'}: Not a directory"
    fill(tmp_path / "built", 2)
    (tmp_path / "current").symlink_to("built")
    with Pipeline.load(tmp_path / "current") as pipeline:
        assert pipeline.run(X)["y"].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"intra_op_num_threads": 100_000}, "backend.options.intra_op_num_threads: 100000"),
        ({"intra_op_num_threads": True}, "backend.options.intra_op_num_threads: True"),
        ({"graph_optimization_level": ["all"]}, "backend.options.graph_optimization_level: ['all']"),
        ({"custom_ops_library": "/tmp/evil.so"}, "backend.options: unknown key 'custom_ops_library'"),
        ({"providers": [["CUDAExecutionProvider", {"x": "/y"}]]}, "backend.options.providers: [["),
    ],
)
def test_options_out_of_bounds(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    """They are told before a thread is started or a library is opened."""
    named = {"name": "onnxruntime", "loader": "onnxruntime", "options": options}
    fact, _ = two_lines(fill(tmp_path, 2, backend=named))
    assert fact.startswith(f"manifest.json: scale.onnx: {said}")


@pytest.mark.parametrize("loader", ["os", "base", "../torch", "autovoice.models", "onnxruntime.os"])
def test_a_loader_names_a_backend_and_no_module(loader: str, tmp_path: Path) -> None:
    fact, fix = two_lines(fill(tmp_path, 2, backend={"name": "x", "loader": loader, "options": {}}))
    assert fact == f"backend '{loader}' is not installed here"
    assert "available: onnxruntime, tensorrt" in fix


# -- what a model reads by itself ------------------------------------------------------------------


def outside(place: str = "scale.onnx.data") -> onnx.TensorProto:
    """A weight in another file."""
    tensor = numpy_helper.from_array(np.array([3], np.float32), "w")
    onnx.external_data_helper.set_external_data(tensor, place)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    return tensor


@pytest.mark.parametrize("listed", [False, True])
def test_weights_in_another_file_are_not_read(listed: bool, tmp_path: Path) -> None:
    data = np.array([3], np.float32).tobytes()
    (tmp_path / "scale.onnx.data").write_bytes(data)
    beside = {"scale.onnx.data": hashlib.sha256(data).hexdigest()} if listed else {}
    assert two_lines(fill(tmp_path, 3, model(3, outside()), beside=beside)) == [
        "scale.onnx: has tensors in other files, which the manifest does not list: scale.onnx.data",
        "build it again: an engine that autovoice writes is one file",
    ]


def test_an_engine_that_is_no_model(tmp_path: Path) -> None:
    assert two_lines(fill(tmp_path, 2, b""))[0].startswith("scale.onnx: is not an ONNX file that can be read: ")
    assert two_lines(fill(tmp_path, 2, b"location\xff\xff"))[0].startswith("scale.onnx: is not an ONNX file that can")


# -- a file that changes its name or its content ---------------------------------------------------


def test_what_was_hashed_is_loaded_though_another_file_took_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is replaced between the two; so is the whole folder, which is then emptied."""
    folder = fill(tmp_path / "built", 2)
    real = backend.OnnxRuntime.session_from_engine

    def late(self: Any, engine: Any, *rest: Any) -> Any:
        os.rename(fill(tmp_path / "new", 5) / "scale.onnx", folder / "scale.onnx")
        with replacing(folder, own) as new:
            fill(new, 7)
        return real(self, engine, *rest)

    monkeypatch.setattr(backend.OnnxRuntime, "session_from_engine", late)
    with Pipeline.load(folder) as pipeline:
        assert pipeline.contract["factor"] == 2
        assert pipeline.run(X)["y"].tolist() == [2, 2, 2]


def test_a_file_written_to_while_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path / "built", 2)
    real = backend.OnnxRuntime.session_from_engine

    def late(self: Any, engine: Any, *rest: Any) -> Any:
        path = os.fspath(engine)  # from here on it counts as checked
        (folder / "scale.onnx").write_bytes(model(5))
        os.utime(folder / "scale.onnx", (1, 1))
        assert Path(path).read_bytes() == model(5)
        return real(self, engine, *rest)

    monkeypatch.setattr(backend.OnnxRuntime, "session_from_engine", late)
    assert two_lines(folder) == ["scale.onnx: was written to while it was loaded", "load it again"]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    folder = fill(tmp_path / "built", 2)
    Pipeline.load(folder).close()
    before = len(os.listdir("/proc/self/fd"))
    Pipeline.load(folder).close()
    (folder / "scale.onnx").write_bytes(model(5))
    two_lines(folder)
    assert len(os.listdir("/proc/self/fd")) == before


# -- code ------------------------------------------------------------------------------------------

PACKAGE = """
from pathlib import Path
import torch
Path(__file__).with_name("imported").touch()

class Inner(torch.nn.Module):
    def forward(self, x):
        return x

class Net(torch.nn.Module):
    def __init__(self, inner=None):
        super().__init__()
    def forward(self, x):
        return 2 * x
"""


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    """A package that tells when it is imported."""
    (tmp_path / "code" / "stranger").mkdir(parents=True)
    (tmp_path / "code" / "stranger" / "__init__.py").write_text("")
    (tmp_path / "code" / "stranger" / "nets.py").write_text(PACKAGE)
    sys.path.insert(0, str(tmp_path / "code"))
    yield tmp_path / "code" / "stranger"
    sys.path.remove(str(tmp_path / "code"))
    for name in [n for n in sys.modules if n.partition(".")[0] == "stranger"]:
        del sys.modules[name]


def torch_engine(**changes: Any) -> bytes:
    """Of a module without weights."""
    record = {"target": "stranger.nets.Net", "kwargs": {}, "seed": 0, "dtype": "float32"}
    record |= {"inputs": {"x": "float32"}, "outputs": {"y": "float32"}, "kept": [], "changed": []} | changes
    header = json.dumps({"__metadata__": {"autovoice": json.dumps(record)}}).encode()
    return len(header).to_bytes(8, "little") + header


def torch_folder(folder: Path, content: bytes, fallback: dict[str, Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "net.safetensors").write_bytes(content)
    made = entry("net", content, "torch", file="net.safetensors")
    if fallback is not None:
        made["on_mismatch"] = {"policy": "torch", "fallback": fallback}
    (folder / "manifest.json").write_bytes(dump(manifest([made])))
    return folder


def test_a_module_is_asked_for_before_it_is_imported(package: Path, tmp_path: Path) -> None:
    kwargs = {"inner": {"_target_": "stranger.nets.Inner"}}
    folder = torch_folder(tmp_path / "built", torch_engine(kwargs=kwargs))
    wanted = "stranger.nets.Net, stranger.nets.Inner"
    for trust in ((), ["stranger.net"], ["strange"], ["nets"], [""]):
        with pytest.raises(TrustError) as caught:
            Pipeline.load(folder, trust=trust)
        assert str(caught.value) == (
            f"{folder}: loading net.safetensors runs code of {wanted}\n"
            "  if you trust it: Pipeline.load(folder, trust=['stranger.nets.Net', 'stranger.nets.Inner']), or "
            "trust=[stranger.nets.Net,stranger.nets.Inner] on the command line; a package allows all that is in it"
        )
    with pytest.raises(TrustError, match=r"runs code of stranger\.nets\.Inner\n"):
        Pipeline.load(folder, trust=["stranger.nets.Net"])
    assert not (package / "imported").exists()
    digest = hashlib.sha256((folder / "net.safetensors").read_bytes()).hexdigest()
    for trust in (["stranger"], ["stranger.nets"], "stranger", [f"sha256:{digest}"]):
        with Pipeline.load(folder, trust=trust) as pipeline:
            assert pipeline.run(X)["y"].tolist() == [2, 2, 2]
    assert (package / "imported").exists()


def test_what_stands_by_is_asked_for_too(package: Path, tmp_path: Path) -> None:
    content = torch_engine()
    made = entry("scale", model(2), on_mismatch={"policy": "torch", "fallback": None})
    made["on_mismatch"]["fallback"] = entry("scale", content, "torch", file="scale.fallback.safetensors")
    (tmp_path / "scale.fallback.safetensors").write_bytes(content)
    (tmp_path / "manifest.json").write_bytes(dump(manifest([made])))
    with pytest.raises(TrustError, match=r"loading scale.fallback.safetensors runs code of stranger.nets.Net\n"):
        Pipeline.load(tmp_path)  # whose engine is missing
    assert not (package / "imported").exists()
    with Pipeline.load(tmp_path, trust=["stranger"]) as pipeline:
        assert pipeline.notes == ("scale: torch in place of onnxruntime: No such file or directory",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        (1 << 62).to_bytes(8, "little"),
        torch_engine(target=5),
        torch_engine(target="os; import evil"),
        torch_engine(kwargs={"a": {"_target_": "\x1b[2Jos"}}),
        torch_engine(kwargs=[]),
        torch_engine(inputs={"x": "object"}),
        torch_engine(seed=10**40),
        torch_engine(more=1),
    ],
    ids=["empty", "ones", "long", "number", "statement", "escape", "list", "dtype", "seed", "more"],
)
def test_a_record_that_is_none(content: bytes, package: Path, tmp_path: Path) -> None:
    fact, fix = two_lines(torch_folder(tmp_path / "built", content), trust=["stranger", "os"])
    assert fact.startswith("net.safetensors: is not a torch engine that can be read: ")
    assert fact.isprintable()
    assert fix == "build it again"
    assert not (package / "imported").exists()

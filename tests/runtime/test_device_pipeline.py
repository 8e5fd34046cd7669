"""A pipeline of engines on a GPU, by the fakes: what one writes the next reads where it lies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autovoice.backends.cuda.array import DeviceArray
from autovoice.errors import ArtefactError, BuildError, FeedError, MismatchError, TrustError
from autovoice.machine.gpus import Gpu
from autovoice.runtime.manifest import SCHEMA, sealed
from autovoice.runtime.pipeline import Pipeline
from tests.fakes.cuda import FakeCuda, installed
from tests.fakes.tensorrt import FakeTensorRT, plan, sidecar

X = np.arange(6, dtype=np.float32).reshape(1, 6)
DIM = {"min": 1, "opt": 4, "max": 64, "formula": None, "profile": None, "multiple": 1, "buckets": []}
GPU = Gpu("NVIDIA Fake", "9.0", 80 << 30, "GPU-0")


def engine(folder: Path, name: str, reads: str, writes: str) -> dict[str, Any]:
    """An engine that doubles what it reads, in the folder, and its entry in the manifest."""
    profile = {reads: {"min": [1, 1], "opt": [1, 4], "max": [1, 64]}}
    made = plan({reads: ("float32", [1, -1])}, {writes: {"of": reads}}, [profile])
    said = {
        **sidecar(made),
        "version": "10.6.0",
        "gpu": GPU.name,
        "compute_capability": ["9.0"],
        "hardware_compatible": False,
        "version_compatible": False,
    }
    files = {f"{name}.engine": made, f"{name}.engine.json": json.dumps(said).encode()}
    digests = {}
    for file, content in files.items():
        (folder / file).write_bytes(content)
        digests[file] = sha256(content).hexdigest()
    return {
        "name": name,
        "file": f"{name}.engine",
        "sha256": digests.pop(f"{name}.engine"),
        "size": len(made),
        "beside": digests,
        "backend": {"name": "tensorrt", "loader": "tensorrt", "options": {}},
        "inputs": {reads: {"u": "y"}.get(reads, reads)},
        "outputs": {writes: {"wire": writes}},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    components = [engine(tmp_path, "first", "x", "y"), engine(tmp_path, "second", "u", "w")]
    tensors = {n: {"dtype": "float32", "shape": [1, "n"], "default": None} for n in "xyw"}
    manifest = {"schema": SCHEMA, "pipeline": "fake", "dims": {"n": DIM}, "tensors": tensors, "inputs": ["x"]}
    manifest |= {"outputs": ["w"], "components": components, "contract": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(sealed(manifest)))
    return tmp_path


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    with installed(FakeCuda()) as fake:
        module = FakeTensorRT(fake, "10")
        monkeypatch.setattr("autovoice.backends.tensorrt.engine_backend.imported", lambda tool: module)
        monkeypatch.setattr("autovoice.backends.tensorrt.engine_backend.gpus", lambda: (GPU,))
        yield fake
        assert fake.faults == []


def test_numpy_in_and_out(cuda: FakeCuda, folder: Path) -> None:
    with Pipeline.load(folder) as pipeline:
        out = pipeline.run({"x": X})
        assert type(out["w"]) is np.ndarray
        assert np.array_equal(out["w"], 4 * X)
        assert np.array_equal(pipeline.run({"x": X}, ["y"])["y"], 2 * X)
    assert cuda.leaks == {}


def test_what_stays_on_the_device_is_read_where_it_lies(cuda: FakeCuda, folder: Path) -> None:
    with Pipeline.load(folder) as pipeline:
        out = pipeline.run({"x": X}, ["y", "w"], on_device=True)
        assert all(type(v) is DeviceArray for v in out.values())
        again = pipeline.component("second").run({"u": out["y"]}, on_device=True)
        assert np.array_equal(np.asarray(again["w"]), 4 * X)
    assert cuda.leaks == {}


def test_a_graph_that_cannot_be_captured_is_noted(cuda: FakeCuda, folder: Path) -> None:
    with Pipeline.load(folder) as pipeline:
        placed = pipeline.put({"x": X})
        pipeline.run(placed)
        cuda.fail("cudaStreamBeginCapture", 901)
        assert pipeline.notes == ()
        for _ in range(4):
            assert np.array_equal(pipeline.run(placed)["w"], 4 * X)
        (note,) = pipeline.notes
        assert note.startswith("first: first.engine: no CUDA graph for 'x' (1, 6), which run without: ")


def test_feeds_put_there_once_and_run_many_times(cuda: FakeCuda, folder: Path) -> None:
    with Pipeline.load(folder) as pipeline:
        placed = pipeline.put({"x": X})
        assert type(placed["x"]) is DeviceArray
        for _ in range(5):
            assert np.array_equal(pipeline.run(placed)["w"], 4 * X)
        pipeline.wait()
        del placed
    assert cuda.leaks == {}


def test_threads_take_turns(cuda: FakeCuda, folder: Path) -> None:
    wrong = []
    with Pipeline.load(folder) as pipeline:

        def work(scale: int) -> None:
            for n in range(1, 30):
                given = np.full((1, n), scale, np.float32)
                if not np.array_equal(pipeline.run({"x": given})["w"], 4 * given):
                    wrong.append((scale, n))

        threads = [threading.Thread(target=work, args=(s,)) for s in (1, 2, 3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert wrong == []
    assert cuda.leaks == {}


def test_a_component_alone_takes_turns_too(cuda: FakeCuda, folder: Path) -> None:
    """What an engine wrote is copied before another thread's run writes over it."""
    wrong = []
    with Pipeline.load(folder) as pipeline:
        first = pipeline.component("first")

        def work(scale: int) -> None:
            for _ in range(200):
                if not np.array_equal(first.run({"x": X * scale})["y"], 2 * X * scale):
                    wrong.append(scale)

        threads = [threading.Thread(target=work, args=(s,)) for s in (1, 2, 3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert wrong == []


def test_wrong_feeds_are_named_as_anywhere(cuda: FakeCuda, folder: Path) -> None:
    with Pipeline.load(folder) as pipeline:
        with pytest.raises(FeedError, match=r"axis 1 \(n\) is 65, the built profile is 1 … 64"):
            pipeline.run({"x": np.zeros((1, 65), np.float32)})
        device = pipeline.put({"x": X})["x"]
        pipeline._binder.tensors["x"] = (np.dtype(np.float16), (1, "n"))
        with pytest.raises(FeedError, match="float32, expected float16"):
            pipeline.run({"x": device})


def test_closed_means_closed(cuda: FakeCuda, folder: Path) -> None:
    pipeline = Pipeline.load(folder)
    pipeline.close()
    pipeline.close()
    assert cuda.leaks == {}
    with pytest.raises(BuildError, match="closed"):
        pipeline.run({"x": X})


def rewritten(folder: Path, changes: dict[str, Any]) -> None:
    """The first engine's sidecar with changes, and a manifest that vouches for it."""
    path = folder / "first.engine.json"
    content = json.dumps({**json.loads(path.read_bytes()), **changes}).encode()
    path.write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["components"][0]["beside"]["first.engine.json"] = sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"version": "10.5.0"}, "was built by tensorrt 10.5.0, here is 10.6.0"),
        ({"compute_capability": ["8.9"]}, "was built for compute capability 8.9, NVIDIA Fake has 9.0"),
        ({"gpu": "NVIDIA Other"}, "was built on NVIDIA Other, here is NVIDIA Fake"),
    ],
    ids=["version", "capability", "GPU"],
)
def test_an_engine_of_another_place_is_refused_before_it_is_read(
    cuda: FakeCuda, folder: Path, change: dict[str, Any], fact: str
) -> None:
    rewritten(folder, change)
    with pytest.raises(MismatchError, match=fact):
        Pipeline.load(folder)
    assert cuda.leaks == {}


def test_an_engine_that_brings_code_along_asks_first(cuda: FakeCuda, folder: Path) -> None:
    """One for several versions of its tool holds a runtime of its own, which would run on the host."""
    rewritten(folder, {"version_compatible": True})
    with pytest.raises(TrustError) as caught:
        Pipeline.load(folder)
    assert str(caught.value) == (
        f"{folder}: loading first.engine runs code of first.engine\n"
        "  if you trust it: Pipeline.load(folder, trust=['first.engine']), or trust=[first.engine] on the command line;"
        " a package allows all that is in it"
    )
    digest = json.loads((folder / "manifest.json").read_bytes())["components"][0]["sha256"]
    for trust in (["first.engine"], [f"sha256:{digest}"]):
        with Pipeline.load(folder, trust=trust) as pipeline:
            assert np.array_equal(pipeline.run({"x": X})["w"], 4 * X)
    assert cuda.leaks == {}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"inputs": {"x": 3}}, "inputs"),
        ({"profiles": [{"x": {"min": "1"}}]}, "profiles"),
        ({"compute_capability": "9.0"}, "compute_capability"),
        ({"version_compatible": 1}, "version_compatible"),
    ],
)
def test_a_sidecar_of_another_form(cuda: FakeCuda, folder: Path, changes: dict[str, Any], key: str) -> None:
    rewritten(folder, changes)
    with pytest.raises(ArtefactError) as caught:
        Pipeline.load(folder)
    assert str(caught.value) == (
        f"{folder / 'first.engine.json'}: is not what was written, at '{key}'\n  build it again with this version"
    )


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"plugin_library": "/tmp/evil.so"}, "backend.options: unknown key 'plugin_library'"),
        ({"max_cuda_graphs": 10**9}, "backend.session.max_cuda_graphs: 1000000000"),
    ],
)
def test_options_that_no_configuration_may_have(
    cuda: FakeCuda, folder: Path, options: dict[str, Any], fact: str
) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["components"][0]["backend"]["options"] = options
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))
    with pytest.raises(ArtefactError) as caught:
        Pipeline.load(folder)
    assert caught.value.fact == f"{folder / 'manifest.json'}: first.engine: {fact}"
    assert cuda.leaks == {}

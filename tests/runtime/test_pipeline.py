"""`Pipeline.load(folder).run(feeds)` on a folder that was built by the command line, with ONNX Runtime."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from autovoice import Pipeline
from autovoice.errors import ArtefactError, BuildError, FeedError

if TYPE_CHECKING:
    from tests.conftest import Project

Feeds = Callable[..., dict[str, np.ndarray]]


@pytest.fixture
def pipeline(master: Project) -> Iterator[Pipeline]:
    with Pipeline.load(master.folder) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def modules(master: Project) -> Iterator[tuple[torch.nn.Module, torch.nn.Module]]:
    """The toy's own modules, as the build makes them: seed 0, in eval mode."""
    sys.path.insert(0, str(master.root / "src"))
    try:
        from chime.embedder import Embedder
        from chime.synth import Synth

        torch.manual_seed(0)
        embedder = Embedder(32, 8).eval()
        torch.manual_seed(0)
        yield embedder, Synth(8).eval()
    finally:
        sys.path.remove(str(master.root / "src"))
        for name in [n for n in sys.modules if n.partition(".")[0] == "chime"]:
            del sys.modules[name]


@pytest.mark.parametrize(("length", "n"), [(2, 1), (5, 2), (7, 1), (12, 2)])
def test_it_answers_as_the_modules_do_at_any_length(
    pipeline: Pipeline, modules: tuple[torch.nn.Module, torch.nn.Module], feeds: Feeds, length: int, n: int
) -> None:
    given = feeds(length, n)
    got = pipeline.run(given)
    tensors = {name: torch.from_numpy(value) for name, value in given.items()}
    with torch.inference_mode():
        features = modules[0](tensors["tokens"], tensors["present"])
        signal, energy = modules[1](features, tensors["gains"])
    assert {name: (value.shape, str(value.dtype)) for name, value in got.items()} == {
        "energy": ((n, length), "float32"),
        "limited": ((n, 2 * length), "float32"),
    }
    np.testing.assert_allclose(got["limited"], torch.tanh(signal).numpy(), atol=1e-5)
    np.testing.assert_allclose(got["energy"], energy.numpy(), atol=1e-5)


def test_what_it_says_of_itself(pipeline: Pipeline) -> None:
    assert pipeline.input_names == ("tokens", "present", "gains")
    assert set(pipeline.output_names) == {"energy", "limited"}
    assert (pipeline.dims["length"].min, pipeline.dims["length"].opt, pipeline.dims["length"].max) == (2, 5, 12)
    assert pipeline.contract == {"samples_a_token": 2}
    assert list(pipeline.components) == ["embedder", "synth", "limiter"]


def test_any_wire_can_be_asked_for(pipeline: Pipeline, feeds: Feeds) -> None:
    given = feeds()
    got = pipeline.run(given, outputs=["features", "limited", "tokens"])
    assert list(got) == ["features", "limited", "tokens"]
    assert got["features"].shape == (1, 5, 8)
    assert np.array_equal(got["tokens"], given["tokens"])
    assert np.array_equal(got["limited"], pipeline.run(given)["limited"])
    with pytest.raises(FeedError) as caught:
        pipeline.run(given, outputs=["limitd"])
    assert str(caught.value).startswith("no tensor 'limitd' in this pipeline\n  did you mean 'limited'? available: ")


def test_feeds_are_left_as_they_are(pipeline: Pipeline, feeds: Feeds) -> None:
    given = feeds()
    copies = {name: value.copy() for name, value in given.items()}
    pipeline.run(given)
    assert given.keys() == copies.keys()
    assert all(np.array_equal(given[name], copies[name]) for name in copies)


def test_an_input_may_be_a_view_that_is_not_contiguous(pipeline: Pipeline, feeds: Feeds) -> None:
    given = feeds(10)
    strided = {**given, "tokens": given["tokens"][:, ::2], "present": given["present"][:, ::2]}
    whole = {name: np.ascontiguousarray(value) for name, value in strided.items()}
    assert np.array_equal(pipeline.run(strided)["limited"], pipeline.run(whole)["limited"])


def test_components_run_alone_by_their_own_names(pipeline: Pipeline, feeds: Feeds) -> None:
    given = feeds()
    whole = pipeline.run(given, outputs=["features", "signal", "limited"])
    embedder = pipeline.component("embedder")
    assert embedder.input_names == ("ids", "present")
    features = embedder.run({"ids": given["tokens"], "present": given["present"]})
    assert np.array_equal(features["features"], whole["features"])
    limited = pipeline.component("limiter").run({"x": whole["signal"]})
    assert list(limited) == ["y"]
    assert np.array_equal(limited["y"], whole["limited"])


def test_a_component_alone_checks_what_it_is_given(pipeline: Pipeline) -> None:
    with pytest.raises(FeedError) as caught:
        pipeline.component("embedder").run({"tokens": np.ones((1, 4), np.int64)})
    assert str(caught.value).startswith("there is no input 'tokens'\n")
    with pytest.raises(FeedError) as caught:
        pipeline.component("synth").run(
            {"features": np.ones((1, 13, 8), np.float32), "gains": np.ones((1, 8), np.float32)}
        )
    assert str(caught.value).startswith("input 'features' axis 1 (length) is 13, the built profile is 2 … 12\n")
    with pytest.raises(FeedError) as caught:
        pipeline.component("sinth")
    assert str(caught.value).startswith("no component 'sinth' is loaded\n  did you mean 'synth'?")


def test_the_folder_alone_can_be_taken_elsewhere(master: Project, feeds: Feeds, tmp_path: Path) -> None:
    """To a machine with neither the store, nor the modules, nor the configuration."""
    shutil.copytree(master.folder, tmp_path / "server")
    with Pipeline.load(tmp_path / "server") as copy, Pipeline.load(master.folder) as original:
        assert np.array_equal(copy.run(feeds())["limited"], original.run(feeds())["limited"])


def test_threads_share_one_pipeline(pipeline: Pipeline, feeds: Feeds) -> None:
    every = [feeds(length) for length in range(2, 13)] * 20
    alone = [pipeline.run(given)["limited"] for given in every]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda given: pipeline.run(given)["limited"], every))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_closed_pipeline_refuses(master: Project, feeds: Feeds) -> None:
    pipeline = Pipeline.load(master.folder)
    component = pipeline.component("limiter")
    pipeline.close()
    pipeline.close()  # once more does no harm
    for call in (lambda: pipeline.run(feeds()), lambda: component.run({"x": np.ones((1, 4), np.float32)})):
        with pytest.raises(BuildError) as caught:
            call()
        assert str(caught.value) == "this pipeline is closed\n  load it again"


def test_some_components_can_be_loaded(master: Project, feeds: Feeds) -> None:
    with Pipeline.load(master.folder, components=["limiter"]) as pipeline:
        assert list(pipeline.components) == ["limiter"]
        assert pipeline.component("limiter").run({"x": np.zeros((1, 4), np.float32)})["y"].tolist() == [[0, 0, 0, 0]]
        with pytest.raises(FeedError) as caught:
            pipeline.run(feeds())
        assert str(caught.value) == (
            "only some components are loaded\n  load the whole folder, or run a component alone"
        )
        with pytest.raises(FeedError, match="no component 'synth' is loaded"):
            pipeline.component("synth")
    with pytest.raises(ArtefactError) as caught_name:
        Pipeline.load(master.folder, components=["limitr"])
    assert str(caught_name.value).splitlines()[0] == f"{master.folder}: has no component 'limitr'"


def test_a_subset_needs_no_other_file(toy: Project) -> None:
    (toy.folder / "synth.onnx").unlink()
    with Pipeline.load(toy.folder, components=["limiter", "embedder"]) as pipeline:
        assert set(pipeline.components) == {"limiter", "embedder"}


def test_half_precision_takes_and_gives_the_declared_types(toy: Project, feeds: Feeds) -> None:
    manifest = toy.root / toy.ok("precision=half").splitlines()[-1]
    with Pipeline.load(manifest.parent) as half, Pipeline.load(toy.folder) as single:
        got, expected = half.run(feeds())["limited"], single.run(feeds())["limited"]
    assert got.dtype == np.float32
    error = np.abs(got - expected).max()
    assert 0 < error < 1e-2


def test_the_manifest_is_enough(master: Project) -> None:
    """It names every file by hash, what was asked and delivered, and how close it came."""
    with Pipeline.load(master.folder) as pipeline:
        manifest = pipeline.manifest
    for component in manifest["components"]:
        assert len(component["sha256"]) == 64
        assert component["precision"]["asked"] == "fp32"
        assert set(component["precision"]["delivered"]["file"]) == {"float32"}
        assert {*component["parity"]} == {"min", "opt", "max", "between"}
        assert min(p["snr_db"] for point in component["parity"].values() for p in point.values()) > 100
    assert {*manifest["tools"]} >= {"torch", "onnx", "onnxruntime"}
    assert {c["backend"]["loader"] for c in manifest["components"]} == {"onnxruntime"}
    assert manifest["components"][0]["source"] == {
        "files": {},
        "target": "chime.embedder.Embedder",
        "kwargs": {"vocabulary": 32, "width": 8},
        "weights": {"seed": 0},
    }
    digest = hashlib.sha256((master.root / "weights" / "limiter.onnx").read_bytes()).hexdigest()
    assert manifest["components"][2]["source"] == {"files": {"onnx": digest}}
    text = (master.folder / "manifest.json").read_text()
    assert str(master.root) not in text  # it tells no one where it was built

"""The runtime on a real GPU: arrays that stay there, CUDA graphs, memory, threads."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from autovoice.errors import BuildError, FeedError
from autovoice.runtime.pipeline import Pipeline
from tests.gpu.conftest import flow_feeds

torch = pytest.importorskip("torch")


def used() -> int:
    free, total = torch.cuda.mem_get_info()
    return total - free


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.linalg.norm(a - b) <= 1e-3 * np.linalg.norm(b))


def test_torch_tensors_go_in_and_out_without_a_copy(pipeline: Pipeline) -> None:
    flow = pipeline.component("flow_decoder")
    feeds = flow_feeds(100)
    expected = flow.run(feeds)["output_latent"]
    placed = {n: torch.from_numpy(v).cuda() for n, v in feeds.items()}
    out = flow.run(placed, on_device=True)["output_latent"]
    tensor = torch.from_dlpack(out)
    assert tensor.is_cuda
    assert tensor.data_ptr() == out.ptr
    assert torch.as_tensor(out, device="cuda").data_ptr() == out.ptr
    assert close(tensor.cpu().numpy(), expected)


def test_cupy_arrays_too(pipeline: Pipeline) -> None:
    cupy = pytest.importorskip("cupy")
    flow = pipeline.component("flow_decoder")
    feeds = flow_feeds(100)
    out = flow.run({n: cupy.asarray(v) for n, v in feeds.items()}, on_device=True)["output_latent"]
    assert cupy.asarray(out).data.ptr == out.ptr
    assert close(cupy.asnumpy(cupy.asarray(out)), flow.run(feeds)["output_latent"])


def test_what_torch_computes_before_is_what_the_engine_reads(pipeline: Pipeline) -> None:
    """No call to synchronise: the engine's stream is ordered with torch's default stream."""
    flow = pipeline.component("flow_decoder")
    feeds = flow_feeds(512)
    placed = {n: torch.from_numpy(v).cuda() for n, v in feeds.items()}
    for scale in (1.0, 2.0, 3.0, 4.0, 5.0):
        slow = placed["latent_input"].clone()
        for _ in range(50):
            slow = slow * 1.0 + 0.0
        given = {**placed, "latent_input": slow * scale}
        got = torch.from_dlpack(flow.run(given, on_device=True)["output_latent"]).clone()
        expected = flow.run({**feeds, "latent_input": feeds["latent_input"] * np.float32(scale)})["output_latent"]
        assert close(got.cpu().numpy(), expected)


def test_the_third_call_is_a_graph_and_answers_the_same(pipeline: Pipeline) -> None:
    flow = pipeline.component("flow_decoder")
    feeds = flow.session.put(flow_feeds(128))
    answers = [np.asarray(flow.session.run(feeds)["output_latent"]) for _ in range(5)]
    assert all(np.array_equal(a, answers[0]) for a in answers[1:])
    assert flow.session.notes == []
    other = flow.run(flow_feeds(131))["output_latent"]
    assert other.shape == (1, 192, 131)
    assert np.array_equal(np.asarray(flow.session.run(feeds)["output_latent"]), answers[0])


def test_engines_hand_their_outputs_on_where_they_are(pipeline: Pipeline) -> None:
    wires = ("output_latent", "mel_output", "audio_output")
    out = pipeline.run(everything(pipeline, 200), wires, on_device=True)
    assert [type(v).__name__ for v in out.values()] == ["DeviceArray"] * 3
    expected = np.asarray(out["mel_output"])  # a copy: the next run writes where this lies
    again = pipeline.component("mel_projection").session.run({"latent_input": out["output_latent"]})
    assert np.array_equal(np.asarray(again["mel_output"]), expected)


def test_a_thousand_lengths_do_not_grow_memory(pipeline: Pipeline) -> None:
    rng = np.random.default_rng(0)
    for frames in (1024, *range(100, 109)):  # as many graphs as are kept, and the largest buffers
        for _ in range(3):
            pipeline.run(everything(pipeline, frames, batch=2))
    before = used()
    for _ in range(1000):
        pipeline.run(everything(pipeline, int(rng.integers(16, 1025)), batch=int(rng.integers(1, 3))), on_device=True)
    pipeline.wait()
    assert used() - before <= 2 << 20


def test_a_loaded_pipeline_takes_weights_and_the_largest_activations(half: Path) -> None:
    with Pipeline.load(half):  # contexts and libraries of the process itself
        pass
    before = used()
    with Pipeline.load(half) as pipeline:
        taken = used() - before
        weights = sum(c["size"] for c in pipeline.manifest["components"])
        # no list of engines: one that is referred to keeps its weights
        activations = max(c.session.engine.device_memory_size_v2 for c in pipeline.components.values())
    slack = 32 << 20  # what the driver rounds up to, and keeps for each engine
    assert taken <= weights + 1.2 * activations + slack
    assert used() - before <= 4 << 20


def test_several_pipelines_in_threads(half: Path) -> None:
    feeds = {t: flow_feeds(t, seed=t) for t in (64, 128, 256)}
    with Pipeline.load(half) as one:
        expected = {t: one.component("flow_decoder").run(f)["output_latent"] for t, f in feeds.items()}
    wrong: list[int] = []

    def work(t: int) -> None:
        with Pipeline.load(half, components=["flow_decoder"]) as own:
            for _ in range(30):
                if not close(own.component("flow_decoder").run(feeds[t])["output_latent"], expected[t]):
                    wrong.append(t)

    threads = [threading.Thread(target=work, args=(t,)) for t in feeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_one_pipeline_from_several_threads(pipeline: Pipeline) -> None:
    feeds = {t: everything(pipeline, t) for t in (50, 100)}
    expected = {t: pipeline.run(f)["audio_output"] for t, f in feeds.items()}
    wrong: list[int] = []

    def work(t: int) -> None:
        for _ in range(20):
            if not close(pipeline.run(feeds[t])["audio_output"], expected[t]):
                wrong.append(t)

    threads = [threading.Thread(target=work, args=(t,)) for t in feeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_errors_are_those_of_any_session(pipeline: Pipeline) -> None:
    flow = pipeline.component("flow_decoder")
    with pytest.raises(FeedError, match=r"is 1025, the built profile is 16 … 1024"):
        flow.run(flow_feeds(1025))
    with pytest.raises(FeedError, match="float64, expected float32"):
        flow.run({n: v.astype(np.float64) for n, v in flow_feeds(64).items()})
    pipeline.close()
    with pytest.raises(BuildError, match="closed"):
        flow.run(flow_feeds(64))


def everything(pipeline: Pipeline, frames: int, batch: int = 1) -> dict[str, np.ndarray]:
    """Inputs of the whole pipeline."""
    rng = np.random.default_rng(frames)
    contract = pipeline.contract
    samples = -(-frames * contract["hop"] * contract["content_sample_rate"] // contract["sample_rate"])
    return {
        "input_audio": 0.1 * rng.standard_normal((batch, samples), np.float32),
        "f0_input": rng.uniform(80, 800, (batch, frames)).astype(np.float32),
        "voiced_mask": rng.random((batch, frames)) < 0.8,
        "speaker_embedding": rng.standard_normal((batch, 256), np.float32),
        "latent_input": rng.standard_normal((batch, 192, frames), np.float32),
    }

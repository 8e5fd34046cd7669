from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from autovoice.backends.tensorrt.builder import engine_from_request
from autovoice.backends.tensorrt.calibration_cache import Cache, cache_from, given_cache, merged
from autovoice.backends.tensorrt.calibration_groups import Grouper, split
from autovoice.backends.tensorrt.calibration_policy import float_nodes
from autovoice.backends.tensorrt.calibrators import calibrate, check_calibrated
from autovoice.backends.tensorrt.log import Log
from autovoice.backends.tensorrt.network import network_from_onnx
from autovoice.backends.tensorrt.options import build_options
from autovoice.backends.tensorrt.request import Request
from autovoice.backends.tensorrt.versions import TENSORRT, Features, features
from autovoice.errors import BuildError, CalibrationError
from tests.fakes.cuda import FakeCuda
from tests.fakes.tensorrt import FakeTensorRT, HostMemory, Severity, needs_init

Feeds = dict[str, np.ndarray]
Sample = tuple[str, Feeds]

INPUTS = {
    "mel": {"dtype": "float32", "shape": ["batch", 4, "frames"]},
    "noise": {"dtype": "float32", "shape": ["batch", 4, "2*frames"]},
    "tokens": {"dtype": "int64", "shape": ["batch", "frames"]},
    "voiced": {"dtype": "bool", "shape": ["batch", "frames"]},
    "units": {"dtype": "int32", "shape": ["batch", "units"]},
}
PROFILE = {
    "mel": {"min": [1, 4, 8], "opt": [1, 4, 32], "max": [2, 4, 64]},
    "noise": {"min": [1, 4, 16], "opt": [1, 4, 64], "max": [2, 4, 128]},
    "tokens": {"min": [1, 8], "opt": [1, 32], "max": [2, 64]},
    "voiced": {"min": [1, 8], "opt": [1, 32], "max": [2, 64]},
    "units": {"min": [1, 2], "opt": [1, 9], "max": [2, 20]},
}
IMPLICIT = {"calibrator": "entropy2", "min_share": None, "float16": True, "prefer_int8": False}
POLICY = {"op_types": ["Conv", "MatMul", "Gemm"], "include": [], "exclude": [], "first": True, "last": True}
KEEP: dict[str, Any] = {"op_types": [], "nodes": [], "inputs": []}


def feeds(frames: int, peak: float = 1.0, **changes: Any) -> Feeds:
    """Noise whose greatest value is `peak`, in the first frame; the frame's own number elsewhere."""
    mel = np.tile(np.arange(frames, dtype=np.float32) / 1000, (1, 4, 1))
    mel[0, 0, 0] = peak
    made = {
        "mel": mel,
        "noise": np.ones((1, 4, 2 * frames), np.float32),
        "tokens": np.arange(frames, dtype=np.int64)[None],
        "voiced": np.ones((1, frames), bool),
        "units": np.full((1, -(-frames // 3)), 7, np.int32),
    }
    return {n: v for n, v in (made | changes).items() if v is not None}


def samples_of(*frames: int) -> Callable[[], Iterator[Sample]]:
    return lambda: ((f"{i:05d}.npz", feeds(n, 1.0 + i)) for i, n in enumerate(frames))


def _model(path: Path) -> Path:
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    def value(name: str, kind: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, INPUTS[name]["shape"])

    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "int32": TensorProto.INT32}
    kinds["bool"] = TensorProto.BOOL
    nodes = [
        helper.make_node("Conv", ["mel", "first.weight"], ["a"], "conv_a+conv_b", pads=[1, 1]),
        helper.make_node("LeakyRelu", ["a"], ["b"], "act"),
        helper.make_node("ConvTranspose", ["b", "up.weight"], ["c"], "up", pads=[1, 0], strides=[2]),
        helper.make_node("Shape", ["tokens"], ["s"], "shape"),
        helper.make_node("Add", ["c", "noise"], ["d"], "add"),
        helper.make_node("Exp", ["d"], ["e"], "exp"),
        helper.make_node("Softmax", ["e"], ["f"], "softmax", axis=1),
        helper.make_node("Conv", ["f", "last.weight"], ["y"], "conv_z", pads=[1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [value(n, kinds[str(t["dtype"])]) for n, t in INPUTS.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, "2*frames"])],
        [weight("first.weight", 4, 4, 3), weight("up.weight", 4, 4, 3), weight("last.weight", 4, 4, 3)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


class Calibrating(FakeTensorRT):
    """TensorRT 10 whose builder calls the calibrator as the real one does, and keeps what it was given."""

    def __init__(self, cuda: FakeCuda, generation: str = "10") -> None:
        super().__init__(cuda, generation)
        trt = self
        #: each calibration: its shapes, and the inputs of every batch
        self.seen: list[tuple[dict[str, tuple[int, ...]], list[Feeds]]] = []
        self.names: Callable[[list[str]], list[str]] = list
        self.takes_caches, self.header = True, "TRT-100600-EntropyCalibration2"

        class Builder(trt.Builder):  # type: ignore[misc, name-defined]
            def build_serialized_network(self, network: Any, config: Any) -> HostMemory | None:
                trt.built.append((network, config))
                if trt.told_to_fail("build", self.logger):
                    return None
                needs_init(config.int8_calibrator)
                if trt.takes_caches and config.int8_calibrator.read_calibration_cache():
                    return HostMemory(b"engine")
                return trt.calibrated(network, config, self.logger)

        self.Builder = Builder

    def calibrated(self, network: Any, config: Any, logger: Any) -> HostMemory | None:
        calibrator = config.int8_calibrator
        shapes = {n: s["opt"] for n, s in config.calibration_profile.shapes.items()}
        if self.takes_caches:  # then only calibrations come here, each at one shape
            assert all(s["min"] == s["max"] == shapes[n] for n, s in config.profiles[0].shapes.items())
        kinds = {t.name: t.dtype.name for t in network.inputs}
        batches: list[Feeds] = []
        while (pointers := calibrator.get_batch(self.names(list(kinds)))) is not None:
            assert all(isinstance(p, int) and p for p in pointers)
            numpy_kinds = {"FLOAT": np.float32, "INT64": np.int64, "INT32": np.int32, "BOOL": np.bool_}
            read = {
                n: self.cuda.read(p, shapes[n], numpy_kinds[kinds[n]]) for n, p in zip(kinds, pointers, strict=True)
            }
            batches.append(read)
        self.seen.append((shapes, batches))
        if not batches:
            logger.log(Severity.ERROR, "Calibration failure occurred with no scaling factors detected.")
            return None
        peaks = {n: max(float(np.abs(b[n]).max()) for b in batches) for n in ("mel", "noise")}
        lines = [f"{n}: {struct.pack('>f', peak / 127).hex()}" for n, peak in peaks.items()]
        lines += [f"{x}: {struct.pack('>f', shapes['mel'][2]).hex()}" for x in "bf"]  # more, the longer
        calibrator.write_calibration_cache(memoryview("\n".join([self.header, *lines, ""]).encode()))
        return HostMemory(b"thrown away")


class Build:
    """What the builder hands to `calibrate`."""

    def __init__(self, trt: Any, tmp_path: Path) -> None:
        self.trt, self.log = trt, Log(trt)
        path = _model(tmp_path / "model.onnx")
        self.request = Request(
            path,
            "int8",
            (PROFILE,),
            build_options({"workspace_mb": 64}),
            {},
            INPUTS,
            KEEP,
            path,
            implicit=IMPLICIT,
            samples=samples_of(12, 30, 31, 60),
            quantize=POLICY,
        )

    def change(self, **changes: Any) -> Build:
        self.request = replace(self.request, **changes)
        return self

    def calibrate(self) -> bytes:
        has = Features(True, True, True, False)
        self.builder = self.trt.Builder(self.log.logger)
        self.network, _ = network_from_onnx(self.trt, self.builder, self.request.model, has, self.log, typed=False)
        self.config = self.builder.create_builder_config()
        return calibrate(self.trt, self.builder, self.network, self.config, self.request, self.log)

    def layers(self) -> dict[str, str]:
        """Layer → the precision it was set to, and its outputs were too, but for the network's."""
        asked = [x for x in self.network.layers if x.precision_is_set]
        ends = [x for x in asked if x.get_output(0).is_network_output]
        assert all(x.output_types == ({} if x in ends else {0: x.precision}) for x in asked)
        return {x.name: x.precision.name for x in asked}


@pytest.fixture
def build(cuda: FakeCuda, tmp_path: Path) -> Build:
    return Build(Calibrating(cuda), tmp_path)


def two_lines(error: pytest.ExceptionInfo[Any]) -> str:
    text = str(error.value)
    assert len(text.splitlines()) == 2
    assert all(line.strip() for line in text.splitlines())
    return text


# -- groups ----------------------------------------------------------------------------------------------------------


def test_lengths_are_cut_where_cropping_loses_least() -> None:
    parts = split([10, 11, 12, 30, 30, 31, 90, 100])
    assert [list(p) for p in parts] == [[0, 1, 2], [3, 4, 5], [6, 7]]


@pytest.mark.parametrize(
    ("lengths", "parts"),
    [([5], 1), ([5, 5, 5], 1), ([100, 101, 102], 1), ([5, 9], 2), ([1, 2, 3, 4, 5, 6, 7], 3), (list(range(1, 999)), 3)],
)
def test_there_are_at_most_three_groups_and_no_more_than_help(lengths: list[int], parts: int) -> None:
    made = split(lengths)
    assert len(made) == parts
    assert [i for p in made for i in p] == list(range(len(lengths)))


def test_groups_have_their_smallest_sizes_within_the_profile() -> None:
    grouper = Grouper(INPUTS, (PROFILE,))
    groups = grouper.groups(samples_of(60, 12, 200, 31, 30))
    assert [sorted(g.places) for g in groups] == [[1], [3, 4], [0, 2]]
    assert [g.shapes["mel"] for g in groups] == [(1, 4, 12), (1, 4, 30), (1, 4, 60)]
    assert [g.shapes["noise"] for g in groups] == [(1, 4, 24), (1, 4, 60), (1, 4, 120)]  # evaluated, not measured
    assert [g.shapes["units"] for g in groups] == [(1, 4), (1, 10), (1, 20)]  # 67 of the longest are clipped
    assert [g.batch for g in groups] == [1, 1, 1]


def test_samples_are_cropped_alike_and_never_padded() -> None:
    grouper = Grouper(INPUTS, (PROFILE,))
    samples = samples_of(30, 31, 12)
    long = grouper.groups(samples)[-1]
    for (name, cropped), frames in zip(grouper.cropped(long, samples), (30, 31), strict=True):
        whole = dict(samples())[name]
        assert {n: v.shape for n, v in cropped.items()} == dict(long.shapes)
        assert all(v.dtype == whole[n].dtype for n, v in cropped.items())
        np.testing.assert_array_equal(cropped["mel"], feeds(frames, whole["mel"][0, 0, 0])["mel"][..., :30])
        np.testing.assert_array_equal(cropped["tokens"], np.arange(30)[None])


def test_an_axis_whose_dims_nothing_else_tells_is_an_axis_of_its_own() -> None:
    inputs = {"x": {"dtype": "float32", "shape": [1, "256*frames"]}}
    profile = {"x": {"min": [1, 256], "opt": [1, 1024], "max": [1, 2048]}}
    groups = Grouper(inputs, (profile,)).groups(lambda: iter([("a", {"x": np.ones((1, 4096), np.float32)})]))
    assert [g.shapes for g in groups] == [{"x": (1, 2048)}]


def test_several_profiles_are_one_range() -> None:
    inputs = {"x": {"dtype": "float32", "shape": ["frames"]}}
    profiles = [{"x": {"min": [a], "opt": [b], "max": [b]}} for a, b in ((8, 16), (17, 64))]
    groups = Grouper(inputs, profiles).groups(lambda: iter([("a", {"x": np.ones(99, np.float32)})]))
    assert [g.shapes for g in groups] == [{"x": (64,)}]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (feeds(12, mel=None), "sample s: input 'mel' is missing"),
        (feeds(12, mel=np.ones((1, 4, 12))), "sample s: input 'mel' is float64, expected float32"),
        (feeds(12, tokens=np.ones((1, 12), np.int32)), "sample s: input 'tokens' is int32, expected int64"),
        (feeds(12, voiced=np.ones(12, bool)), r"sample s: input 'voiced' has shape \[12\]"),
        (feeds(12, mel=np.ones((1, 5, 12), np.float32)), "sample s: input 'mel' axis 1 is 5, expected 4"),
        (feeds(12, tokens=np.ones((1, 13), np.int64)), r"sample s: input 'tokens' axis 1 \(frames\) is 13"),
        (feeds(4), "sample s: frames is 4, the profile begins at 8"),
    ],
    ids=["missing", "dtype", "integer", "rank", "static axis", "shared symbol", "too short"],
)
def test_a_sample_that_does_not_fit_is_named_with_its_input(build: Build, sample: Feeds, message: str) -> None:
    with pytest.raises(CalibrationError, match=message) as error:
        build.change(samples=lambda: iter([("s", sample)])).calibrate()
    two_lines(error)
    assert build.trt.built == []


def test_no_sample_at_all(build: Build) -> None:
    with pytest.raises(CalibrationError, match="there is no sample at all") as error:
        build.change(samples=lambda: iter(())).calibrate()
    two_lines(error)
    with pytest.raises(CalibrationError, match="neither samples nor a calibration cache") as error:
        build.change(samples=None).calibrate()
    two_lines(error)


# -- calibrations ----------------------------------------------------------------------------------------------------


def test_every_group_is_calibrated_at_its_own_shape_and_the_largest_scales_win(build: Build) -> None:
    content = build.calibrate()
    assert [shapes["mel"] for shapes, _ in build.trt.seen] == [(1, 4, 12), (1, 4, 30), (1, 4, 60)]
    assert [len(batches) for _, batches in build.trt.seen] == [1, 2, 1]
    cache = cache_from(content, "it")
    assert (cache.version, cache.algorithm) == ("100600", "EntropyCalibration2")
    assert cache.scales == {"mel": np.float32(4 / 127), "noise": np.float32(1 / 127), "b": 60.0, "f": 60.0}
    assert "calibrating with 2 samples at mel [1, 4, 30], " in build.log.text()


def test_batches_are_the_samples_in_every_type(build: Build) -> None:
    build.change(samples=samples_of(20)).calibrate()
    ((_, batches),) = build.trt.seen
    for name, array in feeds(20, 1.0).items():
        np.testing.assert_array_equal(batches[0][name], array)


def test_calibration_builds_are_cheap_and_have_the_flags_of_the_final_one(build: Build) -> None:
    build.calibrate()
    flags = build.trt.BuilderFlag
    assert len(build.trt.built) == 3
    for _, config in build.trt.built:
        assert config.builder_optimization_level == 0
        assert config.pools == {build.trt.MemoryPoolType.WORKSPACE: 64 << 20}
        assert config._flags == {flags.INT8, flags.FP16, flags.OBEY_PRECISION_CONSTRAINTS}
        assert config.timing_cache is None
    wanted = {flags.INT8, flags.FP16, flags.OBEY_PRECISION_CONSTRAINTS}
    assert build.config._flags - {flags.TF32} == wanted


def test_the_final_build_reads_the_merged_cache_and_asks_for_nothing(build: Build) -> None:
    content = build.calibrate()
    assert build.config.int8_calibrator.read_calibration_cache() == content
    assert build.config.calibration_profile.shapes["mel"]["opt"] == (1, 4, 32)
    assert build.builder.build_serialized_network(build.network, build.config) is not None
    check_calibrated(build.config)
    assert len(build.trt.seen) == 3


def test_a_merged_cache_that_is_not_taken_is_said(build: Build) -> None:
    build.calibrate()
    build.trt.takes_caches = False
    assert build.builder.build_serialized_network(build.network, build.config) is None
    assert build.log.why() == (
        "tensorrt 10.6.0 does not take the calibration cache of its own calibrations: it asks for samples"
    )
    with pytest.raises(CalibrationError, match="it asks for samples") as error:
        check_calibrated(build.config)
    two_lines(error)


def test_min_max_calibrators(build: Build) -> None:
    build.trt.header = "TRT-100600-MinMaxCalibration"
    content = build.change(implicit=IMPLICIT | {"calibrator": "minmax"}).calibrate()
    assert content.startswith(b"TRT-100600-MinMaxCalibration\n")
    assert isinstance(build.config.int8_calibrator, build.trt.IInt8MinMaxCalibrator)


def test_without_float16(build: Build) -> None:
    build.change(implicit=IMPLICIT | {"float16": False}).calibrate()
    assert not build.config.get_flag(build.trt.BuilderFlag.FP16)
    assert set(build.layers().values()) == {"FLOAT"}


def test_a_calibration_that_fails_says_why(build: Build) -> None:
    build.trt.fail("build", "no tactic for node conv_z")
    with pytest.raises(
        BuildError, match=r"could not calibrate at mel \[1, 4, 12\], .*no tactic for node conv_z"
    ) as error:
        build.calibrate()
    two_lines(error)


def test_a_calibration_that_writes_nothing_says_so(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.trt, "calibrated", lambda *_: HostMemory(b"engine"))
    with pytest.raises(BuildError, match="wrote no calibration cache") as error:
        build.calibrate()
    two_lines(error)


@pytest.mark.parametrize("after", [0, 1], ids=["at once", "after a batch"])
def test_an_exception_inside_a_callback_is_not_lost(build: Build, after: int) -> None:
    reads = 0

    def samples() -> Iterator[Sample]:
        nonlocal reads
        reads += 1
        yield from [("a", feeds(12))] * (after if reads > 1 else 2)
        if reads > 1:  # the first time they are only measured
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        build.change(samples=samples).calibrate()
    assert build.trt.cuda.device_bytes == 0


def test_an_interruption_is_not_lost(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build.trt.cuda, "cudaMemcpyAsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build.calibrate()


def test_an_input_that_is_not_there_is_named(build: Build) -> None:
    build.trt.names = lambda names: [*names, "speaker"]
    with pytest.raises(CalibrationError, match="TensorRT asks for input 'speaker'") as error:
        build.calibrate()
    two_lines(error)


# -- memory ----------------------------------------------------------------------------------------------------------


def test_memory_is_one_sample_of_a_group(build: Build) -> None:
    build.change(samples=samples_of(*[60] * 50)).calibrate()
    assert build.trt.cuda.peak == sum(v.nbytes for v in feeds(60).values())
    assert build.trt.cuda.device_bytes == 0


def test_no_memory_names_the_input_what_was_asked_and_what_is_free(build: Build) -> None:
    build.trt.cuda.capacity = 400
    with pytest.raises(BuildError, match="calibration input 'noise' of 384 bytes") as error:
        build.calibrate()
    assert "208 bytes of 400 are free" in two_lines(error)
    assert build.trt.built == []


def test_a_null_pointer_is_never_handed_on(build: Build) -> None:
    build.trt.cuda.fail_null("cudaMalloc")
    with pytest.raises(BuildError, match="calibration input 'mel' of 192 bytes on the GPU: a null pointer") as error:
        build.calibrate()
    two_lines(error)
    assert build.trt.seen == []


def test_a_copy_that_fails_names_the_sample(build: Build) -> None:
    build.trt.cuda.fail("cudaMemcpyAsync", 700)
    with pytest.raises(BuildError, match=r"copying input 'mel' of calibration sample 00000\.npz") as error:
        build.calibrate()
    two_lines(error)


# -- caches ----------------------------------------------------------------------------------------------------------

GIVEN = b"TRT-100300-EntropyCalibration2\nmel: 3c010a14\nb: 3d810a14\n(Unnamed Layer* 3) [Shuffle]_output: 3f800000\n"


def test_a_cache_is_read_and_written_as_tensorrt_does() -> None:
    cache = cache_from(GIVEN, "it")
    assert cache.scales["(Unnamed Layer* 3) [Shuffle]_output"] == 1.0
    assert cache.scales["mel"] == pytest.approx(1 / 127, rel=1e-3)
    assert cache.content() == GIVEN
    assert cache_from(b"TRT-8-MinMaxCalibration\na:b: c: 0\n", "it").scales == {"a:b: c": 0.0}


def test_merging_takes_the_largest_scale_of_each_tensor() -> None:
    nan = float("nan")
    caches = [Cache("1", "X", s) for s in ({"a": 1.0, "b": 5.0, "c": nan}, {"a": 2.0, "c": 3.0}, {"d": 4.0, "a": nan})]
    assert merged(caches) == Cache("1", "X", {"a": 2.0, "b": 5.0, "c": 3.0, "d": 4.0})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no calibration cache, it is empty"),
        (b"\x89PNG\r\n\x1a\n", "is no calibration cache, it begins with "),
        (b"{}", "is no calibration cache"),
        (b"TRT-100600-EntropyCalibration2\nmel: loud\n", "line 2 holds no scale: 'mel: loud'"),
        (b"TRT-100600-EntropyCalibration2\n3c010a14\n", "line 2 holds no scale"),
        (b"TRT-100600-EntropyCalibration2\n", "holds no scale of any tensor"),
        (
            b"TRT-100600-MinMaxCalibration\nmel: 3c010a14\n",
            "holds scales of MinMaxCalibration, the calibrator is entropy2",
        ),
        (b"TRT-100600-LegacyCalibration\nmel: 3c010a14\n", "holds scales of LegacyCalibration"),
    ],
    ids=["empty", "binary", "JSON", "no number", "no name", "no line", "minmax", "legacy"],
)
def test_a_file_that_is_no_cache_of_this_calibrator(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "calibration.cache"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=message) as error:
        given_cache(path, "entropy2")
    assert str(path) in two_lines(error)


def test_a_cache_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read: No such file") as error:
        given_cache(tmp_path / "none", "entropy2")
    two_lines(error)


def test_a_given_cache_is_used_as_it_is_without_a_sample_read_and_never_written(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "mine.cache"
    path.write_bytes(GIVEN)
    path.chmod(0o400)

    def never() -> Iterator[Sample]:
        raise AssertionError("samples were read")

    assert build.change(calibration_cache=path, samples=never).calibrate() == GIVEN
    assert build.trt.built == []
    assert build.config.int8_calibrator.read_calibration_cache() == GIVEN
    build.config.int8_calibrator.write_calibration_cache(memoryview(b"other"))
    assert path.read_bytes() == GIVEN
    assert f"{path}: has no scale of 1 of 3 tensors that are multiplied" in build.log.text()


def test_a_given_cache_of_another_network(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "other.cache"
    path.write_bytes(b"TRT-100600-EntropyCalibration2\nimages: 3c010a14\n")
    with pytest.raises(CalibrationError, match="has no scale of any tensor that is multiplied here") as error:
        build.change(calibration_cache=path).calibrate()
    assert "it has images" in two_lines(error)


def test_a_given_cache_that_is_not_taken_is_said(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "mine.cache"
    path.write_bytes(GIVEN)
    build.change(calibration_cache=path).calibrate()
    build.trt.takes_caches = False
    build.builder.build_serialized_network(build.network, build.config)
    with pytest.raises(CalibrationError, match=r"does not take the calibration cache .*mine\.cache") as error:
        check_calibrated(build.config)
    two_lines(error)


# -- policy ----------------------------------------------------------------------------------------------------------


def test_what_the_policy_leaves_out_and_what_is_delicate_is_held_higher(build: Build) -> None:
    build.calibrate()
    assert build.layers() == {"up": "HALF", "add": "HALF", "exp": "HALF", "softmax": "HALF"}


@pytest.mark.parametrize(
    ("policy", "held"),
    [
        ({"exclude": ["last.*"]}, {"up", "conv_z"}),
        ({"include": ["conv_a*"]}, {"up", "conv_z"}),
        ({"first": False}, {"up", "conv_a+conv_b"}),
        ({"op_types": ["Conv", "ConvTranspose"], "last": False}, {"conv_z"}),
        ({"nodes": ["conv_z"]}, {"up", "conv_a+conv_b"}),
    ],
    ids=["exclude", "include", "first", "last", "names"],
)
def test_policies(build: Build, policy: dict[str, Any], held: set[str]) -> None:
    build.change(quantize=POLICY | policy).calibrate()
    assert build.layers().keys() == held | {"add", "exp", "softmax"}


def test_what_is_kept_is_held_in_float32(build: Build) -> None:
    build.change(keep=KEEP | {"nodes": ["conv_z", "shape"], "op_types": ["Add"]}).calibrate()
    types = {"up": "HALF", "exp": "HALF", "softmax": "HALF", "add": "FLOAT", "conv_z": "FLOAT"}
    assert build.layers() == types  # a shape computes no floats


@pytest.mark.parametrize("kept", [[], ["conv_z"]])
def test_int8_is_preferred_for_the_convolutions_that_the_policy_chooses(build: Build, kept: list[str]) -> None:
    build.change(implicit=IMPLICIT | {"prefer_int8": True}, keep=KEEP | {"nodes": kept}).calibrate()
    types = {x.name: x.precision.name for x in build.network.layers if x.precision_is_set}
    last = "FLOAT" if kept else "INT8"
    assert types == {
        "up": "HALF",
        "add": "HALF",
        "exp": "HALF",
        "softmax": "HALF",
        "conv_a+conv_b": "INT8",
        "conv_z": last,
    }
    assert all(x.output_types == {} for x in build.network.layers if x.precision.name == "INT8")  # the builder's
    flags = build.trt.BuilderFlag
    for config in (build.config, *(config for _, config in build.trt.built)):
        assert config._flags - {flags.TF32} == {flags.INT8, flags.FP16, flags.PREFER_PRECISION_CONSTRAINTS}


def test_without_a_convolution_to_prefer_what_is_held_is_an_obligation(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "autovoice.backends.tensorrt.calibrators.float_nodes", lambda *_: ({"up": "float16"}, {"up"}, {"exp"})
    )
    build.change(implicit=IMPLICIT | {"prefer_int8": True}).calibrate()
    assert build.layers() == {"up": "HALF"}  # a product that is no convolution is left to the builder
    assert build.config.get_flag(build.trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    assert not build.config.get_flag(build.trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)


def test_nothing_held_needs_no_obligation(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autovoice.backends.tensorrt.calibrators.float_nodes", lambda *_: ({}, set(), set()))
    build.calibrate()
    assert not build.config.get_flag(build.trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)


def test_a_merged_convolution_is_quantized_if_all_its_parts_may_be(tmp_path: Path) -> None:
    model = _model(tmp_path / "model.onnx")
    graph = onnx.load(model)
    parts = [helper.make_node("Conv", ["mel", "first.weight"], [n], f"conv_{n}") for n in "ab"]
    graph.graph.node[0].CopyFrom(parts[0])
    graph.graph.node.insert(1, parts[1])
    graph.graph.node[2].input[0] = "b"
    graph.graph.node[2].output[0] = "b2"
    graph.graph.node[3].input[0] = "b2"
    named = tmp_path / "named.onnx"
    onnx.save(graph, named)
    assert float_nodes(model, named, POLICY, KEEP, True)[1] == {"up"}
    assert float_nodes(model, named, POLICY | {"exclude": ["conv_b"]}, KEEP, True)[1] == {"up", "conv_a+conv_b"}
    held, _, _ = float_nodes(model, named, POLICY, KEEP | {"nodes": ["conv_b"]}, True)
    assert held["conv_a+conv_b"] == "float32"
    assert float_nodes(model, named, POLICY, KEEP, True)[2] == {"conv_a+conv_b", "conv_z"}
    assert float_nodes(model, named, POLICY | {"exclude": ["conv_b"]}, KEEP, True)[2] == {"conv_z"}


def test_a_sum_of_tensors_is_held_and_a_bias_is_not(tmp_path: Path) -> None:
    model = _model(tmp_path / "model.onnx")
    assert "add" in float_nodes(model, model, POLICY, KEEP, True)[0]
    graph = onnx.load(model)
    graph.graph.initializer.append(numpy_helper.from_array(np.ones((1, 4, 1), np.float32), "bias"))
    graph.graph.node[4].input[1] = "bias"
    onnx.save(graph, model)
    assert "add" not in float_nodes(model, model, POLICY, KEEP, True)[0]


def test_layers_are_known_by_their_metadata_and_by_name(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = build.trt.OnnxParser.parse

    def renamed(self: Any, *args: Any) -> Any:
        done = parsed(self, *args)
        for i, layer in enumerate(self._network.layers):
            if layer.name == "up":
                layer.name = f"(Unnamed Layer* {i}) [Deconvolution]"
            else:
                layer.metadata = ""
        return done

    monkeypatch.setattr(build.trt.OnnxParser, "parse", renamed)
    build.calibrate()
    assert build.layers().keys() == {"(Unnamed Layer* 2) [Deconvolution]", "add", "exp", "softmax"}


def test_a_product_that_cannot_be_held_is_named(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autovoice.backends.tensorrt.calibration_policy.nodes_of", lambda layer: ())
    with pytest.raises(BuildError, match="no layer of node 'up', which the policy keeps out of int8") as error:
        build.calibrate()
    two_lines(error)


# -- what cannot be calibrated -----------------------------------------------------------------------------------------


def test_tensorrt_11_refuses(cuda: FakeCuda, tmp_path: Path) -> None:
    build = Build(FakeTensorRT(cuda, "11"), tmp_path)
    with pytest.raises(BuildError, match="TensorRT 11") as error:
        build.calibrate()
    assert "precision=int8 lowers to explicit Q/DQ there" in two_lines(error)


def test_an_input_that_is_not_declared_or_of_another_type(build: Build) -> None:
    declared = {n: t for n, t in INPUTS.items() if n != "units"}
    with pytest.raises(
        CalibrationError, match="the network reads 'units', which is no input of the component"
    ) as error:
        build.change(inputs=declared).calibrate()
    two_lines(error)
    with pytest.raises(CalibrationError, match="the network reads 'units' as int32, declared int64") as error:
        build.change(inputs=INPUTS | {"units": INPUTS["units"] | {"dtype": "int64"}}).calibrate()
    two_lines(error)


def test_features_know_who_has_calibrators() -> None:
    from packaging.version import Version

    assert [features(TENSORRT, Version(v)).implicit_int8 for v in ("10.0.1", "10.13.2", "11.0")] == [True, True, False]


def test_a_whole_build_keeps_the_cache_it_was_built_from(build: Build) -> None:
    made = engine_from_request(build.trt, Features(True, True, True, False), build.request, build.log)
    assert cache_from(made.calibration_cache or b"", "it").scales["b"] == 60.0
    assert made.plan == b"engine"
    assert len(build.trt.built) == 4

"""Calibrators that TensorRT 10 calls while it builds, and what they cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autovoice.backends.tensorrt.builder import engine_from_request
from autovoice.backends.tensorrt.calibration_cache import cache_from
from autovoice.backends.tensorrt.calibrators import check_calibrated
from autovoice.backends.tensorrt.versions import TENSORRT, Features, features
from autovoice.errors import BuildError, CalibrationError
from tests.backends.tensorrt.calibrating import (
    IMPLICIT,
    INPUTS,
    Build,
    Sample,
    feeds,
    samples_of,
    two_lines,
)
from tests.fakes.cuda import FakeCuda
from tests.fakes.tensorrt import FakeTensorRT, HostMemory

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

"""Calibration caches: read, merged, given by the user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autovoice.backends.tensorrt.calibration_cache import Cache, cache_from, given_cache, merged
from autovoice.backends.tensorrt.calibrators import check_calibrated
from autovoice.errors import CalibrationError
from tests.backends.tensorrt.calibrating import (
    Build,
    Sample,
    two_lines,
)

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

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autovoice.errors import AudioError
from autovoice.voice.speaker import read_speaker


@pytest.mark.parametrize("shape", [(256,), (1, 256)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8"])
def test_an_array_is_read(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    values = (np.arange(256) % 100).astype(dtype)
    np.save(tmp_path / "spk.npy", values.reshape(shape))
    embedding = read_speaker(tmp_path / "spk.npy")
    assert (embedding.shape, embedding.dtype) == ((1, 256), np.float32)
    np.testing.assert_array_equal(embedding[0], values)


@pytest.mark.parametrize("word", ["zeros", Path("zeros")], ids=repr)
def test_the_neutral_speaker(word: str | Path) -> None:
    assert read_speaker(word).shape == (1, 256)
    assert not read_speaker(word).any()


def test_none_says_how_to_make_one() -> None:
    with pytest.raises(AudioError, match=r"speaker=spk\.npy.*speaker=zeros"):
        read_speaker(None)


@pytest.mark.parametrize(
    ("array", "fact"),
    [
        (np.array([{"a": 1}] * 256, dtype=object), "holds pickled objects, which are refused"),
        (np.zeros(192, np.float32), r"has the shape \[192\], needed is \[256\] or \[1, 256\]"),
        (np.zeros((2, 256), np.float32), r"has the shape \[2, 256\]"),
        (np.float32(1), r"has the shape \[\]"),
        (np.full(256, np.nan), "NaN or infinite"),
        (np.full(256, 1e300), "infinite in float32"),
        (np.zeros(256, np.complex64), "holds complex64"),
        (np.array(["a"] * 256), "needed are real numbers"),
    ],
    ids=["pickled", "192", "two", "scalar", "nan", "overflow", "complex", "text"],
)
def test_refused_arrays(tmp_path: Path, array: np.ndarray, fact: str) -> None:
    np.save(tmp_path / "spk.npy", array, allow_pickle=True)
    with pytest.raises(AudioError, match=fact) as caught:
        read_speaker(tmp_path / "spk.npy")
    assert str(tmp_path / "spk.npy") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04N.", b"\x93NUMPY\x01\x00"], ids=repr)
def test_files_that_are_no_array(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "spk.npy").write_bytes(content)
    with pytest.raises(AudioError, match=r"is no array in \.npy form|is empty|is cut short"):
        read_speaker(tmp_path / "spk.npy")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        read_speaker(tmp_path / "absent.npy")


def test_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "spk.npz", a=np.zeros(256))
    with pytest.raises(AudioError, match="archive of arrays"):
        read_speaker(tmp_path / "spk.npz")


def test_a_header_that_claims_more_than_the_file_holds(tmp_path: Path) -> None:
    with (tmp_path / "spk.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    with pytest.raises(AudioError, match=r"claims float32 of shape \[1099511627776\], 4398046511104 bytes"):
        read_speaker(tmp_path / "spk.npy")

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autovoice.calibration.sources import npy_folder, npz, synthetic
from autovoice.errors import AutovoiceError, CalibrationError, ConfigError
from autovoice.store.npz import write_npz

#: "b" stands in front of every shape: the batch axis
INPUTS: dict[str, Any] = {
    "audio": {"dtype": "float32", "shape": ["b", "n"]},
    "rate": {"dtype": "int64", "shape": ["b"]},
}


def rows(count: int, *shape: int, start: float = 0) -> np.ndarray:
    """[count, …], every value different."""
    size = count * int(np.prod(shape))
    return (start + np.arange(size, dtype=np.float32)).reshape(count, *shape)


def saved(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    with open(path, "wb") as file:
        write_npz(file, arrays)
    return path


def read(source: Any, files: Mapping[str, Path], inputs: Mapping[str, Any] = INPUTS) -> list[tuple[str, Any]]:
    return list(source(files=files, component="enc", inputs=inputs))


def fails(source: Any, files: Mapping[str, Path]) -> CalibrationError:
    with pytest.raises(CalibrationError) as raised:
        read(source, files)
    return raised.value


def same(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> bool:
    return got.keys() == want.keys() and all(
        got[n].shape == want[n].shape and np.array_equal(got[n], want[n]) for n in want
    )


# -- npz -------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Any:
    return lambda **arrays: {
        "data.npz": saved(tmp_path / "data.npz", {k.replace("__", "/"): v for k, v in arrays.items()})
    }


@pytest.mark.parametrize("batched", [True, False], ids=["batch_axis", "no_batch_axis"])
def test_npz_with_stacked_samples(batched: bool, archive: Any) -> None:
    audio, rate = rows(3, 1, 5), np.array([[7], [8], [9]])
    given = (audio, rate) if batched else (audio[:, 0], rate[:, 0])
    got = read(npz, archive(enc__audio=given[0], enc__rate=given[1]))
    assert [name for name, _ in got] == ["enc/audio[0]", "enc/audio[1]", "enc/audio[2]"]
    for i, (_, sample) in enumerate(got):
        assert same(sample, {"audio": audio[i], "rate": rate[i]})


def test_npz_with_entries_one_by_one_of_different_lengths(archive: Any) -> None:
    arrays = {f"enc__audio__{i:05d}": rows(1, n) for i, n in enumerate([3, 9, 1])}
    arrays["enc__audio__00001"] = arrays["enc__audio__00001"][0]  # its batch axis left out
    got = read(npz, archive(**arrays))
    assert [name for name, _ in got] == ["enc/audio/00000", "enc/audio/00001", "enc/audio/00002"]
    for (_, sample), n in zip(got, [3, 9, 1], strict=True):
        assert same(sample, {"audio": rows(1, n)})


def test_npz_with_one_input_stacked_and_another_one_by_one(archive: Any) -> None:
    arrays = {"enc__audio__0": rows(1, 3), "enc__audio__1": rows(1, 4), "enc__rate": np.array([7, 8])}
    got = [sample for _, sample in read(npz, archive(**arrays))]
    assert same(got[0], {"audio": rows(1, 3), "rate": np.array([7])})
    assert same(got[1], {"audio": rows(1, 4), "rate": np.array([8])})


def test_npz_of_several_components_gives_each_its_own(archive: Any) -> None:
    got = read(npz, archive(enc__audio=rows(2, 4), dec__y=rows(9, 4), encoder__audio=rows(3, 4)))
    assert [list(sample) for _, sample in got] == [["audio"], ["audio"]]


def test_npz_at_level_pipeline_has_no_component_in_its_names(archive: Any) -> None:
    files = archive(audio=rows(2, 4), rate=np.array([1, 2]))
    got = list(npz(files=files, component="", inputs=INPUTS))
    assert [sorted(sample) for _, sample in got] == [["audio", "rate"], ["audio", "rate"]]


@pytest.mark.parametrize(
    ("arrays", "fact", "fix"),
    [
        (
            {"dec__audio": rows(2, 4), "x": rows(2, 4)},
            "has no samples of 'enc'",
            "did you mean 'dec'? available: dec, x",
        ),
        ({"vocoder__mel": rows(2, 4)}, "has no samples of 'enc'", "available: vocoder"),
        ({"enc__adio": rows(2, 4)}, "'enc/adio' is no input of it", "did you mean 'audio'? available: audio, rate"),
        ({}, "has no samples of 'enc'", "available: none"),
        ({"enc__audio": rows(2, 1, 1, 4)}, "'enc/audio' has shape [2, 1, 1, 4]", "one sample has 2 axes"),
        ({"enc__audio": np.array(1.0)}, "'enc/audio' has shape []", "one sample has 2 axes"),
    ],
    ids=["component_near_miss", "component", "input_near_miss", "empty", "too_many_axes", "no_axes"],
)
def test_npz_that_does_not_fit(arrays: dict[str, np.ndarray], fact: str, fix: str, archive: Any) -> None:
    files = archive(**arrays)
    error = fails(npz, files)
    assert error.fact == f"{files['data.npz']}: {fact}"
    assert error.fix.startswith(fix)


def test_npz_with_different_numbers_of_samples(archive: Any) -> None:
    error = fails(npz, archive(enc__audio=rows(3, 4), enc__rate=np.array([1, 2])))
    assert str(error) == "inputs have different numbers of samples\n  audio 3, rate 2"


def test_npz_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **{"enc/audio": np.array([{"a": 1}], dtype=object)})
    error = fails(npz, {"data.npz": path})
    assert error.fact == f"{path}: 'enc/audio' holds pickled objects, which are refused"
    assert "pickled objects are refused" in error.fix


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"RIFF....WAVEfmt ", "is no npz, an archive of arrays by name"),
        (b"", "is empty"),
        (b"PK\x03\x04 cut short", "is an npz that is cut short or damaged"),
    ],
    ids=["other_format", "empty", "truncated"],
)
def test_a_file_that_is_no_npz(content: bytes, fact: str, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    assert fails(npz, {"data.npz": path}).fact == f"{path}: {fact}"


def test_an_npz_damaged_inside(archive: Any) -> None:
    files = archive(enc__audio=rows(2, 400))
    path = files["data.npz"]
    content = bytearray(path.read_bytes())
    content[500:520] = b"\xff" * 20
    path.write_bytes(bytes(content))
    assert fails(npz, files).fact.startswith(f"{path}: 'enc/audio' is cut short or damaged")


def test_one_array_is_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "data.npy"
    np.save(path, rows(2, 4))
    error = fails(npz, {"data.npy": path})
    assert error.fact == f"{path}: is one array, not an npz of named arrays"
    assert error.fix.startswith("write it again: np.savez(path, **{'component/input': array})")


@pytest.mark.parametrize("count", [0, 2])
def test_npz_is_one_file(count: int, tmp_path: Path) -> None:
    files = {f"{i}.npz": saved(tmp_path / f"{i}.npz", {"enc/audio": rows(2, 4)}) for i in range(count)}
    assert str(fails(npz, files)) == f"calibration.files means {count} files\n  this source reads one npz"


@pytest.fixture
def typed() -> Callable[[str], None]:
    """What a shell makes of a fix, with this Python."""

    def run(fix: str) -> None:
        assert fix.startswith("python -c ")
        command = f"{shlex.quote(sys.executable)}{fix.removeprefix('python')}"
        subprocess.run(command, shell=True, check=True)

    return run


@pytest.mark.parametrize("name", ["data.npz", """it's "mine" $HOME.npz"""])
def test_names_without_their_component_and_what_mends_them(name: str, tmp_path: Path, typed: Any) -> None:
    arrays = {"audio/0": rows(1, 3), "audio/1": rows(1, 4), "rate": np.array([7, 8]), "dec/y": rows(2, 2)}
    path = saved(tmp_path / name, arrays)
    error = fails(npz, {name: path})
    assert error.fact == f"{path}: has 'audio', and 'enc/audio' is needed"
    typed(error.fix)
    got = [sample for _, sample in read(npz, {name: path})]
    assert same(got[1], {"audio": rows(1, 4), "rate": np.array([8])})
    assert sorted(np.load(path).files) == ["dec/y", "enc/audio/0", "enc/audio/1", "enc/rate"]


@pytest.mark.parametrize("component", ["enc", ""], ids=["component", "pipeline"])
def test_one_array_without_a_name_for_one_input(component: str, tmp_path: Path, typed: Any) -> None:
    np.savez(tmp_path / "data.npz", rows(2, 4))
    inputs = {"audio": INPUTS["audio"]}
    files = {"data.npz": tmp_path / "data.npz"}
    with pytest.raises(CalibrationError, match="has 'arr_0', an array saved without a name") as raised:
        list(npz(files=files, component=component, inputs=inputs))
    typed(raised.value.fix)
    assert len(list(npz(files=files, component=component, inputs=inputs))) == 2


def test_arrays_without_names_for_several_inputs(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", rows(2, 4), np.array([1, 2]))
    error = fails(npz, {"data.npz": tmp_path / "data.npz"})
    assert error.fix == (f"save arrays by name: np.savez('{tmp_path}/data.npz', **{{'enc/audio': …, 'enc/rate': …}})")


def test_names_of_a_component_at_level_pipeline(archive: Any) -> None:
    with pytest.raises(CalibrationError) as raised:
        list(npz(files=archive(enc__audio=rows(2, 4)), component="", inputs=INPUTS))
    assert raised.value.fact.endswith("'enc/audio' is of a component, and this calibration of the pipeline's inputs")
    assert raised.value.fix == "calibration.level=component"


# -- npy files -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    def write(arrays: Mapping[str, np.ndarray]) -> dict[str, Path]:
        files = {}
        for name, array in arrays.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, array)
            files[name] = path
        return files

    return write


@pytest.mark.parametrize("prefix", ["", "enc/"], ids=["plain", "inside_the_components_folder"])
@pytest.mark.parametrize("batched", [True, False], ids=["batch_axis", "no_batch_axis"])
def test_npy_with_stacked_samples(prefix: str, batched: bool, folder: Any) -> None:
    audio, rate = rows(3, 1, 5), np.array([[7], [8], [9]])
    given = (audio, rate) if batched else (audio[:, 0], rate[:, 0])
    got = read(npy_folder, folder({f"{prefix}audio.npy": given[0], f"{prefix}rate.npy": given[1]}))
    assert [name for name, _ in got] == [f"{prefix}audio.npy[{i}]" for i in range(3)]
    for i, (_, sample) in enumerate(got):
        assert same(sample, {"audio": audio[i], "rate": rate[i]})


@pytest.mark.parametrize("prefix", ["", "enc/"], ids=["plain", "inside_the_components_folder"])
def test_npy_one_file_a_sample_in_the_order_of_their_names(prefix: str, folder: Any) -> None:
    given = {f"{prefix}audio/b.npy": rows(1, 3), f"{prefix}audio/a.npy": rows(1, 9)[0], f"{prefix}rate.npy": rows(2)}
    got = read(npy_folder, folder(given))
    assert [name for name, _ in got] == [f"{prefix}audio/a.npy", f"{prefix}audio/b.npy"]
    assert [sample["audio"].shape for _, sample in got] == [(1, 9), (1, 3)]
    assert [float(sample["rate"][0]) for _, sample in got] == [0, 1]


def test_other_files_in_the_folder_do_not_matter(folder: Any, tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("recorded in May")
    files = folder({"audio.npy": rows(2, 4)}) | {"readme.txt": tmp_path / "readme.txt"}
    assert len(read(npy_folder, files)) == 2


def test_an_input_called_like_the_component(folder: Any) -> None:
    inputs = {"enc": INPUTS["audio"]}
    assert [s["enc"].shape for _, s in read(npy_folder, folder({"enc.npy": rows(2, 4)}), inputs)] == [(1, 4)] * 2


def test_npy_folders_of_several_components_side_by_side(folder: Any) -> None:
    """As `calibration.files=samples/` gives them to each component in turn."""
    files = folder({"enc/audio.npy": rows(2, 4), "dec/latent.npy": rows(3, 4)})
    assert [list(sample) for _, sample in read(npy_folder, files)] == [["audio"], ["audio"]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"audio.npy": rows(3, 4), "rate.npy": np.array([1, 2])},
            "inputs have different numbers of samples\n  audio 3, rate 2",
        ),
        ({}, "no .npy file for enc among 0 files\n  expected audio.npy or audio/*.npy, rate.npy or rate/*.npy"),
    ],
    ids=["unequal_counts", "nothing"],
)
def test_npy_that_does_not_fit(arrays: dict[str, np.ndarray], message: str, folder: Any) -> None:
    assert str(fails(npy_folder, folder(arrays))) == message


def test_npy_files_of_an_unknown_input(folder: Any) -> None:
    files = folder({"audio.npy": rows(2, 4), "rates.npy": rows(2)})
    error = fails(npy_folder, files)
    assert error.fact == f"{files['rates.npy']}: 'rates' is no input of enc"
    assert error.fix == "did you mean 'rate'? available: audio, rate"


def test_npy_of_too_many_axes(folder: Any) -> None:
    error = fails(npy_folder, folder({"audio.npy": rows(2, 1, 1, 4)}))
    assert "'audio.npy' has shape [2, 1, 1, 4]" in error.fact


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "is empty"),
        (b"\x93NUMPY\x01\x00\x76\x00 cut", "is cut short"),
        (b"\x93NUMPY\x01\x00 cut", "has a header of 25376 bytes, at most 10000 are read"),
        (b"text", "is no array in .npy form"),
    ],
    ids=["empty", "truncated", "long_header", "other_format"],
)
def test_a_file_that_is_no_npy(content: bytes, fact: str, tmp_path: Path) -> None:
    path = tmp_path / "audio.npy"
    path.write_bytes(content)
    assert fails(npy_folder, {"audio.npy": path}).fact == f"{path}: {fact}"


def test_an_npz_named_npy(tmp_path: Path) -> None:
    path = tmp_path / "audio.npy"
    saved(path, {"audio": rows(2, 4)})
    assert fails(npy_folder, {"audio.npy": path}).fact.startswith(f"{path}: ")


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "audio.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    error = fails(npy_folder, {"audio.npy": path})
    assert error.fact == f"{path}: holds pickled objects, which are refused"
    assert "pickled objects are refused" in error.fix


# -- synthetic -------------------------------------------------------------------------------------

DIMS: dict[str, Any] = {
    "b": {"min": 1, "opt": 1, "max": 1},
    "n": {"min": 8, "opt": 16, "max": 80, "multiple": 4},
    "half": "n // 2",
}
DRAWN: dict[str, Any] = {
    "x": {"dtype": "float32", "shape": ["b", "n"], "default": None, "example": {"uniform": [2, 3]}},
    "y": {"dtype": "int64", "shape": ["b", "half"], "default": None, "example": {"integers": [5, 7]}},
    "z": {"dtype": "float32", "shape": ["b", "2*n"], "default": 1, "example": None},
}


def drawn(**more: Any) -> list[tuple[str, dict[str, np.ndarray]]]:
    return list(synthetic(inputs=DRAWN, dims=DIMS, **more))


@pytest.mark.parametrize("samples", [1, 2, 8, 50])
def test_synthetic_sizes_are_spread_over_the_profile_in_its_multiples(samples: int) -> None:
    sizes = [s["x"].shape[1] for _, s in drawn(samples=samples)]
    assert len(sizes) == samples
    assert sizes == sorted(sizes)
    assert all(8 <= n <= 80 and n % 4 == 0 for n in sizes)
    assert samples < 8 or (sizes[0] < 8 + 72 / 4 and sizes[-1] > 80 - 72 / 4)


def test_synthetic_sizes_that_follow_others() -> None:
    for _, s in drawn():
        n = s["x"].shape[1]
        assert (s["y"].shape, s["z"].shape) == ((1, n // 2), (1, 2 * n))


def test_synthetic_values_are_as_declared() -> None:
    for _, s in drawn():
        assert s["x"].dtype == np.float32
        assert 2 <= s["x"].min() < s["x"].max() <= 3
        assert s["y"].dtype == np.int64
        assert set(np.unique(s["y"])) <= {5, 6, 7}
        assert (s["z"] == 1).all()


def test_synthetic_is_seeded() -> None:
    first, again, other = drawn(seed=1), drawn(seed=1), drawn(seed=2)
    assert [n for n, _ in first] == [f"synthetic {i}" for i in range(8)]
    assert all(same(a, b) for (_, a), (_, b) in zip(first, again, strict=True))
    assert not any(np.array_equal(a["x"], b["x"]) for (_, a), (_, b) in zip(first, other, strict=True))
    assert not np.array_equal(first[0][1]["x"][0, :8], first[1][1]["x"][0, :8])


def test_synthetic_on_dims_that_are_wrong() -> None:
    with pytest.raises(ConfigError, match=r"dims\.n\.mni: unknown key 'mni'"):
        list(synthetic(inputs=DRAWN, dims=DIMS | {"n": {"mni": 1, "min": 1, "opt": 2, "max": 3}}))


def test_synthetic_at_an_example_that_cannot_be_drawn() -> None:
    inputs = {"x": DRAWN["x"] | {"example": {"normal": [0, -1]}}}
    with pytest.raises(AutovoiceError, match=r"x\.example: \{'normal': \[0, -1\]\} cannot be drawn"):
        list(synthetic(inputs=inputs, dims=DIMS))

"""Files of arrays that anyone may have made."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autovoice.errors import FeedError
from autovoice.store.arrays import ArrayFault, ArrayFile, Header, read_array
from autovoice.store.npz import WRITE, Archive, read_npz, write_npz

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    wide = 2 if version == 1 else 4
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(wide, "little") + header.encode() + data


def said(descr: str = "'<f4'", order: str = "False", shape: str = "(3, 4)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def refused(path: Path, content: bytes | None = None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArrayFault) as raised:
        read_array(path)
    return str(raised.value)


@pytest.mark.parametrize(
    "array",
    [
        X,
        np.asfortranarray(X),
        X.astype(">f8"),
        np.array(7, np.int64),
        np.array([True, False]),
        np.array(["a", "élan"]),
        np.zeros((0, 3), np.int8),
        np.zeros(2, np.complex64),
        np.array([b"ab"], "S2"),
        np.float16([1, 2]),
    ],
    ids=lambda a: str(a.dtype),
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_what_numpy_writes_is_read_as_it_was(array: np.ndarray, version: tuple[int, int], tmp_path: Path) -> None:
    with open(tmp_path / "x.npy", "wb") as file:
        np.lib.format.write_array(file, array, version)
    got = read_array(tmp_path / "x.npy")
    assert (got.dtype, got.shape) == (array.dtype, array.shape)
    assert np.array_equal(got, array)
    with open(tmp_path / "x.npz", "wb") as file:
        write_npz(file, {"a/b": array, "/c": array})
    assert all(np.array_equal(a, array) for a in read_npz(tmp_path / "x.npz").values())
    np.savez_compressed(tmp_path / "y.npz", x=array)
    assert np.array_equal(read_npz(tmp_path / "y.npz")["x"], array)


HEADERS: dict[str, tuple[str, str]] = {
    "more than there is": (said(shape="(10**2,)"), "has a header that is none of .npy"),
    "terabytes": (said(shape="(1099511627776,)"), "claims float32 of shape [1099511627776], 4398046511104 bytes"),
    "less than there is": (said(shape="(3, 3)"), "claims float32 of shape [3, 3], 36 bytes, and holds 48"),
    "overflow": (said(shape="(4294967296, 4294967296, 4)"), "has the impossible shape (4294967296, 4294967296, 4)"),
    "overflow beside 0": (said(shape="(0, 4294967296, 4294967296)"), "has the impossible shape"),
    "beyond 64 bits": (said(shape=f"({2**70},)"), "has the impossible shape"),
    "negative": (said(shape="(-3, -4)"), "has the impossible shape (-3, -4)"),
    "truth": (said(shape="(True, 12)"), "has the impossible shape"),
    "fraction": (said(shape="(1.5,)"), "has the impossible shape"),
    "list": (said(shape="[3, 4]"), "has the impossible shape"),
    "axes": (said(shape=f"({'1, ' * 33})"), "has the impossible shape"),
    "order": (said(order="'C'"), "has the impossible order C"),
    "objects": (said("'|O'"), "holds pickled objects, which are refused"),
    "structure": (said("[('a', '<f4')]"), "which is no type of number"),
    "fields": (said("'f4,f4'"), "holds 'f4,f4', which is no type of number"),
    "repeated": (said("'(1000000000,)f4'"), "which is no type of number"),
    "void": (said("'|V4'"), "which is no type of number"),
    "times": (said("'<M8[s]'"), "which is no type of number"),
    "no such type": (said("'<f3'"), "holds '<f3', which is no type of number"),
    "huge text": (said("'<U999999999'"), "which is no type of number"),
    "long text": (said("'<U99999999'"), "4799999952 bytes, and holds 48"),
    "empty text": (said("'<U0'"), "which is no type of number"),
    "code": ("__import__('os').system('true')", "has a header that is none of .npy"),
    "deep": ("(" * 5000, "has a header that is none of .npy"),
    "deeper": ("-" * 9000 + "1", "has a header that is none of .npy"),
    "unfinished": ("{'descr': '<f4', 'shape'", "has a header that is none of .npy"),
    "token": ("'''", "has a header that is none of .npy"),
    "escape": (said("'\\d'"), "has a header that is none of .npy"),
    "extra key": (said()[:-1] + "'x': 1}", "has a header that is none of .npy"),
    "digits": (said(shape=f"({'9' * 5000},)"), "has a header that is none of .npy"),
    "long": (said() + " " * 20000, "has a header of 20059 bytes, at most 10000 are read"),
    "null": (said() + "\0", "has a header that is none of .npy"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies(name: str, tmp_path: Path) -> None:
    header, fact = HEADERS[name]
    assert fact in refused(tmp_path / "x.npy", npy(header, X.tobytes()))


def test_a_header_as_python_2_and_other_libraries_write_it(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy(said(shape="(3L, 4L)") + "\n", X.tobytes()))
    assert np.array_equal(read_array(tmp_path / "x.npy"), X)
    header = '{"shape":(3,4),"fortran_order":False,"descr":"<f4"}'
    (tmp_path / "x.npy").write_bytes(npy(header, X.tobytes(), version=2))
    assert np.array_equal(read_array(tmp_path / "x.npy"), X)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "is empty"),
        (b"\x93NUMPY", "is cut short"),
        (b"\x93NUMPY\x01\x00\xff\xff", "has a header of 65535 bytes"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "has a header of 4294967295 bytes"),
        (b"\x93NUMPY\x09\x00", "is .npy of version 9, known are 1 to 3"),
        (b"\x80\x04N.", "is no array in .npy form"),
        (npy("\xff\xfe", version=3)[:-1], "has a header that is none of .npy"),
        (npy(said("'|b1'", shape="(2,)"), b"\x01\x02"), "holds truth values that are neither 0 nor 1"),
        (npy(said("'<U1'", shape="(1,)"), b"\xff\xff\xff\xff"), "holds text that is none"),
    ],
)
def test_a_file_that_is_none(content: bytes, fact: str, tmp_path: Path) -> None:
    assert fact in refused(tmp_path / "x.npy", content)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe") == "is no regular file"
    assert refused(Path("/dev/zero")) == "is no regular file"
    assert refused(tmp_path) == "is a folder"
    assert refused(tmp_path / "absent") == "there is no such file"
    assert "longer than a file system takes" in refused(tmp_path / ("x" * 300))
    assert refused(tmp_path / "a\0b") == "there is no such file"


def test_shape_and_type_are_known_before_the_values(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    with ArrayFile(tmp_path / "x.npy") as file:
        assert file.header == Header((3, 4), np.dtype(np.float32), False)
        stand_in = file.header.placeholder()
        assert (stand_in.shape, stand_in.dtype, stand_in.strides) == ((3, 4), np.float32, (0, 0))


# -- archives --------------------------------------------------------------------------------------


def archived(path: Path, method: int = zipfile.ZIP_STORED, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)
    return path


def saved(array: np.ndarray = X) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def not_read(path: Path) -> str:
    with pytest.raises(FeedError) as raised:
        read_npz(path)
    assert raised.value.fix == WRITE
    assert raised.value.fact.startswith(f"{path}: ")
    return raised.value.fact.removeprefix(f"{path}: ")


def patched(path: Path, name: str, field: int, value: bytes) -> Path:
    """A field of an entry in the central directory, by its offset there, changed."""
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02", 0, content.rindex(f"{name}.npy".encode())) + field
    content[at : at + len(value)] = value
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("method", "how"), [(zipfile.ZIP_LZMA, "LZMA"), (zipfile.ZIP_BZIP2, "bzip2")], ids=["lzma", "bzip2"]
)
def test_only_what_numpy_writes_is_unpacked(method: int, how: str, tmp_path: Path) -> None:
    path = archived(tmp_path / "x.npz", method, a=saved())
    assert not_read(path) == f"'a' is compressed by {how}, possible are stored and deflated"


PATCHES: dict[str, tuple[int, bytes, str]] = {
    "encrypted": (8, b"\x01\x00", "'a' is encrypted"),
    "an unknown method": (10, b"\x63\x00", "'a' is compressed by method 99, possible are stored and deflated"),
    "a version of the future": (6, b"\xff\x00", "is an npz that is cut short or damaged"),
    "another checksum": (16, b"\x00\x00\x00\x00", "'a' is cut short or damaged"),
    "a size that cannot be": (
        24,
        b"\xf0\xff\xff\xff",
        "'a' claims 4294967280 bytes, which 176 in the file cannot hold",
    ),
    "no name": (28, b"\x00\x00", "is an npz that is cut short or damaged"),
    "an entry beyond the end": (42, b"\xf0\xff\xff\x7f", "'a' is cut short"),
}


@pytest.mark.parametrize("name", PATCHES)
def test_a_directory_that_lies(name: str, tmp_path: Path) -> None:
    field, value, fact = PATCHES[name]
    assert fact in not_read(patched(archived(tmp_path / "x.npz", a=saved()), "a", field, value))


def test_two_entries_of_one_name(tmp_path: Path) -> None:
    path = archived(tmp_path / "x.npz", a=saved())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a", saved())
    assert not_read(path) == "has two entries 'a'"


def test_an_archive_of_archives(tmp_path: Path) -> None:
    inner = archived(tmp_path / "inner.npz", a=saved()).read_bytes()
    assert not_read(archived(tmp_path / "x.npz", inner=inner)) == "'inner' is no array in .npy form"


def test_folders_that_were_zipped_too(tmp_path: Path) -> None:
    path = archived(tmp_path / "x.npz")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("enc/", b"")
        archive.writestr("enc/a.npy", saved())
    assert list(read_npz(path)) == ["enc/a"]


def test_every_length_that_an_archive_is_cut_to(tmp_path: Path) -> None:
    whole = archived(tmp_path / "x.npz", zipfile.ZIP_DEFLATED, a=saved()).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "x.npz").write_bytes(whole[:length])
        not_read(tmp_path / "x.npz")


def test_names_that_look_like_paths_are_names(tmp_path: Path) -> None:
    names = ["/etc/passwd", "../../x", "/encoder/Add_output_0"]
    with open(tmp_path / "x.npz", "wb") as file:
        write_npz(file, dict.fromkeys(names, X))
    assert list(read_npz(tmp_path / "x.npz")) == names
    assert os.listdir(tmp_path) == ["x.npz"]


def test_an_archive_is_not_read_until_it_is_asked_for(tmp_path: Path) -> None:
    path = archived(tmp_path / "x.npz", good=saved(), bad=b"text")
    with Archive(path) as archive:
        assert archive.names == ["good", "bad"]
        assert archive.header("good").shape == (3, 4)
        assert np.array_equal(archive.read("good"), X)
        with pytest.raises(ArrayFault, match=r"'bad' is no array in \.npy form"):
            archive.header("bad")


# -- memory ----------------------------------------------------------------------------------------

BOMB = """
import resource, sys, zipfile
from pathlib import Path
from autovoice.errors import AutovoiceError
from autovoice.store.npz import read_npz
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    read_npz(Path(sys.argv[1]))
except AutovoiceError as e:
    print(e)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def in_a_gigabyte(path: Path) -> tuple[str, int]:
    """What reading says in a process that may have 1 GiB, and the MiB that it took."""
    done = subprocess.run([sys.executable, "-c", BOMB, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *told, grown = done.stdout.splitlines()
    return "\n".join(told), int(grown)


def test_more_than_there_is_memory_for_is_refused_before_it_is_taken(tmp_path: Path) -> None:
    """3 MB that could become 2.1 GB, as far as directory and header tell."""
    header = npy(said("'|i1'", shape=f"({2**31},)"))
    path = archived(tmp_path / "x.npz", zipfile.ZIP_DEFLATED, x=header + np.random.default_rng(0).bytes(3 << 20))
    told, grown = in_a_gigabyte(patched(path, "x", 24, (len(header) + 2**31).to_bytes(4, "little")))
    assert told.startswith(f"{tmp_path / 'x.npz'}: 'x' holds 2.1 GB, and ")
    assert " of memory are free\n" in told
    assert grown < 64


def test_a_small_claim_over_a_large_entry_is_refused_unread(tmp_path: Path) -> None:
    content = npy(said("'|i1'", shape="(10,)"), bytes(1 << 25))
    told, grown = in_a_gigabyte(archived(tmp_path / "x.npz", zipfile.ZIP_DEFLATED, x=content))
    assert "'x' claims int8 of shape [10], 10 bytes, and holds 33554432" in told
    assert grown < 16


@pytest.fixture
def limited() -> Any:
    before = resource.getrlimit(resource.RLIMIT_AS)
    yield lambda size: resource.setrlimit(resource.RLIMIT_AS, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_what_is_available_is_the_least_of_what_is_known(tmp_path: Path, limited: Callable[[int], None]) -> None:
    from autovoice.machine.free_memory import available

    assert available(tmp_path, tmp_path) is None
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    1000 kB\n")
    assert available(tmp_path, tmp_path) == 1024000
    (tmp_path / "memory.max").write_text("900000\n")
    (tmp_path / "memory.current").write_text("500000\n")
    (tmp_path / "memory.stat").write_text("anon 3\ninactive_file 100000\n")
    assert available(tmp_path, tmp_path) == 500000
    (tmp_path / "memory.max").write_text("max\n")
    assert available(tmp_path, tmp_path) == 1024000
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "statm").write_text("10 5 1 1 0 1 0\n")
    limited(1 << 45)
    (tmp_path / "meminfo").unlink()
    assert available(tmp_path, tmp_path) == (1 << 45) - 10 * resource.getpagesize()

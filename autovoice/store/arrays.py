"""Arrays in .npy form out of files that anyone may have made: what a header claims is checked before it is believed.

Shape and type must account for every byte that the file holds before memory is taken for them, and nothing is
unpickled or executed. Whoever reads a file says an `ArrayFault` in the error of the place, with the file's name.
"""

from __future__ import annotations

import ast
import errno
import os
import re
import stat
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from autovoice.machine.free_memory import available

MAGIC = b"\x93NUMPY"
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
#: as numpy's own reader: a longer one is made to keep the parser busy
_LONGEST_HEADER = 10_000
_LARGEST = 2**63 - 1
_MOST_AXES = 32
_CHUNK = 1 << 20
#: less is taken without asking how much there is
_SMALL = 1 << 26
#: bytes of the header's own length, and its encoding, by version
_VERSIONS = {1: (2, "latin1"), 2: (4, "latin1"), 3: (4, "utf-8")}
_PLAIN = re.compile(r"[<>=|]?(\?|[biufcSU]\d{1,9})")
_WHY = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such file",
    errno.EACCES: "there is no permission to read it",
    errno.ENAMETOOLONG: "there is no such file: the name is longer than a file system takes",
}


class ArrayFault(ValueError):
    """What is wrong with a file of arrays, as it follows the file's name: `is empty`, `'x' is cut short`."""


@dataclass(frozen=True)
class Header:
    """What an array says of itself, found to be true of the bytes that follow."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def placeholder(self) -> np.ndarray:
        """Zeros of this shape and type that take no memory, for checks of these two alone."""
        return np.broadcast_to(np.zeros((), self.dtype), self.shape)


def open_file(path: Path) -> BinaryIO:
    """A regular file, open for reading, which waits for nobody. Raises ArrayFault for everything else."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ArrayFault("is a folder" if path.is_dir() else "is no regular file")
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as e:
        raise ArrayFault(_WHY.get(e.errno or 0, f"cannot be read: {e.strerror or e}")) from e
    except ValueError as e:  # a name with a zero byte, or one that the file system cannot encode
        if isinstance(e, ArrayFault):
            raise
        raise ArrayFault("there is no such file") from e


def begins(file: BinaryIO) -> bytes:
    """The first bytes, by which kinds of files are told apart; the file is at its beginning again."""
    head = file.read(len(MAGIC))
    file.seek(0)
    if not head:
        raise ArrayFault("is empty")
    return head


class ArrayFile:
    """One .npy file: its header first, checked, then its values. Raises ArrayFault."""

    def __init__(self, path: Path) -> None:
        with ExitStack() as stack:
            self._file = stack.enter_context(open_file(path))
            head = begins(self._file)
            if head.startswith(ZIP_MAGIC):
                raise ArrayFault("is an archive of arrays, not one array")
            self.header = read_header(self._file, os.fstat(self._file.fileno()).st_size)
            stack.pop_all()

    def read(self) -> np.ndarray:
        try:
            return read_values(self._file, self.header)
        except OSError as e:
            raise ArrayFault(f"cannot be read: {e.strerror or e}") from e

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_array(path: Path) -> np.ndarray:
    """The array of a .npy file. Raises ArrayFault."""
    with ArrayFile(path) as file:
        return file.read()


# -- the format ------------------------------------------------------------------------------------


def read_header(stream: Any, size: int) -> Header:
    """The header of an array of which the stream holds `size` bytes in all. Raises ArrayFault where it lies."""
    magic = stream.read(8)
    if not magic.startswith(MAGIC):
        raise ArrayFault("is no array in .npy form")
    if len(magic) < 8 or magic[6] not in _VERSIONS:
        raise ArrayFault("is cut short" if len(magic) < 8 else f"is .npy of version {magic[6]}, known are 1 to 3")
    wide, encoding = _VERSIONS[magic[6]]
    length = int.from_bytes(_exactly(stream, wide), "little")
    if length > _LONGEST_HEADER:
        raise ArrayFault(f"has a header of {length} bytes, at most {_LONGEST_HEADER} are read")
    header = _header(_exactly(stream, length), encoding)
    held = size - len(magic) - wide - length
    if header.nbytes != held:
        claim = f"{header.dtype} of shape {list(header.shape)}, {header.nbytes} bytes"
        raise ArrayFault(f"claims {claim}, and holds {held}")
    return header


def _exactly(stream: Any, count: int) -> bytes:
    content: bytes = stream.read(count)
    if len(content) != count:
        raise ArrayFault("is cut short")
    return content


def _header(content: bytes, encoding: str) -> Header:
    found = _literal(content, encoding)
    if not isinstance(found, dict) or found.keys() != {"descr", "fortran_order", "shape"}:
        raise ArrayFault("has a header that is none of .npy")
    shape, order = found["shape"], found["fortran_order"]
    if not isinstance(shape, tuple) or len(shape) > _MOST_AXES or not all(map(_is_size, shape)):
        raise ArrayFault(f"has the impossible shape {str(shape)[:80]}")
    if not isinstance(order, bool):
        raise ArrayFault(f"has the impossible order {str(order)[:80]}")
    dtype = _plain(found["descr"])
    if prod(n for n in shape if n) * dtype.itemsize > _LARGEST:
        raise ArrayFault(f"has the impossible shape {str(shape)[:80]}")
    return Header(shape, dtype, order)


def _literal(content: bytes, encoding: str) -> Any:
    """Plain Python data; numbers may end in L, as Python 2 wrote them."""
    try:
        text = re.sub(r"(\d)L\b", r"\1", content.decode(encoding))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what the parser would warn of is no header either
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, SyntaxWarning, TypeError, MemoryError, RecursionError) as e:
        raise ArrayFault("has a header that is none of .npy") from e


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _plain(descr: Any) -> np.dtype[Any]:
    """Booleans, numbers and texts of a fixed length."""
    if isinstance(descr, str) and descr.strip("<>=|").startswith("O"):
        raise ArrayFault("holds pickled objects, which are refused")
    try:
        if isinstance(descr, str) and _PLAIN.fullmatch(descr):
            dtype = np.dtype(descr)
            if dtype.itemsize:
                return dtype
    except (TypeError, ValueError, OverflowError) as e:
        raise ArrayFault(f"holds '{str(descr)[:80]}', which is no type of number") from e
    raise ArrayFault(f"holds '{str(descr)[:80]}', which is no type of number")


def read_values(stream: Any, header: Header) -> np.ndarray:
    """The values that follow a header, read into memory that is taken once. Raises ArrayFault."""
    check_memory(header.nbytes)
    try:
        flat = np.empty(prod(header.shape), header.dtype)
    except MemoryError as e:
        raise ArrayFault(f"holds {_size(header.nbytes)}, for which there is no memory") from e
    target, at = flat.view(np.uint8), 0
    while at < header.nbytes:
        part = stream.read(min(_CHUNK, header.nbytes - at))
        if not part:
            raise ArrayFault("is cut short")
        target[at : at + len(part)] = np.frombuffer(part, np.uint8)
        at += len(part)
    _check_values(flat)
    return flat.reshape(header.shape, order="F" if header.fortran_order else "C")


def check_memory(size: int) -> None:
    """Raise ArrayFault for more bytes than there is memory for."""
    free = available() if size > _SMALL else None
    if free is not None and size > free:
        raise ArrayFault(f"holds {_size(size)}, and {_size(free)} of memory are free")


def _check_values(flat: np.ndarray) -> None:
    """Bytes that no writer makes, and that code behind numpy's back would take for something else."""
    if flat.dtype.kind == "b" and flat.size and int(flat.view(np.uint8).max()) > 1:
        raise ArrayFault("holds truth values that are neither 0 nor 1")
    if flat.dtype.kind == "U" and flat.size:
        points = flat.view(f"{flat.dtype.str[0]}u4")
        if int(points.max()) > 0x10FFFF:
            raise ArrayFault("holds text that is none")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"

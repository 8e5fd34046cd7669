"""Arrays by name in an npz file, without pickles on either side."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from autovoice.errors import FeedError
from autovoice.store.arrays import (
    MAGIC,
    ZIP_MAGIC,
    ArrayFault,
    Header,
    begins,
    check_memory,
    open_file,
    read_header,
    read_values,
)

#: what becomes of a file that is none, for whoever has to write it again
WRITE = "np.savez(path, name=array, …); pickled objects are refused"
_METHODS = {
    zipfile.ZIP_STORED: "stored",
    zipfile.ZIP_DEFLATED: "deflated",
    9: "deflate64",
    12: "bzip2",
    14: "LZMA",
    93: "zstandard",
}
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: DEFLATE makes at most 1032 bytes of one
_DEFLATE_RATIO = 1032
_ENCRYPTED = 0x1
#: whatever zipfile trips over in a file that was damaged, or made to harm
_DAMAGE = (
    *(OSError, ValueError, EOFError, RuntimeError, OverflowError, MemoryError, IndexError),
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error),
)


def write_npz(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Like `numpy.savez`, whose keyword arguments cannot carry a tensor that is called `file`."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(value), allow_pickle=False)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name. Raises FeedError for anything that is not a plain npz; nothing in it is executed."""
    try:
        with Archive(path) as archive:
            return {name: archive.read(name) for name in archive.names}
    except ArrayFault as e:
        raise FeedError(f"{path}: {e}", WRITE) from e


class Archive:
    """An npz file: `names` of its arrays, their headers, and their values when they are asked for. Raises ArrayFault.

    A name is a name and never a path: nothing is unpacked to the disk.
    """

    def __init__(self, path: Path) -> None:
        with ExitStack() as stack:
            self._file = stack.enter_context(open_file(path))
            head = begins(self._file)
            if head.startswith(MAGIC):
                raise ArrayFault("is one array, not an npz of named arrays")
            if not head.startswith(ZIP_MAGIC):
                raise ArrayFault("is no npz, an archive of arrays by name")
            self._size = os.fstat(self._file.fileno()).st_size
            with _damage(""):
                self._zip = stack.enter_context(zipfile.ZipFile(self._file))
            self._entries = self._by_name()
            stack.pop_all()

    @property
    def names(self) -> list[str]:
        return list(self._entries)

    def header(self, name: str) -> Header:
        """Shape and type of an array, which its entry really holds."""
        with self._stream(name) as (_, header):
            return header

    def read(self, name: str) -> np.ndarray:
        with self._stream(name) as (stream, header):
            return read_values(stream, header)

    def close(self) -> None:
        self._zip.close()
        self._file.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _by_name(self) -> dict[str, zipfile.ZipInfo]:
        found: dict[str, zipfile.ZipInfo] = {}
        for entry in self._zip.infolist():
            name = entry.filename.removesuffix(".npy")
            if name in found:
                raise ArrayFault(f"has two entries '{name}'")
            if not (
                entry.filename.endswith("/") and entry.file_size == 0
            ):  # a folder that was zipped names its folders
                found[name] = entry
        return found

    @contextmanager
    def _stream(self, name: str) -> Iterator[tuple[zipfile.ZipExtFile, Header]]:
        """The entry behind its header. An error inside becomes an ArrayFault that names the entry."""
        entry = self._entries[name]
        try:
            self._check(entry)
            with _damage("is cut short or damaged"), self._zip.open(entry) as stream:
                yield stream, read_header(stream, entry.file_size)  # type: ignore[misc]
        except ArrayFault as e:
            raise ArrayFault(f"'{name}' {e}") from e

    def _check(self, entry: zipfile.ZipInfo) -> None:
        """What the directory says of an entry, before a byte of it is unpacked."""
        if entry.flag_bits & _ENCRYPTED:
            raise ArrayFault("is encrypted")
        method = entry.compress_type
        if method not in _READ:
            how = _METHODS.get(method, f"method {method}")
            raise ArrayFault(f"is compressed by {how}, possible are stored and deflated")
        packed = entry.compress_size
        if entry.header_offset + packed > self._size:
            raise ArrayFault("is cut short")
        most = packed if method == zipfile.ZIP_STORED else _DEFLATE_RATIO * (packed + 1)
        if entry.file_size > most:
            raise ArrayFault(f"claims {entry.file_size} bytes, which {packed} in the file cannot hold")
        check_memory(entry.file_size)


@contextmanager
def _damage(what: str) -> Iterator[None]:
    try:
        yield
    except ArrayFault:
        raise
    except _DAMAGE as e:
        raise ArrayFault(what or "is an npz that is cut short or damaged") from e

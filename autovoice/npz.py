"""Arrays by name in an npz file, without pickles on either side."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from autovoice.errors import FeedError


def write_npz(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Like `numpy.savez`, whose keyword arguments cannot carry a tensor that is called `file`."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(value), allow_pickle=False)


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    write_npz(buffer, arrays)
    return buffer.getvalue()


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name. Raises FeedError for anything that is not a plain npz; nothing in it is executed."""
    try:
        data = np.load(path, allow_pickle=False)
        if isinstance(data, np.ndarray):
            raise FeedError(f"{path}: is one array, not an npz of named inputs", "np.savez(path, name=array, …)")
        with data:
            return {name: data[name] for name in data.files}
    except FileNotFoundError as e:
        raise FeedError(f"{path}: there is no such file", "feeds=/path/to/in.npz") from e
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as e:
        fix = "np.savez(path, name=array, …); pickled objects are refused"
        raise FeedError(f"{path}: cannot be read as an npz of plain arrays", fix) from e

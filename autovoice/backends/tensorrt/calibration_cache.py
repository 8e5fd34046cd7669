"""TensorRT's calibration cache, a text: `TRT-100600-EntropyCalibration2`, then `tensor: 3c010a14` for each tensor.

The number is a scale, the range over 127, as the eight hexadecimal digits of a big-endian float32.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autovoice.errors import CalibrationError

#: calibrator → its class in TensorRT's module, and what its caches are called
ALGORITHMS = {
    "entropy2": ("IInt8EntropyCalibrator2", "EntropyCalibration2"),
    "minmax": ("IInt8MinMaxCalibrator", "MinMaxCalibration"),
}
_HEADER = re.compile(r"TRT-(\d+)-(\w+)")
_SCALE = re.compile(r"[0-9a-fA-F]{1,8}")


@dataclass(frozen=True)
class Cache:
    """The version that wrote it (100600 is 10.6.0), its algorithm, and a scale by tensor."""

    version: str
    algorithm: str
    scales: Mapping[str, float]

    def content(self) -> bytes:
        lines = [f"TRT-{self.version}-{self.algorithm}"]
        lines += [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in self.scales.items()]
        return ("\n".join(lines) + "\n").encode()


def cache_from(content: bytes, where: str) -> Cache:
    """Raises CalibrationError, with `where` it came from, for anything that is no calibration cache."""
    lines = content.decode("utf-8", errors="replace").splitlines()
    header = _HEADER.fullmatch(lines[0].strip()) if lines else None
    if header is None:
        begins = f"begins with '{lines[0][:60]}'" if lines else "is empty"
        raise CalibrationError(f"{where}: is no calibration cache, it {begins}", _FIRST_LINE)
    scales: dict[str, float] = {}
    for number, line in enumerate(lines[1:], 2):
        name, _, value = line.strip().rpartition(": ")
        if not line.strip():
            continue
        if not name or not _SCALE.fullmatch(value):
            fix = "each line is 'tensor: scale', a float32 as eight hexadecimal digits"
            raise CalibrationError(f"{where}: line {number} holds no scale: '{line[:60]}'", fix)
        scales[name] = struct.unpack(">f", bytes.fromhex(value.zfill(8)))[0]
    return Cache(header[1], header[2], scales)


def given_cache(path: Path, calibrator: str) -> tuple[bytes, Cache]:
    """The user's own, as it is. Raises CalibrationError where it is none, or was made by another calibrator."""
    try:
        content = path.read_bytes()
    except OSError as e:
        raise CalibrationError(f"{path}: cannot be read: {e.strerror}", "precision.implicit.cache=null") from e
    cache, wanted = cache_from(content, str(path)), ALGORITHMS[calibrator][1]
    if cache.algorithm != wanted:
        known = {algorithm: name for name, (_, algorithm) in ALGORITHMS.items()}
        other = known.get(cache.algorithm)
        fix = f"precision.implicit.calibrator={other}, or " if other else f"{calibrator} reads {wanted}; "
        fact = f"{path}: holds scales of {cache.algorithm}, the calibrator is {calibrator}"
        raise CalibrationError(fact, fix + "precision.implicit.cache=null calibrates anew")
    if not cache.scales:
        raise CalibrationError(f"{path}: holds no scale of any tensor", "precision.implicit.cache=null calibrates anew")
    return content, cache


def merged(caches: Sequence[Cache]) -> Cache:
    """The largest scale of each tensor: its range over all that the caches have seen."""
    scales: dict[str, float] = {}
    for cache in caches:
        for name, scale in cache.scales.items():
            held = scales.get(name, scale)
            scales[name] = scale if math.isnan(held) or scale > held else held
    return Cache(caches[0].version, caches[0].algorithm, scales)


_FIRST_LINE = f"its first line is TRT-<version>-{' or TRT-<version>-'.join(a for _, a in ALGORITHMS.values())}"

"""Files of arrays and recordings, damaged at random, given to everything that reads them.

`python -m tests.campaigns.hostile_arrays --count 1000 --seed 0` prints how many were detected (an error of the
right class, in two lines that name the file), harmless (read, and within bounds), and how many escaped: any other
exception, a reader that ran for longer than 10 s, or one that ended its process. Readers run in processes of their
own with a limit of address space.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import resource
import signal
import struct
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: seconds that a reader may take for one file, and bytes that its process may have
PATIENCE, MEMORY = 10, 3 << 30
#: files that one process is given: a new one starts quickly, and what one leaves behind reaches few others
_BATCH = 50
INPUTS = {"audio": {"dtype": "float32", "shape": ["b", "n"]}, "rate": {"dtype": "int64", "shape": ["b"]}}
_NUMBERS = (0, 1, 127, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_DESCRIPTIONS = (
    *(b"'|O'", b"'<f8'", b"'<U9999999'", b"'S0'", b"'V4'", b"[('a','<f4')]", b"'f4,f4'", b"'(9999,)f4'", b"'<M8[s]'"),
    *(b"None", b"3", b"'\\d'", b"'>f4'", b"'?'", b"{}", b"'" + b"<" * 99 + b"'"),
)
_SHAPES = (
    *(b"()", b"(0,)", b"(-1,)", b"(99999999999,)", b"(2147483648, 2147483648, 4)", b"(True,)", b"(1.0,)", b"[256]"),
    *(b"(1,)*9", b"(" + b"1," * 40 + b")", b"(0, 9223372036854775807)", b"(" * 200, b"(256L,)", b"'256'", b"{1}"),
)


@dataclass(frozen=True)
class Case:
    """A damaged file: what it was, what was done to it, and its content."""

    kind: str
    damage: str
    content: bytes


@dataclass(frozen=True)
class Verdict:
    """detected, harmless or escaped, and by which exception of which reader."""

    outcome: str
    what: str = ""


# -- files that are right --------------------------------------------------------------------------


def _npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version)
    return buffer.getvalue()


def _npz(method: int, stacked: bool) -> bytes:
    audio, rate = np.ones((3, 1, 40), np.float32), np.array([7, 8, 9])
    arrays = {"enc/audio": audio, "enc/rate": rate}
    if not stacked:
        arrays = {f"enc/{n}/{i}": a[i : i + 1] for n, a in (("audio", audio[:, 0]), ("rate", rate)) for i in range(3)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", _npy(array))
    return buffer.getvalue()


def _recording(kind: str, subtype: str) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    tone = (0.4 * np.sin(np.arange(4000) / 9)).astype(np.float32)
    soundfile.write(buffer, tone, 8000, format=kind, subtype=subtype)
    return buffer.getvalue()


def whole_files() -> dict[str, list[bytes]]:
    """What is damaged, by kind."""
    speaker = np.linspace(-1, 1, 256, dtype=np.float32)
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
    return {
        "npz": [_npz(m, stacked) for m in methods for stacked in (True, False)],
        "npy": [_npy(np.ones((3, 1, 40), np.float32), (v, 0)) for v in (1, 2, 3)],
        "speaker": [_npy(speaker), _npy(speaker[np.newaxis], (2, 0)), _npy(np.asfortranarray(speaker[np.newaxis]))],
        "wav": [_recording(*k) for k in (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "GSM610"), ("WAV", "IMA_ADPCM"))]
        + [_recording(*k) for k in (("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("OGG", "VORBIS"), ("CAF", "ALAC_16"))],
    }


# -- damage ----------------------------------------------------------------------------------------

Damage = Callable[[np.random.Generator, bytes], bytes]


def _truncate(rng: np.random.Generator, content: bytes) -> bytes:
    return content[: int(rng.integers(len(content)))]


def _flip(rng: np.random.Generator, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _overwrite(rng: np.random.Generator, content: bytes) -> bytes:
    """A number where one may stand: lengths, counts, offsets."""
    form = ("<B", "<H", "<I", "<Q", ">I")[int(rng.integers(5))]
    value = _NUMBERS[int(rng.integers(len(_NUMBERS)))] % (1 << 8 * struct.calcsize(form))
    at = int(rng.integers(min(len(content), 400)))
    return content[:at] + struct.pack(form, value) + content[at + struct.calcsize(form) :]


def _insert(rng: np.random.Generator, content: bytes) -> bytes:
    at = int(rng.integers(len(content) + 1))
    return content[:at] + rng.bytes(int(rng.integers(1, 64))) + content[at:]


def _append(rng: np.random.Generator, content: bytes) -> bytes:
    return content + (content if rng.random() < 0.5 else rng.bytes(100))


def _header(rng: np.random.Generator, content: bytes) -> bytes:
    """Another description or shape in the header of the first array, with its length put right or not."""
    at = content.find(b"\x93NUMPY")
    end = content.find(b"\n", at)
    if at < 0 or end < 0:
        return _flip(rng, content)
    descr = _DESCRIPTIONS[int(rng.integers(len(_DESCRIPTIONS)))] if rng.random() < 0.5 else b"'<f4'"
    shape = _SHAPES[int(rng.integers(len(_SHAPES)))]
    text = b"{'descr': " + descr + b", 'fortran_order': False, 'shape': " + shape + b", }"
    start = at + 10
    kept = text.ljust(end - start)[: end - start] if rng.random() < 0.7 else text
    length = struct.pack("<H", (len(kept) + 1) % 65536)
    return content[: at + 8] + length + kept + content[end:]


def _directory(rng: np.random.Generator, content: bytes) -> bytes:
    """A field of an entry in an archive's directory, or of the end of it."""
    marks = [m for m in (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06") if m in content]
    if not marks:
        return _overwrite(rng, content)
    at = content.find(marks[int(rng.integers(len(marks)))]) + int(rng.integers(4, 46))
    form = ("<H", "<I")[int(rng.integers(2))]
    value = _NUMBERS[int(rng.integers(len(_NUMBERS)))] % (1 << 8 * struct.calcsize(form))
    return content[:at] + struct.pack(form, value) + content[at + struct.calcsize(form) :]


DAMAGES: dict[str, Damage] = {
    "truncated": _truncate,
    "flipped": _flip,
    "overwritten": _overwrite,
    "inserted": _insert,
    "appended": _append,
    "header": _header,
    "directory": _directory,
}


def cases(count: int, seed: int) -> Iterator[Case]:
    """The same ones for the same seed."""
    rng = np.random.default_rng(seed)
    files = whole_files()
    for _ in range(count):
        kind = list(files)[int(rng.integers(len(files)))]
        content = files[kind][int(rng.integers(len(files[kind])))]
        name = list(DAMAGES)[int(rng.integers(len(DAMAGES)))]
        yield Case(kind, name, DAMAGES[name](rng, content))


# -- readers ---------------------------------------------------------------------------------------


#: who is meant to read a kind: what these make of a file counts; the others may refuse it, and no more
_OWN = {
    "npz": ("feeds", "npz samples"),
    "npy": ("npy samples",),
    "speaker": ("speaker",),
    "wav": ("header", "recording"),
}


def readers(kind: str) -> dict[str, Callable[[Path], Any]]:
    """Everything that users may give a file of a kind to."""
    from autovoice.calibration.sources import npy_folder, npz
    from autovoice.store.npz import read_npz
    from autovoice.voice.audio import probe_audio, read_audio, resample
    from autovoice.voice.speaker import read_speaker

    def resampled(path: Path) -> None:
        audio = read_audio(path)
        resample(audio.samples, audio.sample_rate, 16000)

    given: dict[str, Callable[[Path], Any]] = {
        "feeds": read_npz,
        "npz samples": lambda p: list(npz(files={"x": p}, component="enc", inputs=INPUTS)),
        "npy samples": lambda p: list(npy_folder(files={"audio.npy": p}, component="enc", inputs=INPUTS)),
        "one sample": lambda p: list(npy_folder(files={"audio/0.npy": p}, component="enc", inputs=INPUTS)),
        "speaker": read_speaker,
    }
    return given if kind != "wav" else {"header": probe_audio, "recording": resampled}


#: what is wrong between samples, which are whole each
_ABOUT_SAMPLES = ("inputs have different numbers of samples", "are no one sample")


def judged(path: Path, case: Case) -> Verdict:
    """What its own readers made of a file, unless it escaped from any."""
    from autovoice.errors import AutovoiceError

    outcome = Verdict("harmless")
    for name, read in readers(case.kind).items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                read(path)
        except AutovoiceError as e:
            told = str(e)
            if len(told.splitlines()) != 2 or not any(known in told for known in (path.name, *_ABOUT_SAMPLES)):
                return Verdict("escaped", f"{name}: not in two lines that name the file: {told!r}")
            outcome = Verdict("detected") if name in _OWN[case.kind] else outcome
        except BaseException as e:  # that is what is looked for
            where = traceback.extract_tb(e.__traceback__)[-1]
            return Verdict("escaped", f"{name}: {type(e).__name__}: {e} at {where.filename}:{where.lineno}")
    return outcome


def _bounded(given: list[Case], folder: str, results: Any) -> None:
    """In a process of its own."""
    for kind in ("npz", "wav"):
        readers(kind)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _late)
    for index, case in enumerate(given):
        path = Path(folder) / ("x.wav" if case.kind == "wav" else "x.npy")
        path.write_bytes(case.content)
        signal.alarm(PATIENCE)
        verdict = judged(path, case)
        signal.alarm(0)
        results.send((index, verdict))
    results.close()


def _late(*_: object) -> None:
    raise TimeoutError(f"took longer than {PATIENCE} s")


def run(count: int, seed: int) -> list[tuple[Case, Verdict]]:
    """Every case with what became of it."""
    return judge_all(list(cases(count, seed)))


def judge_all(left: list[Case]) -> list[tuple[Case, Verdict]]:
    found: list[tuple[Case, Verdict]] = []
    while left:
        batch = left[:_BATCH]
        verdicts = _in_a_process(batch)
        if len(verdicts) < len(batch):  # native code crashed, or did not heed the alarm
            verdicts.append(Verdict("escaped", "ended its process"))
        found += zip(batch, verdicts, strict=False)
        left = left[len(verdicts) :]
    return found


def _in_a_process(batch: list[Case]) -> list[Verdict]:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_bounded, args=(batch, folder, theirs))
        process.start()
        theirs.close()
        verdicts: list[Verdict] = []
        try:
            while ours.poll(4 * PATIENCE):
                verdicts.append(ours.recv()[1])
        except EOFError:
            pass
        if process.is_alive() and len(verdicts) < len(batch):
            process.kill()
        process.join()
        return verdicts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = run(given.count, given.seed)
    for kind in ("npz", "npy", "speaker", "wav"):
        counts = Counter(v.outcome for c, v in found if c.kind == kind)
        print(f" {kind:<8} {', '.join(f'{o} {counts[o]}' for o in ('detected', 'harmless', 'escaped'))}")
    counts = Counter(v.outcome for _, v in found)
    print(f"{len(found)} files: {', '.join(f'{o} {counts[o]}' for o in ('detected', 'harmless', 'escaped'))}")
    for case, verdict in found:
        if verdict.outcome == "escaped":
            print(f" {case.kind} {case.damage}: {verdict.what}")
    return 1 if counts["escaped"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""The kind of a file given as checkpoint, told by its content where it is none, and what to give instead."""

from __future__ import annotations

import shlex
import tarfile
import zipfile
from pathlib import Path

from autovoice.errors import CheckpointError
from autovoice.terminal.overrides import setting

#: as the driver completes it
PLACE = "component.<name>.checkpoint"
_SAVED = "save a state_dict of it, best as .safetensors"
#: first bytes → what the file is, and what to do
_MAGIC = {
    b"version https://git-lfs": ("is a pointer of git-lfs, not the file itself", "git lfs pull --include '*{name}'"),
    b"\x89HDF": ("is an HDF5 file, as Keras writes it", _SAVED),
    b"GGUF": ("is a GGUF file", _SAVED),
    b"\x93NUMPY": ("is one array of numpy, without names", _SAVED),
    b"\x1f\x8b": ("is compressed with gzip", "gzip -dk -S '{suffix}' {path}, and give what it writes"),
    b"BZh": ("is compressed with bzip2", "bzip2 -dk {path}, and give what it writes"),
    b"\xfd7zXZ": ("is compressed with xz", "xz -dk {path}, and give what it writes"),
    b"\x28\xb5\x2f\xfd": ("is compressed with zstd", "zstd -dk {path}, and give what it writes"),
    b"<": ("is a web page, not a file of weights", "fetch it again: what was saved is the answer of a web server"),
}


def looks_safetensors(path: Path) -> bool:
    """The length of a header, and its brace."""
    with open(path, "rb") as file:
        start = file.read(9)
    return len(start) == 9 and 2 <= int.from_bytes(start[:8], "little") <= 100_000_000 and start[8:] == b"{"


def check_kind(path: Path) -> None:
    """Raise CheckpointError for a file that is something else than weights by name."""
    with open(path, "rb") as file:
        start = file.read(64)
    if path.suffix == ".onnx":
        place = PLACE.rpartition(".")[0]
        fix = (
            f"give it in place of the module: ~{place}.checkpoint ~{place}.model {setting(f'+{place}.onnx', str(path))}"
        )
        raise CheckpointError(f"'{path}' is an ONNX file, which holds a graph and its weights", fix)
    for magic, (what, fix) in _MAGIC.items():
        if start.startswith(magic):
            words = {"name": path.name, "suffix": path.suffix, "path": shlex.quote(str(path))}
            raise CheckpointError(f"'{path}' {what}", fix.format(**words))
    if zipfile.is_zipfile(path):
        _check_zip(path)
    elif _is_tar(path):
        names = _tar_names(path)
        fix = f"tar -xf {shlex.quote(str(path))}, and give the file of weights in it; it holds {_format_names(names)}"
        raise CheckpointError(f"'{path}' is a tar archive, not a file of weights", fix)


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # damaged: told by whoever reads it
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        what = "a TorchScript archive: a program with its weights, not weights"
        raise CheckpointError(f"'{path}' is {what}", _script_fix(path, "torch.jit.load({}, map_location='cpu')"))
    if inner & {"archive_format", "archive_version", "serialized_exported_program.json"} or (
        {"archive_format", "serialized_exported_program.json"} & set(names)
    ):
        what = "a program of torch.export with its weights, not weights"
        raise CheckpointError(f"'{path}' is {what}", _script_fix(path, "torch.export.load({})"))
    if names and all(name.endswith(".npy") for name in names):
        fact = f"'{path}' is an .npz file of arrays, not a file of weights"
        raise CheckpointError(fact, _command(path, "{k: torch.from_numpy(v) for k, v in np.load({}).items()}"))
    if "data.pkl" not in inner and "data.pkl" not in names:
        fix = f"unpack it, and give the file of weights in it; it holds {_format_names(names)}"
        raise CheckpointError(f"'{path}' is a zip archive of something else, not a file of weights", fix)


def _script_fix(path: Path, load: str) -> str:
    weights = _command(path, load + ".state_dict()")
    return f"its weights alone: {weights}; or export it to ONNX, torch.onnx.export(…, dynamo=False), and give `onnx:`"


def _command(path: Path, made: str) -> str:
    """A shell command that writes tensors beside the file, and the override that gives them."""
    new = unused(path.with_suffix(".safetensors"))
    code = "import torch, numpy as np, safetensors.torch as s; s.save_file({k: v.detach().contiguous().clone() "
    code += f"for k, v in {made.replace('{}', repr(str(path)))}.items()}}, {str(new)!r})"
    return f"python -c {shlex.quote(code)}, then {setting(PLACE, str(new))}"


def unused(path: Path) -> Path:
    """The path, numbered where something stands there already."""
    n = 1
    made = path
    while made.exists():
        n += 1
        made = path.with_stem(f"{path.stem}-{n}")
    return made


def _is_tar(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(257)
        return file.read(5) == b"ustar"


def _tar_names(path: Path) -> list[str]:
    names: list[str] = []
    try:
        with tarfile.open(path) as archive:
            while len(names) < 4 and (member := archive.next()) is not None:
                names.append(member.name)
    except (tarfile.TarError, OSError, ValueError, EOFError):
        pass  # cut short: as far as it can be read
    return names


def _format_names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "") if names else "nothing that can be listed"

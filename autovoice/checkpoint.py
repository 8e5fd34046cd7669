"""Checkpoint files to named tensors, without running code that a file may hold."""

from __future__ import annotations

import json
import pickle
import pickletools
import re
import shlex
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autovoice.errors import CheckpointError, nearest

State = dict[str, Tensor]


def read_checkpoint(path: Path, key: str | None = None) -> State:
    """The tensors of a `.safetensors` file or of one written by `torch.save`, those below `key` if given.

    Raises CheckpointError if the file is absent, damaged, needs code to load, or has no tensors there.
    """
    return _select(_read(path, key), key, path)


def _read(path: Path, key: str | None) -> Any:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(
            f"checkpoint '{path}' {what}",
            "give the path of a file, or checkpoint: null for untrained weights",
        )
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, key)


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: State = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, "safetensors", error) from error
    return state


def _read_torch(path: Path, key: str | None) -> Any:
    try:
        # Only the zip format can be mapped; what an optimizer keeps beside the weights is then never read.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if needs := _refused_code(error, path):
            raise CheckpointError(
                f"checkpoint '{path}' is a pickle that would run code on loading ({needs}); it was not run",
                f"if you trust its author, convert it once: {_conversion(path, key)}",
            ) from error
        raise _unreadable(path, "PyTorch", error) from error
    except Exception as error:  # damaged bytes surface as anything: EOFError, KeyError, struct.error, …
        raise _unreadable(path, "PyTorch", error) from error


def _refused_code(error: pickle.UnpicklingError, path: Path) -> str:
    """What the restricted unpickler refused to import or call; empty if the stream is merely damaged."""
    text = str(error)
    if named := re.search(r"(?i:unsupported) (?:(?i:global): )?GLOBAL ([\w.]+)", text):
        return f"it imports {named[1]}"
    if named := re.search(r"reduce for unrecognized function (.+)", text):
        return f"it calls {named[1]}"
    if re.search(r"Can only (create new object|build)", text):
        return "it builds objects other than tensors"
    imported = _plain_pickle_import(path)
    return f"it imports {imported}" if imported else ""


def _plain_pickle_import(path: Path) -> str:
    """First name imported by a file that `pickle.dump` wrote; empty for the formats of `torch.save`.

    Those are a zip, or a series of pickles of which the first is a mere number.
    """
    strings: list[str] = []
    try:
        with path.open("rb") as file:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name in ("GLOBAL", "INST"):
                    return str(argument).replace(" ", ".")
                if opcode.name == "STACK_GLOBAL":
                    return ".".join(strings[-2:])
                if isinstance(argument, str):
                    strings.append(argument)
    except Exception:  # not a pickle: the opcodes of arbitrary bytes fail in arbitrary ways
        return ""
    return ""


def _conversion(path: Path, key: str | None) -> str:
    """A shell command that loads the file fully and writes its tensors as safetensors."""
    source, target = (json.dumps(str(name)) for name in (path, path.with_suffix(".safetensors")))
    load = f'torch.load({source}, map_location="cpu", weights_only=False)'
    if _plain_pickle_import(path):
        load = f'pickle.load(open({source}, "rb"))'
    weights = f"d[{json.dumps(key)}]" if key else "d"
    script = (
        f"import pickle, torch, safetensors.torch as s; d = {load}; "
        f"s.save_file({{k: v.contiguous().clone() for k, v in {weights}.items() if torch.is_tensor(v)}}, "
        f"{target})"
    )
    return f"python -c {shlex.quote(script)}" + (" and drop the key" if key else "")


def _unreadable(path: Path, kind: str, error: Exception) -> CheckpointError:
    text = str(error).strip() or type(error).__name__
    # PyTorch wraps the unpickler's reason in advice to load unsafely, which is not passed on.
    wrapped = re.search(r"WeightsUnpickler error:\s+(.+)", text)
    reason = wrapped[1] if wrapped else text.splitlines()[0]
    return CheckpointError(
        f"'{path}' is not a readable {kind} file ({path.stat().st_size} bytes): {reason}",
        "fetch it again if it was cut short; otherwise save a plain state_dict, best as .safetensors",
    )


def _select(data: Any, key: str | None, path: Path) -> State:
    """The state dict at `key`, or at the top; whatever in it is not a tensor is left out."""
    nested = [str(name) for name, value in _items(data) if isinstance(value, Mapping)]
    if key is not None:
        if key not in dict(_items(data)):
            raise CheckpointError(f"'{path}' has no key '{key}'", _available(key, nested))
        data = data[key]
    state = {str(name): value for name, value in _items(data) if isinstance(value, Tensor)}
    if not state:
        where = f"key '{key}' of '{path}'" if key else f"'{path}'"
        raise CheckpointError(
            f"{where} holds no tensors by name but a {type(data).__name__}", _available(key or "", nested)
        )
    return state


def _items(data: Any) -> Iterable[tuple[Any, Any]]:
    return data.items() if isinstance(data, Mapping) else ()


def _available(key: str, nested: list[str]) -> str:
    if not nested:
        advice = "leave key out" if key else "save the module's state_dict()"
        return f"the file nests no state dict: {advice}"
    return f"set key to the state dict to load; {nearest(key, nested)}"

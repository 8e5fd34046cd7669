"""Checkpoint files to named tensors, without running code that a file may hold."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from autovoice.errors import CheckpointError, first_line
from autovoice.modules.checkpoint_kind import PLACE, check_kind, looks_safetensors
from autovoice.modules.checkpoint_pickle import conversion, refused_code
from autovoice.modules.checkpoint_select import State as State
from autovoice.modules.checkpoint_select import select
from autovoice.plan.shards import check_shard, is_index, shards_of, weight_map
from autovoice.terminal.overrides import setting

#: what to take out of a folder, the first that is there
_FILES = ("*.index.json", "*.safetensors", "*.pth", "*.pt", "*.ckpt", "*.bin")


def read_checkpoint(path: Path, key: str | None = None) -> State:
    """The tensors of a `.safetensors` file, of one written by `torch.save`, or of all that an index names.

    Those below `key` if given. Raises CheckpointError if the file is absent, damaged, needs code to load, is
    something else than weights, or has no tensors there.
    """
    if not path.is_file():
        raise _no_file(path)
    if is_index(path):
        return select(_read_shards(path), key, path)
    return select(_read(path, key), key, path)


def _no_file(path: Path) -> CheckpointError:
    if path.is_dir():
        weights = [f for pattern in _FILES for f in sorted(path.glob(pattern)) if f.is_file()]
        fix = setting(PLACE, str(weights[0])) if weights else "give the path of a file in it"
        return CheckpointError(f"checkpoint '{path}' is a folder", fix)
    what = "is no regular file" if path.exists() else "does not exist"
    fix = f"give the path of a file, or {setting(PLACE, None)} for untrained weights"
    return CheckpointError(f"checkpoint '{path}' {what}", fix)


def _read_shards(path: Path) -> State:
    """All files of an index together. Raises CheckpointError where they are not the ones it was written for."""
    placed = weight_map(path)
    state: State = {}
    for name, file in shards_of(path).items():
        held = select(_read(file, None), None, file)
        check_shard(path, name, placed, held)
        state |= held
    return state


def _read(path: Path, key: str | None) -> Any:
    try:
        check_kind(path)
        if looks_safetensors(path) or (path.suffix == ".safetensors" and not zipfile.is_zipfile(path)):
            return _read_safetensors(path)
    except OSError as error:
        raise CheckpointError(f"checkpoint '{path}': {error.strerror}", "a file that can be read") from error
    return _read_torch(path, key)


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: State = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:  # KeyError: of a dtype that torch has not
        raise _unreadable(path, "safetensors", error) from error
    return state


def _read_torch(path: Path, key: str | None) -> Any:
    try:
        # Only the zip format can be mapped; what an optimizer keeps beside the weights is then never read.
        if path.suffix != ".safetensors":
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        with open(path, "rb") as file:  # by its name, torch would take it for something else
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if needs := refused_code(error, path):
            raise CheckpointError(
                f"checkpoint '{path}' is a pickle that would run code on loading ({needs}); it was not run",
                f"if you trust its author, convert it once: {conversion(path, key)}",
            ) from error
        raise _unreadable(path, "PyTorch", error) from error
    except Exception as error:  # damaged bytes surface as anything: EOFError, KeyError, struct.error, …
        raise _unreadable(path, "PyTorch", error) from error


def _unreadable(path: Path, kind: str, error: Exception) -> CheckpointError:
    # PyTorch wraps the unpickler's reason in advice to load unsafely, which is not passed on.
    wrapped = re.search(r"WeightsUnpickler error:\s+(.+)", str(error))
    reason = wrapped[1] if wrapped else first_line(error)
    return CheckpointError(
        f"'{path}' is not a readable {kind} file ({path.stat().st_size} bytes): {reason}",
        "fetch it again if it was cut short; otherwise save a plain state_dict, best as .safetensors",
    )
